"""What one index finds in the order of time, and what asks for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db import connections
from django.db.models import Q, QuerySet

from django_celery_monitor.models import TaskState
from django_celery_monitor.sanitize import fit_identifier

from .filters import TimeFilter, several

#: Characters of an id that have to be given, and tasks that it may begin.
SHORTEST_ID, MOST_IDS = 4, 1_000

#: What names the time, which every path has.
TIMES = {TimeFilter.parameter_name, *TimeFilter.BOUNDS}

#: Lookups of the time that an index serves.
RANGES = {f"tstamp__{lookup}" for lookup in ("gt", "gte", "lt", "lte", "exact", "year")}

#: The columns that begin an index with the time.
EQUAL = {"state": "state", "state__exact": "state", "state__in": "state"} | {
    "name": "name",
    "name__exact": "name",
    "worker": "worker",
    "worker__exact": "worker",
    "worker__id__exact": "worker",
}
WORKER_PARAMETERS = {name for name, column in EQUAL.items() if column == "worker"}
EMPTY = {"name__isnull": "name", "worker__isnull": "worker"}


@dataclass(frozen=True)
class Path:
    """What one index has in the order of time: a column equal to one of ``values``.

    Without a column it is all tasks.
    """

    column: str = ""
    values: tuple[Any, ...] = ()

    def condition(self) -> Q:
        """Return the condition of all branches together."""
        values = [value for value in self.values if value is not None]
        condition = Q((f"{self.column}__in", values))
        if len(values) < len(self.values):
            condition |= Q((f"{self.column}__isnull", True))
        return condition

    def branches(self, tasks: QuerySet[TaskState]) -> list[QuerySet[TaskState]]:
        """Return the branches of ``tasks``."""
        if not self.column:
            return [tasks]
        if not self.values:
            return [tasks.none()]
        return [
            tasks.filter(
                **{f"{self.column}__isnull": True}
                if value is None
                else {self.column: value}
            )
            for value in self.values
        ]


def with_id(tasks: QuerySet[TaskState], text: str) -> list[int]:
    """Return the keys of tasks whose ids begin with ``text``, not too many."""
    if len(text) < SHORTEST_ID or any(character.isspace() for character in text):
        return []
    text = fit_identifier(text)
    vendor = connections[tasks.db].vendor
    if vendor == "sqlite":
        # No index serves its LIKE, which takes lower for upper case.
        found = tasks.filter(task_id__gte=text, task_id__lt=text + "\U0010ffff")
    elif vendor == "mysql":
        # None serves a comparison of bytes.
        found = tasks.filter(task_id__istartswith=text)
    else:
        found = tasks.filter(task_id__startswith=text)
    keys = list(found.order_by().values_list("pk", flat=True)[: MOST_IDS + 1])
    # So many have no order by time: it is a word like others.
    return keys if len(keys) <= MOST_IDS else []


def path_of(name: str, value: str) -> Path | None:
    """Return the path of a part of the address; None: there is none."""
    if name in EMPTY and value.lower() not in {"", "0", "false"}:
        return Path(EMPTY[name], (None,))
    if name not in EQUAL:
        return None
    return Path(EQUAL[name], tuple(several(value) if "__in" in name else [value]))


def furthest(times: Mapping[Path, datetime | None]) -> tuple[Path, datetime | None]:
    """Return the path that reaches furthest back, and to when; None: to its end."""
    known: dict[Path, datetime] = {}
    for path, time in times.items():
        if time is None:
            return path, None
        known[path] = time
    return min(known.items(), key=lambda item: item[1])
