"""An outbox for the tests, and what waits in it."""

from __future__ import annotations

from typing import Any

from django_celery_monitor.counters import Counters
from django_celery_monitor.outbox import Batch, Outbox
from tests.batches import OBSERVER
from tests.events import task_event

Columns = dict[str, Any]


def outbox(max_tasks: int = 1_000, max_bytes: int = 10**9, **kwargs: Any) -> Outbox:
    return Outbox(max_tasks, max_bytes, Counters(), **kwargs)


def see(box: Outbox, type_: str, uuid: str = "id-1", **fields: Any) -> None:
    box.see_task(*OBSERVER.task(task_event(type_, uuid, **fields)))


def tasks_of(batch: Batch) -> dict[str, Columns]:
    return {**batch.finished, **batch.unfinished}


def ids(box: Outbox) -> list[str]:
    """Return the ids of the tasks that wait, and leave nothing."""
    batch = box.take()
    box.done(batch)
    return sorted(tasks_of(batch))
