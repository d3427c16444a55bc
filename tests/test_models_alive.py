"""Whether a worker is alive, by the clocks of workers, camera and time zones."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
import time_machine
from celery.events.state import State
from django.test import override_settings

from django_celery_monitor.camera import Camera
from django_celery_monitor.models import WorkerState
from django_celery_monitor.utils import fromtimestamp
from tests.events import NOW, feed, worker_event
from tests.factories import WorkerStateFactory

# What version 1.1.2 has in the database


def test_heartbeat_timestamp_is_an_epoch() -> None:
    heartbeat = fromtimestamp(NOW + 0.25)
    assert WorkerState(last_heartbeat=heartbeat).heartbeat_timestamp == NOW + 0.25
    assert WorkerState().heartbeat_timestamp is None


ZONES = ["UTC", "America/New_York", "Europe/Berlin", "Asia/Kolkata", "Pacific/Apia"]


@pytest.fixture(params=ZONES)
def zone(request: pytest.FixtureRequest) -> Iterator[str]:
    with override_settings(TIME_ZONE=request.param):
        yield request.param


@pytest.fixture(params=[True, False], ids=["aware", "naive"])
def use_tz(request: pytest.FixtureRequest) -> Iterator[bool]:
    with override_settings(USE_TZ=request.param):
        yield request.param


@pytest.mark.usefixtures("zone", "use_tz")
@pytest.mark.django_db
def test_row_of_version_1_lives_for_three_minutes() -> None:
    """It has no frequency: Celery's 60 s count twice, and what a write may lag."""
    WorkerStateFactory.create(last_heartbeat=fromtimestamp(NOW))
    worker = WorkerState.objects.get()
    assert worker.heartbeat_timestamp == NOW
    with time_machine.travel(NOW + 179, tick=False):
        assert worker.is_alive()
    with time_machine.travel(NOW + 181, tick=False):
        assert not worker.is_alive()


def test_worker_without_a_heartbeat_is_not_alive() -> None:
    assert not WorkerState().is_alive()


# Alive, as the camera writes it


def save(*events: dict[str, Any]) -> None:
    """Save what a camera sees of ``events``."""
    camera = Camera(State(), freq=2.0)
    feed(events, camera.state)
    with time_machine.travel(events[-1]["local_received"], tick=False):
        camera.capture()


def alive(seconds_since_epoch: float) -> bool:
    """Return whether the worker of the database is alive at that time."""
    with time_machine.travel(seconds_since_epoch, tick=False):
        return WorkerState.objects.get().is_alive()


@pytest.mark.parametrize(("freq", "lifetime"), [(2.0, 4), (30.0, 60), (600.0, 1200)])
@pytest.mark.django_db
def test_lifetime_follows_the_workers_own_frequency(freq: float, lifetime: int) -> None:
    # Written once a minute at most, in shots two seconds apart.
    lifetime += 60 + 2
    save(worker_event(freq=freq))
    assert alive(NOW + lifetime - 1)
    assert not alive(NOW + lifetime + 1)


@pytest.mark.parametrize("update_freq", [0, 300])
@pytest.mark.django_db
def test_lifetime_covers_the_time_between_two_writes(
    monkeypatch: pytest.MonkeyPatch, update_freq: int
) -> None:
    monkeypatch.setattr(Camera, "worker_update_freq", update_freq)
    save(worker_event(freq=2.0))
    assert alive(NOW + update_freq + 2 + 3)
    assert not alive(NOW + update_freq + 2 + 5)


@pytest.mark.django_db
def test_lifetime_covers_shots_that_a_maximum_rate_puts_off() -> None:
    camera = Camera(State(), freq=2.0, maxrate="6/m")
    feed([worker_event(freq=2.0)], camera.state)
    with time_machine.travel(NOW, tick=False):
        camera.capture()
    assert alive(NOW + 60 + 10 + 3)
    assert not alive(NOW + 60 + 10 + 5)


