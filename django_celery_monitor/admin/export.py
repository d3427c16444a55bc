"""The list of tasks as CSV and JSON, sent while it is read."""

from __future__ import annotations

import csv
import re
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from datetime import datetime
from itertools import islice
from typing import TYPE_CHECKING, Any

from asgiref.sync import sync_to_async
from django.contrib.admin.options import IncorrectLookupParameters
from django.core.exceptions import PermissionDenied
from django.core.handlers.asgi import ASGIRequest
from django.core.serializers.json import DjangoJSONEncoder
from django.db.models import Q, QuerySet
from django.http import (
    HttpRequest,
    HttpResponse,
    HttpResponseBadRequest,
    QueryDict,
    StreamingHttpResponse,
)
from django.utils import timezone, translation
from django.utils.formats import number_format
from django.utils.translation import gettext

from django_celery_monitor import conf
from django_celery_monitor.models import TaskState

from . import display, newest

if TYPE_CHECKING:
    from .bounded import TaskList
    from .task_list import TaskListMonitor

#: Tasks that are in memory at a time: each can have several texts of 64 KiB and more.
CHUNK = 200

#: What is exported of a task, in this order.
FIELDS = (
    *("task_id", "name", "state", "tstamp", "queue", "worker", "args", "kwargs"),
    *("sent_at", "received_at", "started_at", "finished_at", "runtime", "retries"),
    *("eta", "expires", "result", "exception", "traceback"),
    *("root_id", "parent_id", "exchange", "routing_key"),
)

#: What a spreadsheet takes for the beginning of a formula, at full width too.
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", *"\uff1d\uff0b\uff0d\uff20")

#: What may begin a cell within a text, read once however long it is; then what begins
#: a formula there, if anything does.
WITHIN = re.compile(r'([;|\t\r\n]["\s]*)([=+\-@\uff1d\uff0b\uff0d\uff20]?)')

Row = dict[str, Any]


def export(model_admin: TaskListMonitor, request: HttpRequest) -> Any:
    """Return the answer: the tasks of the list that the query string describes."""
    if not model_admin.has_view_permission(request):
        raise PermissionDenied
    query = request.GET.copy()
    name = "".join(query.pop("format", [])[-1:])
    if name not in FORMATS:
        known = ", ".join(FORMATS)
        return refused(gettext("Say which format: %(formats)s.") % {"formats": known})
    try:
        tasks = listed(model_admin, request, query)
    except IncorrectLookupParameters:
        return refused(gettext("The filters of the address cannot be used."))
    if tasks.search_error:
        return refused(tasks.search_error)
    lines, content_type = FORMATS[name]
    found = Export(tasks, conf.get("monitor_max_exported"))
    # Many lines at once: each piece goes through the server by itself.
    streamed: Any = pieces(lines(found))
    if isinstance(request, ASGIRequest):
        streamed = one_by_one(streamed)
    return StreamingHttpResponse(
        streamed,
        content_type=content_type,
        headers={"Content-Disposition": f'attachment; filename="tasks.{name}"'},
    )


def pieces(lines: Iterable[str]) -> Iterator[str]:
    """Return ``lines`` joined, as many together as are read at a time.

    All are in the time zone and the language of now: the middleware that chose them is
    gone when they are read.
    """
    lines = iter(lines)
    zone, language = timezone.get_current_timezone(), translation.get_language()

    def piece() -> str:
        with timezone.override(zone), translation.override(language):
            return "".join(islice(lines, CHUNK))

    return iter(piece, "")


async def one_by_one(pieces: Iterator[str]) -> AsyncIterator[str]:
    """Yield ``pieces``; Django would read all of them before it sends the first."""
    following = sync_to_async(lambda: next(pieces, ""))
    while piece := await following():
        yield piece


def refused(text: str) -> HttpResponse:
    """Return an answer that says why there is no export."""
    return HttpResponseBadRequest(text, content_type="text/plain; charset=utf-8")


