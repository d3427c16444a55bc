"""When a camera was watching, and when nobody was."""

from __future__ import annotations

from datetime import datetime, timedelta
from datetime import timezone as datetime_timezone
from typing import Any

import pytest
import time_machine
from django.test import override_settings
from django.utils import timezone

from django_celery_monitor.models import CameraState
from django_celery_monitor.utils import fromtimestamp
from tests.factories import CameraStateFactory


@pytest.mark.parametrize(
    ("freq", "silence", "watching"),
    [(1, 25, True), (1, 35, False), (60, 170, True), (60, 190, False)],
)
def test_a_camera_watches_unless_it_is_silent_for_long(
    freq: float, silence: float, watching: bool
) -> None:
    shot = timezone.now() - timedelta(seconds=silence)
    camera = CameraStateFactory.build(freq=freq, last_shot=shot)
    assert camera.is_watching() is watching
    assert camera.ended_at == shot


@override_settings(USE_TZ=True)
def test_a_camera_whose_clock_is_ahead_watches() -> None:
    shot = timezone.now() + timedelta(minutes=5)
    assert CameraStateFactory.build(last_shot=shot).is_watching()


@override_settings(USE_TZ=False, TIME_ZONE="Europe/Berlin")
def test_the_hour_that_is_repeated_hides_no_silence() -> None:
    at_0250 = datetime(2026, 10, 25, 0, 50, tzinfo=datetime_timezone.utc).timestamp()
    camera = CameraStateFactory.build(last_shot=fromtimestamp(at_0250))
    with time_machine.travel(at_0250 + 20, tick=False):
        assert camera.is_watching()
    with time_machine.travel(at_0250 + 20 * 60, tick=False):  # the second 02:10
        assert not camera.is_watching()


def test_a_camera_that_stopped_does_not_watch() -> None:
    camera = CameraStateFactory.build(stopped_at=timezone.now())
    assert not camera.is_watching()
    assert camera.ended_at == camera.stopped_at


def run(start: float, shot: float, stop: float | None = None) -> CameraState:
    """Return a run that began, shot last and stopped so many hours ago."""

    def ago(hours: float) -> Any:
        return timezone.now() - timedelta(hours=hours)

    return CameraStateFactory.create(
        started_at=ago(start),
        last_shot=ago(shot),
        stopped_at=None if stop is None else ago(stop),
    )


def gaps() -> list[float | None]:
    """Return for each run, the oldest first, the hours that nobody watched before."""
    runs = CameraState.objects.with_previous_end().order_by("started_at")
    return [
        end and round((run.started_at - end).total_seconds() / 3600, 1)
        for run in runs
        for end in [run.previous_end]  # type: ignore[attr-defined]
    ]


@pytest.mark.django_db
def test_the_time_that_nobody_watched() -> None:
    run(10, 8, 7.5)
    run(6, 5)  # killed
    run(2, 0)
    assert gaps() == [None, 1.5, 3.0]


@pytest.mark.django_db
def test_somebody_watched_when_any_camera_did() -> None:
    run(10, 1)
    run(9, 8, 8)
    run(5, 3, 3)
    ended = gaps()
    assert ended[0] is None
    assert [gap is not None and gap <= 0 for gap in ended[1:]] == [True, True]


@pytest.mark.django_db
def test_a_camera_between_two_shots_still_watches() -> None:
    now = timezone.now()
    CameraStateFactory.create(
        started_at=now - timedelta(hours=1), last_shot=now - timedelta(seconds=9)
    )
    CameraStateFactory.create(started_at=now - timedelta(seconds=2))
    assert gaps() == [None, None]
