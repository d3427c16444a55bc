"""A camera for the tests: no thread of its own, a clock that can be put forward."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import time_machine
from celery import Celery
from celery.events.state import State
from django.db import connection
from django.test.utils import CaptureQueriesContext

from django_celery_monitor.camera import Camera
from django_celery_monitor.models import TaskState
from tests.events import NOW, task_event

_monotonic = time.monotonic
# Django says first how often a statement was executed, if not once.
_WRITE = re.compile(r"(\d+ times: )?(INSERT|UPDATE|DELETE|COPY|TRUNCATE|CREATE)")


class Rowwise(Camera):
    """A camera that saves row by row, as any that overrides how a row is saved."""

    def handle_task(self, uuid_task: Any, worker: Any = None) -> TaskState | None:
        return super().handle_task(uuid_task, worker)


class FakeTimer:
    """A timer that only remembers what it is asked to call."""

    class Entry:
        """One call."""

        canceled = False

        def cancel(self) -> None:
            self.canceled = True

    def __init__(self) -> None:
        self.calls: list[tuple[str, float, Callable[[], Any]]] = []
        self.entries: list[FakeTimer.Entry] = []

    def _enter(self, kind: str, secs: float, fun: Callable[[], Any]) -> Entry:
        self.calls.append((kind, secs, fun))
        self.entries.append(self.Entry())
        return self.entries[-1]

    def call_after(self, secs: float, fun: Callable[[], Any]) -> Entry:
        return self._enter("after", secs, fun)

    def call_repeatedly(self, secs: float, fun: Callable[[], Any]) -> Entry:
        return self._enter("repeatedly", secs, fun)


def make(cls: type[Camera] = Camera, **options: Any) -> Any:
    """Return a camera of ``cls``; options that are settings go to its own app.

    What it shows of Celery it has of its own: State, app and timer.
    """
    app = Celery("camera", broker="memory://", set_as_current=False)
    app.conf.update({k: v for k, v in options.items() if k.startswith("monitor_")})
    rest = {k: v for k, v in options.items() if not k.startswith("monitor_")}
    defaults = {"state": State(), "freq": 2.0, "app": app, "timer": FakeTimer()}
    return cls(**{**defaults, **rest})


@contextmanager
def at(seconds: float) -> Iterator[None]:
    """Let a block take place so many seconds after ``NOW``, on every clock."""

    def monotonic() -> float:
        return _monotonic() + seconds

    with (
        time_machine.travel(NOW + seconds, tick=False),
        mock.patch("time.monotonic", monotonic),
    ):
        yield


def started(**fields: Any) -> dict[str, Any]:
    return task_event("task-started", **{"at": NOW + 2, **fields})


def succeeded(**fields: Any) -> dict[str, Any]:
    outcome = {"at": NOW + 3, "result": "4", "runtime": 1.5}
    return task_event("task-succeeded", **{**outcome, **fields})


class Statements(CaptureQueriesContext):
    """The statements on rows of tasks and workers, while it is a context."""

    def __init__(self, using: Any = connection) -> None:
        super().__init__(using)

    @property
    def sql(self) -> list[str]:
        """All of them."""
        found = [query["sql"] for query in self.captured_queries]
        return [s for s in found if "taskstate" in s or "workerstate" in s]

    @property
    def writes(self) -> list[str]:
        """Those that change a row."""
        return [s for s in self.sql if _WRITE.match(s)]
