"""The texts of a task, laid out to be read: arguments, results, tracebacks."""

from __future__ import annotations

import json
import re
from typing import Any, cast

from django.db import models
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext, ngettext

from django_celery_monitor.models import TaskState
from django_celery_monitor.observation import exception_type
from django_celery_monitor.utils import from_microseconds, prettify

from . import display

#: The width that Python's containers are laid out to.
WIDTH = 80
#: Lines and characters beyond which a text is folded.
LONG_LINES, LONG = 25, 2_000
#: Characters of a folded text that its summary shows.
SUMMARY = 120

#: JSON that is longer, or more deeply nested, is shown as it is.
JSON_MAXLEN, JSON_MAXDEPTH, JSON_INDENT = 100_000, 20, 2
#: The parts of a text that is JSON: strings; brackets, empty ones whole; all else.
JSON_PART = re.compile(r'"(?:[^"\\]|\\.)*"|\[\s*\]|\{\s*\}|[][{},:]|[^][{},:"\s]+')


def laid_out(text: str) -> str:
    """Return the text of a JSON or Python container over lines, others unchanged."""
    if len(text) <= WIDTH:
        return text
    json_text = lay_out_json(text)
    return prettify(text, WIDTH) if json_text is text else json_text


def lay_out_json(text: str) -> str:
    """Return a JSON array or object with line breaks and indents, all else the same.

    No value is written anew: numbers stay as exact, and keys as often, as they were.
    """
    # Without a string it is Python as well, which takes fewer lines.
    if len(text) > JSON_MAXLEN or text[:1] not in {"[", "{"} or '"' not in text:
        return text
    try:
        json.loads(text)
    except (RecursionError, ValueError):
        return text
    lines, depth = [""], 0
    for part in JSON_PART.findall(text):
        if part in {"]", "}"}:
            depth -= 1
            lines.append(" " * JSON_INDENT * depth)
        lines[-1] += ": " if part == ":" else part
        if part in {"[", "{"}:
            depth += 1
            if depth > JSON_MAXDEPTH:
                return text
        if part in {"[", "{", ","}:
            lines.append(" " * JSON_INDENT * depth)
    return "\n".join(lines)


def block(
    text: str, name: str, label: str, summary: str = "", *, fold: bool = False
) -> SafeString:
    """Return a text that can be copied; folded, if it is long or so told.

    ``name`` is unique on the page and ``label`` what people call the text. Folded, the
    ``summary`` is seen, or the beginning of the text.
    """
    element = f"celery-monitor-{name}"
    shown = format_html(
        '<div class="celery-monitor-block">{}'
        '<pre class="celery-monitor-text" id="{}">{}</pre></div>',
        display.copy_button(
            gettext("Copy: %(name)s") % {"name": label}, source=element
        ),
        element,
        text,
    )
    if not fold and len(text) <= LONG and text.count("\n") < LONG_LINES:
        return shown
    summary = " ".join((summary or text)[: 2 * SUMMARY].split())
    count = ngettext("%(count)d character", "%(count)d characters", len(text))
    return format_html(
        "<details><summary><code>{}</code> ({})</summary>{}</details>",
        summary if len(summary) <= SUMMARY else f"{summary[:SUMMARY]}…",
        count % {"count": len(text)},
        shown,
    )


def field(name: str) -> display.Display:
    """Return a display function for the column of texts called ``name``."""
    column = cast("models.Field[Any, Any]", TaskState._meta.get_field(name))

    def show(value: str | None) -> SafeString | None:
        if not value:
            return None
        label = str(column.verbose_name)
        if name == "traceback":
            return block(value, name, label, last_line(value))
        return block(laid_out(value), name, label, value)

    return display.field(TaskState, name, show)


def attempts(value: list[dict[str, Any]] | None) -> SafeString | None:
    """Return what each of the latest retries said, the newest last."""
    if not value:
        return None
    return format_html(
        '<ol class="celery-monitor-attempts">{}</ol>',
        format_html_join(
            "",
            '<li data-celery-monitor-key="{}">{} {}{}{}</li>',
            (attempt(said, number) for number, said in enumerate(value, 1)),
        ),
    )


def attempt(said: dict[str, Any], number: int) -> tuple[Any, ...]:
    """Return a key, when an attempt failed, type, exception and traceback."""
    kind = exception_type(said["exception"])
    exception = said["exception"] and block(
        said["exception"], f"exception-{number}", gettext("exception")
    )
    traceback = said["traceback"] and block(
        said["traceback"],
        f"traceback-{number}",
        gettext("traceback"),
        last_line(said["traceback"]),
        fold=True,
    )
    when = display.exact_time(from_microseconds(said["timestamp"]))
    return (
        said["timestamp"],
        when,
        format_html("<strong>{}</strong>", kind) if kind else "",
        exception,
        traceback,
    )


def last_line(text: str) -> str:
    """Return the last line of a traceback, which is the exception."""
    return text.rstrip().rpartition("\n")[2]
