"""A State of its own for a subclass of the camera that looks at every row."""

from __future__ import annotations

from collections.abc import Iterator
from copy import copy
from itertools import islice
from typing import Any

from celery.events.state import State, Task, Worker

from .merge import ABOUT
from .outbox import Batch
from .utils import to_microseconds

#: Tasks that are copied while the State waits.
COPIED_AT_ONCE = 200

#: What of a task refers to the State that it is in.
RELATIONS = frozenset(
    {"children", "cluster_state", "parent", "root", "worker", "_serializer_handlers"}
)


def freeze(live: Any, batch: Batch) -> Any:
    """Return a State with the tasks and workers of ``batch``, which nobody else has.

    Each is a copy of what ``live`` has, with all that its events told; where
    ``live`` has forgotten it, it is made of what was observed.
    """
    tasks, workers = len(batch), len(batch.workers)
    # A State forgets what is over its bounds: here that would be lost.
    frozen: Any = State(
        max_tasks_in_memory=max(tasks, live.max_tasks_in_memory),
        max_workers_in_memory=max(tasks + workers, live.max_workers_in_memory),
    )
    # A subclass may ask whether there is anything new.
    frozen.event_count = max(tasks, workers, live.event_count)
    frozen.task_count = max(tasks, live.task_count)
    for hostname, about in batch.workers.items():
        with live._mutex:
            worker = _copy_worker(live.workers.data.get(hostname))
        frozen.workers[hostname] = worker or _make_worker(hostname, about)
    observed = iter([*batch.finished.items(), *batch.unfinished.items()])
    while some := list(islice(observed, COPIED_AT_ONCE)):
        with live._mutex:
            copies = [_copy_task(live.tasks.data.get(task_id)) for task_id, _ in some]
        for (task_id, seen), task in zip(some, copies, strict=True):
            _add(frozen, task or Task(task_id, **dict(_fields(seen))), seen)
    for task in frozen.tasks.values():
        parent = frozen.tasks.data.get(task.parent_id)
        if parent is not None:
            parent.children.add(task)
    frozen.rebuild_taskheap()
    return frozen


def _add(frozen: Any, task: Any, seen: dict[str, Any]) -> None:
    task.cluster_state = frozen
    hostname = seen.get("worker")
    task.worker = hostname and frozen.get_or_create_worker(hostname)[0]
    frozen.tasks[task.uuid] = task
    if hostname:
        frozen.tasks_by_worker[hostname].add(task)
    if task.name:
        frozen.tasks_by_type[task.name].add(task)
        frozen._seen_types.add(task.name)


def _copy_task(task: Task | None) -> Task | None:
    """Return a task that has all that its events told, also what no Task declares."""
    if task is None:
        return None
    made = type(task)(task.uuid)
    told = {name: value for name, value in vars(task).items() if name not in RELATIONS}
    vars(made).update(told)
    return made


def _copy_worker(worker: Worker | None) -> Worker | None:
    # Without heartbeats it is known from before, and was not heard of since.
    if worker is None or not worker.heartbeats:
        return None
    made = copy(worker)
    vars(made).update(vars(worker))
    made.heartbeats = list(worker.heartbeats)
    return made


def _make_worker(hostname: str, about: dict[str, Any]) -> Any:
    heard, offline = about.get("last_heartbeat_us"), about.get("offline_at_us")
    beats = [] if heard is None else [heard / 1_000_000]
    made: Any = Worker(hostname, heartbeats=beats)
    if offline is not None:
        made.local_received = offline / 1_000_000
    if about.get("told_us") is not None:
        made.update({name: about.get(name) for name in ABOUT if name != "told_us"})
    return made


def clear(live: Any) -> None:
    """Forget what has ended, and what a State keeps of it for ever."""
    with live._mutex:
        live._clear()
        # A task that is forgotten may stay in memory, and so in the indexes, until
        # the next collection of garbage.
        tasks = live.tasks.values()
        for index, names in (
            (live.tasks_by_type, {task.name for task in tasks}),
            (live.tasks_by_worker, {t.worker.hostname for t in tasks if t.worker}),
        ):
            for name in index.keys() - names:
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
