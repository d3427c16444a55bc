"""The camera's last shot, and a database that is away or holds it up."""

from __future__ import annotations

import itertools
import os
import threading
from typing import Any

import pytest

from django_celery_monitor import camera as camera_module
from django_celery_monitor import saver
from django_celery_monitor.camera import Camera
from django_celery_monitor.models import CameraState
from tests.cameras import make
from tests.events import NOW, feed, worker_event
from tests.outages import Outage, life_of, rows, saved

pytestmark = pytest.mark.usefixtures("soon_after")


@pytest.mark.django_db(transaction=True)
def test_last_shot_does_not_wait_for_the_next_try(camera: Camera) -> None:
    feed(life_of("id-1"), camera.state)
    with Outage():
        camera.capture()
    camera.cancel()
    assert rows() == saved("id-1")


@pytest.mark.django_db(transaction=True)
def test_last_shot_is_tried_until_the_database_is_back() -> None:
    camera = make(monitor_flush_timeout=20)
    feed(life_of("id-1"), camera.state)
    with Outage(lambda n, *_: n <= 3):
        camera.cancel()
    assert rows() == saved("id-1")
    assert camera.counters.retried >= 1


@pytest.mark.django_db(transaction=True)
def test_last_shot_saves_what_it_can_and_says_that_it_could_not_save_all(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(saver, "CHUNK", 2)
    camera = make(monitor_flush_timeout=0.05)
    feed(life_of(*(f"id-{number}" for number in range(5))), camera.state)
    reads = itertools.count(1)
    with (
        Outage(lambda _, sql, __: "taskstate" in sql and next(reads) > 2),
        pytest.raises(SystemExit) as ended,
    ):
        camera.cancel()
    assert ended.value.code == 1
    assert "3 tasks are not saved" in caplog.text
    assert rows() == saved("id-0", "id-1")
    assert CameraState.objects.get().stopped_at is not None


@pytest.mark.parametrize("waits", [True, False])
@pytest.mark.django_db(transaction=True)
def test_last_heartbeats_that_are_not_saved_are_told_too(waits: bool) -> None:
    camera = make(monitor_flush_timeout=0.05)
    feed([worker_event()], camera.state)
    camera.capture()
    feed([worker_event(at=NOW + 9)], camera.state)
    if waits:
        camera.capture()
    with Outage(), pytest.raises(SystemExit) as ended:
        camera.cancel()
    assert ended.value.code == 1


@pytest.mark.django_db(transaction=True)
def test_last_shot_that_the_database_holds_up_is_given_up(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = threading.Event()
    codes: list[int] = []

    def end(code: int) -> None:
        codes.append(code)
        ended.set()

    def hang(*args: Any) -> bool:
        return ended.wait(timeout=20)

    monkeypatch.setattr(os, "_exit", end)
    monkeypatch.setattr(camera_module, "HARD_LIMIT", 0.1)
    camera = make(monitor_flush_timeout=0.05)
    feed(life_of("id-1"), camera.state)
    with Outage(hang), pytest.raises(SystemExit):
        camera.cancel()
    assert codes == [1]
    assert "holds up the last shot, 1 tasks are not saved" in caplog.text
