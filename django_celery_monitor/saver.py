"""Saves a batch of observations: chunk by chunk, whatever single rows are refused."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from itertools import islice
from typing import TYPE_CHECKING, Any

from celery.utils.log import get_logger
from django.db import InterfaceError, OperationalError, router, transaction
from django.db.models.signals import post_save

from .merge import join_worker
from .outbox import MAX_WORKERS, Batch
from .utils import fromtimestamp

if TYPE_CHECKING:
    from .counters import Counters
    from .managers import Written
    from .models import Row

Seen = Mapping[str, Any]

logger = get_logger(__name__)

#: What says that the database cannot be used just now; the same write may succeed
#: later.
UNUSABLE = (InterfaceError, OperationalError)

#: Tasks that are saved in one transaction.
CHUNK = 2_000

#: How often the same rows may fail while the database answers, before they are
#: looked at one by one: some drivers call a refused value an operational error.
PATIENCE = 3


#: How many shots a row may hold up that fails on its own with an operational error.
REFUSALS = 10


class _Rollback(Exception):  # noqa: N818 -- no error
    """Ends a transaction whose rows are not to stay."""


class Saver:
    """Saves batches on the database that the router names.

    A worker is written when it comes, goes or restarts, and else at most once in
    ``worker_update_freq`` seconds; ``longest_interval`` is the longest time in
    seconds between two shots.
    """

    def __init__(
        self, counters: Counters, worker_update_freq: float, longest_interval: float
    ) -> None:
        self.counters = counters
        self.worker_update_freq = worker_update_freq
        self.update_freq = worker_update_freq + longest_interval
        #: Primary keys by hostname, and when and how each worker was written last.
        self._ids: dict[str, int] = {}
        self._known: dict[str, tuple[float, Any, Any]] = {}
        self._waiting: dict[str, Seen] = {}
        self._failures = 0
        self._refused: dict[str, int] = {}
        self._refused_workers: set[str] = set()

    def save(self, batch: Batch, *, last: bool = False) -> None:
        """Save all of ``batch``, and what of it is saved is no longer in it.

        ``last`` says that there is no later shot for the workers that are not due.
        Raises InterfaceError or OperationalError when the database cannot be used.
        """
        try:
            self._save_workers(batch, last=last)
            for tasks in (batch.finished, batch.unfinished):
                while chunk := dict(islice(tasks.items(), CHUNK)):
                    self._save_chunk(chunk)
                    for task_id in chunk:
                        batch.remove(task_id)
        except UNUSABLE:
            self._failures += 1
            raise
        self._failures = 0
        self._refused.clear()

    # Workers

    def _save_workers(self, batch: Batch, *, last: bool) -> None:
        for hostname, seen in batch.workers.items():
            known = self._waiting.pop(hostname, None)
            joined = seen if known is None else join_worker(known, seen)
            self._waiting[hostname] = joined
        while len(self._waiting) > MAX_WORKERS:
            # The batch has counted it, or its row is there for its next heartbeat.
            del self._waiting[next(iter(self._waiting))]
        due = {h: seen for h, seen in self._waiting.items() if self._is_due(h, last)}
        if due:
            self._write_workers(due)
        for hostname in due:
            del self._waiting[hostname]
        batch.workers.clear()

    def _is_due(self, hostname: str, last: bool) -> bool:  # noqa: FBT001
        if hostname in self._refused_workers:
            return False
        known, seen = self._known.get(hostname), self._waiting[hostname]
        if last or known is None or hostname not in self._ids:
            return True
        written, pid, offline = known
        return (
            time.monotonic() - written >= self.worker_update_freq
            or seen.get("pid") not in {None, pid}
            or offline
            or seen.get("offline_at_us") is not None
        )

    def _write_workers(self, workers: Mapping[str, Seen]) -> None:
        from .models import WorkerState

        rows = {
            hostname: {**seen, "update_freq": self.update_freq}
            for hostname, seen in workers.items()
        }
        for chunk in _chunks(rows):
            self._bisect(WorkerState, chunk, WorkerState.objects.join_many)
            self._find_ids(chunk)
        now = time.monotonic()
        for hostname, seen in workers.items():
            # Whether it is offline, and comes back with the next sign of life.
            offline = seen.get("offline_at_us") is not None
            self._known[hostname] = (now, seen.get("pid"), offline)
        if unknown := workers.keys() - self._ids.keys():
            if any(workers[hostname] for hostname in unknown):
                # Its name alone may be taken where what it said was not.
                self._write_workers({hostname: {} for hostname in unknown})
            elif len(self._refused_workers) < MAX_WORKERS:
                self._refused_workers |= unknown
        while len(self._known) > MAX_WORKERS:
            gone = next(iter(self._known))
            del self._known[gone]
            self._ids.pop(gone, None)

    def _find_ids(self, hostnames: Iterable[str]) -> None:
        from .models import WorkerState

        rows = WorkerState.objects.using(router.db_for_write(WorkerState))
        found = rows.filter(hostname__in=list(hostnames))
        self._ids.update(found.values_list("hostname", "pk"))

    def _ids_of(self, chunk: Mapping[str, Seen]) -> dict[str, int]:
        """Return the primary keys of the workers of some tasks, made if missing."""
        hostnames = {h for seen in chunk.values() if (h := seen.get("worker"))}
        if missing := hostnames - self._ids.keys() - self._refused_workers:
            self._write_workers({hostname: {} for hostname in missing})
        return {h: self._ids[h] for h in hostnames if h in self._ids}

    # Tasks

    def _save_chunk(self, chunk: Mapping[str, Seen]) -> None:
        from .models import TaskState

        def write(tasks: Mapping[str, Seen]) -> Written:
            return TaskState.objects.join_many(tasks, self._ids_of(tasks))

        self._bisect(TaskState, chunk, write)

    # Both

    def _bisect(
        self,
        model: type[Row],
        chunk: Mapping[str, Seen],
        write: Callable[[Mapping[str, Seen]], Written],
    ) -> None:
        """Write rows together, or else those that can be written."""
        try:
            written = write(chunk)
        except UNUSABLE as error:
            if self._failures < PATIENCE:
                raise
            failed: Exception = error
        except Exception as error:  # noqa: BLE001 -- values come from anywhere
            failed = error
        else:
            self._announce(model, written)
            return
        # A worker may have been deleted since its key was read.
        self._ids.clear()
        if len(chunk) > 1:
            half = len(chunk) // 2
            items = list(chunk.items())
            for part in (items[:half], items[half:]):
                self._bisect(model, dict(part), write)
            return
        # A table that is away, and back at any moment, takes no other row either.
        if not takes_any(model):
            raise failed
        self._write_one(model, chunk, write)

    def _write_one(
        self,
        model: type[Row],
        chunk: Mapping[str, Seen],
        write: Callable[[Mapping[str, Seen]], Written],
    ) -> None:
        """Write a row that has failed, or give it up where any other is taken."""
        try:
            written = write(chunk)
        except Exception as error:
            if not takes_any(model) or self._may_pass(chunk, error):
                raise
            self._quarantine(model, chunk, error)
        else:
            self._announce(model, written)

    def _may_pass(self, chunk: Mapping[str, Seen], error: Exception) -> bool:
        """Return whether the fault may be the database's own, and may pass."""
        if not isinstance(error, UNUSABLE):
            return False
        (key,) = chunk
        refused = self._refused[key] = self._refused.get(key, 0) + 1
        return refused < REFUSALS

    def _quarantine(
        self, model: type[Row], chunk: Mapping[str, Seen], error: Exception
    ) -> None:
        self.counters.quarantined += len(chunk)
        for key, seen in chunk.items():
            logger.error(
                "The database refuses %s %.255r for good: %.500r of %.2000r",
                model._meta.verbose_name,
                key,
                error,
                seen,
            )

    def _announce(self, model: type[Row], written: Written) -> None:
        self.counters.saved += len(written)
        announce(model, written)


