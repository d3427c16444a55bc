"""What can be done to tasks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from django import forms
from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext

from django_celery_monitor.models import TaskState

from . import actions, task_commands
from .base import ModelMonitor
from .forms import RateLimitForm, TimeLimitForm
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
        return actions.run(self, request, queryset.defer(*TEXTS), task_commands.REVOKE)

    @admin.action(permissions=["control"], description=_("Terminate selected tasks"))
    def terminate_tasks(
        self, request: HttpRequest, queryset: QuerySet[TaskState]
    ) -> HttpResponse | None:
        """Revoke tasks and end those that run, by SIGTERM."""
        return actions.run(
            self, request, queryset.defer(*TEXTS), task_commands.TERMINATE
        )

    @admin.action(permissions=["control"], description=_("Kill selected tasks"))
    def kill_tasks(
        self, request: HttpRequest, queryset: QuerySet[TaskState]
    ) -> HttpResponse | None:
        """Revoke tasks and end those that run, by SIGKILL."""
        return actions.run(self, request, queryset.defer(*TEXTS), task_commands.KILL)

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

    def _limit(
        self,
        request: HttpRequest,
        queryset: QuerySet[TaskState],
        form: type[forms.Form],
        command: Callable[[Mapping[str, Any]], actions.Command],
        template: str,
    ) -> HttpResponse | None:
        """Ask for a limit of the tasks' names, and tell the workers."""
        named = queryset.filter(name__gt="").defer(*TEXTS)
        if nameless := queryset.count() - named.count():
            text = ngettext(
                "%(count)d task was left out: its name is unknown.",
                "%(count)d tasks were left out: their names are unknown.",
                nameless,
            )
            self.message_user(request, text % {"count": nameless}, messages.WARNING)
        names = named.order_by("name").values_list("name", flat=True).distinct()
        count = names.count()
        listed = names[: actions.MAX_LISTED]
        return actions.run_with_form(
            self,
            request,
            named,
            form(request.POST if actions.confirmed(request) else None),
            command,
            template=template,
            count=count,
            names_count=count,
            listed=[(None, "", name) for name in listed],
            more=count - len(listed),
        )
