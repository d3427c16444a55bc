"""The pages of cameras: when one was watching, when nobody was, what they counted."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any, ClassVar, cast

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from django.utils.functional import Promise, SimpleLazyObject
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.timesince import timesince
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from django_celery_monitor.models import CameraState

from . import display, live
from .base import ModelMonitor

if TYPE_CHECKING:
    from django_celery_monitor.camera_state import CameraStateQuerySet

#: Cameras looked at, the latest first, to tell whether one is watching.
LATEST = 20


def duration(start: datetime, end: datetime) -> str:
    """Return the time between two times as people say it."""
    total = (end - start).total_seconds()
    if total < 60:
        return gettext("%(number)s s") % {"number": max(0, round(total))}
    return timesince(start, end)


@admin.display(description=_("state"))
def camera_state(camera: CameraState) -> SafeString:
    """Return as a badge whether a camera watches, was stopped, or is gone."""
    if camera.is_watching():
        return display.badge(gettext("WATCHING"), "green")
    if camera.stopped_at is not None:
        return display.badge(gettext("STOPPED"), "gray")
    silent = duration(camera.last_shot, timezone.now())
    text = gettext("silent for %(duration)s") % {"duration": silent}
    return format_html("{} {}", display.badge(gettext("GONE"), "red"), text)


@admin.display(description=_("nobody watching before"))
def gap(camera: CameraState) -> str:
    """Return for how long no camera was watching before this one began."""
    end: datetime | None = camera.previous_end  # type: ignore[attr-defined]
    if end is None or end >= camera.started_at:
        return admin.site.empty_value_display
    return duration(end, camera.started_at)


def nobody_watches() -> bool:
    """Return whether no camera is watching now."""
    running = CameraState.objects.filter(stopped_at=None)
    latest = running.order_by("-last_shot")[:LATEST]
    return not any(camera.is_watching() for camera in latest)


#: Times and durations, as the list and as the page shows them.
STARTED, SHOT, COMMIT = (
    display.field(CameraState, name, display.natural_time)
    for name in ("started_at", "last_shot", "last_commit")
)
TIMES = tuple(
    display.field(CameraState, name, display.exact_time)
    for name in ("started_at", "last_shot", "last_commit", "stopped_at")
)
LAG = display.field(CameraState, "lag", display.seconds)


@admin.register(CameraState)
class CameraMonitor(ModelMonitor):
    """The pages of cameras."""

    list_page_title: str | Promise = _("Cameras")
    detail_title: str | Promise = _("Camera detail")

    list_display = (
        camera_state,
        "hostname",
        STARTED,
        gap,
        SHOT,
        COMMIT,
        LAG,
        "received",
        "saved",
        "dropped",
        "quarantined",
        "poison",
        "pid",
        "version",
    )
    list_display_links = ("hostname",)
    search_fields = ("hostname",)
    change_list_template = "django_celery_monitor/camera_list.html"
    changes_with: ClassVar = live.WRITTEN | live.WATCHED

    readonly_fields = (camera_state, gap, *TIMES, LAG)
    fieldsets = (
        (None, {"fields": (camera_state, *TIMES, gap)}),
        (_("Process"), {"fields": ("hostname", "pid", "version", "freq")}),
        (_("Events"), {"fields": ("received", "merged", "made_fit", "poison")}),
        (_("Rows"), {"fields": ("saved", "retried", LAG)}),
        (
            _("Losses and reconnects"),
            {"fields": ("dropped", "quarantined", "reconnects")},
        ),
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[CameraState]:
        """Return the runs, each with the end of those before it."""
        rows = cast("CameraStateQuerySet", super().get_queryset(request))
        return rows.with_previous_end()

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Show the list, and say so when no camera is watching."""
        context = {"nobody_watching": SimpleLazyObject(nobody_watches)}
        return super().changelist_view(request, {**context, **(extra_context or {})})
