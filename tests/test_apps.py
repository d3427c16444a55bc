"""The application: its label, its ids, its migrations, the names to import."""

from __future__ import annotations

import inspect
import itertools
import os
import subprocess
import sys
from collections import Counter
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from django.apps import apps
from django.core import checks

import django_celery_monitor
from django_celery_monitor import checks as monitor_checks
from django_celery_monitor.apps import CeleryMonitorConfig
from django_celery_monitor.camera import Camera
from django_celery_monitor.managers import (
    ExtendedQuerySet,
    TaskStateQuerySet,
    WorkerStateQuerySet,
)
from django_celery_monitor.models import TaskState, WorkerState
from tests.celery import app as tests_app

PACKAGE = Path(django_celery_monitor.__file__).parent


def manage(*arguments: str, **environment: str) -> str:
    """Return what a command of Django prints; fail with its errors."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "django", *arguments],
        env={
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "tests.settings",
            # The history of migrations is not looked at.
            "DATABASE_URL": "sqlite:///:memory:",
            **environment,
        },
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_application_is_that_of_version_1() -> None:
    config = apps.get_app_config("celery_monitor")
    assert isinstance(config, CeleryMonitorConfig)
    assert config.name == "django_celery_monitor"
    assert config.label == "celery_monitor"
    assert str(config.verbose_name) == "Celery Monitor"
    assert config.default_auto_field == "django.db.models.BigAutoField"


def test_models_are_the_applications() -> None:
    models = apps.get_app_config("celery_monitor").get_models()
    assert set(models) >= {TaskState, WorkerState}
    assert apps.get_model("celery_monitor", "TaskState") is TaskState


def test_application_knows_the_celery_app_of_the_project() -> None:
    config = apps.get_app_config("celery_monitor")
    assert isinstance(config, CeleryMonitorConfig)
    assert config.celery_app is tests_app


def test_application_without_a_celery_app_and_without_the_tracker() -> None:
    program = """
import sys

import django
from django.apps import apps
from django.conf import settings

settings.configure(
    INSTALLED_APPS=["django.contrib.contenttypes", "django_celery_monitor"]
)
django.setup()
assert apps.get_app_config("celery_monitor").celery_app is None
assert "django_celery_monitor.tracking" not in sys.modules
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        env={k: v for k, v in os.environ.items() if not k.startswith("CELERY_")},
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_checks_are_registered() -> None:
    def registered(**options: bool) -> set[str]:
        found: list[Any] = checks.registry.registry.get_checks(**options)
        return {f.__name__ for f in found if f.__module__ == monitor_checks.__name__}

    always = {"check_settings", "check_app", "check_sqlite"}
    assert registered() == always
    assert registered(include_deployment_checks=True) == {*always, "check_events"}


# Migrations


@pytest.mark.parametrize("field", ["AutoField", "BigAutoField"])
def test_models_do_not_drift_under_any_auto_field(field: str) -> None:
    output = manage(
        *("makemigrations", "--check", "--dry-run"),
        *("celery_monitor", "celery_monitor_tracking"),
        MONITOR_AUTO_FIELD=f"django.db.models.{field}",
    )
    assert "No changes detected" in output


def test_numbers_of_migrations_are_unique_and_without_gaps() -> None:
    names = [path.name for path in (PACKAGE / "migrations").glob("[0-9]*.py")]
    numbers = Counter(int(name[:4]) for name in names)
    assert sorted(numbers) == list(range(1, len(names) + 1))
    assert {"0001_initial.py", "0002_workerstate_last_update.py"} <= set(names)


def test_every_migration_depends_on_the_one_before() -> None:
    folder = PACKAGE / "migrations"
    names = sorted(path.stem for path in folder.glob("[0-9]*.py"))
    for before, name in itertools.pairwise(names):
        migration = import_module(f"django_celery_monitor.migrations.{name}").Migration
        assert ("celery_monitor", before) in migration.dependencies


# The names to import

NAMES = {
    "": ["__version__", "VERSION", "version_info"],
    ".apps": ["CeleryMonitorConfig"],
    ".camera": ["Camera", "WORKER_UPDATE_FREQ"],
    ".managers": ["ExtendedQuerySet", "WorkerStateQuerySet", "TaskStateQuerySet"],
    ".models": ["WorkerState", "TaskState", "TASK_STATE_CHOICES", "ALL_STATES"],
}


@pytest.mark.parametrize("module", NAMES)
def test_names_of_version_1_can_be_imported(module: str) -> None:
    found = vars(import_module(f"django_celery_monitor{module}"))
    assert set(NAMES[module]) <= set(found)


SIGNATURES: list[tuple[Any, list[str]]] = [
    (ExtendedQuerySet.select_for_update_or_create, ["defaults", "kwargs"]),
    (
        WorkerStateQuerySet.update_heartbeat,
        ["hostname", "heartbeat", "update_freq"],
    ),
    (TaskStateQuerySet.active, []),
    (TaskStateQuerySet.expired, ["states", "expires"]),
    (TaskStateQuerySet.expire_by_states, ["states", "expires"]),
    (TaskStateQuerySet.purge, []),
    (TaskStateQuerySet.update_state, ["state", "task_id", "defaults"]),
    (Camera.__init__, ["args", "kwargs"]),
    (Camera.django_setup, []),
    (Camera.install, []),
    (Camera.get_heartbeat, ["worker"]),
    (Camera.handle_worker, ["hostname_worker"]),
    (Camera.handle_task, ["uuid_task", "worker"]),
    (Camera.update_task, ["state", "task_id", "defaults"]),
    (Camera.on_shutter, ["state"]),
    (Camera.on_cleanup, []),
]


@pytest.mark.parametrize(
    ("function", "parameters"), SIGNATURES, ids=[f.__name__ for f, _ in SIGNATURES]
)
def test_signatures_of_version_1(function: Any, parameters: list[str]) -> None:
    names = list(inspect.signature(function).parameters)[1:]
    assert names[: len(parameters)] == parameters
    # What has come since may be left out.
    for name in names[len(parameters) :]:
        default = inspect.signature(function).parameters[name].default
        assert default is not inspect.Parameter.empty