@pytest.mark.django_db
def test_offline_worker_is_dead_until_it_is_heard_again() -> None:
    save(worker_event(at=NOW), worker_event("worker-offline", at=NOW + 1))
    assert not alive(NOW + 2)
    save(worker_event("worker-online", at=NOW + 3))
    assert alive(NOW + 4)


CHANGES = [
    ("Europe/Berlin", datetime(2026, 3, 29, 1, tzinfo=timezone.utc)),
    ("Europe/Berlin", datetime(2026, 10, 25, 1, tzinfo=timezone.utc)),
    ("America/New_York", datetime(2026, 3, 8, 7, tzinfo=timezone.utc)),
    ("America/New_York", datetime(2026, 11, 1, 6, tzinfo=timezone.utc)),
]


@pytest.mark.usefixtures("use_tz")
@pytest.mark.parametrize(("zone_name", "change"), CHANGES)
@pytest.mark.parametrize("minutes", [-60, -30, -1, 0, 30, 60])
@pytest.mark.django_db
def test_alive_all_around_a_change_of_daylight_saving(
    zone_name: str, change: datetime, minutes: int
) -> None:
    seen = (change + timedelta(minutes=minutes)).timestamp()
    with override_settings(TIME_ZONE=zone_name):
        save(worker_event(at=seen))
        assert WorkerState.objects.get().heartbeat_timestamp == seen
        assert alive(seen + 30)
        assert not alive(seen + 120)
        # An hour off by mistake, and it would be.
        assert not alive(seen + 3600 + 30)


@pytest.mark.parametrize(("offline", "expected"), [(-1, False), (0, True), (1, True)])
def test_worker_is_offline_unless_it_was_heard_since(
    offline: int, expected: bool
) -> None:
    worker = WorkerState(
        last_heartbeat=fromtimestamp(NOW), offline_at=fromtimestamp(NOW + offline)
    )
    assert worker.is_offline() is expected
    with time_machine.travel(NOW + 2, tick=False):
        assert worker.is_alive() is not expected


@pytest.mark.parametrize("seconds", [0, 30])
@pytest.mark.django_db
def test_hour_that_is_repeated_is_two_hours(use_tz: bool, seconds: int) -> None:
    """02:59 comes twice in Berlin; at the second 02:10 the first is long past."""
    first_0259 = datetime(2026, 10, 25, 0, 59, seconds, tzinfo=timezone.utc)
    with override_settings(TIME_ZONE="Europe/Berlin"):
        save(worker_event(at=first_0259.timestamp()))
        assert alive(first_0259.timestamp() + 29)
        assert not alive((first_0259 + timedelta(minutes=11)).timestamp())
        # The second 02:59, and the heartbeat's hour seems to be now.
        assert not alive((first_0259 + timedelta(hours=1)).timestamp())


@pytest.mark.django_db
def test_going_offline_in_the_repeated_hour(use_tz: bool) -> None:
    """Offline at the second 02:05, after a heartbeat at the first 02:10."""
    beat = datetime(2026, 10, 25, 0, 10, tzinfo=timezone.utc).timestamp()
    with override_settings(TIME_ZONE="Europe/Berlin"):
        save(worker_event(at=beat))
        save(worker_event("worker-offline", at=beat + 55 * 60))
        assert WorkerState.objects.get().is_offline()
        save(worker_event(at=beat + 56 * 60))
        assert not WorkerState.objects.get().is_offline()
        assert alive(beat + 56 * 60 + 1)


@pytest.mark.django_db
def test_time_that_was_set_by_hand_counts() -> None:
    """The exact time beside it no longer belongs to it."""
    save(worker_event(at=NOW))
    WorkerState.objects.update(last_heartbeat=fromtimestamp(NOW + 3600))
    assert WorkerState.objects.get().heartbeat_timestamp == NOW + 3600
    assert alive(NOW + 3600)
