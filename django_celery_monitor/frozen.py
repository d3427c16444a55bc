"""A State of its own for a subclass of the camera that looks at every row."""

from __future__ import annotations

from collections.abc import Iterator
from copy import copy
from itertools import islice
from typing import Any

from celery.events.state import State, Task, Worker

from .outbox import Batch
from .utils import to_microseconds

#: Tasks that are copied while the State waits.
COPIED_AT_ONCE = 200


def freeze(live: State, batch: Batch) -> State:
    """Return a State with the tasks and workers of ``batch``, which nobody else has.

    Each is a copy of what ``live`` has, with all that its events told; where
    ``live`` has forgotten it, it is made of what was observed.
    """
    frozen = State()
    for hostname in batch.workers:
        with live._mutex:
            worker = copy(live.workers.data.get(hostname)) or Worker(hostname)
        worker.heartbeats = list(worker.heartbeats)
        if not worker.heartbeats:
            seen = batch.workers[hostname].get("last_heartbeat_us")
            worker.heartbeats = [] if seen is None else [seen / 1_000_000]
        frozen.workers[hostname] = worker
    observed = iter([*batch.finished.items(), *batch.unfinished.items()])
    while some := list(islice(observed, COPIED_AT_ONCE)):
        with live._mutex:
            copies = [copy(live.tasks.data.get(task_id)) for task_id, _ in some]
        for (task_id, seen), task in zip(some, copies, strict=True):
            made = task or Task(task_id, cluster_state=frozen, **dict(_fields(seen)))
            made.cluster_state = frozen
            hostname = seen.get("worker")
            made.worker = hostname and frozen.get_or_create_worker(hostname)[0]
            frozen.tasks[task_id] = made
    frozen.rebuild_taskheap()
    return frozen


def clear(live: State) -> None:
    """Forget what has ended, and what a State keeps of it for ever."""
    with live._mutex:
        live._clear()
        for index in (live.tasks_by_type, live.tasks_by_worker):
            for name in [name for name, tasks in index.items() if not tasks]:
                del index[name]
        live._seen_types.intersection_update(live.tasks_by_type)


def _fields(seen: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield the fields that Celery has for what was observed."""
    for name in ("state", "name", "args", "kwargs", "retries", "result", "runtime"):
        yield name, seen.get(name)
    for name in ("queue", "exchange", "routing_key", "root_id", "parent_id"):
        yield name, seen.get(name)
    for name in ("eta", "expires"):
        yield name, seen[name].isoformat() if seen.get(name) else None
    yield "exception", seen.get("result") if seen.get("exception") else None
    yield "traceback", seen.get("traceback")
    yield "timestamp", seen["tstamp_us"] / 1_000_000
    for name in ("sent", "received", "started"):
        when = seen.get(f"{name}_at")
        yield name, to_microseconds(when) / 1_000_000 if when else None
