"""The camera that ``celery events`` runs: it saves what the cluster does."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from types import FrameType
from typing import TYPE_CHECKING, Any, TypeVar

import django
from celery import states
from celery.events.snapshot import Polaroid
from celery.utils.log import get_logger
from django.db import connections, router

from . import conf, frozen
from .counters import Counters, Reporter
from .observation import Observer, from_task
from .outbox import Batch, Outbox
from .receiver import Receiver
from .sanitize import Sanitizer
from .saver import UNUSABLE, Saver
from .utils import exact_microseconds, fromtimestamp

if TYPE_CHECKING:
    from celery.events.state import Task, Worker

    from . import models

_R = TypeVar("_R")

logger = get_logger(__name__)

#: Seconds: a worker that beats on is written at most once in this time.
WORKER_UPDATE_FREQ = 60

#: Seconds from the start to the first cleanup; the others follow hourly.
FIRST_CLEANUP = 10

#: Seconds: how long a camera waits after a shot that failed, at most.
MAX_BACKOFF = 30.0

#: Seconds after which a last shot that the database holds up is given up.
HARD_LIMIT = 5.0

#: What ends the command, and who handles it where nobody else does.
DEFAULT_HANDLERS = {
    signal.SIGINT: signal.default_int_handler,
    signal.SIGTERM: signal.SIG_DFL,
}

#: What a subclass may override to see every row on its way.
OVERRIDES = (
    *("on_shutter", "handle_worker", "handle_task", "update_task", "get_heartbeat"),
)

#: What a worker's events say about it, by the names of Celery and of the columns.
WORKER_FIELDS = (
    *("pid", "freq", "active", "processed", "loadavg"),
    *("sw_ident", "sw_ver", "sw_sys"),
)


def close_old_connections() -> None:
    """Close the connections that broke or are too old, as Django does per request."""
    for connection in connections.all(initialized_only=True):
        # In a test, or whoever else takes a snapshot within a transaction.
        if not connection.in_atomic_block:
            connection.close_if_unusable_or_obsolete()


class Camera(Polaroid):
    """Save a snapshot of every worker and task that changed, each time it is due.

    Override ``handle_task``, ``handle_worker`` or ``update_task`` to change what is
    saved, ``on_cleanup`` to change what is purged.
    """

    clear_after = True
    worker_update_freq: float = WORKER_UPDATE_FREQ
    state: Any
    maxrate: Any
    _tref: Any
    _ctref: Any
    _first_cleanup: Any = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.counters = Counters()
        self.outbox = Outbox(
            conf.get("monitor_outbox_max_tasks", self.app),
            conf.get("monitor_outbox_max_bytes", self.app),
            self.counters,
        )
        self._flush_timeout: float = conf.get("monitor_flush_timeout", self.app)
        self._observer = Observer(Sanitizer.from_settings(self.app))
        # The longest time between two shots: a maximum rate may put one off.
        rate = getattr(self.maxrate, "fill_rate", 0)
        self._interval = max(self.freq, 1 / rate if rate else 0)
        self._saver = Saver(self.counters, self.worker_update_freq, self._interval)
        self._reporter = Reporter(self.counters, self._interval)
        self._shot = threading.Lock()
        self._next_try = 0.0
        self._backoff = 0.0
        self._ends = False
        #: What a subclass is about to see, when it is handed a State.
        self._observed: dict[str, dict[str, Any]] = {}
        self._shooting = False
        self._left: dict[str, Worker] = {}
        self._watch()

    def _watch(self) -> None:
        """Have every event brought here, and to the State for who looks at it."""
        attributes = {"counters": self.counters, "outbox": self.outbox}
        receiver = type("CameraReceiver", (Receiver,), attributes)
        self.app.events.receiver_cls = receiver
        self.app.events.__dict__.pop("Receiver", None)
        if any(getattr(type(self), n) is not getattr(Camera, n) for n in OVERRIDES):
            self.state.event_callback = self._on_event
            self.state.on_node_leave = self.on_node_leave
        else:
            # Celery's own account of it would take a third of the time.
            self.state.handlers = {"task": self._on_task, "worker": self._on_worker}

    # Receiving, in the thread of the receiver

    def _on_event(self, state: Any, event: Mapping[str, Any]) -> None:
        group, _, subject = event["type"].partition("-")
        if group == "task":
            self._on_task(subject, event)
        elif group == "worker":
            self._on_worker(subject, event)

    def _on_task(self, subject: str, event: Mapping[str, Any]) -> None:
        made_fit = self._observer.fit.made_fit
        task_id, seen = self._observer.task(event)
        life = self._observer.sign_of_life(seen)
        self.outbox.see_task(task_id, seen, seen.get("worker"), life)
        self.counters.made_fit += self._observer.fit.made_fit - made_fit

    def _on_worker(self, subject: str, event: Mapping[str, Any]) -> None:
        hostname, seen = self._observer.worker(event)
        self.outbox.see_worker(hostname, seen)

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

    @property
    def expire_task_states(
        self,
    ) -> tuple[tuple[frozenset[str], timedelta | None], ...]:
        """Sets of states and how long their rows are kept; None is for ever.

        The last set has PENDING, with which every custom state expires.
        """
        pending = states.UNREADY_STATES - states.EXCEPTION_STATES
        names = {
            "monitor_task_success_expires": frozenset({states.SUCCESS}),
            "monitor_task_error_expires": states.EXCEPTION_STATES,
            "monitor_task_pending_expires": pending,
        }
        return tuple((names[s], conf.get(s, self.app)) for s in names)

    # Starting and stopping

    def django_setup(self) -> None:
        """Set Django up, for a process that has not."""
        django.setup()

    def install(self) -> None:
        """Start to take snapshots; end with one on SIGINT and SIGTERM.

        Raises ImproperlyConfigured when a setting cannot be used.
        """
        self.django_setup()
        _ = self.expire_task_states  # a wrong setting ends the command, not a thread
        if threading.current_thread() is threading.main_thread():
            for signum, default in DEFAULT_HANDLERS.items():
                if signal.getsignal(signum) is default:
                    signal.signal(signum, self._on_signal)
        super().install()
        self._first_cleanup = self.timer.call_after(FIRST_CLEANUP, self.cleanup)

    def _on_signal(self, signum: int, frame: FrameType | None) -> None:
        if Receiver.consuming is not None:
            # An exception would drop the event that is just coming in.
            Receiver.consuming.should_stop = True
            return
        # Supervisors may send both, and neither is to interrupt the last shot. Python
        # would complain of a signal that came just before SIG_IGN.
        for other in DEFAULT_HANDLERS:
            signal.signal(other, lambda *_: None)
        raise SystemExit(0)

    def cancel(self) -> None:
        """Stop the timer and save all that is left, whatever the maximum rate.

        Raises SystemExit with a code other than 0 when something is left unsaved
        after ``monitor_flush_timeout`` seconds.
        """
        for entry in (self._tref, self._ctref, self._first_cleanup):
            if entry is not None:
                entry.cancel()
        self.maxrate = None
        self._ends = True
        deadline = time.monotonic() + self._flush_timeout
        limit = threading.Timer(self._flush_timeout + HARD_LIMIT, self._give_up)
        limit.daemon = True
        limit.start()
        try:
            self.capture()
            while self.outbox and time.monotonic() < deadline:
                time.sleep(min(0.5, self._flush_timeout))
                self.capture()
        finally:
            limit.cancel()
        self._reporter.stop()
        if self.outbox:
            logger.critical("The camera ends, %d tasks are not saved", len(self.outbox))
            raise SystemExit(1)

    def _give_up(self) -> None:
        logger.critical(
            "The camera ends: the database holds up the last shot, %d tasks are not"
            " saved",
            len(self.outbox),
        )
        os._exit(1)

    # Taking a snapshot, in the thread of the timer

    def capture(self) -> None:
        """Save what was seen since the last shot; wait for one that is under way."""
        with self._shot:
            if self._ends or time.monotonic() >= self._next_try:
                self.shutter()

    def shutter(self) -> None:
        """Save what was seen, unless the maximum rate puts it off.

        What cannot be saved waits for the next shot, which is put off longer each
        time that the database cannot be used.
        """
        if self.maxrate is not None and not self.maxrate.can_consume():
            return
        logger.debug("Shutter: %s", self.state)
        self.shutter_signal.send(sender=self.state)
        began = time.time()
        batch = self.outbox.take()
        committed = None
        try:
            close_old_connections()
            if batch or self._ends:
                self._save_batch(batch)
                committed = time.time()
        except UNUSABLE as error:
            self._put_off(error)
        finally:
            if batch:
                self.outbox.give_back(batch)
            else:
                self.outbox.done(batch)
        if batch.since is not None and committed is not None:
            self.counters.lag = max(0.0, committed - batch.since)
        self._reporter.report(last_shot=began, last_commit=committed)

    def _save_batch(self, batch: Batch) -> None:
        if self.state.event_callback != self._on_event:
            self._saver.save(batch, last=self._ends)
        else:
            self._observed = {**batch.finished, **batch.unfinished}
            state = frozen.freeze(self.state, batch)
            if self.clear_after:
                frozen.clear(self.state)
            self.on_shutter(state)
            batch.clear()
        self._next_try = self._backoff = 0.0

    def _put_off(self, error: Exception) -> None:
        self.counters.retried += 1
        if not self._backoff:
            logger.warning("The database cannot be used, all is kept: %s", error)
        self._backoff = min(MAX_BACKOFF, 2 * self._backoff or self.freq)
        jitter = random.uniform(0.5, 1.0)  # noqa: S311 -- no secret
        self._next_try = time.monotonic() + self._backoff * jitter

    def on_node_leave(self, worker: Worker) -> None:
        """Keep a worker that went offline, since the State forgets it."""
        self._left[worker.hostname] = worker

    def on_shutter(self, state: Any) -> None:
        """Save every worker and task of ``state``, a celery.events.state.State.

        A value that the database refuses costs its own row alone. Raises
        InterfaceError or OperationalError when the database cannot be used.
        """
        self._shooting = True
        try:
            for left in list(self._left.items()):
                self._save(self.handle_worker, left)
            self._left.clear()
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
            return handle(item, *args)
        except UNUSABLE:
            raise
        except Exception:
            self.counters.quarantined += 1
            logger.exception("Cannot save %.255r", item[0])
            return None

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
        if worker.pid is not None:
            columns.update((name, getattr(worker, name)) for name in WORKER_FIELDS)
        return self.WorkerState.objects.update_heartbeat(
            hostname, heartbeat, self.worker_update_freq, columns
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
        return self.update_task(columns.pop("state"), uuid, columns)

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

    # Cleaning up

    def cleanup(self) -> None:
        """Purge what has expired."""
        close_old_connections()
        super().cleanup()

    def on_cleanup(self) -> int:  # type: ignore[override]
        """Mark and delete the tasks that have expired; return how many are deleted."""
        tasks = self.TaskState.objects
        for names, expires in self.expire_task_states:
            tasks.expire_by_states(names, expires)
        return tasks.purge()
