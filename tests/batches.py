"""What a camera has to save that has seen some events."""

from __future__ import annotations

from typing import Any

from django_celery_monitor.observation import Observer
from django_celery_monitor.outbox import Batch
from django_celery_monitor.sanitize import Sanitizer
from tests.events import NOW, task_event

OBSERVER = Observer(Sanitizer([], 100_000))


def batch_of(*events: dict[str, Any]) -> Batch:
    """Return what a camera has to save that has seen ``events``."""
    batch = Batch()
    for event in events:
        if event["type"].startswith("worker"):
            batch.see_worker(*OBSERVER.worker(event))
        else:
            batch.see_task(*OBSERVER.task(event))
    return batch


def many(number: int, type_: str = "task-succeeded", at: float = NOW) -> Batch:
    return batch_of(*(task_event(type_, f"id-{i:04}", at) for i in range(number)))
