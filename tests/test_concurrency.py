"""Writers that save the same rows at the same time: nothing fails, nothing is lost."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import Any

import pytest

from django_celery_monitor.models import WorkerState
from tests.scratch import EVERYWHERE, Scratch
from tests.writers import START, facts, history, in_order, together

pytestmark = [
    pytest.mark.parametrize("database", EVERYWHERE, indirect=True),
    pytest.mark.parametrize("writers", [2, 4]),
]


def test_all_see_everything_each_in_its_own_order(
    database: Scratch, writers: int
) -> None:
    tasks, worker, expected = in_order(database)
    ids = [f"id-{number}" for number in range(6)]
    jobs = []
    for _ in range(writers):
        calls = [
            partial(tasks.update_state, state, task_id, columns)
            for task_id in ids
            for state, columns in history(worker)
        ]
        random.shuffle(calls)
        jobs.append(calls)

    together(database, jobs)

    rows = list(tasks.exclude(task_id="in order"))
    assert sorted(row.task_id for row in rows) == ids
    for row in rows:
        assert facts(row) == facts(expected)


def test_each_sees_a_part(database: Scratch, writers: int) -> None:
    tasks, worker, expected = in_order(database)
    ids = [f"id-{number}" for number in range(12)]
    calls = [
        partial(tasks.update_state, state, task_id, columns)
        for task_id in ids
        for state, columns in history(worker)
    ]
    # By task, so that all are at the same row, but not in the order of its history.
    calls.sort(key=lambda call: (call.args[1], random.random()))
    calls = calls[: len(calls) // writers * writers]

    together(database, [calls[writer::writers] for writer in range(writers)])

    rows = list(tasks.exclude(task_id="in order"))
    assert sorted(row.task_id for row in rows) == sorted(ids)
    for row in rows:
        assert facts(row) == facts(expected)


def test_all_insert_the_same_task(database: Scratch, writers: int) -> None:
    tasks, worker, _ = in_order(database)
    states = ["SUCCESS", "STARTED", "RECEIVED", "PENDING"][:writers]
    jobs = [
        [
            partial(
                tasks.update_state,
                state,
                f"id-{number}",
                {"retries": retries, "worker": worker},
            )
            for number in range(60)
        ]
        for retries, state in enumerate(states)
    ]

    together(database, jobs)

    rows = list(tasks.exclude(task_id="in order"))
    assert len(rows) == 60
    assert {(row.state, row.retries) for row in rows} == {("SUCCESS", writers - 1)}


def test_all_insert_the_same_worker(database: Scratch, writers: int) -> None:
    workers = WorkerState.objects.using(database.alias)
    jobs = [
        [
            partial(
                workers.update_heartbeat,
                f"celery@{number}",
                START + timedelta(seconds=writer),
                0,
                {"processed": writer},
            )
            for number in range(60)
        ]
        for writer in range(writers)
    ]

    together(database, jobs)

    assert workers.count() == 60
    last = START + timedelta(seconds=writers - 1)
    found = set(workers.values_list("last_heartbeat", "processed"))
    assert found == {(last, writers - 1)}


def test_heartbeats_in_any_order(database: Scratch, writers: int) -> None:
    workers = WorkerState.objects.using(database.alias)
    hostnames = [f"celery@{number}" for number in range(3)]
    jobs = []
    for _ in range(writers):
        calls: list[Callable[[], Any]] = []
        for hostname in hostnames:
            calls += [
                partial(
                    workers.update_heartbeat,
                    hostname,
                    START + timedelta(seconds=second),
                    0,
                    {"processed": second, "pid": second % 5},
                )
                for second in range(30)
            ]
            offline = {"offline_at": START + timedelta(seconds=15)}
            calls.append(partial(workers.update_heartbeat, hostname, None, 0, offline))
        random.shuffle(calls)
        jobs.append(calls)

    together(database, jobs)

    rows = list(workers.order_by("hostname"))
    assert [row.hostname for row in rows] == hostnames
    for row in rows:
        assert row.last_heartbeat == START + timedelta(seconds=29)
        assert row.offline_at == START + timedelta(seconds=15)
        assert not row.is_offline()
        assert (row.processed, row.pid) == (29, 4)
