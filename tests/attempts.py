"""What is told of one task and its attempts, and the row that it leaves."""

from __future__ import annotations

from collections.abc import Iterable
from functools import reduce
from typing import Any

from django_celery_monitor.merge import TASK, join_task, merge_task
from django_celery_monitor.observation import Observer
from django_celery_monitor.sanitize import Sanitizer
from tests.events import received, task_event

Event = dict[str, Any]
Columns = dict[str, Any]

TWO = "celery@two"


def observe(*events: Event) -> Columns:
    """Return what a camera has in memory that has seen ``events`` of one task."""
    observer = Observer(Sanitizer(["password"], 100_000))
    return reduce(join_task, [observer.task(event)[1] for event in events])


def fold(observations: Iterable[Columns]) -> Columns:
    """Return the row that ``observations`` leave, merged one after the other."""
    first, *others = observations
    row = {**dict.fromkeys(TASK), "retries": 0, **first}
    for seen in others:
        row.update(merge_task(row, seen))
    return row


def succeeded(at: float, **fields: Any) -> Event:
    return task_event("task-succeeded", at=at, **{"result": "4", **fields}, runtime=1.5)


def failed(at: float, error: str = "KeyError('b')", **fields: Any) -> Event:
    fields.setdefault("traceback", f"Traceback of {error}")
    return task_event("task-failed", at=at, exception=error, **fields)


def retried(at: float, error: str = "OSError('a')", **fields: Any) -> Event:
    fields.setdefault("traceback", f"Traceback of {error}")
    return task_event("task-retried", at=at, exception=error, **fields)


def started(at: float, **fields: Any) -> Event:
    return task_event("task-started", at=at, **fields)


def revoked(at: float, **fields: Any) -> Event:
    reason = {"terminated": False, "signum": None, "expired": False}
    return task_event("task-revoked", at=at, **{**reason, **fields})


def attempt(number: int, at: float) -> Event:
    """Return what a worker says when it receives a retry."""
    # As Celery does, the retry is a child of the task it retries: itself.
    eta = f"2026-03-02T10:{number:02}:00+00:00"
    return received(at=at, retries=number, eta=eta, parent_id="id-1")
