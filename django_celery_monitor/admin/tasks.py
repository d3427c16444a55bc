"""The pages of tasks and what can be done to tasks."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from celery.app.control import Control
from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils.functional import Promise
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext, ngettext, ngettext_lazy
from django.utils.translation import gettext_lazy as _
from kombu import Connection

from django_celery_monitor.models import TaskState
from django_celery_monitor.utils import fixedwidth, fromtimestamp

from . import actions, display
from .base import ModelMonitor
from .filters import NameFilter
from .forms import RateLimitForm


def revoke(
    control: Control, tasks: Sequence[TaskState], connection: Connection, **kwargs: Any
) -> None:
    """Tell all workers to revoke ``tasks``."""
    ids = [task.task_id for task in tasks]
    control.revoke(ids, connection=connection, **kwargs)


def rate_limit(
    control: Control, tasks: Sequence[TaskState], connection: Connection, rate: str
) -> None:
    """Tell all workers at what ``rate`` they may start tasks of these names."""
    for name in sorted({task.name for task in tasks if task.name}):
        control.rate_limit(name, rate, connection=connection)


REVOKE = actions.Command(
    send=revoke,
    title=_("Revoke tasks"),
    explanation=_(
        "Workers will not start these tasks. What is running already goes on."
    ),
    done=ngettext_lazy(
        "The workers were told to revoke %(count)d task.",
        "The workers were told to revoke %(count)d tasks.",
        "count",
    ),
    log=_("Told the workers to revoke it."),
)
TERMINATE = actions.Command(
    send=partial(revoke, terminate=True, signal="SIGTERM"),
    title=_("Terminate tasks"),
    explanation=_(
        "Workers will not start these tasks, and send SIGTERM to the process of each"
        " one that is running. Another task may have started there in the meantime."
    ),
    done=ngettext_lazy(
        "The workers were told to terminate %(count)d task.",
        "The workers were told to terminate %(count)d tasks.",
        "count",
    ),
    log=_("Told the workers to terminate it (SIGTERM)."),
)
KILL = actions.Command(
    send=partial(revoke, terminate=True, signal="SIGKILL"),
    title=_("Kill tasks"),
    explanation=_(
        "Workers will not start these tasks, and send SIGKILL to the process of each"
        " one that is running: it ends at once, whatever it is doing. Another task"
        " may have started there in the meantime."
    ),
    done=ngettext_lazy(
        "The workers were told to kill %(count)d task.",
        "The workers were told to kill %(count)d tasks.",
        "count",
    ),
    log=_("Told the workers to kill it (SIGKILL)."),
)


def rate_limit_to(rate: str) -> actions.Command:
    """Return the command that limits tasks to ``rate``."""
    return actions.Command(
        send=partial(rate_limit, rate=rate),
        title=_("Limit the rate of tasks"),
        explanation=_(
            "Each worker will start the tasks of a name at this rate at most, until"
            " it is told otherwise or restarts. This holds for every task of the"
            " name, selected or not."
        ),
        done=ngettext_lazy(
            "The workers were told the rate limit of %(count)d task name.",
            "The workers were told the rate limit of %(count)d task names.",
            "count",
        ),
        log=gettext("Told the workers to limit tasks of its name to %(rate)s.")
        % {"rate": rate},
    )


def attempts(value: list[dict[str, Any]] | None) -> SafeString | None:
    """Return what each retry said, the newest last."""
    if not value:
        return None
    return format_html(
        '<ol class="celery-monitor-attempts">{}</ol>',
        format_html_join(
            "",
            "<li>{}{}{}</li>",
            (
                (
                    display.exact_time(fromtimestamp(attempt["timestamp"] / 1_000_000)),
                    display.text(attempt["exception"]) or "",
                    display.text(attempt["traceback"]) or "",
                )
                for attempt in value
            ),
        ),
    )


#: Columns that a page shows in its own way.
TIMES = {
    name: display.field(TaskState, name, display.exact_time)
    for name in (
        "tstamp",
        "sent_at",
        "received_at",
        "started_at",
        "finished_at",
        "eta",
        "expires",
    )
}
#: The same for texts, each of which can be long: actions do not read them.
TEXTS = {
    name: display.field(TaskState, name, display.text)
    for name in ("args", "kwargs", "result", "traceback")
}
RUNTIME = display.field(TaskState, "runtime", display.seconds)
ATTEMPTS = display.field(TaskState, "attempts", attempts)


@admin.register(TaskState)
class TaskMonitor(ModelMonitor):
    """The pages of tasks."""

    list_page_title: str | Promise = _("Tasks")
    detail_title: str | Promise = _("Task detail")
    control_permission = "celery_monitor.control_tasks"
    rate_limit_confirmation_template = "django_celery_monitor/confirm_rate_limit.html"

    list_display = (
        display.colored_state,
        display.name,
        fixedwidth("task_id", _("UUID"), pt=9, maxlen=9),
        fixedwidth("args", _("arguments"), pt=9, width=32),
        "worker",
        display.tstamp,
        display.runtime,
        "retries",
    )
    list_display_links = (display.name,)
    list_filter = ("state", "tstamp", "worker", ("name", NameFilter))
    list_select_related = ("worker",)
    search_fields = ("name", "task_id", "args", "kwargs", "worker__hostname")
    actions = ("revoke_tasks", "terminate_tasks", "kill_tasks", "rate_limit_tasks")

    readonly_fields = (
        display.colored_state,
        display.name,
        RUNTIME,
        *TIMES.values(),
        *TEXTS.values(),
        ATTEMPTS,
    )
    fieldsets = (
        (
            None,
            {
                "fields": (
                    display.colored_state,
                    display.name,
                    "task_id",
                    "worker",
                    "retries",
                    RUNTIME,
                )
            },
        ),
        (
            _("Outcome"),
            {
                "fields": (
                    "exception",
                    TEXTS["result"],
                    TEXTS["traceback"],
                    ATTEMPTS,
                )
            },
        ),
        (_("Times"), {"fields": tuple(TIMES.values())}),
        (
            _("Call"),
            {
                "fields": (
                    TEXTS["args"],
                    TEXTS["kwargs"],
                    "queue",
                    "exchange",
                    "routing_key",
                    "root_id",
                    "parent_id",
                )
            },
        ),
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[TaskState]:
        """Return the tasks that have not expired."""
        return super().get_queryset(request).filter(hidden=False)

    def describe(self, row: TaskState) -> tuple[str, str]:
        """Return the state, and name and id."""
        return display.colored_state(row), f"{display.name(row)} {row.task_id}"

    @admin.action(permissions=["control"], description=_("Revoke selected tasks"))
    def revoke_tasks(
        self, request: HttpRequest, queryset: QuerySet[TaskState]
    ) -> HttpResponse | None:
        """Keep tasks from being started."""
        return actions.run(self, request, queryset.defer(*TEXTS), REVOKE)

    @admin.action(permissions=["control"], description=_("Terminate selected tasks"))
    def terminate_tasks(
        self, request: HttpRequest, queryset: QuerySet[TaskState]
    ) -> HttpResponse | None:
        """Revoke tasks and end those that run, by SIGTERM."""
        return actions.run(self, request, queryset.defer(*TEXTS), TERMINATE)

    @admin.action(permissions=["control"], description=_("Kill selected tasks"))
    def kill_tasks(
        self, request: HttpRequest, queryset: QuerySet[TaskState]
    ) -> HttpResponse | None:
        """Revoke tasks and end those that run, by SIGKILL."""
        return actions.run(self, request, queryset.defer(*TEXTS), KILL)

    @admin.action(
        permissions=["control"], description=_("Limit the rate of selected tasks")
    )
    def rate_limit_tasks(
        self, request: HttpRequest, queryset: QuerySet[TaskState]
    ) -> HttpResponse | None:
        """Limit the rate at which workers start tasks of the same names."""
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
        form = RateLimitForm(request.POST if actions.confirmed(request) else None)
        if form.is_valid():
            command = rate_limit_to(form.cleaned_data["rate_limit"])
            actions.send(self, request, list(named), command, count)
            return None
        listed = names[: actions.MAX_LISTED]
        return actions.confirm(
            self,
            request,
            named,
            rate_limit_to(""),
            template=self.rate_limit_confirmation_template,
            form=form,
            names_count=count,
            listed=[(None, "", name) for name in listed],
            more=count - len(listed),
        )
