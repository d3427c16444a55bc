"""The camera that ``celery events`` runs: it saves what the cluster does."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta, timezone
from types import FrameType
from typing import TYPE_CHECKING, Any, TypeVar

import django
from celery import states
from celery.events.snapshot import Polaroid
from celery.utils.log import get_logger
from celery.utils.time import maybe_iso8601
from django.db import InterfaceError, OperationalError, connections, router

from . import conf, observation
from .receiver import Receiver
from .utils import correct_awareness, exact_microseconds, fromtimestamp

if TYPE_CHECKING:
    from celery.events.state import Task, Worker

    from . import models

_R = TypeVar("_R")

logger = get_logger(__name__)

#: Seconds: a worker that beats on is written at most once in this time.
WORKER_UPDATE_FREQ = 60

#: Seconds from the start to the first cleanup; the others follow hourly.
FIRST_CLEANUP = 10

#: What ends the command, and who handles it where nobody else does.
DEFAULT_HANDLERS = {
    signal.SIGINT: signal.default_int_handler,
    signal.SIGTERM: signal.SIG_DFL,
}

#: Columns of a task that an observation has in microseconds.
TIMES = ("sent_at", "received_at", "started_at", "finished_at")

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
        self.app.events.receiver_cls = "django_celery_monitor.receiver:Receiver"
        self.state.on_node_leave = self.on_node_leave
        self._left: dict[str, Worker] = {}
        self._shot = threading.Lock()
        self._shooting = False
        # The longest time between two shots: a maximum rate may put one off.
        rate = getattr(self.maxrate, "fill_rate", 0)
        self._interval = max(self.freq, 1 / rate if rate else 0)

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
        """Stop the timer and take the last snapshot, whatever the maximum rate."""
        for entry in (self._tref, self._ctref, self._first_cleanup):
            if entry is not None:
                entry.cancel()
        self.maxrate = None
        self.capture()

    # Taking a snapshot

    def capture(self) -> None:
        """Take a snapshot of what the State holds; wait for one that is under way."""
        with self._shot:
            close_old_connections()
            self.state.freeze_while(self.shutter)

    def shutter(self) -> None:
        """Save what the State holds, unless the maximum rate puts it off.

        The State is cleared only here, once everything is saved: what one shot
        leaves unsaved is there for the next.
        """
        if self.maxrate is None or self.maxrate.can_consume():
            logger.debug("Shutter: %s", self.state)
            self.shutter_signal.send(sender=self.state)
            self.on_shutter(self.state)
            if self.clear_after:
                self.state._clear()

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
        except (InterfaceError, OperationalError):
            raise
        except Exception:
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
            columns["offline_at_us"] = observation.microseconds(offline)
        else:
            exact = observation.microseconds(worker.heartbeats[-1], time.time())
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
        columns = observation.from_task(task)
        columns["worker"] = worker
        columns["tstamp"] = fromtimestamp(columns["tstamp_us"] / 1_000_000)
        for name in TIMES:
            if columns[name] is not None:
                columns[name] = fromtimestamp(columns[name] / 1_000_000)
        for name in ("eta", "expires"):
            columns[name] = self._parse(uuid, name, columns[name])
        return self.update_task(columns.pop("state"), uuid, columns)

    def _parse(self, uuid: str, name: str, value: Any) -> datetime | None:
        try:
            parsed = maybe_iso8601(value)
        except (TypeError, ValueError):
            logger.warning("Task %.255r: %s %.255r is no time", uuid, name, value)
            return None
        if parsed is not None and parsed.tzinfo is None:
            parsed = parsed.replace(tzinfo=timezone.utc)
        return correct_awareness(parsed)

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
