"""The main process of a worker, which leaves the database to its pool."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any
from weakref import WeakSet

from celery import signals
from celery._state import get_current_task
from celery.concurrency import get_implementation
from celery.utils.log import get_logger

logger = get_logger(__name__)

#: What waits at most for a free child, which a long task may keep from all.
MAX_WAITING = 10_000

#: The worker that this process is or was forked from, and the process that it is.
_worker: Any = None
_pid: int | None = None

#: What waits for a child or is done by one: the pool keeps it as long as that.
_jobs: WeakSet[Any] = WeakSet()


def connect() -> None:
    """Listen for a worker that starts in this process."""
    signals.worker_init.connect(
        _on_worker_init, weak=False, dispatch_uid="celery_monitor_tracking.pool"
    )
    signals.worker_shutdown.connect(
        _on_worker_shutdown, weak=False, dispatch_uid="celery_monitor_tracking.pool"
    )


def _on_worker_init(sender: Any, **_: Any) -> None:
    global _pid, _worker
    _pid, _worker = os.getpid(), sender


def _on_worker_shutdown(sender: Any, **_: Any) -> None:
    """Forget a worker whose process may go on, as that of tests does."""
    global _worker
    if sender is _worker:
        _worker = None


def hostname() -> str | None:
    """Return the name of the worker that this process is part of, if it is of one."""
    return None if _worker is None else str(_worker.hostname)


def is_consumer() -> bool:
    """Return whether this is the main process of a worker, and runs no task here."""
    return _is_main() and get_current_task() is None


def has_children() -> bool:
    """Return whether this is the main process of a worker that forks.

    A connection of its own would be its children's too.
    """
    return _is_main() and _is_prefork(_worker)


def run_in_child(function: Callable[..., None], *args: Any) -> None:
    """Have a child of this process run ``function``, as soon as there is a free one.

    It never waits, whatever the children are doing, and gives up what is too much.
    """
    if len(_jobs) >= MAX_WAITING:
        logger.warning("Too much waits for a child: the tracker gives up a task")
        return
    pool = getattr(_worker, "pool", None)
    try:
        # "apply_async" would wait for a free place where a lock guards them.
        job = pool and pool.on_apply(function, args, {}, waitforslot=False)
        if job is not None:
            _jobs.add(job)
            return
    except Exception as error:  # noqa: BLE001 -- it is not ready, or cannot pickle it
        logger.warning("The pool does not take what the tracker has seen: %r", error)
    else:
        logger.info("There is no pool for what the tracker has seen")


def _is_main() -> bool:
    return _worker is not None and os.getpid() == _pid


def _is_prefork(worker: Any) -> bool:
    # It is a name at first.
    return bool(get_implementation(worker.pool_cls).uses_semaphore)
