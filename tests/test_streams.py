"""Recorded streams of events, in whatever order: the row is that of the true one.

``tests/streams`` has the streams and how they were recorded.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta, timezone
from functools import reduce
from random import Random
from typing import Any
from unittest.mock import MagicMock
from zoneinfo import ZoneInfo

import pytest
import time_machine
from celery import Celery
from celery.events.state import State

from django_celery_monitor.camera import Camera
from django_celery_monitor.merge import (
    TASK,
    WORKER,
    join_task,
    join_worker,
    merge_task,
    merge_worker,
)
from django_celery_monitor.models import TaskState, WorkerState
from django_celery_monitor.observation import Observer
from django_celery_monitor.sanitize import Sanitizer
from django_celery_monitor.utils import fromtimestamp
from tests.events import feed
from tests.streams.derive import DERIVED, derived, names, read, with_row

Event = dict[str, Any]
Columns = dict[str, Any]

STREAMS = {name: read(name) for name in names()}
TASKS = [name for name, stream in STREAMS.items() if stream["outcome"]]
WORKERS = [name for name in STREAMS if name not in TASKS]
#: Streams whose hosts have the same time.
IN_TIME = [name for name in TASKS if not name.endswith(("_ahead", "_behind"))]

PHASE_TIMES = ("sent_at", "received_at", "started_at")
TIMES = (*PHASE_TIMES, "finished_at")
EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
BERLIN = ZoneInfo("Europe/Berlin")


def in_utc(us: int) -> datetime:
    """Return a time as Django stores it under ``USE_TZ``."""
    return EPOCH + timedelta(microseconds=us)


def in_berlin(us: int) -> datetime:
    """Return a time as Django stores it without, in the zone of Berlin."""
    return in_utc(us).astimezone(BERLIN).replace(tzinfo=None)


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


def says(columns: Columns, row: Columns) -> None:
    """Assert that ``columns``, their times in microseconds, say all of ``row``."""
    assert {name: columns[name] for name in row} == row


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


# Through the database


def camera() -> Camera:
    """Return a camera without a thread or a broker."""
    app = Celery("streams", broker="memory://", set_as_current=False)
    return Camera(State(), freq=2.0, app=app, timer=MagicMock())


#: How many orders are tried, each on a task or worker of its own, in the same shots.
ORDERS = 40
SHOTS = 4


def copies(name: str) -> list[list[Event]]:
    """Return a stream as often as orders are tried, each of a task of its own."""
    text = "hostname" if name in WORKERS else "uuid"
    of = STREAMS[name]["events"][0][text]
    return [
        [
            {key: f"{of}-{n}" if value == of else value for key, value in event.items()}
            for event in STREAMS[name]["events"]
        ]
        for n in range(ORDERS)
    ]


def watch(name: str) -> None:
    """Let two cameras see the copies of a stream, all but the first in disorder."""
    random = Random(name)
    first, *others = copies(name)
    cameras = [camera(), camera()]
    feed(first, cameras[0].state)
    plan: list[list[list[Event]]] = [[[], []] for _ in range(SHOTS)]
    for events in others:
        for event in events:
            # Some events are seen by both, and some twice by the same.
            for _ in range(random.choice([1, 1, 2, 3])):
                random.choice(random.choice(plan)).append(event)
    for shot in plan:
        for one, events in zip(cameras, shot, strict=True):
            random.shuffle(events)
            feed(events, one.state)
        for one in random.sample(cameras, 2):
            one.capture()
    for one in cameras:
        one.cancel()


@pytest.fixture(params=["aware", "naive"])
def _times(request: pytest.FixtureRequest, settings: Any) -> None:
    settings.USE_TZ = request.param == "aware"
    settings.TIME_ZONE = "Europe/Berlin"


def after(name: str) -> float:
    """Return a while after the last event of a stream."""
    times = [event["local_received"] for event in STREAMS[name]["events"]]
    return float(max(times)) + 60


def stored_times(name: str) -> Columns:
    """Return the times of the row of a stream as Django stores them."""
    row = STREAMS[name]["row"]
    return {
        column: None if row[column] is None else fromtimestamp(row[column] / 1_000_000)
        for column in TIMES
    }


@pytest.mark.django_db
@pytest.mark.usefixtures("_times")
@pytest.mark.parametrize("name", TASKS)
def test_task_through_two_cameras_and_the_database(name: str) -> None:
    with time_machine.travel(after(name), tick=False):
        watch(name)
    differ = {"id", "task_id", "root_id", "updated_at"}
    uuid = f"{STREAMS[name]['events'][0]['uuid']}-0"
    first: Columns = {**TaskState.objects.values().get(task_id=uuid)}
    others = TaskState.objects.exclude(task_id=uuid).values()
    assert len(others) == ORDERS - 1
    for row in others:
        assert {**row} | dict.fromkeys(differ) == first | dict.fromkeys(differ)
        assert row["root_id"] in {row["task_id"], None}
    expected = {**STREAMS[name]["row"], **stored_times(name)}
    if expected["root_id"] is not None:
        expected["root_id"] += "-0"
    first["attempts"] = [attempt["timestamp"] for attempt in first["attempts"] or ()]
    first["worker"] = WorkerState.objects.get(pk=first["worker_id"]).hostname
    says(first, expected)


@pytest.mark.django_db
def test_times_of_phases_in_the_hour_that_is_repeated(settings: Any) -> None:
    settings.USE_TZ, settings.TIME_ZONE = False, "Europe/Berlin"
    name = "clocks_go_back"
    with time_machine.travel(after(name), tick=False):
        one = camera()
        feed(STREAMS[name]["events"], one.state)
        one.capture()
    row: Columns = {**TaskState.objects.values().get()}
    expected = stored_times(name)
    says(row, {column: expected[column] for column in PHASE_TIMES})


@pytest.mark.django_db
@pytest.mark.usefixtures("_times")
@pytest.mark.parametrize("name", WORKERS)
def test_worker_through_two_cameras_and_the_database(name: str) -> None:
    with time_machine.travel(after(name), tick=False):
        watch(name)
    differ = {"id", "hostname", "last_update"}
    first: Columns = {**WorkerState.objects.values().get(hostname="one@host-0")}
    others = WorkerState.objects.exclude(hostname="one@host-0").values()
    assert len(others) == ORDERS - 1
    for row in others:
        assert {**row} | dict.fromkeys(differ) == first | dict.fromkeys(differ)
    says(first, {**STREAMS[name]["row"], "hostname": "one@host-0"})
