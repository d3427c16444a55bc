"""What is seen of rows: times, observations to join to them, what is written."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.test.utils import CaptureQueriesContext

from django_celery_monitor.utils import fromtimestamp
from tests.events import NOW


def at(seconds: float) -> datetime:
    """Return the datetime of ``NOW`` plus ``seconds``, as the database has it."""
    return fromtimestamp(NOW + seconds)


def writes(queries: CaptureQueriesContext) -> list[str]:
    """Return the statements among ``queries`` that change a row."""
    verbs = ("INSERT", "UPDATE", "DELETE", "COPY")
    return [q["sql"] for q in queries.captured_queries if q["sql"].startswith(verbs)]


def seen_many(number: int, **columns: Any) -> dict[str, dict[str, Any]]:
    """Return an observation of each of so many tasks."""
    seen = {"state": "STARTED", "tstamp": at(0), "tstamp_us": int(NOW * 1_000_000)}
    return {f"id-{n}": {**seen, **columns} for n in range(number)}
