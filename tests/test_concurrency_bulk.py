"""Writers of many rows at once, beside each other and beside who cleans up."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import Any

import pytest

from django_celery_monitor.managers import TaskStateQuerySet
from django_celery_monitor.models import WorkerState
from django_celery_monitor.utils import fromtimestamp, to_microseconds
from tests.scratch import EVERYWHERE, Scratch, until_done
from tests.writers import START, facts, history, in_order, together

pytestmark = [
    pytest.mark.parametrize("database", EVERYWHERE, indirect=True),
    pytest.mark.parametrize("writers", [2, 4]),
]


def test_bulk_writers_of_the_same_tasks(database: Scratch, writers: int) -> None:
    """Cameras that each see a part of what happens, a chunk of tasks at a time."""
    tasks, worker, expected = in_order(database)
    ids = [f"id-{number:02}" for number in range(40)]
    jobs: list[list[Callable[[], Any]]] = []
    for writer in range(writers):
        # Every observation reaches two of them.
        mine = [
            observed(state, columns)
            for number, (state, columns) in enumerate(history(worker))
            if writer in {number % writers, (number + 1) % writers}
        ]
        random.shuffle(mine)
        calls: list[Callable[[], Any]] = []
        for columns in mine:
            some = random.sample(ids, 30)
            for chunk in (some, sorted({*ids} - {*some})):
                seen = dict.fromkeys(chunk, columns)
                calls.append(partial(join_until_done, tasks, seen, worker))
        jobs.append(calls)
    # As many rounds for each of them.
    rounds = max(map(len, jobs))
    jobs = [calls + [partial(len, ids)] * (rounds - len(calls)) for calls in jobs]

    together(database, jobs)

    rows = list(tasks.exclude(task_id="in order"))
    assert sorted(row.task_id for row in rows) == ids
    for row in rows:
        assert facts(row) == facts(expected)


def test_bulk_writers_beside_those_of_single_rows(
    database: Scratch, writers: int
) -> None:
    tasks, worker, expected = in_order(database)
    ids = [f"id-{number:02}" for number in range(12)]
    bulk: list[Callable[[], Any]] = []
    single: list[Callable[[], Any]] = []
    for state, columns in history(worker):
        seen = dict.fromkeys(ids, observed(state, columns))
        bulk.append(partial(join_until_done, tasks, seen, worker))
        single.append(
            partial(
                until_done,
                partial(tasks.update_state, state, random.choice(ids), columns),
            )
        )
    jobs = [random.sample(bulk, len(bulk)) for _ in range(writers - 1)]

    together(database, [*jobs, single])

    rows = list(tasks.exclude(task_id="in order"))
    assert sorted(row.task_id for row in rows) == ids
    for row in rows:
        assert facts(row) == facts(expected)


def test_bulk_writers_of_the_same_workers(database: Scratch, writers: int) -> None:
    workers = WorkerState.objects.using(database.alias)
    jobs: list[list[Callable[[], Any]]] = []
    for writer in range(writers):
        calls: list[Callable[[], Any]] = []
        for second in range(writer, 20, writers):
            at = START + timedelta(seconds=second)
            us = to_microseconds(at)
            seen = {
                "last_heartbeat": at,
                "last_heartbeat_us": us,
                "told_us": us,
                "processed": second,
                "first_seen": at,
            }
            hosts = [f"celery@{number}" for number in random.sample(range(15), 15)]
            chunk = dict.fromkeys(hosts, seen)
            calls.append(partial(until_done, partial(workers.join_many, chunk)))
        jobs.append(random.sample(calls, len(calls)))

    together(database, jobs)

    last = START + timedelta(seconds=19)
    found = set(workers.values_list("last_heartbeat", "processed", "first_seen"))
    assert found == {(last, 19, START)}
    assert workers.count() == 15


def observed(state: str, columns: dict[str, Any]) -> dict[str, Any]:
    """Return what a camera has of an event that ``history`` tells of."""
    seen = {**columns, "state": state, "tstamp_us": to_microseconds(columns["tstamp"])}
    if "queue" in seen:
        seen["route_retries"] = 0
    if worker := seen.get("worker"):
        seen["worker"] = worker.hostname
    return seen


def join_until_done(
    tasks: TaskStateQuerySet, seen: dict[str, dict[str, Any]], worker: WorkerState
) -> None:
    """Save a chunk as a camera does, again where it is the victim of a deadlock."""
    until_done(partial(tasks.join_many, seen, {worker.hostname: worker.pk}))


def test_cleaning_up_beside_writers(database: Scratch, writers: int) -> None:
    tasks, worker, _ = in_order(database)
    now = fromtimestamp(time.time())

    def clean_up() -> None:
        tasks.expire_by_states({"SUCCESS"}, timedelta(days=1))
        tasks.purge()

    jobs: list[list[Callable[[], Any]]] = [
        [
            partial(
                until_done,
                partial(
                    tasks.update_state,
                    "SUCCESS",
                    f"id-{number}",
                    {"tstamp": now if number % 2 else START, "worker": worker},
                ),
            )
            for number in range(40)
        ]
        for _ in range(writers)
    ]
    jobs.append([partial(until_done, clean_up)] * 40)

    together(database, jobs)

    clean_up()
    kept = sorted(tasks.values_list("task_id", flat=True))
    assert kept == sorted(f"id-{number}" for number in range(1, 40, 2))
