"""Writers of the same rows in threads, and a task that they all save."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta, timezone
from typing import Any

from django_celery_monitor.managers import TaskStateQuerySet
from django_celery_monitor.models import TaskState, WorkerState
from django_celery_monitor.utils import correct_awareness
from tests.scratch import Scratch

START = correct_awareness(datetime(2026, 3, 2, 10, tzinfo=timezone.utc))


def together(database: Scratch, jobs: Sequence[Sequence[Callable[[], Any]]]) -> None:
    """Run each list of calls in a thread, all at once; raise what any of them raised.

    The calls of a round, those with the same position, start at the same moment.
    """
    barrier = threading.Barrier(len(jobs))
    errors: list[BaseException] = []

    def work(calls: Sequence[Callable[[], Any]]) -> None:
        try:
            for call in calls:
                barrier.wait(timeout=30)
                call()
        except BaseException as error:  # noqa: BLE001 -- raised again by the caller
            errors.append(error)
            barrier.abort()
        finally:
            database.connection.close()

    threads = [threading.Thread(target=work, args=(calls,)) for calls in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    failures = [e for e in errors if not isinstance(e, threading.BrokenBarrierError)]
    if failures:
        raise failures[0]


def history(worker: WorkerState) -> list[tuple[str, dict[str, Any]]]:
    """Return what is seen of a task that fails twice and then succeeds."""
    seen: list[tuple[str, dict[str, Any]]] = [
        ("PENDING", {"queue": "q", "routing_key": "q", "sent_at": START})
    ]
    for attempt in range(3):
        at = START + timedelta(seconds=10 * attempt)
        call = {"name": "shop.add", "args": "(2, 2)", "retries": attempt}
        seen += [
            ("RECEIVED", {"tstamp": at, "received_at": at, "worker": worker, **call}),
            (
                "STARTED",
                {
                    "tstamp": at + timedelta(seconds=1),
                    "started_at": at + timedelta(seconds=1),
                    "worker": worker,
                },
            ),
        ]
        failed = {
            "timestamp": 1000 + attempt,
            "exception": f"ValueError({attempt})",
            "traceback": f"Traceback {attempt}",
        }
        seen.append(
            (
                "RETRY",
                {
                    "tstamp": at + timedelta(seconds=2),
                    "result": failed["exception"],
                    "exception": "ValueError",
                    "traceback": failed["traceback"],
                    "attempts": [failed],
                    "worker": worker,
                },
            )
        )
    finished = START + timedelta(seconds=60)
    outcome = {"result": "4", "runtime": 0.5, "finished_at": finished}
    seen.append(("SUCCESS", {"tstamp": finished, "worker": worker, **outcome}))
    return [(state, {"tstamp": START, **columns}) for state, columns in seen]


def facts(task: TaskState) -> dict[str, Any]:
    """Return what a row says, apart from which row it is and when it was written."""
    own = {"id", "task_id", "updated_at"}
    return {name: v for name, v in task.columns().items() if name not in own}


def in_order(database: Scratch) -> tuple[TaskStateQuerySet, WorkerState, TaskState]:
    """Return the tasks, a worker, and a task that one writer saved in order."""
    worker = WorkerState.objects.using(database.alias).create(hostname="celery@one")
    tasks = TaskState.objects.using(database.alias)
    for state, columns in history(worker):
        tasks.update_state(state, "in order", columns)
    expected = tasks.get(task_id="in order")
    assert (expected.state, expected.retries) == ("SUCCESS", 2)
    assert expected.traceback is None
    assert expected.attempts is not None
    assert len(expected.attempts) == 3
    return tasks, worker, expected
