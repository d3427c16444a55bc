"""The camera as a whole: what it takes in, whom it tells, when it takes a shot."""

from __future__ import annotations

from typing import Any

import pytest
from celery.events.snapshot import Polaroid
from django.db import OperationalError, connection
from django.db.models.signals import post_save
from django.test.utils import CaptureQueriesContext

from django_celery_monitor.camera import WORKER_UPDATE_FREQ, Camera
from django_celery_monitor.models import TaskState, WorkerState
from django_celery_monitor.receiver import Receiver
from django_celery_monitor.utils import fromtimestamp
from tests.cameras import at, make, started, succeeded
from tests.events import NOW, feed, received, sent, task_event, worker_event

pytestmark = pytest.mark.usefixtures("soon_after")


@pytest.fixture
def state(camera: Camera) -> Any:
    return camera.state


# The class


def test_camera_is_what_celery_expects(camera: Camera, state: Any) -> None:
    assert isinstance(camera, Polaroid)
    assert (camera.state, camera.freq) == (state, 2.0)
    assert Camera.clear_after is True
    assert Camera.worker_update_freq == WORKER_UPDATE_FREQ == 60


def test_models_are_properties(camera: Camera) -> None:
    assert camera.TaskState is TaskState
    assert camera.WorkerState is WorkerState


# Intake


def test_receiver_of_the_app_counts_for_the_camera(camera: Any) -> None:
    app = camera.app
    receiver = app.events.Receiver(app.connection_for_read())
    assert isinstance(receiver, Receiver)
    assert receiver.counters is camera.counters
    assert receiver.outbox is camera.outbox
    others = make().app.events.Receiver
    assert others.counters is not camera.counters


def test_events_are_merged_as_they_come(camera: Camera, state: Any) -> None:
    feed([received(), started(), received(uuid="id-2"), worker_event()], state)
    assert len(camera.outbox) == 2
    assert camera.counters.merged == 1
    assert not state.tasks  # Celery's own account of them is not kept
    assert not state.workers


def test_values_that_are_made_fit_are_counted(camera: Camera, state: Any) -> None:
    feed([received(retries="many"), succeeded(result="\ud800")], state)
    assert camera.counters.made_fit == 2
    feed([worker_event(sw_ident="\ud800")], state)
    assert camera.counters.made_fit == 3


def test_other_events_are_ignored(camera: Camera, state: Any) -> None:
    feed([{**task_event("task-"), "type": "project-custom"}], state)
    assert not camera.outbox


@pytest.mark.django_db
def test_clock_that_is_ahead_does_not_outlast_what_follows(
    camera: Camera, state: Any
) -> None:
    app = camera.app
    receiver = app.events.Receiver(app.connection_for_read())
    events = [
        started(at=NOW + 10**6),
        task_event("task-retried", at=NOW + 62, exception="E()"),
    ]
    for seconds, event in enumerate(events, 61):
        with at(seconds):
            state.event(receiver.event_from_message(event)[1])
            camera.capture()
    row = TaskState.objects.get()
    assert (row.state, row.tstamp) == ("RETRY", fromtimestamp(NOW + 62))
    assert row.started_at == fromtimestamp(NOW + 61)


# Signals


@pytest.mark.django_db
def test_signals_are_sent(camera: Camera, state: Any) -> None:
    seen: list[tuple[str | None, str | None]] = []
    cleaned: list[Any] = []

    def shutter(sender: Any, **kwargs: Any) -> None:
        assert not TaskState.objects.exists()
        assert list(sender.workers) == ["celery@one"]
        seen.extend((task.name, task.state) for _, task in sender.itertasks())

    def cleanup(sender: Any, **kwargs: Any) -> None:
        cleaned.append(sender)

    feed([received(), succeeded()], state)
    Camera.shutter_signal.connect(shutter)
    Camera.cleanup_signal.connect(cleanup)
    try:
        camera.capture()
        camera.cleanup()
    finally:
        Camera.cleanup_signal.disconnect(cleanup)
        Camera.shutter_signal.disconnect(shutter)
    # Whoever listens is shown what is about to be saved.
    assert seen == [("proj.tasks.add", "SUCCESS")]
    assert cleaned == [state]
    assert TaskState.objects.get().state == "SUCCESS"


@pytest.mark.django_db
def test_listeners_hear_once_of_each_row_that_is_written(
    camera: Camera, state: Any, caplog: pytest.LogCaptureFixture
) -> None:
    heard: list[tuple[str, bool]] = []

    def saved(instance: Any, created: bool, **kwargs: Any) -> None:
        if isinstance(instance, TaskState):
            assert instance.pk is not None
            heard.append((instance.state, created))

    def fails(instance: Any, **kwargs: Any) -> None:
        if isinstance(instance, TaskState):
            raise OperationalError("of the listener's own")

    post_save.connect(saved)
    post_save.connect(fails)
    try:
        feed([sent(), sent(uuid="id-2"), sent(uuid="id-3")], state)
        camera.capture()
        assert heard == [("PENDING", True)] * 3
        assert "of the listener's own" in caplog.text
        heard.clear()
        feed([task_event("task-rejected", at=NOW + 1), sent()], state)
        feed([sent(uuid="id-2"), sent(uuid="id-4")], state)
        camera.capture()
        camera.capture()
    finally:
        post_save.disconnect(fails)
        post_save.disconnect(saved)
    assert sorted(heard) == [("PENDING", True), ("REJECTED", False)]
    assert TaskState.objects.count() == 4
    assert camera.counters.saved == 6  # and the worker
    assert camera.counters.retried == 0


# When a shot is taken


@pytest.mark.django_db
def test_maximum_rate_puts_a_shot_off_and_loses_nothing() -> None:
    camera = make(maxrate="1/h")
    camera.capture()
    feed([received(), succeeded(), worker_event()], camera.state)
    camera.capture()
    assert not TaskState.objects.exists()
    assert len(camera.outbox) == 1

    camera.cancel()
    assert TaskState.objects.get().state == "SUCCESS"
    assert WorkerState.objects.exists()


def test_worker_row_says_how_late_it_may_be() -> None:
    camera = make(maxrate="1/h")
    assert camera._saver.update_freq == pytest.approx(60 + 3600)


# A database of its own


@pytest.mark.django_db(databases={"default", "other"})
def test_router_names_the_database(camera: Camera, state: Any, settings: Any) -> None:
    settings.DATABASE_ROUTERS = ["tests.routers.MonitorRouter"]
    feed([worker_event(), received(), succeeded(uuid="id-2")], state)
    with CaptureQueriesContext(connection) as queries:
        camera.capture()
        camera.update_task("FAILURE", "id-3", {"retries": 1})
        camera.on_cleanup()
    assert len(queries) == 0
    assert TaskState.objects.using("other").count() == 2
    assert WorkerState.objects.using("other").count() == 1
