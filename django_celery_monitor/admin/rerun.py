"""Runs tasks again: one with its arguments shown first, or many as they were."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from django.contrib import admin, messages
from django.contrib.admin.utils import unquote
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import path, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.text import Truncator
from django.utils.translation import gettext, ngettext
from django.utils.translation import gettext_lazy as _

from django_celery_monitor.models import TaskState

from . import actions
from .base import ModelMonitor
from .calls import Call, recall
from .left_out import leave_out, task_line, without_name
from .replies import LONGEST as LONGEST_LINE
from .replies import listed
from .run_form import RunForm
from .sending import send

RUN_AGAIN = actions.Question(
    title=_("Run tasks again"),
    explanation=_(
        "Each of these tasks will be sent anew, with the same arguments to the same"
        " queue, as a task of its own. An ETA, an expiry, links and callbacks are not"
        " repeated. What a task has done already it may do twice."
    ),
)


class RunTasks(ModelMonitor):
    """The ways to run a task again."""

    run_permission = "celery_monitor.run_tasks"
    run_template = "django_celery_monitor/run_task.html"

    def has_run_permission(self, request: HttpRequest) -> bool:
        """Return whether the user may run tasks."""
        return request.user.has_perm(self.run_permission)

    def get_urls(self) -> list[Any]:
        """Return the addresses of the pages, with that of the form."""
        view = self.admin_site.admin_view(self.run_view)
        name = f"{self.opts.app_label}_{self.opts.model_name}_run"
        return [path("<path:object_id>/run/", view, name=name), *super().get_urls()]

    def run_url(self, task: TaskState) -> str:
        """Return the address of the form that runs ``task`` again."""
        return reverse(
            f"admin:{self.opts.app_label}_{self.opts.model_name}_run",
            args=(task.pk,),
            current_app=self.admin_site.name,
        )

    def get_page_links(
        self, request: HttpRequest, object_id: str
    ) -> list[tuple[str, str]]:
        """Return the link to the form for those who may run tasks."""
        links = super().get_page_links(request, object_id)
        if self.has_run_permission(request):
            links.append(("../run/", gettext("Run again")))
        return links

    def run_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Show the call that a task was, and send what the user makes of it."""
        if not (self.has_view_permission(request) and self.has_run_permission(request)):
            raise PermissionDenied
        task = self.get_object(request, unquote(object_id))
        if task is None:
            return self._get_obj_does_not_exist_redirect(request, self.opts, object_id)
        if not self.has_view_permission(request, task):
            raise PermissionDenied
        if why := without_name(task):
            text = gettext("The task cannot be run again: %(why)s.") % {"why": why}
            self.message_user(request, text, messages.WARNING)
            return HttpResponseRedirect(actions.page_url(self, task))
        entered = request.POST if request.method == "POST" else None
        form = RunForm(recall([task])[task.pk], task.queue, entered)
        if form.is_valid():
            calls = {task: (form.cleaned_data["args"], form.cleaned_data["kwargs"])}
            if self._run(request, calls, form.cleaned_data["queue"]):
                return HttpResponseRedirect(actions.page_url(self, task))
        return TemplateResponse(
            request,
            self.run_template,
            {
                **self.admin_site.each_context(request),
                "title": gettext("Run again"),
                "subtitle": None,
                "opts": self.opts,
                "media": self.media,
                "task": task,
                "task_url": actions.page_url(self, task),
                "form": form,
            },
        )

    @admin.action(permissions=["run"], description=_("Run selected tasks again"))
    def run_tasks_again(
        self, request: HttpRequest, queryset: QuerySet[TaskState]
    ) -> HttpResponse | None:
        """Send tasks anew whose arguments are known in full."""
        if not self.has_run_permission(request):
            raise PermissionDenied
        tasks = list(queryset.defer("result", "traceback", "attempts"))
        if len(tasks) == 1 and not actions.confirmed(request):
            return HttpResponseRedirect(self.run_url(tasks[0]))
        calls = recall(tasks)
        reasons = {task: without_name(task) or calls[task.pk].problem for task in tasks}
        left_out = set(leave_out(self, request, reasons))
        tasks = [task for task in tasks if task not in left_out]
        if not actions.confirmed(request):
            return self._confirm(request, queryset, tasks, calls)
        if not tasks:
            actions.nothing_selected(self, request)
            return None
        known = {
            task: (calls[task.pk].args.value, calls[task.pk].kwargs.value)
            for task in tasks
        }
        self._run(request, known)
        return None

    def _confirm(
        self,
        request: HttpRequest,
        queryset: QuerySet[TaskState],
        tasks: list[TaskState],
        calls: Mapping[int, Call],
    ) -> HttpResponse | None:
        """Return the page that lists the calls that would be sent."""
        listed = []
        for task in tasks[: actions.MAX_LISTED]:
            state, text = self.describe(task)
            call = calls[task.pk]
            said = Truncator(f"{call.args.text} {call.kwargs.text}").chars(LONGEST_LINE)
            listed.append((task.pk, state, f"{text} {said}"))
        chosen = queryset.filter(pk__in=[task.pk for task in tasks])
        return actions.confirm(self, request, chosen, RUN_AGAIN, listed=listed)

    def _run(
        self,
        request: HttpRequest,
        calls: Mapping[TaskState, tuple[Any, Any]],
        queue: str | None = None,
    ) -> bool:
        """Send these calls, say what became of each; return whether all were sent.

        Each goes to the queue of its task unless there is one for them all.
        """
        queues = {task: task.queue if queue is None else queue for task in calls}
        sent = send(calls, queues)
        if sent.broker_error:
            title = gettext("The message broker failed: %(error)s. Not sent:")
            title %= {"error": sent.broker_error}
            done = {*sent.ids, *sent.errors}
            unsent = [task_line(task) for task in calls if task not in done]
            self.message_user(request, listed(title, unsent), messages.ERROR)
        if sent.errors:
            failed = [f"{task_line(task)}: {why}" for task, why in sent.errors.items()]
            failed = [Truncator(line).chars(LONGEST_LINE) for line in failed]
            title = gettext("These tasks could not be sent:")
            self.message_user(request, listed(title, failed), messages.ERROR)
        if sent.ids:
            self._tell_of(request, sent.ids)
        return len(sent.ids) == len(calls)

    def _tell_of(self, request: HttpRequest, ids: Mapping[TaskState, str]) -> None:
        """Leave a message and entries in the histories about what was sent."""
        said = gettext("Ran it again as %(task_id)s.")
        actions.log(request, {t: said % {"task_id": ids[t]} for t in ids})
        title = ngettext(
            "%(count)d task was sent again. Its row is there once a camera has seen"
            " it:",
            "%(count)d tasks were sent again. Their rows are there once a camera has"
            " seen them:",
            len(ids),
        )
        links = self._links(ids)
        self.message_user(request, listed(title % {"count": len(ids)}, links))

    def _links(self, sent: Mapping[TaskState, str]) -> Iterator[SafeString]:
        """Yield for each task its name, and a link to where the new one will be."""
        url = reverse(
            f"admin:{self.opts.app_label}_{self.opts.model_name}_changelist",
            current_app=self.admin_site.name,
        )
        for task, task_id in sent.items():
            yield format_html(
                '{} <a href="{}?q={}">{}</a>', task.name, url, task_id, task_id
            )
