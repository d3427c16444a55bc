"""The camera that ``celery events`` runs: it saves what the cluster does."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from datetime import timedelta
from types import FrameType
from typing import Any

import django
from celery.utils.log import get_logger
from django.db import Error, connections

from . import conf, frozen
from .counters import Counters, Reporter
from .observation import Observer
from .outbox import Batch, Outbox
from .receiver import Receiver
from .retention import Retention, task_expiry
from .rows import RowByRow
from .sanitize import Sanitizer
from .saver import UNUSABLE, Saver

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

#: Seconds that a cleanup may take in one go, with a shot after it.
MAX_CLEANUP = 1.0


def close_old_connections(*, failed: bool = False) -> None:
    """Close the connections that broke or are too old, as Django does per request.

    Where the last shot has ``failed``, close all: one may be to a server that only
    reads.
    """
    for connection in connections.all(initialized_only=True):
        # In a test, or whoever else takes a snapshot within a transaction.
        if connection.atomic_blocks:
            continue
        if connection.in_atomic_block:
            # It was dead as a block was to begin, and Django has noted that it did.
            connection.in_atomic_block = connection.closed_in_transaction = False
        elif not failed:
            connection.close_if_unusable_or_obsolete()
            continue
        # It may be closed already.
        with suppress(Error):
            connection.close()


def in_main_thread() -> bool:
    """Return whether signals are handled in the thread that calls."""
    return threading.current_thread() is threading.main_thread()


class Camera(RowByRow):
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
    _next_cleanup: Any = None
    #: Seconds that a cleanup may take; None: as long as there is something to do.
    _cleanup_seconds: float | None = None
    _cleaned = True
    #: Knows how many rows this database deletes in a moment.
    _retention: Retention | None = None

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
        self._watch()

    def _watch(self) -> None:
        """Have every event brought here, and to the State for who looks at it."""
        for_state = self.is_overridden()
        attributes = {
            "counters": self.counters,
            "outbox": self.outbox,
            "for_state": for_state,
        }
        self._receiver: Any = type("CameraReceiver", (Receiver,), attributes)
        events: Any = self.app.events
        events.receiver_cls = self._receiver
        events.__dict__.pop("Receiver", None)
        if for_state:
            self.state.event_callback = lambda _, event: self._on_event(event)
            self.state.on_node_leave = self.on_node_leave
        else:
            # Celery's own account of it would take a third of the time.
            self.state.event = self._on_event

    # Receiving, in the thread of the receiver

    def _on_event(self, event: Mapping[str, Any]) -> None:
        observer, type_ = self._observer, event["type"]
        if type_.startswith("task-"):
            self.outbox.see_task(*observer.task(event))
        elif type_.startswith("worker-"):
            self.outbox.see_worker(*observer.worker(event))
        if observer.fit.made_fit:
            self.counters.made_fit += observer.fit.made_fit
            observer.fit.made_fit = 0

    @property
    def expire_task_states(
        self,
    ) -> tuple[tuple[frozenset[str], timedelta | None], ...]:
        """Sets of states and how long their rows are kept; None is for ever.

        The last set has PENDING, with which every custom state expires.
        """
        return task_expiry(self.app)

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
        if in_main_thread():
            for signum, default in DEFAULT_HANDLERS.items():
                if signal.getsignal(signum) is default:
                    signal.signal(signum, self._on_signal)
        # Not here: the database may keep a camera waiting that could receive.
        self.timer.call_after(0, self._reporter.register)
        super().install()
        self._next_cleanup = self.timer.call_after(FIRST_CLEANUP, self.cleanup)

    def _on_signal(self, signum: int, frame: FrameType | None) -> None:
        if Receiver.consuming is not None:
            # An exception would drop the event that is just coming in.
            Receiver.consuming.should_stop = True
            return
        # Supervisors may send both, and neither is to interrupt the last shot. Python
        # would complain of a signal that came just before SIG_IGN.
        for other in DEFAULT_HANDLERS:
            signal.signal(other, lambda *_: None)
        # Where a destructor runs just now, Python drops the exception.
        self._receiver.should_stop = True
        raise SystemExit(0)

    def cancel(self) -> None:
        """Stop the timer and save all that is left, whatever the maximum rate.

        Raises SystemExit with a code other than 0 when something is left unsaved
        after ``monitor_flush_timeout`` seconds.
        """
        for entry in (self._tref, self._ctref, self._next_cleanup):
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
            # Without tasks there may be heartbeats that the last shot has not saved.
            while (self.outbox or self._backoff) and time.monotonic() < deadline:
                time.sleep(min(0.5, self._flush_timeout))
                self.capture()
            # First: a broker that is not heard of for long hands events out again.
            if isinstance(Receiver.consuming, self._receiver):
                Receiver.consuming.close()
            self._reporter.stop()
        finally:
            limit.cancel()
        if self.outbox or self._backoff:
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
        logger.debug("Shutter: %d tasks", len(self.outbox))
        began = time.time()
        batch = self.outbox.take()
        committed = None
        try:
            close_old_connections(failed=self._backoff > 0)
            self._save_batch(batch)
            if batch.since is not None:
                committed = time.time()
        except UNUSABLE as error:
            self._put_off(error)
        except BaseException as error:
            if not isinstance(error, Exception) and in_main_thread():
                raise
            # A table that is missing, or what a subclass raises: it may be mended. What
            # is no Exception would end the thread of the timer without a word.
            logger.exception("The shot failed")
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
        state = self.state
        if self.is_overridden() or self.shutter_signal.receivers:
            state = frozen.freeze(self.state, batch)
        self.shutter_signal.send(sender=state)
        if not batch and not self._ends:
            return
        if self.is_overridden():
            if self.clear_after:
                frozen.clear(self.state)
            self.hand_over(state, {**batch.finished, **batch.unfinished})
            batch.clear()
        else:
            self._saver.save(batch, last=self._ends)
        self._next_try = self._backoff = 0.0

    def _put_off(self, error: BaseException) -> None:
        self.counters.retried += 1
        if not self._backoff:
            logger.warning("The database cannot be used, all is kept: %s", error)
        self._backoff = min(MAX_BACKOFF, 2 * self._backoff or self.freq)
        jitter = random.uniform(0.5, 1.0)  # noqa: S311 -- no secret
        self._next_try = time.monotonic() + self._backoff * jitter

    # Cleaning up

    def cleanup(self) -> None:
        """Delete for a while what has expired, and go on later where more is left."""
        close_old_connections()
        if self._next_cleanup is not None:
            # The hourly one takes its place.
            self._next_cleanup.cancel()
        self._cleanup_seconds = min(MAX_CLEANUP, self.freq / 2)
        self._cleaned = True
        try:
            super().cleanup()
        except UNUSABLE as error:
            logger.warning("The database cannot be used, cleanup waits: %s", error)
        finally:
            self._cleanup_seconds = None
        if not self._cleaned and not self._ends:
            self._next_cleanup = self.timer.call_after(self.freq / 2, self.cleanup)

    def on_cleanup(self) -> int:  # type: ignore[override]
        """Delete what has expired; return how many tasks that were.

        In the thread of the timer it ends after a while, for the next shot.
        """
        if self._cleanup_seconds is None or self._retention is None:
            worker_expires = conf.get("monitor_worker_expires", self.app)
            self._retention = Retention(self.expire_task_states, worker_expires)
        purged = self._retention.run(self._cleanup_seconds, stop=lambda: self._ends)
        self._cleaned = purged.done
        return purged.tasks
