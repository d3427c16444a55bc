"""Recorded streams of events, in whatever order: the row is that of the true one.

``tests/streams`` has the streams and how they were recorded.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from functools import reduce
from random import Random
from typing import Any

import pytest

from django_celery_monitor.merge import (
    TASK,
    WORKER,
    join_task,
    join_worker,
    merge_task,
    merge_worker,
)
from django_celery_monitor.observation import Observer
from django_celery_monitor.sanitize import Sanitizer
from tests.clocks import EPOCH, in_berlin, in_utc
from tests.streams.derive import DERIVED, derived, with_row
from tests.streams.known import (
    IN_TIME,
    STREAMS,
    TASKS,
    TIMES,
    WORKERS,
    Columns,
    Event,
    says,
)


class Rule:
    """What is made of events and how it is joined."""

    def __init__(
        self,
        observe: Callable[[Event], tuple[str, Columns]],
        join: Callable[[Columns, Columns], Columns],
        merge: Callable[[Columns, Columns], Columns],
        columns: Sequence[str],
    ) -> None:
        self.observe = observe
        self.join = join
        self.merge = merge
        self.columns = columns

    def see(self, events: list[Event]) -> list[Columns]:
        """Return what each event says."""
        return [self.observe(event)[1] for event in events]

    def memory(self, seen: Sequence[Columns]) -> Columns:
        """Return what a camera has in memory after it has seen all of ``seen``."""
        return reduce(self.join, seen)

    def row(self, *shots: Columns) -> Columns:
        """Return the row after some shots of what cameras have in memory."""
        first, *others = shots
        row = {**dict.fromkeys(self.columns), **first}
        for shot in others:
            row.update(self.merge(row, shot))
        row = {column: row[column] for column in self.columns}
        return {**row, "retries": row.get("retries") or 0}


def rule(name: str, to_datetime: Callable[[int], datetime] = in_utc) -> Rule:
    """Return the rule for what a stream is about."""
    observer = Observer(Sanitizer([], 100_000), to_datetime)
    if name in WORKERS:
        return Rule(observer.worker, join_worker, merge_worker, WORKER)
    return Rule(observer.task, join_task, merge_task, TASK)


def orders(name: str, events: list[Any], samples: int) -> Iterator[list[Any]]:
    """Yield all orders of a few events, and ``samples`` of more than a few."""
    if len(events) <= 5:
        yield from map(list, itertools.permutations(events))
    else:
        random = Random(name)
        for _ in range(samples):
            yield random.sample(events, len(events))


def beginnings(events: list[Any]) -> Iterator[list[Any]]:
    """Yield the stream cut off after each event, and the whole one at last."""
    for length in range(1, len(events) + 1):
        yield events[:length]


def in_microseconds(columns: Columns) -> Columns:
    """Return the columns of a task in UTC as the files have them."""
    times = {
        name: None
        if (time := columns[name]) is None
        else (time - EPOCH).total_seconds()
        for name in TIMES
    }
    return {
        **columns,
        **{
            name: None if time is None else round(time * 1_000_000)
            for name, time in times.items()
        },
        "attempts": [attempt["timestamp"] for attempt in columns["attempts"] or ()],
    }


# The files


@pytest.mark.parametrize("name", DERIVED)
def test_derived_stream_follows_from_its_source(name: str) -> None:
    assert STREAMS[name] == derived(name)


@pytest.mark.parametrize("name", STREAMS)
def test_row_follows_from_the_events(name: str) -> None:
    assert STREAMS[name] == with_row(STREAMS[name])


# The merge alone


@pytest.mark.parametrize("name", TASKS)
def test_true_order_gives_the_row_of_the_file(name: str) -> None:
    to = rule(name)
    row = to.row(to.memory(to.see(STREAMS[name]["events"])))
    says(in_microseconds(row), STREAMS[name]["row"])


@pytest.mark.parametrize("name", WORKERS)
def test_true_order_gives_the_row_of_the_worker(name: str) -> None:
    to = rule(name)
    _, *rest = STREAMS[name]["row"].items()  # the hostname is the key of the row
    says(to.row(to.memory(to.see(STREAMS[name]["events"]))), dict(rest))


STATES = {
    "task-sent": "PENDING",
    "task-received": "RECEIVED",
    "task-started": "STARTED",
    "task-retried": "RETRY",
    "task-rejected": "REJECTED",
    "task-revoked": "REVOKED",
    "task-failed": "FAILURE",
    "task-succeeded": "SUCCESS",
    "task-progress": "PROGRESS",
}


@pytest.mark.parametrize("name", IN_TIME)
def test_state_is_that_of_the_last_event_until_it_has_finished(name: str) -> None:
    to = rule(name)
    state = None
    for events in beginnings(STREAMS[name]["events"]):
        # A client may say that it has sent the task after a worker has received it.
        next_ = STATES[events[-1]["type"]]
        if state is None or (
            state not in {"SUCCESS", "FAILURE"} and next_ != "PENDING"
        ):
            state = next_
        assert to.row(to.memory(to.see(events)))["state"] == state


@pytest.mark.parametrize("to_datetime", [in_utc, in_berlin])
@pytest.mark.parametrize("name", STREAMS)
class TestAnyOrder:
    """Whatever part of a stream was seen, its order does not matter."""

    def test_in_memory(self, name: str, to_datetime: Callable[[int], datetime]) -> None:
        to = rule(name, to_datetime)
        for seen in beginnings(to.see(STREAMS[name]["events"])):
            row = to.row(to.memory(seen))
            for order in orders(name, seen, 100):
                assert to.row(to.memory(order)) == row
                assert to.row(*order) == row

    def test_twice(self, name: str, to_datetime: Callable[[int], datetime]) -> None:
        to = rule(name, to_datetime)
        for seen in beginnings(to.see(STREAMS[name]["events"])):
            row = to.row(to.memory(seen))
            for index, again in itertools.product(range(len(seen)), seen):
                order = [*seen[: index + 1], again, *seen[index + 1 :]]
                assert to.row(to.memory(order)) == row
                assert to.row(*order) == row
            assert to.row(*seen, to.memory(seen), to.memory(seen)) == row

    def test_through_two_cameras(
        self, name: str, to_datetime: Callable[[int], datetime]
    ) -> None:
        to = rule(name, to_datetime)
        for seen in beginnings(to.see(STREAMS[name]["events"])):
            row = to.row(to.memory(seen))
            random = Random(name)
            order = random.sample(seen, len(seen))
            for ones in splits(name, len(order)):
                one = [order[index] for index in ones]
                other = [order[i] for i in range(len(order)) if i not in ones]
                random.shuffle(other)
                first, second = to.memory(one), to.memory(other)
                assert to.row(first, second) == to.row(second, first) == row
                # And what both have seen, and the one after the other's shots.
                assert to.row(first, to.memory([*other, *one])) == row
                assert to.row(*other, first) == to.row(*one, second) == row

    def test_in_several_shots(
        self, name: str, to_datetime: Callable[[int], datetime]
    ) -> None:
        to = rule(name, to_datetime)
        random = Random(name)
        for seen in beginnings(to.see(STREAMS[name]["events"])):
            row = to.row(to.memory(seen))
            for order in orders(name, seen, 50):
                shots: list[list[Columns]] = [[]]
                for columns in order:
                    if shots[-1] and random.random() < 0.4:
                        shots.append([])
                    shots[-1].append(columns)
                assert to.row(*map(to.memory, shots)) == row


def splits(name: str, length: int) -> Iterator[set[int]]:
    """Yield parts of so many events, neither none nor all: all of them if few."""
    if length <= 7:
        for size in range(1, length):
            yield from map(set, itertools.combinations(range(length), size))
    else:
        random = Random(name)
        for _ in range(100):
            yield set(random.sample(range(length), random.randint(1, length - 1)))
