"""The columns of the list of tasks, and what of a task they read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.contrib import admin
from django.db.models import F, QuerySet
from django.db.models.functions import Left
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from django_celery_monitor import conf
from django_celery_monitor.models import TaskState
from django_celery_monitor.utils import exact_microseconds

from . import display

#: Characters that are shown of an id, and of arguments and keyword arguments each.
ID_LENGTH, ARGUMENTS_LENGTH = 8, 32


@admin.display(description=_("UUID"))
def task_id(task: TaskState) -> SafeString:
    """Return the beginning of the id of a task, with a button that copies it all."""
    text = task.task_id
    shown = text if len(text) <= ID_LENGTH + 1 else f"{text[:ID_LENGTH]}…"
    return format_html(
        '<code class="celery-monitor-fixedwidth" title="{}">{}</code> {}',
        text,
        shown,
        display.copy_button(gettext("Copy the id"), text=text),
    )


@admin.display(description=_("arguments"))
def args(task: TaskState) -> SafeString | None:
    """Return the arguments of a task in short, then its keyword arguments."""
    texts = [
        text if len(text) <= ARGUMENTS_LENGTH else f"{text[: ARGUMENTS_LENGTH - 1]}…"
        for column in ("args", "kwargs")
        if (text := _beginning(task, column))
    ]
    if not texts:
        return None
    return format_html(
        '<code class="celery-monitor-fixedwidth">{}</code>', " ".join(texts)
    )


def _beginning(task: TaskState, column: str) -> str:
    """Return what was read of a text; none of it where that says nothing."""
    begins = f"begin_{column}"
    found = getattr(task, begins) if hasattr(task, begins) else getattr(task, column)
    return "" if found in {None, "", "()", "[]", "{}"} else str(found)


@admin.display(description=_("worker"))
def worker(task: TaskState) -> str | None:
    """Return the name of the worker of a task."""
    return task.worker.hostname if task.worker else None


@admin.display(description=_("wait"))
def wait(task: TaskState) -> str | None:
    """Return how long a task waited, from when it was sent to when it started."""
    sent, started = task.sent_at, task.started_at
    if sent is None or started is None:
        return None
    begin = exact_microseconds(sent, task.sent_us) or 0
    end = exact_microseconds(started, task.started_us) or 0
    # The clocks of who sent it and of the worker may differ.
    return display.seconds(max(0, end - begin) / 1_000_000)


#: What shows each column, and what it reads of a task.
COLUMNS: dict[str, tuple[Any, tuple[str, ...]]] = {
    "state": (display.colored_state, ("state",)),
    "name": (display.name, ("name",)),
    "id": (task_id, ("task_id",)),
    "args": (args, ()),
    "queue": ("queue", ("queue",)),
    "worker": (worker, ("worker__hostname",)),
    "time": (display.tstamp, ("tstamp",)),
    "wait": (wait, ("sent_at", "sent_us", "started_at", "started_us")),
    "runtime": (display.runtime, ("runtime",)),
    "retries": ("retries", ("retries",)),
}
DEFAULT = tuple(show for show, _fields in COLUMNS.values())


def chosen() -> tuple[Any, ...]:
    """Return the columns of the list, as ``monitor_list_columns`` says."""
    return tuple(COLUMNS[name][0] for name in conf.get("monitor_list_columns"))


def only(rows: QuerySet[TaskState], list_display: Sequence[Any]) -> QuerySet[TaskState]:
    """Return ``rows`` without what the columns of a list do not show.

    Texts can be long: of those that are shown in short no more is read.
    """
    shown = [column for column in list_display if column != "action_checkbox"]
    known = dict(COLUMNS.values())
    if any(column not in known for column in shown):
        # A column of the project's own, which may read anything.
        return rows
    fields = {field for column in shown for field in known[column]}
    # The page of a task is found by its id, and str() of it labels its checkbox.
    fields |= {"task_id", "state", "name", "eta"}
    if worker in shown:
        fields.add("worker")
    else:
        rows = rows.select_related(None)
    if args in shown:
        rows = rows.annotate(
            **{
                f"begin_{column}": Left(F(column), ARGUMENTS_LENGTH + 1)
                for column in ("args", "kwargs")
            }
        )
    return rows.only(*fields)
