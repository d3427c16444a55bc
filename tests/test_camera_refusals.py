"""The camera and what the database refuses: it costs itself alone."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from django.db import DatabaseError

from django_celery_monitor.camera import Camera
from django_celery_monitor.models import TaskState, WorkerState
from django_celery_monitor.sanitize import Sanitizer
from django_celery_monitor.saver import PATIENCE, REFUSALS
from tests.cameras import at, succeeded
from tests.events import NOW, feed, received, worker_event
from tests.outages import Outage, life_of, rows, saved

pytestmark = pytest.mark.usefixtures("soon_after")


@pytest.mark.parametrize(
    "refused",
    [
        succeeded(uuid="id-2", result="a lone surrogate: \ud800, NUL: \0"),
        {**succeeded(uuid="id-2", at=1e20), "local_received": None},
        received(uuid="id-2", retries="many", eta="tomorrow"),
        received(uuid="id-2", retries=2**80),
        succeeded(uuid="id-2", runtime=float("nan")),
    ],
    ids=["text", "time", "words", "number", "nan"],
)
@pytest.mark.django_db(transaction=True)
def test_value_that_no_database_takes_is_made_fit(
    camera: Camera, refused: dict[str, Any]
) -> None:
    feed([*life_of("id-1", "id-3"), received(uuid="id-2"), refused], camera.state)
    camera.capture()
    state = "SUCCESS" if refused["type"] == "task-succeeded" else "RECEIVED"
    assert TaskState.objects.get(task_id="id-2").state == state
    assert TaskState.objects.count() == 3
    # A clock that is ahead is nothing that is refused.
    assert bool(camera.counters.made_fit) is (refused["timestamp"] < 1e20)
    assert camera.counters.quarantined == 0


@pytest.mark.django_db(transaction=True)
def test_row_that_is_refused_for_good_costs_itself_alone(
    camera: Camera, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Sanitizer, "text", lambda self, value, keep="start": value)
    uuids = [f"id-{number}" for number in range(40)]
    feed(life_of(*uuids), camera.state)
    for uuid in ("id-7", "id-30"):
        feed([succeeded(uuid=uuid, at=NOW + 9, result="\ud800")], camera.state)
    camera.capture()
    assert rows() == saved(*uuids) - saved("id-7", "id-30")
    assert camera.counters.quarantined == 2
    assert not camera.outbox
    errors = [r for r in caplog.records if r.levelno == logging.ERROR]
    assert len(errors) == 2
    assert "refuses task 'id-7' for good" in caplog.text


@pytest.mark.django_db(transaction=True)
def test_worker_that_is_refused_does_not_cost_its_tasks(
    camera: Camera, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(Sanitizer, "identifier", lambda self, value, *_: value)
        feed([worker_event(sw_ident="\ud800"), received(), succeeded()], camera.state)
    feed([worker_event(hostname="celery@two")], camera.state)
    camera.capture()
    assert TaskState.objects.get().state == "SUCCESS"
    assert WorkerState.objects.filter(hostname="celery@two", pid=4711).exists()
    assert camera.counters.quarantined == 1
    assert "refuses worker 'celery@one' for good" in caplog.text


@pytest.mark.django_db(transaction=True)
def test_driver_that_calls_a_refused_value_an_operational_error(camera: Camera) -> None:
    def refuses(_: int, sql: str, params: Any) -> bool:
        return "INSERT" in sql and "poison" in str(params)

    uuids = [f"id-{number}" for number in range(5)]
    feed([*life_of(*uuids), succeeded(at=NOW + 9, result="poison")], camera.state)
    with Outage(refuses):
        for number in range(PATIENCE + REFUSALS - 1):
            with at(60 + 100 * number):
                camera.capture()
            assert camera.outbox
            assert camera.counters.quarantined == 0
        with at(10_000):
            camera.capture()
    assert rows() == saved(*uuids) - saved("id-1")
    assert camera.counters.quarantined == 1
    assert not camera.outbox


@pytest.mark.django_db(transaction=True)
def test_database_that_comes_back_while_rows_are_tried_alone(camera: Camera) -> None:
    """It may do so just when it is asked whether it takes any row."""
    back = False

    def is_away(_: int, sql: str, params: Any) -> bool:
        nonlocal back
        back = back or ("INSERT" in sql and "probe-" in str(params))
        return not back and "INSERT" in sql and "taskstate" in sql

    feed(life_of("id-1", "id-2"), camera.state)
    with Outage(is_away):
        for number in range(PATIENCE + 2):
            with at(60 + 100 * number):
                camera.capture()
    assert back
    assert camera.counters.quarantined == 0
    assert rows() == saved("id-1", "id-2")


@pytest.mark.django_db(transaction=True)
def test_table_that_takes_nothing_quarantines_nothing(
    camera: Camera, caplog: pytest.LogCaptureFixture
) -> None:
    uuids = [f"id-{number}" for number in range(5)]
    feed(life_of(*uuids), camera.state)
    outage = Outage(lambda _, sql, __: "INSERT" in sql and "taskstate" in sql)
    with outage:
        for number in range(2 * PATIENCE):
            with at(60 + 100 * number):
                camera.capture()
    other = Outage(lambda _, sql, __: "INSERT" in sql and "tasks" in sql, DatabaseError)
    with other, at(2000):
        camera.capture()
    assert "The shot failed" in caplog.text
    assert camera.counters.quarantined == 0
    assert len(camera.outbox) == 5
    with at(3000):
        camera.capture()
    assert rows() == saved(*uuids)


@pytest.mark.django_db(transaction=True)
def test_worker_whose_row_was_deleted_is_made_again(camera: Camera) -> None:
    feed(life_of("id-1"), camera.state)
    camera.capture()
    TaskState.objects.all().delete()
    WorkerState.objects.all().delete()
    feed(life_of("id-2"), camera.state)
    with at(200):
        camera.capture()
    assert rows() == saved("id-2")
