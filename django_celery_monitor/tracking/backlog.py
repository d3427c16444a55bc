"""What waits to be written: by a thread of its own, beside whoever has observed it."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from sys import getsizeof

from celery.utils.log import get_logger
from django.db import Error, connections

from django_celery_monitor.outbox import size_of
from django_celery_monitor.saver import UNUSABLE

from .writing import Observed

logger = get_logger(__name__)

#: Seconds without a try after one that failed.
PAUSE = 10.0

#: Seconds for which the same is tried again.
MAX_AGE = 3_600

#: Observations that wait at most, and bytes that they take.
MAX_WAITING = 10_000
MAX_BYTES = 64 * 1024 * 1024

#: Seconds that the thread waits for more before it ends, with its connections.
IDLE = 1.0

#: Seconds that a process that ends waits for what is left.
FLUSH = 2.0


class Backlog:
    """Observations that wait, and the thread that writes them with ``write``.

    Where the database fails, the thread pauses, and finds out when it works again.
    Everybody else had better not try: ``failing`` says so. Of what is too much the
    oldest is dropped, and counted.
    """

    def __init__(self, write: Callable[[Observed], None]) -> None:
        self.write = write
        self.reset()

    def reset(self) -> None:
        """Forget all: in a process that was forked, what waits is its parent's."""
        self.dropped = 0
        self._changed = threading.Condition()
        self._waiting: deque[Observed] = deque()
        self._bytes = 0
        self._thread: threading.Thread | None = None
        self._busy = False
        self._failed = False
        self._pause_ends = 0.0

    def __len__(self) -> int:
        """Return how many observations wait, one that is being written included."""
        with self._changed:
            return len(self._waiting) + self._busy

    @property
    def failing(self) -> bool:
        """Whether the database has failed, and it is for the thread to try again.

        Where threads do not get to run it is so for another pause at most.
        """
        return self._failed and time.monotonic() < self._pause_ends + PAUSE

    @property
    def pausing(self) -> bool:
        """Whether nothing is to be tried, since the database has just failed."""
        return time.monotonic() < self._pause_ends

    def add(self, observed: Observed) -> None:
        """Have ``observed`` written soon, and not by this thread."""
        with self._changed:
            self._waiting.append(observed)
            self._bytes += _size_of(observed)
            while len(self._waiting) > MAX_WAITING or self._bytes > MAX_BYTES:
                self._take()
                self.dropped += 1
            if self._thread is None:
                thread = threading.Thread(
                    target=self._run, name="celery-monitor-tracking", daemon=True
                )
                thread.start()
                self._thread = thread
            self._changed.notify_all()

    def fail(self, observed: Observed, error: Exception) -> None:
        """Log that ``observed`` was not written, and keep it if it may be later.

        An error of the database's begins a pause.
        """
        if not isinstance(error, Error):
            logger.error("The tracker cannot write a task", exc_info=error)
            self.dropped += 1
            return
        if not self._failed:
            logger.warning(
                "The tracker cannot write, and keeps what it sees: %s", error
            )
        self._failed = True
        self._pause_ends = time.monotonic() + PAUSE
        young = time.time() - observed.seen["tstamp_us"] / 1_000_000 < MAX_AGE
        if young and isinstance(error, UNUSABLE):
            self.add(observed)
        else:
            self.dropped += 1

    def flush(self, seconds: float = FLUSH) -> None:
        """Return when all is written, the database fails or time is up."""
        deadline = time.monotonic() + seconds
        with self._changed:
            while self._waiting or self._busy:
                left = deadline - time.monotonic()
                if left <= 0 or self.pausing:
                    return
                self._changed.wait(left)

    def _take(self) -> Observed:
        observed = self._waiting.popleft()
        self._bytes -= _size_of(observed)
        return observed

    # In the thread

    def _run(self) -> None:
        try:
            while (observed := self._next()) is not None:
                self._try(observed)
        finally:
            with self._changed:
                if self._thread is threading.current_thread():
                    # It ends by what is no Exception; another one takes its place.
                    self._thread, self._busy = None, False
                    self._changed.notify_all()
            connections.close_all()

    def _next(self) -> Observed | None:
        """Return what to write next; None when nothing has come for a while."""
        with self._changed:
            self._busy = False
            self._changed.notify_all()
            while self.pausing or not self._waiting:
                pause = self._pause_ends - time.monotonic()
                if not self._changed.wait(max(pause, IDLE)) and not self._waiting:
                    self._thread = None
                    return None
            self._busy = True
            return self._take()

    def _try(self, observed: Observed) -> None:
        try:
            self.write(observed)
        except Exception as error:  # noqa: BLE001 -- values come from anywhere
            self.fail(observed, error)
            connections.close_all()
        else:
            if self._failed:
                logger.warning("The tracker writes again, %d were lost", self.dropped)
            self._failed = False


def _size_of(observed: Observed) -> int:
    """Return about how many bytes an observation takes in memory."""
    values = [value for told in observed.objects if told for value in told.values()]
    texts = [value for value in values if isinstance(value, (str, bytes))]
    return size_of(observed.seen) + sum(map(getsizeof, texts))
