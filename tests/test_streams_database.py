"""Recorded streams of events, through two cameras and the database.

``tests/streams`` has the streams and how they were recorded.
"""

from __future__ import annotations

from random import Random
from typing import Any
from unittest.mock import MagicMock

import pytest
import time_machine
from celery import Celery
from celery.events.state import State

from django_celery_monitor.camera import Camera
from django_celery_monitor.models import TaskState, WorkerState
from django_celery_monitor.utils import fromtimestamp
from tests.events import feed
from tests.streams.known import (
    PHASE_TIMES,
    STREAMS,
    TASKS,
    TIMES,
    WORKERS,
    Columns,
    Event,
    says,
)


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
