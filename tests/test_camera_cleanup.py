"""The camera cleans up: what expires, and when it is the time for it."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any
from unittest import mock

import pytest
from celery import Celery
from django.db import OperationalError

from django_celery_monitor.camera import Camera
from django_celery_monitor.models import TaskState, WorkerState
from django_celery_monitor.retention import Purged, Retention
from django_celery_monitor.utils import fromtimestamp
from tests.cameras import at, make
from tests.events import NOW, feed, received, worker_event
from tests.factories import TaskStateFactory

pytestmark = pytest.mark.usefixtures("soon_after")


@pytest.fixture
def app(camera: Camera) -> Celery:
    """Return the camera's Celery app, whose settings are this test's own."""
    return camera.app


def test_expiry_has_three_sets_and_defaults(camera: Camera) -> None:
    assert [(set(names), expires) for names, expires in camera.expire_task_states] == [
        ({"SUCCESS"}, timedelta(days=1)),
        ({"FAILURE", "RETRY", "REVOKED"}, timedelta(days=3)),
        ({"PENDING", "RECEIVED", "STARTED", "REJECTED"}, timedelta(days=5)),
    ]


def test_expiry_follows_the_settings(camera: Camera, app: Celery) -> None:
    app.conf.monitor_task_success_expires = 60
    app.conf.monitor_task_error_expires = None
    app.conf.monitor_task_pending_expires = timedelta(hours=2)
    times = [expires for _, expires in camera.expire_task_states]
    assert times == [timedelta(minutes=1), None, timedelta(hours=2)]


def test_expiry_follows_the_older_names(camera: Camera, app: Celery) -> None:
    app.conf.monitors_expire_success = timedelta(minutes=1)
    app.conf.monitors_expire_error = timedelta(minutes=2)
    app.conf.monitors_expire_pending = None
    with pytest.warns(DeprecationWarning, match="monitors_expire_"):
        times = [expires for _, expires in camera.expire_task_states]
    assert times == [timedelta(minutes=1), timedelta(minutes=2), None]


def ages(*days: float) -> dict[str, datetime]:
    """Return the time that was so many days ago, by its number of days."""
    return {f"{day}": fromtimestamp(NOW + 60 - day * 86400) for day in days}


@pytest.mark.django_db
def test_cleanup_deletes_what_has_expired_and_counts(camera: Camera) -> None:
    for state in ("SUCCESS", "FAILURE", "RETRY", "STARTED", "PROGRESS", "IGNORED"):
        for days, tstamp in ages(0.9, 1.1, 2.9, 3.1, 4.9, 5.1).items():
            TaskStateFactory.create(
                state=state, task_id=f"{state}-{days}", tstamp=tstamp
            )
    expected = {
        *("SUCCESS-0.9", "FAILURE-0.9", "FAILURE-1.1", "FAILURE-2.9"),
        *("RETRY-0.9", "RETRY-1.1", "RETRY-2.9"),
        *(
            f"{state}-{days}"
            for state in ("STARTED", "PROGRESS", "IGNORED")
            for days in (0.9, 1.1, 2.9, 3.1, 4.9)
        ),
    }
    assert camera.on_cleanup() == 36 - len(expected)
    assert set(TaskState.objects.values_list("task_id", flat=True)) == expected
    assert camera.on_cleanup() == 0


@pytest.mark.django_db
def test_cleanup_keeps_for_ever_what_does_not_expire(
    camera: Camera, app: Celery
) -> None:
    app.conf.monitor_task_success_expires = None
    app.conf.monitor_task_error_expires = timedelta(0)
    kept = TaskStateFactory.create(tstamp=fromtimestamp(0))
    TaskStateFactory.create(state="FAILURE", tstamp=fromtimestamp(NOW + 59))
    assert camera.on_cleanup() == 1
    assert TaskState.objects.get() == kept


@pytest.mark.django_db
def test_cleanup_keeps_a_task_that_waits_for_its_eta(camera: Camera) -> None:
    TaskStateFactory.create(
        state="RECEIVED",
        tstamp=fromtimestamp(NOW - 30 * 86400),
        eta=datetime(2027, 1, 1, tzinfo=timezone.utc)
        if fromtimestamp(0).tzinfo
        else datetime(2027, 1, 1),
    )
    assert camera.on_cleanup() == 0


@pytest.mark.django_db
def test_cleanup_can_be_overridden() -> None:
    class Thorough(Camera):
        """A camera that keeps nothing."""

        def on_cleanup(self) -> int:  # type: ignore[override]
            self.TaskState.objects.update(hidden=True)
            return super().on_cleanup()

    TaskStateFactory.create()
    make(Thorough).cleanup()
    assert not TaskState.objects.exists()


@pytest.mark.django_db
def test_cleanup_in_the_timer_ends_for_the_next_shot_and_goes_on_after_it(
    camera: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[float | None] = []

    def run(self: Retention, seconds: float | None = None, **kwargs: Any) -> Purged:
        given.append(seconds)
        return Purged(1, 0, done=len(given) > 1)

    monkeypatch.setattr(Retention, "run", run)
    camera.cleanup()
    assert camera.timer.calls == [("after", 1.0, camera.cleanup)]
    camera.cleanup()
    assert len(camera.timer.calls) == 1
    assert camera.on_cleanup() == 1  # called by somebody else, it takes its time
    assert given == [1.0, 1.0, None]


@pytest.mark.django_db
def test_one_cleanup_at_a_time_goes_on(
    camera: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    purged = Purged(0, 0, done=False)
    monkeypatch.setattr(Retention, "run", lambda *_, **__: purged)
    camera.cleanup()
    camera.cleanup()  # the hourly one
    first, second = camera.timer.entries
    assert first.canceled
    assert not second.canceled


@pytest.mark.django_db
def test_cleanup_waits_while_the_database_is_away(
    camera: Camera, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Retention, "run", mock.Mock(side_effect=OperationalError))
    camera.cleanup()
    assert "cleanup waits" in caplog.text


@pytest.mark.django_db
def test_cleanup_forgets_workers_that_are_long_gone(
    camera: Camera, app: Celery
) -> None:
    app.conf.monitor_worker_expires = timedelta(days=2)
    feed([worker_event(hostname="celery@gone"), received()], camera.state)
    camera.capture()
    with at(86400 * 3):
        camera.cleanup()
    assert [row.hostname for row in WorkerState.objects.all()] == ["celery@one"]
