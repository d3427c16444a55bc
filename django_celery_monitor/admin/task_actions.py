"""What can be done to tasks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from django import forms
from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from django_celery_monitor.models import TaskState

from . import actions, task_commands
from .base import ModelMonitor
from .forms import RateLimitForm, TimeLimitForm
from .left_out import leave_out, without_id, without_name
from .rerun import RunTasks

#: Long texts, which actions do not read.
TEXTS = ("args", "kwargs", "result", "traceback")


class TaskActions(RunTasks, ModelMonitor):
    """The actions on tasks."""

    control_permission = "celery_monitor.control_tasks"
    rate_limit_confirmation_template = "django_celery_monitor/confirm_rate_limit.html"
    time_limit_confirmation_template = "django_celery_monitor/confirm_names.html"

    actions: Any = (
        "revoke_tasks",
        "terminate_tasks",
        "kill_tasks",
        "rate_limit_tasks",
        "time_limit_tasks",
        "run_tasks_again",
    )
    page_actions: ClassVar[Mapping[str, str | Promise]] = {
        "revoke_tasks": _("Revoke"),
        "terminate_tasks": _("Terminate"),
        "kill_tasks": _("Kill"),
        "rate_limit_tasks": _("Limit the rate"),
        "time_limit_tasks": _("Limit the time"),
    }

    @admin.action(permissions=["control"], description=_("Revoke selected tasks"))
    def revoke_tasks(
        self, request: HttpRequest, queryset: QuerySet[TaskState]
    ) -> HttpResponse | None:
        """Keep tasks from being started."""
        return self._revoke(request, queryset, task_commands.REVOKE)

    @admin.action(permissions=["control"], description=_("Terminate selected tasks"))
    def terminate_tasks(
        self, request: HttpRequest, queryset: QuerySet[TaskState]
    ) -> HttpResponse | None:
        """Revoke tasks and end those that run, by SIGTERM."""
        return self._revoke(request, queryset, task_commands.TERMINATE)

    @admin.action(permissions=["control"], description=_("Kill selected tasks"))
    def kill_tasks(
        self, request: HttpRequest, queryset: QuerySet[TaskState]
    ) -> HttpResponse | None:
        """Revoke tasks and end those that run, by SIGKILL."""
        return self._revoke(request, queryset, task_commands.KILL)

    @admin.action(
        permissions=["control"], description=_("Limit the rate of selected tasks")
    )
    def rate_limit_tasks(
        self, request: HttpRequest, queryset: QuerySet[TaskState]
    ) -> HttpResponse | None:
        """Limit the rate at which workers start tasks of the same names."""
        template = self.rate_limit_confirmation_template
        return self._limit(
            request, queryset, RateLimitForm, task_commands.rate_limit, template
        )

    @admin.action(
        permissions=["control"], description=_("Limit the time of selected tasks")
    )
    def time_limit_tasks(
        self, request: HttpRequest, queryset: QuerySet[TaskState]
    ) -> HttpResponse | None:
        """Limit the time for which workers let tasks of the same names run."""
        template = self.time_limit_confirmation_template
        return self._limit(
            request, queryset, TimeLimitForm, task_commands.time_limit, template
        )

    def get_deleted_objects(self, objs: Any, request: HttpRequest) -> Any:
        """Return what would be deleted."""
        if isinstance(objs, QuerySet):
            # In place: Django's action goes on with what is read here.
            objs.query.add_deferred_loading((*TEXTS, "attempts"))
        return super().get_deleted_objects(objs, request)

    def delete_queryset(
        self, request: HttpRequest, queryset: QuerySet[TaskState]
    ) -> None:
        """Delete tasks; whoever listens to that gets all of them."""
        super().delete_queryset(request, queryset.defer(None))

    def _revoke(
        self,
        request: HttpRequest,
        queryset: QuerySet[TaskState],
        command: actions.Command,
    ) -> HttpResponse | None:
        """Tell the workers of tasks whose ids they know."""
        actions.check_control(self, request)
        tasks = self._without(request, queryset.defer(*TEXTS), without_id)
        return actions.run(self, request, tasks, command)

    def _limit(
        self,
        request: HttpRequest,
        queryset: QuerySet[TaskState],
        form: type[forms.Form],
        command: Callable[[Mapping[str, Any]], actions.Command],
        template: str,
    ) -> HttpResponse | None:
        """Ask for a limit of the tasks' names, and tell the workers."""
        actions.check_control(self, request)
        named = self._without(request, queryset.defer(*TEXTS), without_name)
        names = named.order_by("name").values_list("name", flat=True).distinct()
        count = names.count()
        shown = names[: actions.MAX_LISTED]
        return actions.run_with_form(
            self,
            request,
            named,
            form(request.POST if actions.confirmed(request) else None),
            command,
            template=template,
            count=count,
            names_count=count,
            listed=[(None, "", name) for name in shown],
            more=count - len(shown),
        )

    def _without(
        self,
        request: HttpRequest,
        tasks: QuerySet[TaskState],
        reason: Callable[[TaskState], str],
    ) -> QuerySet[TaskState]:
        """Return the tasks without those that there is a reason to leave out."""
        left_out = leave_out(self, request, {task: reason(task) for task in tasks})
        if not left_out:
            return tasks
        return tasks.exclude(pk__in=[task.pk for task in left_out])
