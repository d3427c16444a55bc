"""What has expired, and a clock for the deletion to go by."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from celery import states

from django_celery_monitor.models import TaskState, WorkerState
from django_celery_monitor.utils import fromtimestamp
from tests.factories import WorkerStateFactory

NOW = 1_790_000_000
HOUR = timedelta(hours=1)
PENDING = states.UNREADY_STATES - states.EXCEPTION_STATES
SUCCESS = frozenset({states.SUCCESS})
HOURLY = tuple((names, HOUR) for names in (SUCCESS, states.EXCEPTION_STATES, PENDING))


def at(seconds: float) -> datetime:
    """Return the time so many seconds after the tests' own present."""
    return fromtimestamp(NOW + seconds)


OLD, NEW = at(-3601), at(-3599)


def old_worker(**columns: Any) -> WorkerState:
    """Create a worker that nothing was heard of for an hour."""
    columns = {"last_heartbeat": OLD, "last_update": OLD, **columns}
    worker = WorkerStateFactory.create()
    # last_update is set by every save.
    WorkerState.objects.filter(pk=worker.pk).update(**columns)
    return worker


def kept() -> set[str]:
    """Return the ids of the tasks that are there."""
    return set(TaskState.objects.values_list("task_id", flat=True))


class Clock:
    """A clock that passes in sleep alone, or with the rows that are deleted."""

    def __init__(self) -> None:
        self.now = 0.0
        #: Seconds that deleting a row takes.
        self.cost = 0.0
        self.sizes: list[int] = []
        self.sleeps: list[float] = []

    def monotonic(self) -> float:
        """Return the seconds that have passed."""
        return self.now

    def sleep(self, seconds: float) -> None:
        """Pass, at once."""
        self.now += seconds
        self.sleeps.append(seconds)
