"""What lists and pages show of a row: badges, times, long texts."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from functools import lru_cache
from typing import Any, cast

from celery import states
from django.contrib import admin
from django.db import models
from django.utils import timezone
from django.utils.formats import number_format
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from django_celery_monitor.humanize import naturaldate
from django_celery_monitor.models import TaskState, WorkerState

#: Colour of each state of a task. The style sheet has a rule for each colour, the
#: class ``celery-monitor-<colour>``.
TASK_STATE_COLORS = {
    states.PENDING: "gray",
    states.RECEIVED: "blue",
    states.STARTED: "yellow",
    states.RETRY: "orange",
    states.REJECTED: "pink",
    states.REVOKED: "purple",
    states.FAILURE: "red",
    states.SUCCESS: "green",
}
#: Colour of a state that Celery does not know.
CUSTOM_STATE_COLOR = "gray"

#: Colour of each state of a worker.
NODE_STATE_COLORS = {"ONLINE": "green", "OFFLINE": "gray"}

Display = Callable[[Any], str | None]


# The same few for every row of a list.
@lru_cache(maxsize=64)
def badge(text: str, color: str) -> SafeString:
    """Return ``text`` as a badge; ``color`` is one of the style sheet's."""
    return format_html(
        '<span class="celery-monitor-state celery-monitor-{}">{}</span>', color, text
    )


@admin.display(description=_("state"), ordering="state")
def colored_state(task: TaskState) -> SafeString:
    """Return the state of a task as a badge."""
    return state_badge(task.state)


def state_badge(state: str) -> SafeString:
    """Return a state as a badge."""
    return badge(state, TASK_STATE_COLORS.get(state, CUSTOM_STATE_COLOR))


@admin.display(description=_("state"))
def node_state(node: WorkerState) -> SafeString:
    """Return whether a worker is alive as a badge."""
    if node.is_alive():
        return badge(gettext("ONLINE"), NODE_STATE_COLORS["ONLINE"])
    return badge(gettext("OFFLINE"), NODE_STATE_COLORS["OFFLINE"])


@admin.display(description=_("name"), ordering="name")
def name(task: TaskState) -> str:
    """Return the name of a task, or that it is unknown."""
    return task.name if task.name and task.name.strip() else gettext("unknown")


@admin.display(description=_("time"), ordering="tstamp")
def tstamp(task: TaskState) -> SafeString | None:
    """Return how long ago the state of a task was reached."""
    return natural_time(task.tstamp)


@admin.display(description=_("ETA"), ordering="eta")
def eta(task: TaskState) -> SafeString | None:
    """Return in how long a task is due, or how long ago it was."""
    return natural_time(task.eta)


@admin.display(description=_("runtime"), ordering="runtime")
def runtime(task: TaskState) -> str | None:
    """Return for how many seconds a task ran."""
    return seconds(task.runtime)


def seconds(value: float | None) -> str | None:
    """Return a number of seconds to the millisecond."""
    if value is None:
        return None
    return gettext("%(number)s s") % {"number": number_format(round(value, 3), 3)}


def natural_time(value: datetime | None) -> SafeString | None:
    """Return a time as people say it.

    The exact time is in the title, and beside it for those who hear the page.
    """
    if value is None:
        return None
    when = exact(value)
    return format_html(
        '<time datetime="{}" title="{}">{}</time>'
        '<span class="visually-hidden"> ({})</span>',
        when.replace(" ", "T"),
        when,
        naturaldate(value, include_seconds=True),
        when,
    )


def exact_time(value: datetime | None) -> SafeString | None:
    """Return the exact time, followed by how people say it."""
    if value is None:
        return None
    return format_html(
        '<time datetime="{}" dir="ltr">{}</time> ({})',
        exact(value).replace(" ", "T"),
        exact(value),
        naturaldate(value, include_seconds=True),
    )


def exact(value: datetime, timespec: str = "seconds") -> str:
    """Return a time in the current time zone, to the second or as exactly as told."""
    if timezone.is_aware(value):
        # Some zones cannot express the first or the last day of the calendar.
        with suppress(OverflowError):
            value = timezone.localtime(value)
    return value.isoformat(sep=" ", timespec=timespec)


def copy_button(label: str, *, source: str | None = None, text: str = "") -> SafeString:
    """Return a button that copies, called ``label``, for copy.js to serve.

    It copies ``text``, or the text of the element whose id is ``source``.
    """
    attribute, value = ("copy", text) if source is None else ("copy-from", source)
    return format_html(
        '<button type="button" class="celery-monitor-copy" data-{}="{}"'
        ' data-copied="{}" data-failed="{}" aria-label="{}" title="{}"></button>',
        attribute,
        value,
        gettext("Copied"),
        gettext("It could not be copied"),
        label,
        label,
    )


def field(
    model: type[models.Model],
    name: str,
    show: Callable[[Any], str | None],
) -> Display:
    """Return a display function for a page: ``show`` of the field called ``name``.

    In place of None it returns what the admin itself puts there in lists alone.
    """
    column = cast("models.Field[Any, Any]", model._meta.get_field(name))

    @admin.display(description=column.verbose_name, ordering=name)
    def display(row: Any) -> str | None:
        return show(getattr(row, name)) or admin.site.empty_value_display

    # The admin makes the CSS class of the row from it.
    display.__name__ = name
    return display