def takes_any(model: type[Row]) -> bool:
    """Return whether the table of a model takes a row that has nothing unusual."""
    seen = {"state": "PENDING", "tstamp_us": 0, "tstamp": fromtimestamp(0)}
    rows: Any = model._default_manager
    key = f"probe-{uuid.uuid4()}"
    try:
        with transaction.atomic(using=router.db_for_write(model)):
            if model.__name__ == "TaskState":
                rows.join_many({key: seen}, {})
            else:
                rows.join_many({key: {}})
            raise _Rollback
    except _Rollback:
        return True
    except Exception:  # noqa: BLE001 -- the answer is no
        return False


def announce(model: type[Row], written: Written) -> None:
    """Send ``post_save`` for each row that was written, if anybody listens."""
    if not written or not post_save.has_listeners(model):
        return
    using = router.db_for_write(model)
    unique = "task_id" if model.__name__ == "TaskState" else "hostname"
    created = set(written.created)
    keys = [*written.created, *written.changed]
    rows = model._default_manager.using(using)
    for row in rows.filter(**{f"{unique}__in": keys}):
        # Who fails is logged by Django.
        post_save.send_robust(
            sender=model,
            instance=row,
            created=getattr(row, unique) in created,
            update_fields=None,
            raw=False,
            using=using,
        )


def _chunks(rows: Mapping[str, Seen]) -> Iterable[dict[str, Seen]]:
    items = iter(rows.items())
    while chunk := dict(islice(items, CHUNK)):
        yield chunk
