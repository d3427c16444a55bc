"""The rows: their columns, their order, and whether a worker is alive."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
import time_machine
from celery import states
from celery.events.state import State
from django.core.management import call_command
from django.db import IntegrityError, connection, models, transaction
from django.test import override_settings

from django_celery_monitor import models as monitor_models
from django_celery_monitor.camera import Camera
from django_celery_monitor.models import (
    ALL_STATES,
    TASK_STATE_CHOICES,
    TaskState,
    WorkerState,
)
from django_celery_monitor.utils import fromtimestamp
from tests.events import NOW, feed, worker_event
from tests.factories import TaskStateFactory, WorkerStateFactory

# Columns


@pytest.mark.parametrize("model", [TaskState, WorkerState])
def test_ids_have_64_bits(model: type[models.Model]) -> None:
    assert type(model._meta.pk) is models.BigAutoField


@pytest.mark.parametrize(
    ("model", "table", "latest", "order"),
    [
        (TaskState, "celery_monitor_taskstate", "tstamp", "-tstamp"),
        (
            WorkerState,
            "celery_monitor_workerstate",
            "last_heartbeat",
            "-last_heartbeat",
        ),
    ],
)
def test_tables_are_those_of_version_1(
    model: type[models.Model], table: str, latest: str, order: str
) -> None:
    options = model._meta
    assert (options.app_label, options.db_table) == ("celery_monitor", table)
    assert (options.get_latest_by, list(options.ordering or ())) == (latest, [order])


def test_columns_of_version_1_are_there() -> None:
    tasks = {field.attname for field in TaskState._meta.concrete_fields}
    assert tasks >= {
        *("id", "state", "task_id", "name", "tstamp", "args", "kwargs", "eta"),
        *("expires", "result", "traceback", "runtime", "retries", "worker_id"),
        "hidden",
    }
    workers = {field.attname for field in WorkerState._meta.concrete_fields}
    assert workers >= {"id", "hostname", "last_heartbeat", "last_update"}


def test_states_are_all_that_events_lead_to() -> None:
    assert states.ALL_STATES | {"REJECTED"} == set(ALL_STATES)
    assert sorted(ALL_STATES) == ALL_STATES
    assert [(state, state) for state in ALL_STATES] == TASK_STATE_CHOICES


@pytest.mark.django_db
def test_hostnames_and_task_ids_are_unique() -> None:
    worker = WorkerStateFactory.create()
    task = TaskStateFactory.create(worker=worker)
    with pytest.raises(IntegrityError), transaction.atomic():
        WorkerStateFactory.create(hostname=worker.hostname)
    with pytest.raises(IntegrityError), transaction.atomic():
        TaskStateFactory.create(task_id=task.task_id, worker=worker)


@pytest.mark.django_db
def test_long_values_and_states_of_ones_own_fit() -> None:
    worker = WorkerStateFactory.create(hostname="h" * 255)
    task = TaskStateFactory.create(
        state="S" * 64, task_id="i" * 255, name="n" * 255, worker=worker
    )
    task.refresh_from_db()
    assert (task.state, task.task_id, task.name) == ("S" * 64, "i" * 255, "n" * 255)
    assert task.worker == worker


@pytest.mark.django_db
def test_tasks_outlive_their_worker() -> None:
    task = TaskStateFactory.create()
    WorkerState.objects.all().delete()
    task.refresh_from_db()
    assert task.worker is None


@pytest.mark.django_db
def test_newest_come_first() -> None:
    old, new, middle = (
        TaskStateFactory.create(tstamp=fromtimestamp(NOW + seconds))
        for seconds in (0, 2, 1)
    )
    assert list(TaskState.objects.all()) == [new, middle, old]
    assert TaskState.objects.latest() == new
    WorkerState.objects.all().delete()
    one, two = (
        WorkerStateFactory.create(last_heartbeat=fromtimestamp(NOW + seconds))
        for seconds in (0, 1)
    )
    assert list(WorkerState.objects.all()) == [two, one]
    assert WorkerState.objects.latest() == two


# str()


def test_worker_is_shown_as_its_hostname() -> None:
    assert str(WorkerState(hostname="celery@one")) == "celery@one"


def test_task_is_shown_as_state_id_and_name() -> None:
    text = str(TaskState(state="SUCCESS", task_id="id-1", name="add"))
    assert text.split() == ["SUCCESS", "id-1", "add"]


def test_eta_of_a_task_is_shown_if_it_has_one() -> None:
    eta = datetime(2026, 3, 2, 10, 0, tzinfo=timezone.utc)
    text = str(TaskState(state="PENDING", task_id="id-1", name="add", eta=eta))
    assert text.endswith(f"add eta:{eta}")


def test_name_that_is_not_known_is_shown_as_unknown() -> None:
    assert str(TaskState(state="STARTED", task_id="id-1")).endswith("unknown")


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


# Migrations


@pytest.mark.django_db
def test_migrations_describe_the_models(capsys: pytest.CaptureFixture[str]) -> None:
    call_command("makemigrations", "--check", "--dry-run", "celery_monitor")
    assert "No changes detected" in capsys.readouterr().out


@pytest.mark.django_db
def test_indexes_serve_the_lists() -> None:
    with connection.cursor() as cursor:
        found = connection.introspection.get_constraints(
            cursor, TaskState._meta.db_table
        )
    indexed = {tuple(spec["columns"]) for spec in found.values() if spec["index"]}
    assert indexed >= {
        ("tstamp",),
        ("state", "tstamp"),
        ("name", "tstamp"),
        ("worker_id", "tstamp"),
        ("root_id",),
        ("hidden",),
    }


def test_module_has_the_names_of_version_1() -> None:
    for name in ("TaskState", "WorkerState", "ALL_STATES", "TASK_STATE_CHOICES"):
        assert hasattr(monitor_models, name)
