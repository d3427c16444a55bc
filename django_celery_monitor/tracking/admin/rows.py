"""What a table shows of the tasks of an object."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from django.contrib.admin import ModelAdmin
from django.db.models import TextField
from django.db.models.functions import Left, Right
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext

from django_celery_monitor.admin import columns, display, task_page, texts
from django_celery_monitor.models import TaskState
from django_celery_monitor.tracking.models import TaskObjectLink, TaskObjectLinkQuerySet

#: Characters of a result, and of a traceback, which begins where it matters least.
RESULT, TRACEBACK = 4_000, 20_000
#: Characters of a result that is not folded.
SHORT = 60

#: What is read of a link and of its task, except for the texts.
OF_LINK = ("role", "source", "source_name", "username", "created_at")
OF_TASK = (
    *("state", "task_id", "name", "tstamp", "sent_at", "finished_at"),
    *("runtime", "retries"),
)


def read(links: TaskObjectLinkQuerySet) -> TaskObjectLinkQuerySet:
    """Return ``links`` with what a table shows of their tasks, and no more."""
    return (
        links.select_related("task")
        .annotate(
            # One character more tells that there are more.
            result=Left("task__result", RESULT + 1, output_field=TextField()),
            traceback=Right("task__traceback", TRACEBACK + 1, output_field=TextField()),
        )
        .only(*OF_LINK, *(f"task__{column}" for column in OF_TASK))
    )


def row(
    link: TaskObjectLink,
    monitor: ModelAdmin[TaskState] | None = None,
    find: Callable[[str], str] | None = None,
) -> dict[str, Any]:
    """Return what the table shows of a task.

    ``monitor`` has its page, if there is any; ``find`` returns the query that finds
    all tasks with the same name of a sender.
    """
    task = link.task
    return {
        "key": link.pk,
        "state": display.colored_state(task),
        "retries": task.retries,
        "name": breakable(display.name(task)),
        "task_name": task.name,
        "url": task_page.url(monitor, "change", task) if monitor else "",
        "role": link.role,
        "id": columns.task_id(task),
        "created": display.natural_time(task.sent_at or link.created_at),
        "updated": display.natural_time(task.tstamp),
        "runtime": display.runtime(task),
        "sender": sender(link, find),
        "result": result(link),
    }


def breakable(text: str) -> SafeString:
    """Return a name that may go on in the next line after a dot, a slash and the like.

    Elsewhere it is broken only if it cannot be helped.
    """
    parts = re.split(r"(?<=[./_:-])", text)
    return format_html_join(SafeString("<wbr>"), "{}", ((part,) for part in parts))


def sender(
    link: TaskObjectLink, find: Callable[[str], str] | None = None
) -> SafeString | None:
    """Return who or what sent a task; None: that is not known."""
    parts: list[str] = []
    if link.source:
        parts.append(link.get_source_display())
    if link.source_name:
        name = format_html("<code>{}</code>", breakable(link.source_name))
        if find is not None:
            query = find(link.source_name)
            name = format_html('<a href="{}">{}</a>', query, name)
        parts.append(name)
    if link.username:
        parts.append(gettext("by %(user)s") % {"user": link.username})
    return format_html_join(" ", "{}", ((part,) for part in parts)) or None


def result(link: TaskObjectLink) -> SafeString | None:
    """Return the result of a task, or the error with the traceback folded."""
    found: Any = link
    said, traceback = found.result or "", found.traceback or ""
    if traceback:
        if len(traceback) > TRACEBACK:
            traceback = f"…{traceback[1:]}"
        label = gettext("traceback")
        summary = said or texts.last_line(traceback)
        return texts.block(traceback, f"traceback-{link.pk}", label, summary, fold=True)
    if not said:
        return None
    if len(said) <= SHORT:
        return format_html('<code class="celery-monitor-fixedwidth">{}</code>', said)
    text = f"{said[:RESULT]}…" if len(said) > RESULT else texts.laid_out(said)
    return texts.block(text, f"result-{link.pk}", gettext("result"), said, fold=True)