def listed(model_admin: TaskListMonitor, request: HttpRequest, query: QueryDict) -> Any:
    """Return the list that ``query`` describes."""
    # The order is that of the export, and a page is none of its concern.
    for name in ("o", "p", "all"):
        query.pop(name, None)
    request.GET = query  # type: ignore[assignment]
    return model_admin.get_changelist_instance(request)


def rows(branches: list[QuerySet[TaskState]], most: int) -> Iterator[Row]:
    """Yield the tasks of a list, the newest first, ``most`` at most.

    A cursor of the database would do it in one query; but that of MySQL holds all rows
    in memory, and that of PostgreSQL copies them first.
    """
    place = FIELDS.index("worker")
    columns = (*FIELDS[:place], "worker__hostname", *FIELDS[place + 1 :])
    tasks = TaskState.objects.using(branches[0].db).order_by("-tstamp", "-pk")
    branches = [branch.order_by("-tstamp", "-pk") for branch in branches]
    left = branches
    while most > 0:
        keys = [key for key, _state in newest.keys(left, 0, min(CHUNK, most))]
        found = list(tasks.filter(pk__in=keys).values_list("pk", *columns))
        for values in found:
            yield dict(zip(FIELDS, values[1:], strict=True))
        if len(keys) < CHUNK or not found:
            return
        most -= len(keys)
        key, time = found[-1][0], found[-1][1 + FIELDS.index("tstamp")]
        after = Q(tstamp__lt=time) | Q(pk__lt=key)
        left = [branch.filter(after, tstamp__lte=time) for branch in branches]


class Export:
    """Tasks of a list, and what there is to say about them at the end."""

    def __init__(self, tasks: TaskList, most: int) -> None:
        self.tasks = tasks
        self.most = most
        self.is_cut = False

    def __iter__(self) -> Iterator[Row]:
        """Yield the tasks, ``most`` at most."""
        for number, row in enumerate(rows(self.tasks.branches, self.most + 1)):
            if number == self.most:
                self.is_cut = True
                return
            yield row

    def notes(self) -> list[str]:
        """Return why tasks may be missing, once the tasks have been read."""
        found = []
        if self.is_cut:
            text = gettext("Cut after %(most)s tasks: more match.")
            found.append(text % {"most": number_format(self.most, force_grouping=True)})
        if self.tasks.looked_back_to:
            text = gettext(
                "The newest %(number)s tasks were looked at, back to %(time)s."
            )
            found.append(
                text
                % {"number": self.tasks.looked_at, "time": self.tasks.looked_back_to}
            )
        return found


class Line:
    """A file that returns what is written to it."""

    def write(self, text: str) -> str:
        """Return ``text``."""
        return text


def harmless(value: Any) -> Any:
    """Return what a spreadsheet takes for ``value``, and never for a formula."""
    if isinstance(value, datetime):
        return display.exact(value)
    if not isinstance(value, str):
        return value
    # Where the separator is another, a cell may begin within the text.
    value = WITHIN.sub(lambda m: f"{m[1]}'{m[2]}" if m[2] else m[1], value)
    return f"'{value}" if value.lstrip(" ").startswith(FORMULA) else value


def csv_lines(found: Export) -> Iterator[str]:
    """Yield the lines of a table; notes are lines of their own after it."""
    writer: Any = csv.writer(Line())
    yield writer.writerow(FIELDS)
    for row in found:
        yield writer.writerow([harmless(value) for value in row.values()])
    for note in found.notes():
        yield writer.writerow([note])


def json_lines(found: Export) -> Iterator[str]:
    """Yield the lines of an object: ``tasks``, then ``notes``."""
    encoder = DjangoJSONEncoder(ensure_ascii=False)
    yield '{"tasks": ['
    separator = "\n"
    for row in found:
        yield separator + encoder.encode(row)
        separator = ",\n"
    yield f'\n], "notes": {encoder.encode(found.notes())}}}\n'


#: What writes each format, and what it is called on the web.
FORMATS: dict[str, tuple[Callable[[Export], Iterator[str]], str]] = {
    "csv": (csv_lines, "text/csv; charset=utf-8"),
    "json": (json_lines, "application/json"),
}
