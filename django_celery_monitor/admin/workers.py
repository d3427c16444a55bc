"""The pages of workers."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.contrib.admin import SimpleListFilter
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.functional import Promise
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _

from django_celery_monitor.models import WorkerState

from . import display
from .base import ModelMonitor
from .filters import HEARD_OF_LAST
from .worker_actions import WorkerActions


class AliveFilter(SimpleListFilter):
    """Whether a worker is alive."""

    title = _("state")
    parameter_name = "alive"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        """Return the choices."""
        return [("yes", _("ONLINE")), ("no", _("OFFLINE"))]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """Return those of ``queryset`` that are alive, or that are not."""
        if self.value() not in {"yes", "no"}:
            return queryset
        alive = [worker.pk for worker in WorkerState.objects.alive()]
        if self.value() == "yes":
            return queryset.filter(pk__in=alive)
        return queryset.exclude(pk__in=alive)


def loadavg(value: object) -> str | None:
    """Return the load averages over one, five and fifteen minutes."""
    if isinstance(value, list):
        return ", ".join(str(average) for average in value)
    return None if value is None else str(value)


@admin.display(description=_("offline since"))
def offline_since(node: WorkerState) -> SafeString | None:
    """Return when a worker that is not alive said so, or was last heard of."""
    if node.is_alive():
        return None
    return display.natural_time(
        node.offline_at if node.is_offline() else node.last_heartbeat
    )


#: Columns that a page shows in its own way.
TIMES = {
    name: display.field(WorkerState, name, display.exact_time)
    for name in ("last_heartbeat", "offline_at", "first_seen", "last_update")
}
LAST_HEARTBEAT = display.field(WorkerState, "last_heartbeat", display.natural_time)
LOADAVG = display.field(WorkerState, "loadavg", loadavg)


@admin.register(WorkerState)
class WorkerMonitor(WorkerActions, ModelMonitor):
    """The pages of workers."""

    list_page_title: str | Promise = _("Worker Nodes")
    detail_title: str | Promise = _("Node detail")

    list_display = (
        display.node_state,
        "hostname",
        LAST_HEARTBEAT,
        offline_since,
        "active",
        "processed",
        LOADAVG,
        "pid",
        "sw_ver",
    )
    list_display_links = ("hostname",)
    ordering = (HEARD_OF_LAST,)
    list_filter = (AliveFilter,)
    search_fields = ("hostname",)

    readonly_fields = (display.node_state, *TIMES.values(), LOADAVG)
    fieldsets = (
        (None, {"fields": (display.node_state, "hostname", *TIMES.values())}),
        (_("Load"), {"fields": ("active", "processed", LOADAVG)}),
        (_("Process"), {"fields": ("pid", "freq", "sw_ident", "sw_ver", "sw_sys")}),
    )

    def describe(self, row: WorkerState) -> tuple[str, str]:
        """Return the state and the name."""
        return display.node_state(row), row.hostname
