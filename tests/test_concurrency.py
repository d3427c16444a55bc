"""Writers that save the same rows at the same time: nothing fails, nothing is lost."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from datetime import datetime, timedelta, timezone
from functools import cache, partial
from typing import Any

import pytest
from django.db import OperationalError
from pytest_django import DjangoDbBlocker

from django_celery_monitor.managers import TaskStateQuerySet
from django_celery_monitor.models import TaskState, WorkerState
from django_celery_monitor.utils import (
    correct_awareness,
    fromtimestamp,
    to_microseconds,
)
from tests.scratch import EVERYWHERE, Scratch, scratch

START = correct_awareness(datetime(2026, 3, 2, 10, tzinfo=timezone.utc))
MYSQL_DEADLOCK = 1213

pytestmark = [
    pytest.mark.parametrize("database", EVERYWHERE, indirect=True),
    pytest.mark.parametrize("writers", [2, 4]),
]


@pytest.fixture(scope="module")
def databases(
    tmp_path_factory: pytest.TempPathFactory, django_db_blocker: DjangoDbBlocker
) -> Iterator[Callable[[str], Scratch]]:
    """Return what makes a migrated database of a kind, once."""
    with django_db_blocker.unblock(), ExitStack() as stack:

        @cache
        def make(kind: str) -> Scratch:
            made = stack.enter_context(scratch(kind, tmp_path_factory.mktemp("db")))
            made.migrate()
            return made

        yield make


@pytest.fixture
def database(
    request: pytest.FixtureRequest,
    databases: Callable[[str], Scratch],
    django_db_blocker: DjangoDbBlocker,
) -> Iterator[Scratch]:
    """Return an empty database that connections of other threads reach too."""
    with django_db_blocker.unblock():
        made = databases(request.param)
        yield made
        TaskState.objects.using(made.alias).all().delete()
        WorkerState.objects.using(made.alias).all().delete()


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


def until_done(call: Callable[[], Any], attempts: int = 10) -> None:
    """Make ``call``, again where it is the victim of a deadlock on MySQL.

    A purge and a writer of the very row it deletes lock two indexes in opposite
    orders, and one has to give way: the camera's next shot or cleanup repeats it.
    """
    try:
        call()
    except OperationalError as error:
        if error.args[0] != MYSQL_DEADLOCK or attempts == 1:
            raise
        until_done(call, attempts - 1)


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
