"""The join of observations: commutative, associative, idempotent, stored or not."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from datetime import datetime, timezone
from functools import reduce
from random import Random
from typing import Any

import pytest
from django.db import transaction
from hypothesis import given, settings
from hypothesis import strategies as st

from django_celery_monitor.merge import (
    MAX_ATTEMPTS,
    TASK,
    WORKER,
    join_task,
    join_worker,
    merge_task,
    merge_worker,
    newest_attempts,
)
from django_celery_monitor.models import TaskState, WorkerState
from django_celery_monitor.observation import Observer
from django_celery_monitor.sanitize import Sanitizer
from tests.clocks import in_berlin
from tests.events import task_event
from tests.strategies import task_streams, worker_streams

Columns = dict[str, Any]
Event = dict[str, Any]

#: From NOW to the hour before clocks go back in Berlin.
TO_AUTUMN = datetime(2026, 10, 25, 0, 59, 58, tzinfo=timezone.utc).timestamp()


def observer() -> Observer:
    return Observer(Sanitizer(["password"], 100_000))


def see_tasks(events: Sequence[Event]) -> list[Columns]:
    return [observer().task(event)[1] for event in events]


def see_workers(events: Sequence[Event]) -> list[Columns]:
    return [observer().worker(event)[1] for event in events]


tasks = task_streams.map(see_tasks)
workers = worker_streams.map(see_workers)


def said(columns: Columns) -> Columns:
    """Return what ``columns`` say: a column that is not there is None."""
    known = {name: value for name, value in columns.items() if value is not None}
    return {**known, "retries": columns.get("retries") or 0}


def row_of(columns: Columns, names: Sequence[str]) -> Columns:
    """Return the row that ``columns`` make, which has all of them."""
    row = {**dict.fromkeys(names), **columns}
    return {**row, "retries": row.get("retries") or 0}


RULES = [
    pytest.param(tasks, join_task, merge_task, TASK, id="task"),
    pytest.param(workers, join_worker, merge_worker, WORKER, id="worker"),
]


@pytest.mark.parametrize(("streams", "join", "merge", "names"), RULES)
@given(data=st.data(), random=st.randoms(use_true_random=False))
@settings(max_examples=300)
def test_laws_in_memory(
    streams: Any, join: Any, merge: Any, names: Any, data: Any, random: Random
) -> None:
    seen = data.draw(streams)
    joined = reduce(join, seen)

    for one, other in itertools.combinations(seen, 2):
        assert said(join(one, other)) == said(join(other, one))
    for some in itertools.combinations(seen[:4], 3):
        one, two, three = some
        assert said(join(join(one, two), three)) == said(join(one, join(two, three)))
    for one in seen:
        assert said(join(one, one)) == said(one)
        assert said(join(joined, one)) == said(joined)
    # In any order, some of them twice, and by way of two cameras.
    shuffled = random.sample(seen, len(seen)) + random.sample(seen, len(seen) // 2)
    assert said(reduce(join, shuffled)) == said(joined)
    cut = random.randint(1, len(shuffled))
    halves = [half for half in (shuffled[:cut], shuffled[cut:]) if half]
    assert said(reduce(join, [reduce(join, half) for half in halves])) == said(joined)


@pytest.mark.parametrize(("streams", "join", "merge", "names"), RULES)
@given(data=st.data(), random=st.randoms(use_true_random=False))
@settings(max_examples=300)
def test_a_stored_row_is_an_observation(
    streams: Any, join: Any, merge: Any, names: Any, data: Any, random: Random
) -> None:
    seen = data.draw(streams)
    expected = said(reduce(join, seen))
    first, *others = random.sample(seen, len(seen))

    row = row_of(first, names)
    for one in others:
        row.update(merge(row, one))

    assert said(row) == expected
    for one in [*seen, row]:
        assert merge(row, one) == {}


@given(data=st.data(), random=st.randoms(use_true_random=False))
def test_laws_hold_in_the_hour_that_is_repeated(data: Any, random: Random) -> None:
    """Naive times say less than their microseconds, but the same in every order."""
    shift = TO_AUTUMN - 1_772_445_600.0
    events = [
        {
            **event,
            "timestamp": event["timestamp"] + shift + random.choice([0, 3600]),
            "local_received": event["local_received"] + shift + 7200,
        }
        for event in data.draw(task_streams)
    ]
    naive = Observer(Sanitizer([], 100), in_berlin)
    seen = [naive.task(event)[1] for event in events]
    for column in ("eta", "expires"):
        for one in seen:
            one.pop(column, None)

    shuffled = random.sample(seen, len(seen))
    assert said(reduce(join_task, shuffled)) == said(reduce(join_task, seen))


def stored_task(task_id: str) -> Columns:
    row = TaskState.objects.get(task_id=task_id)
    hostname = row.worker.hostname if row.worker else None
    return {**row.columns(), "worker": hostname}


@pytest.mark.django_db
@given(seen=tasks, random=st.randoms(use_true_random=False))
@settings(max_examples=100)
def test_laws_hold_through_the_database(seen: list[Columns], random: Random) -> None:
    expected = said(row_of(reduce(join_task, seen), TASK))
    shuffled = random.sample(seen, len(seen))
    with transaction.atomic():
        ids = {
            hostname: WorkerState.objects.get_or_create(hostname=hostname)[0].pk
            for hostname in {s["worker"] for s in seen if s.get("worker")}
        }
        for one in shuffled:
            # As the camera does, with the workers of this shot alone.
            workers = {h: pk for h, pk in ids.items() if h == one.get("worker")}
            TaskState.objects.join_many({"id-1": one}, workers)
        row = stored_task("id-1")
        assert said({name: row[name] for name in TASK}) == expected
        for one in [*seen, reduce(join_task, seen)]:
            assert len(TaskState.objects.join_many({"id-1": one}, ids)) == 0
        transaction.set_rollback(True)


@pytest.mark.django_db
@given(seen=workers, random=st.randoms(use_true_random=False))
@settings(max_examples=100)
def test_laws_of_workers_hold_through_the_database(
    seen: list[Columns], random: Random
) -> None:
    expected = said(row_of(reduce(join_worker, seen), WORKER))
    with transaction.atomic():
        for one in random.sample(seen, len(seen)):
            WorkerState.objects.join_many({"celery@one": one})
        row = WorkerState.objects.get().columns()
        assert said({name: row[name] for name in WORKER}) == expected
        for one in [*seen, reduce(join_worker, seen)]:
            assert len(WorkerState.objects.join_many({"celery@one": one})) == 0
        transaction.set_rollback(True)


FLOATS = [0.1 + 0.2, 1e-300, 5e-324, 1.7976931348623157e308, 1 / 3, -0.0, 123456.789e3]


@pytest.mark.django_db
@pytest.mark.parametrize("runtime", FLOATS)
def test_every_number_comes_back_as_it_was(runtime: float) -> None:
    (seen,) = see_tasks([task_event("task-succeeded", runtime=runtime)])
    del seen["worker"]
    TaskState.objects.join_many({"id-1": seen}, {})
    assert TaskState.objects.get().runtime == runtime
    assert len(TaskState.objects.join_many({"id-1": seen}, {})) == 0


attempt = st.fixed_dictionaries(
    {
        "timestamp": st.integers(0, 30),
        "exception": st.sampled_from(["a", "b"]),
        "traceback": st.just("t"),
    },
    optional={"retries": st.integers(0, 2)},
)
attempts = st.lists(attempt, max_size=30)


@given(attempts, attempts)
def test_attempts_are_the_newest_of_all(
    one: list[Columns], other: list[Columns]
) -> None:
    newest = newest_attempts([*one, *other])
    assert len(newest) <= MAX_ATTEMPTS
    assert newest == newest_attempts([*newest_attempts(other), *newest_attempts(one)])
    assert newest == newest_attempts([*newest, *newest])
    every = [*one, *other]
    tracked = [attempt for attempt in every if "retries" in attempt]
    kept = {attempt["timestamp"] for attempt in newest}
    others = {attempt["timestamp"] for attempt in tracked or every} - kept
    assert all(late <= min(kept) for late in others)
    assert all("retries" in attempt for attempt in newest) or not tracked
