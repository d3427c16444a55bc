"""Saves one worker or task at a time: what a subclass of the camera overrides."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar

from celery.events.snapshot import Polaroid
from celery.utils.log import get_logger
from django.db import DatabaseError, router

from .observation import Observer, from_task
from .outbox import MAX_WORKERS
from .saver import REFUSALS, UNUSABLE, takes_any
from .utils import exact_microseconds, fromtimestamp

if TYPE_CHECKING:
    from celery.events.state import Task, Worker

    from . import models
    from .counters import Counters

_R = TypeVar("_R")

logger = get_logger(__name__)

#: What a subclass may override to see every row on its way.
OVERRIDES = (
    *("on_shutter", "handle_worker", "handle_task", "update_task", "get_heartbeat"),
)

#: What a worker's events say about it, by the names of Celery and of the columns.
WORKER_FIELDS = (
    *("pid", "freq", "active", "processed", "loadavg"),
    *("sw_ident", "sw_ver", "sw_sys"),
)


class RowByRow(Polaroid):
    """The way that every worker and task takes on its own.

    The camera saves in bulk unless one of these methods is overridden.
    """

    counters: Counters
    worker_update_freq: float
    _observer: Observer
    _interval: float

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        #: What was observed of the tasks of the State that is being saved.
        self._observed: Mapping[str, dict[str, Any]] = {}
        self._shooting = False
        self._left: dict[str, Worker] = {}
        #: How often a row held up the shot, by its model and key.
        self._refused: dict[tuple[str, str], int] = {}

    @property
    def TaskState(self) -> type[models.TaskState]:  # noqa: N802 -- the name of 1.1.2
        """The model that tasks are saved in."""
        from .models import TaskState

        return TaskState

    @property
    def WorkerState(self) -> type[models.WorkerState]:  # noqa: N802
        """The model that workers are saved in."""
        from .models import WorkerState

        return WorkerState

    @classmethod
    def is_overridden(cls) -> bool:
        """Return whether a subclass is to see every row on its way."""
        return any(getattr(cls, n) is not getattr(RowByRow, n) for n in OVERRIDES)

    def hand_over(self, state: Any, observed: Mapping[str, dict[str, Any]]) -> None:
        """Have ``state`` saved, of whose tasks ``observed`` tells by their ids.

        Raises what ``on_shutter`` raises.
        """
        self._observed = observed
        left = list(self._left.items())
        try:
            self.on_shutter(state)
        finally:
            self._observed = {}
        self._refused.clear()
        for item in left:  # which a subclass may have no use for
            self._forget(*item)

    def _forget(self, hostname: str, worker: Worker) -> None:
        """Forget a worker that is saved, unless it came and went again meanwhile."""
        if self._left.get(hostname) is worker:
            self._left.pop(hostname, None)

    def on_node_leave(self, worker: Worker) -> None:
        """Keep a worker that went offline, since the State forgets it."""
        self._left.pop(worker.hostname, None)
        if len(self._left) >= MAX_WORKERS:
            self._left.pop(next(iter(self._left), ""), None)
            self.counters.dropped += 1
        self._left[worker.hostname] = worker

    def on_shutter(self, state: Any) -> None:
        """Save every worker and task of ``state``, a celery.events.state.State.

        A value that the database refuses costs its own row alone. Raises what the
        database raises when it cannot be used, or a table is not there.
        """
        self._shooting = True
        try:
            for left in list(self._left.items()):
                self._save(self.handle_worker, left)
                self._forget(*left)
            workers = {
                hostname: self._save(self.handle_worker, (hostname, worker))
                for hostname, worker in list(state.workers.items())
            }
            for uuid, task in list(state.itertasks()):
                worker = workers.get(getattr(task.worker, "hostname", None))
                self._save(self.handle_task, (uuid, task), worker)
        finally:
            self._shooting = False

    def _save(self, handle: Callable[..., _R], item: Any, *args: Any) -> _R | None:
        try:
            row = handle(item, *args)
            self.counters.saved += row is not None
            return row
        except Exception as error:
            is_worker = handle == self.handle_worker
            model = self.WorkerState if is_worker else self.TaskState
            if self._may_pass(model, item[0], error):
                raise
            self.counters.quarantined += 1
            logger.exception("Cannot save %.255r", item[0])
            return None

    def _may_pass(
        self,
        model: type[models.TaskState | models.WorkerState],
        key: str,
        error: Exception,
    ) -> bool:
        """Return whether the fault is not the row's: then all is kept."""
        if isinstance(error, UNUSABLE):
            row = model.__name__, key
            self._refused[row] = self._refused.get(row, 0) + 1
            if self._refused[row] < REFUSALS:
                return True
        elif not isinstance(error, DatabaseError):
            return False
        return not takes_any(model)

    # Saving one worker or task

    def get_heartbeat(self, worker: Worker) -> datetime | None:
        """Return when ``worker`` was last heard of; None: it is offline.

        The datetime is aware exactly if ``USE_TZ`` is on.
        """
        if not worker.heartbeats:
            return None
        # Some of them are times of the worker's own clock, which may be ahead.
        return fromtimestamp(min(worker.heartbeats[-1], time.time()))

    def handle_worker(self, hostname_worker: tuple[str, Worker]) -> models.WorkerState:
        """Save a worker, given with its hostname; return its row."""
        hostname, worker = hostname_worker
        heartbeat = self.get_heartbeat(worker)
        columns: dict[str, Any] = {
            "update_freq": self.worker_update_freq + self._interval
        }
        if heartbeat is None:
            offline = getattr(worker, "local_received", None) or time.time()
            columns["offline_at"] = fromtimestamp(offline)
            columns["offline_at_us"] = round(offline * 1_000_000)
        else:
            exact = round(min(worker.heartbeats[-1], time.time()) * 1_000_000)
            columns["last_heartbeat_us"] = exact_microseconds(heartbeat, exact)
        # A worker known from its tasks alone has Celery's defaults, not its own.
        told = {name: getattr(worker, name) for name in WORKER_FIELDS}
        fit, seen = self._observer.worker(
            {**told, "type": "worker-heartbeat", "hostname": hostname, "timestamp": 0}
        )
        columns.update((name, seen[name]) for name in WORKER_FIELDS if name in seen)
        return self.WorkerState.objects.update_heartbeat(
            fit, heartbeat, self.worker_update_freq, columns
        )

    def handle_task(
        self,
        uuid_task: tuple[str, Task],
        worker: models.WorkerState | None = None,
    ) -> models.TaskState | None:
        """Save a task, given with its id, and its worker unless that is given.

        Returns the row; None for a task without a name that has no row, except
        in a snapshot: there the name is saved when it is learnt.
        """
        uuid, task = uuid_task
        if worker is None and task.worker is not None:
            worker = self._save(self.handle_worker, (task.worker.hostname, task.worker))
        columns = self._observed.get(uuid) or from_task(self._observer, task)
        columns = {**columns, "worker": worker}
        task_id = self._observer.fit.identifier(uuid)
        return self.update_task(columns.pop("state"), task_id, columns)

    def update_task(
        self, state: str, task_id: str, defaults: Mapping[str, Any] | None = None
    ) -> models.TaskState | None:
        """Merge ``defaults``, columns of a task, into its row; return the row.

        Returns None where ``handle_task`` does.
        """
        tasks = self.TaskState.objects
        named = bool(defaults and defaults.get("name"))
        if not (named or self._shooting):
            using = router.db_for_write(self.TaskState)
            if not tasks.using(using).filter(task_id=task_id).exists():
                return None
        return tasks.update_state(state, task_id, defaults)
