"""What a camera counts, logged once a minute and stored in the camera's row."""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING

from celery.utils.log import get_logger
from django.db import Error, router
from django.utils import timezone

from . import __version__
from .utils import fromtimestamp

if TYPE_CHECKING:
    from .camera_state import CameraStateQuerySet

logger = get_logger(__name__)

#: Seconds between two lines of the log, and between two writes of the row.
LOG_FREQ = 60.0
STORE_FREQ = 10.0

#: Runs of cameras that are kept: how many, and for how long after their end.
MAX_RUNS = 1_000
MAX_AGE = timedelta(days=90)

#: Something is wrong when one of these grows.
TROUBLES = frozenset({"retried", "dropped", "quarantined", "poison"})


@dataclass
class Counters:
    """What has become of the events that one camera received.

    Each attribute has one thread that changes it, so that none needs a lock: the
    receiver's changes ``received``, ``merged``, ``dropped``, ``made_fit``,
    ``poison`` and ``reconnects``, the timer's the others. ``lag`` is a number of
    seconds.
    """

    received: int = 0
    merged: int = 0
    saved: int = 0
    retried: int = 0
    dropped: int = 0
    made_fit: int = 0
    quarantined: int = 0
    poison: int = 0
    reconnects: int = 0
    lag: float = 0.0

    def snapshot(self) -> Counters:
        """Return a copy, which counts no further."""
        return replace(self)

    def as_columns(self) -> dict[str, int | float]:
        """Return the columns of a camera's row and their values."""
        return asdict(self)

    def since(self, earlier: Counters) -> dict[str, int]:
        """Return what grew since the snapshot ``earlier``, and by how much."""
        before = asdict(earlier)
        return {
            name: value - before[name]
            for name, value in asdict(self).items()
            if name != "lag" and value != before[name]
        }


class Reporter:
    """Say what a camera counted: to the log, and in the camera's own row.

    The row is not the data: an error of the database is logged at level DEBUG, and
    the next call tries again. All methods belong to one thread at a time.
    """

    def __init__(
        self,
        counters: Counters,
        freq: float,
        *,
        log_freq: float = LOG_FREQ,
        store_freq: float = STORE_FREQ,
    ) -> None:
        """Report ``counters`` of a camera with ``freq`` seconds between two shots.

        ``log_freq`` and ``store_freq`` are the seconds between two lines and
        between two writes, at least.
        """
        self.counters = counters
        self.freq = freq
        self.log_freq = log_freq
        self.store_freq = store_freq
        self._logged = counters.snapshot()
        self._pk: int | None = None
        self._started = self._last_shot = time.time()
        self._last_commit: float | None = None
        self._stopped: float | None = None
        self._next_line = self._next_write = time.monotonic()

    def register(self) -> None:
        """Say that the camera runs from now on, and forget runs of long ago.

        Django must be set up.
        """
        self._started = self._last_shot = time.time()
        self._next_line = time.monotonic() + self.log_freq
        self._guard(self._forget)
        self._write()

    def report(
        self, last_shot: float | None = None, last_commit: float | None = None
    ) -> None:
        """Log and store what is due; to be called after every shot.

        ``last_shot`` and ``last_commit`` are what ``store`` takes.
        """
        self.log()
        self.store(last_shot, last_commit)

    def log(self, *, force: bool = False) -> None:
        """Log what changed since the last line, if a line is due or ``force``.

        The level is WARNING where something went wrong, else INFO.
        """
        now = time.monotonic()
        if now < self._next_line and not force:
            return
        counters = self.counters.snapshot()
        grown = counters.since(self._logged)
        if not grown:
            return
        self._logged = counters
        self._next_line = now + self.log_freq
        parts = [f"{name.replace('_', ' ')} {n}" for name, n in grown.items()]
        if counters.lag:
            parts.append(f"lag {counters.lag:.1f} s")
        level = logging.INFO if TROUBLES.isdisjoint(grown) else logging.WARNING
        logger.log(level, "Camera: %s", ", ".join(parts))

    def store(
        self,
        last_shot: float | None = None,
        last_commit: float | None = None,
        *,
        force: bool = False,
    ) -> None:
        """Write the row, if it is due, rows were committed, or ``force``.

        ``last_shot``, when the last shot began, and ``last_commit``, when the last
        one that wrote anything was committed, are seconds since the epoch; None
        leaves them as they were. Pages of the admin ask this row whether anything
        was written, so that it says so at once.
        """
        if last_shot is not None:
            self._last_shot = last_shot
        if last_commit is not None:
            self._last_commit = last_commit
        due = time.monotonic() >= self._next_write
        if force or due or last_commit is not None:
            self._write()

    def stop(self) -> None:
        """Log what is left to say, and say in the row that the camera ended."""
        self._stopped = time.time()
        self.log(force=True)
        self._write()

    def _write(self) -> None:
        self._next_write = time.monotonic() + self.store_freq
        self._guard(self._update_or_create)

    def _guard(self, write: Callable[[], None]) -> None:
        try:
            write()
        except Error:
            logger.debug("Cannot write the row of the camera", exc_info=True)

    def _rows(self) -> CameraStateQuerySet:
        # A model can be imported once Django is set up, and the receiver needs
        # this module earlier.
        from .models import CameraState

        return CameraState.objects.using(router.db_for_write(CameraState))

    def _update_or_create(self) -> None:
        commit, stopped = self._last_commit, self._stopped
        columns = {
            "last_shot": fromtimestamp(self._last_shot),
            "last_commit": None if commit is None else fromtimestamp(commit),
            "stopped_at": None if stopped is None else fromtimestamp(stopped),
            **self.counters.as_columns(),
        }
        # It may be deleted at any time, and the database away at the start.
        if self._pk is None or not self._rows().filter(pk=self._pk).update(**columns):
            row = self._rows().create(
                hostname=socket.gethostname(),
                pid=os.getpid(),
                version=__version__,
                freq=self.freq,
                started_at=fromtimestamp(self._started),
                **columns,
            )
            self._pk = row.pk

    def _forget(self) -> None:
        rows = self._rows().order_by("-last_shot")
        rows.filter(last_shot__lt=timezone.now() - MAX_AGE).delete()
        newest = rows.values_list("last_shot", flat=True)
        # This run's own is yet to come.
        for oldest_kept in newest[MAX_RUNS - 2 : MAX_RUNS - 1]:
            rows.filter(last_shot__lt=oldest_kept).delete()
