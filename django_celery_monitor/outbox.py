"""What was seen and is not yet committed: one observation per task and worker."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from .counters import Counters
from .merge import Phase, join_task, join_worker, phase

Columns = dict[str, Any]

#: Bytes that an observation takes in memory beside its long texts, measured.
OVERHEAD = 1_800

#: Workers whose heartbeats wait; whoever sends more hostnames makes them up.
MAX_WORKERS = 20_000

_LONG = ("args", "kwargs", "result", "traceback")


def size_of(seen: Mapping[str, Any]) -> int:
    """Return about how many bytes an observation takes in memory, or more."""
    size = OVERHEAD
    for column in _LONG:
        if text := seen.get(column):
            # As _bytes says: this is done for every event.
            size += len(text) if text.isascii() else 4 * len(text)
    if attempts := seen.get("attempts"):
        for attempt in attempts:
            size += _bytes(attempt["exception"]) + _bytes(attempt["traceback"])
    return size


def _bytes(text: str) -> int:
    # What is not ASCII takes 1, 2 or 4 bytes a character, by the widest of them.
    return len(text) if text.isascii() else 4 * len(text)


@dataclass
class Batch:
    """Observations by task id and by hostname, the oldest first.

    Tasks that have ended are apart: of what is too much, they go last.
    """

    generation: int = 0
    since: float | None = None
    unfinished: OrderedDict[str, Columns] = field(default_factory=OrderedDict)
    finished: OrderedDict[str, Columns] = field(default_factory=OrderedDict)
    workers: dict[str, Columns] = field(default_factory=dict)
    size: int = 0
    dropped: int = 0
    _sizes: dict[str, int] = field(default_factory=dict)

    def __len__(self) -> int:
        """Return how many tasks there are."""
        return len(self.unfinished) + len(self.finished)

    def __bool__(self) -> bool:
        """Return whether there is anything to save."""
        return bool(self.unfinished or self.finished or self.workers)

    def see_task(self, task_id: str, seen: Columns) -> bool:
        """Join an observation of a task; return whether it was known already."""
        known = self.unfinished.pop(task_id, None)
        if known is None:
            known = self.finished.get(task_id)
        if known is not None:
            seen = join_task(known, seen)
            self.size -= self._sizes[task_id]
        self._sizes[task_id] = size = size_of(seen)
        self.size += size
        ended = phase(seen) >= Phase.NOT_RUN
        (self.finished if ended else self.unfinished)[task_id] = seen
        return known is not None

    def see_worker(self, hostname: str, seen: Columns) -> None:
        """Join an observation of a worker; count the one that it is too many for."""
        known = self.workers.get(hostname)
        if known is None and len(self.workers) >= MAX_WORKERS:
            del self.workers[next(iter(self.workers))]
            self.dropped += 1
        self.workers[hostname] = seen if known is None else join_worker(known, seen)

    def see_life(self, hostname: str, seen: Columns) -> None:
        """Join the sign of life that an observation of a task is of its worker."""
        when, us = seen["tstamp"], seen["tstamp_us"]
        known = self.workers.get(hostname)
        if known is None:
            life = {"last_heartbeat": when, "last_heartbeat_us": us}
            self.see_worker(hostname, {"first_seen": when, **life})
            return
        # In place: this is half of all events, and nobody else has it.
        if us > known.get("last_heartbeat_us", 0):
            known["last_heartbeat"], known["last_heartbeat_us"] = when, us
        if when < known["first_seen"]:
            known["first_seen"] = when

    def remove(self, task_id: str) -> None:
        """Forget a task that is saved."""
        if self.unfinished.pop(task_id, None) or self.finished.pop(task_id, None):
            self.size -= self._sizes.pop(task_id)

    def clear(self) -> None:
        """Forget everything: all of it is saved."""
        for seen in (self.unfinished, self.finished, self.workers, self._sizes):
            seen.clear()
        self.size = 0

    def drop_oldest(self) -> None:
        """Forget the oldest task, one that has not ended if there is any."""
        task_id, _ = (self.unfinished or self.finished).popitem(last=False)
        self.size -= self._sizes.pop(task_id)


class Outbox:
    """What waits for the next shot, bounded in tasks and in bytes.

    One thread receives, another one saves. ``generation`` is the number of the shot
    that will take what is seen now, ``committed`` of the last one that is saved with
    all before it.
    """

    def __init__(
        self,
        max_tasks: int,
        max_bytes: int,
        counters: Counters,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.max_tasks = max_tasks
        self.max_bytes = max_bytes
        self.counters = counters
        self.clock = clock
        self.committed = 0
        self._lock = threading.Lock()
        self._new = Batch(generation=1)
        #: What a shot has not saved; no longer here while the next one tries.
        self._left: Batch | None = None
        self._taken: Batch | None = None
        #: Tasks and bytes that what is new may have; more is looked into.
        self._room = (max_tasks, max_bytes)

    def __len__(self) -> int:
        """Return how many tasks wait, those that are being saved included."""
        return sum(map(len, self._batches()))

    def __bool__(self) -> bool:
        """Return whether anything waits."""
        return any(self._batches())

    @property
    def generation(self) -> int:
        """The number of the shot that takes what is seen now."""
        return self._new.generation

    @property
    def size(self) -> int:
        """About how many bytes all of it takes."""
        return sum(batch.size for batch in self._batches())

    @property
    def lag(self) -> float:
        """How many seconds the oldest of it waits."""
        times = [b.since for b in self._batches() if b.since is not None]
        return max(0.0, self.clock() - min(times)) if times else 0.0

    def see_task(self, task_id: str, seen: Columns) -> None:
        """Take in an observation of a task, and the sign of life of its worker."""
        with self._lock:
            new = self._new
            if new.since is None:
                new.since = self.clock()
            if new.see_task(task_id, seen):
                self.counters.merged += 1
            if (hostname := seen.get("worker")) is not None:
                new.see_life(hostname, seen)
            if len(new) > self._room[0] or new.size > self._room[1]:
                self._keep_bounds()

    def see_worker(self, hostname: str, seen: Columns) -> None:
        """Take in an observation of a worker."""
        with self._lock:
            if self._new.since is None:
                self._new.since = self.clock()
            self._new.see_worker(hostname, seen)

    def take(self) -> Batch:
        """Return all that waits; ``done`` or ``give_back`` says what became of it."""
        with self._lock:
            new, left = self._new, self._left
            # One that lost all of its tasks to the bounds is still the one to fill.
            self._taken = batch = new if left is None else left
            self._left = None
            self._new = Batch(generation=new.generation + 1)
            self._measure_room()
        if left is None:
            return batch
        # Nobody else has either of them: whoever receives need not wait for this.
        for seen in (new.unfinished, new.finished):
            while seen:
                batch.see_task(*seen.popitem(last=False))
        for hostname, about in new.workers.items():
            batch.see_worker(hostname, about)
        batch.dropped += new.dropped
        batch.generation = new.generation
        with self._lock:
            self._measure_room()
        return batch

    def give_back(self, batch: Batch) -> None:
        """Keep what is left of a batch for the next shot."""
        with self._lock:
            self._left, self._taken = batch, None
            self._keep_bounds()

    def done(self, batch: Batch) -> None:
        """Forget a batch: all of it is saved."""
        with self._lock:
            self._taken = None
            self.counters.dropped += batch.dropped
            self.committed = batch.generation
            self._measure_room()

    def _batches(self) -> list[Batch]:
        batches = (self._left, self._taken, self._new)
        return [batch for batch in batches if batch is not None]

    def _keep_bounds(self) -> None:
        while len(self) > self.max_tasks or self.size > self.max_bytes:
            oldest = (self._left, self._new)
            batch = next((b for b in oldest if b and b.unfinished), None) or next(
                (b for b in oldest if b and b.finished), None
            )
            if batch is None:
                break
            batch.drop_oldest()
            self.counters.dropped += 1
        self._measure_room()

    def _measure_room(self) -> None:
        """Find out how much what is new may be, beside what waits already."""
        self._room = (
            self.max_tasks - len(self) + len(self._new),
            self.max_bytes - self.size + self._new.size,
        )
