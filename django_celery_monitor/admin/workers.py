"""The pages of workers and what can be done to workers."""

from __future__ import annotations

from collections.abc import Sequence

from celery.app.control import Control
from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext_lazy
from kombu import Connection

from django_celery_monitor.models import WorkerState

from . import actions, display
from .base import ModelMonitor


def hostnames(nodes: Sequence[WorkerState]) -> list[str]:
    """Return the names by which ``nodes`` are addressed."""
    return [node.hostname for node in nodes]


def shutdown(
    control: Control, nodes: Sequence[WorkerState], connection: Connection
) -> None:
    """Tell ``nodes`` to shut down."""
    control.shutdown(destination=hostnames(nodes), connection=connection)


def enable_events(
    control: Control, nodes: Sequence[WorkerState], connection: Connection
) -> None:
    """Tell ``nodes`` to send events."""
    control.enable_events(destination=hostnames(nodes), connection=connection)


def disable_events(
    control: Control, nodes: Sequence[WorkerState], connection: Connection
) -> None:
    """Tell ``nodes`` to send no more events."""
    control.disable_events(destination=hostnames(nodes), connection=connection)


SHUTDOWN = actions.Command(
    send=shutdown,
    title=_("Shut down workers"),
    explanation=_(
        "These workers will finish the tasks they are running and exit. Nothing"
        " starts them again, unless something outside Celery does."
    ),
    done=ngettext_lazy(
        "%(count)d worker was told to shut down.",
        "%(count)d workers were told to shut down.",
        "count",
    ),
    log=_("Told it to shut down."),
)
ENABLE_EVENTS = actions.Command(
    send=enable_events,
    title=_("Enable events of workers"),
    explanation=_(
        "These workers will send events about the tasks they run, until they are told"
        " otherwise or restart."
    ),
    done=ngettext_lazy(
        "%(count)d worker was told to send events.",
        "%(count)d workers were told to send events.",
        "count",
    ),
    log=_("Told it to send events."),
)
DISABLE_EVENTS = actions.Command(
    send=disable_events,
    title=_("Disable events of workers"),
    explanation=_(
        "These workers will send no events about the tasks they run: such tasks are"
        " not seen here, until the workers are told otherwise or restart."
    ),
    done=ngettext_lazy(
        "%(count)d worker was told to send no events.",
        "%(count)d workers were told to send no events.",
        "count",
    ),
    log=_("Told it to send no events."),
)


def loadavg(value: object) -> str | None:
    """Return the load averages over one, five and fifteen minutes."""
    if isinstance(value, list):
        return ", ".join(str(average) for average in value)
    return None if value is None else str(value)


#: Columns that a page shows in its own way.
TIMES = {
    name: display.field(WorkerState, name, display.exact_time)
    for name in ("last_heartbeat", "offline_at", "first_seen", "last_update")
}
LAST_HEARTBEAT = display.field(WorkerState, "last_heartbeat", display.natural_time)
LOADAVG = display.field(WorkerState, "loadavg", loadavg)


@admin.register(WorkerState)
class WorkerMonitor(ModelMonitor):
    """The pages of workers."""

    list_page_title: str | Promise = _("Worker Nodes")
    detail_title: str | Promise = _("Node detail")
    control_permission = "celery_monitor.control_workers"

    list_display = (
        display.node_state,
        "hostname",
        LAST_HEARTBEAT,
        "active",
        "processed",
        LOADAVG,
        "pid",
        "sw_ver",
    )
    list_display_links = ("hostname",)
    search_fields = ("hostname",)
    actions = ("shutdown_nodes", "enable_events", "disable_events")

    readonly_fields = (display.node_state, *TIMES.values(), LOADAVG)
    fieldsets = (
        (None, {"fields": (display.node_state, "hostname", *TIMES.values())}),
        (_("Load"), {"fields": ("active", "processed", LOADAVG)}),
        (_("Process"), {"fields": ("pid", "freq", "sw_ident", "sw_ver", "sw_sys")}),
    )

    def describe(self, row: WorkerState) -> tuple[str, str]:
        """Return the state and the name."""
        return display.node_state(row), row.hostname

    @admin.action(permissions=["control"], description=_("Shut down selected workers"))
    def shutdown_nodes(
        self, request: HttpRequest, queryset: QuerySet[WorkerState]
    ) -> HttpResponse | None:
        """Tell workers to finish what they are doing and exit."""
        return actions.run(self, request, queryset, SHUTDOWN)

    @admin.action(
        permissions=["control"], description=_("Enable events of selected workers")
    )
    def enable_events(
        self, request: HttpRequest, queryset: QuerySet[WorkerState]
    ) -> HttpResponse | None:
        """Tell workers to send events about tasks."""
        return actions.run(self, request, queryset, ENABLE_EVENTS)

    @admin.action(
        permissions=["control"], description=_("Disable events of selected workers")
    )
    def disable_events(
        self, request: HttpRequest, queryset: QuerySet[WorkerState]
    ) -> HttpResponse | None:
        """Tell workers to send no more events about tasks."""
        return actions.run(self, request, queryset, DISABLE_EVENTS)
