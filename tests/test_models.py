"""The rows: their columns, their order, what they are called."""

from __future__ import annotations

from datetime import datetime, timezone

import pytest
from celery import states
from django.core.management import call_command
from django.db import IntegrityError, connection, models, transaction

from django_celery_monitor import models as monitor_models
from django_celery_monitor.models import (
    ALL_STATES,
    TASK_STATE_CHOICES,
    TaskState,
    WorkerState,
)
from django_celery_monitor.utils import fromtimestamp
from tests.events import NOW
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
