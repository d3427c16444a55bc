"""The system checks: each speaks up where it should, and is silent elsewhere."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from celery import Celery
from django.apps import apps
from django.core import checks
from django.core.management import CommandError, call_command
from django.db.utils import ConnectionHandler

from django_celery_monitor import checks as monitor_checks
from django_celery_monitor import conf


@pytest.fixture
def app(monkeypatch: pytest.MonkeyPatch) -> Celery:
    """Make a Celery app current that is this test's own, and right."""
    app = Celery("checks", broker="memory://", set_as_current=False)
    app.conf.update(worker_send_task_events=True, task_send_sent_event=True)
    monkeypatch.setattr("celery._state._tls.current_app", app)
    return app


def ids(messages: list[checks.CheckMessage]) -> list[str]:
    """Return the ids of ``messages`` without their prefix; each has a hint."""
    assert all(message.hint for message in messages)
    prefixes = [str(message.id).rpartition(".") for message in messages]
    assert {prefix for prefix, _, _ in prefixes} <= {"celery_monitor"}
    return [number for _, _, number in prefixes]


# Registered


def run_checks(**options: Any) -> list[str]:
    """Return the ids of what Django's own run of all checks says about us."""
    messages = checks.run_checks(**options)
    return ids([m for m in messages if str(m.id).startswith("celery_monitor.")])


@pytest.mark.django_db(databases={"default", "other"})
@pytest.mark.usefixtures("app")
def test_right_project_is_silent() -> None:
    assert run_checks(include_deployment_checks=True) == []


@pytest.mark.django_db(databases={"default", "other"})
def test_check_command_runs_them(app: Celery) -> None:
    app.conf.monitor_task_success_expires = "a day"
    app.conf.monitors_expire_error = 5
    app.conf.monitor_task_x = 5
    with pytest.raises(CommandError) as failed:
        call_command("check", stderr=StringIO())
    for number in ("E001", "W001", "W002"):
        assert f"(celery_monitor.{number})" in str(failed.value)


@pytest.mark.django_db(databases={"default", "other"})
def test_deployment_checks_run_when_asked(app: Celery) -> None:
    app.conf.update(worker_send_task_events=False, task_send_sent_event=False)
    assert run_checks() == []
    assert run_checks(include_deployment_checks=True) == ["W006", "W007"]
    output = StringIO()
    call_command("check", "--deploy", "--fail-level", "CRITICAL", stderr=output)
    assert "celery_monitor.W006" in output.getvalue()
    assert "celery_monitor.W007" in output.getvalue()


@pytest.mark.usefixtures("app")
@pytest.mark.django_db(databases={"default", "other"})
def test_database_check_runs_where_a_database_is_checked(
    files: Databases,
) -> None:
    files.use(default={})
    assert run_checks() == []
    assert run_checks(tags=[checks.Tags.database], databases=["default"]) == [
        "W004",
        "W005",
    ]


# Settings


@pytest.mark.parametrize(
    "name", ["monitor_task_success_expires", "monitors_expire_pending"]
)
def test_e001_expiry_that_is_no_duration(app: Celery, name: str) -> None:
    app.conf[name] = "soon"
    (message, *others) = monitor_checks.check_settings()
    assert message.id == "celery_monitor.E001"
    assert message.level == checks.ERROR
    assert message.msg.startswith(name)
    assert "timedelta" in str(message.hint)
    assert ids(others) == (["W001"] if name.startswith("monitors_") else [])


def test_e001_setting_that_is_no_duration(app: Celery) -> None:
    app.conf.monitor_outbox_max_tasks = "many"
    app.conf.monitor_durable_queue_type = "stream"
    first, second = monitor_checks.check_settings()
    assert ids([first, second]) == ["E001", "E001"]
    assert first.msg.startswith("monitor_outbox_max_tasks")
    assert second.msg.startswith("monitor_durable_queue_type")
    assert "timedelta" not in str(first.hint)


@pytest.mark.usefixtures("app")
@pytest.mark.parametrize("name", conf.SETTINGS)
def test_setting_that_is_not_set_is_right(name: str) -> None:
    assert monitor_checks.check_setting(name) == []


def test_w001_deprecated_name(app: Celery) -> None:
    app.conf.monitors_expire_error = 5
    (message,) = monitor_checks.check_settings()
    assert message.id == "celery_monitor.W001"
    assert "monitors_expire_error" in message.msg
    assert "monitor_task_error_expires" in str(message.hint)


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("monitor_task_eror_expires", "Did you mean monitor_task_error_expires?"),
        (
            "monitor_0123456789",
            "monitor_task_success_expires, monitor_task_error_expires",
        ),
    ],
)
def test_w002_unknown_name(app: Celery, name: str, hint: str) -> None:
    app.conf[name] = 5
    (message,) = monitor_checks.check_settings()
    assert message.id == "celery_monitor.W002"
    assert name in message.msg
    assert hint in str(message.hint)


def test_w002_unknown_name_in_djangos_settings(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    app = Celery("checks", set_as_current=False)
    settings = SimpleNamespace(CELERY_MONITOR_TASK_EROR_EXPIRES=5)
    app.config_from_object(settings, namespace="CELERY")
    monkeypatch.setattr("celery._state._tls.current_app", app)
    (message,) = monitor_checks.check_settings()
    assert message.id == "celery_monitor.W002"
    assert "CELERY_MONITOR_TASK_EROR_EXPIRES" in message.msg


# The app


@pytest.fixture
def no_app(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make as if the project had no Celery app."""
    monkeypatch.setattr("celery._state.default_app", None)
    monkeypatch.setattr("celery._state._tls.current_app", None)
    monkeypatch.setattr(apps.get_app_config("celery_monitor"), "celery_app", None)


@pytest.mark.usefixtures("no_app")
def test_w003_no_celery_app() -> None:
    (message,) = monitor_checks.check_app()
    assert message.id == "celery_monitor.W003"
    assert "localhost" in message.msg
    assert "__init__.py" in str(message.hint)


@pytest.mark.usefixtures("no_app")
def test_w003_is_silent_without_the_admin(settings: Any) -> None:
    settings.INSTALLED_APPS = ["django.contrib.contenttypes", "django_celery_monitor"]
    assert monitor_checks.check_app() == []


@pytest.mark.usefixtures("app")
def test_w003_is_silent_with_an_app() -> None:
    assert monitor_checks.check_app() == []


# SQLite

WAL = {"init_command": "PRAGMA journal_mode=WAL;"}


class Databases:
    """Databases that the check of SQLite sees in place of the tests' own."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self.monkeypatch = monkeypatch
        self.handler = ConnectionHandler({})

    def use(self, **options: dict[str, Any]) -> None:
        """Have a database in a file for each alias, opened with these OPTIONS."""
        self.handler = ConnectionHandler(
            {
                alias: {
                    "ENGINE": "django.db.backends.sqlite3",
                    "NAME": str(self.folder / alias),
                    "OPTIONS": value,
                }
                for alias, value in options.items()
            }
        )
        self.monkeypatch.setattr(monitor_checks, "connections", self.handler)


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Databases]:
    databases = Databases(tmp_path, monkeypatch)
    yield databases
    databases.handler.close_all()


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, ["W004", "W005"]),
        (WAL, ["W005"]),
        ({"transaction_mode": "IMMEDIATE"}, ["W004"]),
        ({"transaction_mode": "DEFERRED", **WAL}, ["W005"]),
        ({"transaction_mode": "IMMEDIATE", **WAL}, []),
        ({"transaction_mode": "immediate", **WAL}, []),
    ],
)
@pytest.mark.django_db
def test_w004_and_w005_sqlite_that_cannot_be_shared(
    files: Databases, options: dict[str, Any], expected: list[str]
) -> None:
    files.use(default=options)
    messages = monitor_checks.check_sqlite(databases=["default"])
    assert ids(messages) == expected
    assert all("'default'" in message.msg for message in messages)


@pytest.mark.django_db
def test_hints_of_w004_and_w005_help(files: Databases) -> None:
    files.use(default={})
    wal, immediate = monitor_checks.check_sqlite(databases=["default"])
    assert "PRAGMA journal_mode=WAL;" in str(wal.hint)
    assert '"transaction_mode": "IMMEDIATE"' in str(immediate.hint)


@pytest.mark.django_db
def test_w004_is_silent_where_the_file_is_in_wal_mode_already(files: Databases) -> None:
    files.use(default=WAL)
    assert ids(monitor_checks.check_sqlite(databases=["default"])) == ["W005"]
    files.handler.close_all()
    files.use(default={})
    assert ids(monitor_checks.check_sqlite(databases=["default"])) == ["W005"]


@pytest.mark.parametrize("databases", [None, [], ["other"]])
def test_w004_and_w005_open_no_database_that_is_not_checked(
    files: Databases, databases: list[str] | None
) -> None:
    files.use(default={})
    assert monitor_checks.check_sqlite(databases=databases) == []
    assert not list(files.folder.iterdir())


@pytest.mark.django_db(databases={"default", "other"})
def test_w004_and_w005_look_where_the_router_points(
    files: Databases, settings: Any
) -> None:
    settings.DATABASE_ROUTERS = ["tests.routers.MonitorRouter"]
    files.use(default={}, other={"transaction_mode": "IMMEDIATE"})
    messages = monitor_checks.check_sqlite(databases=["default", "other"])
    assert ids(messages) == ["W004"]
    assert "'other'" in messages[0].msg


@pytest.mark.django_db
def test_w004_and_w005_are_silent_about_a_database_in_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    memory = {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}
    handler = ConnectionHandler({"default": memory})
    monkeypatch.setattr(monitor_checks, "connections", handler)
    assert monitor_checks.check_sqlite(databases=["default"]) == []
    handler["default"].connection.close()  # Django itself keeps it open


def test_w004_and_w005_are_silent_about_other_databases(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server = SimpleNamespace(vendor="postgresql")
    monkeypatch.setattr(monitor_checks, "connections", {"default": server})
    assert monitor_checks.check_sqlite(databases=["default"]) == []


# Events, on deployment


@pytest.mark.parametrize(
    ("setting", "number", "hint"),
    [
        ("worker_send_task_events", "W006", "-E"),
        ("task_send_sent_event", "W007", "True"),
    ],
)
def test_w006_and_w007_events_that_are_not_sent(
    app: Celery, setting: str, number: str, hint: str
) -> None:
    app.conf[setting] = False
    (message,) = monitor_checks.check_events()
    assert message.id == f"celery_monitor.{number}"
    assert setting in message.msg
    assert hint in str(message.hint)


@pytest.mark.usefixtures("app")
def test_w006_and_w007_are_silent_where_events_are_on() -> None:
    assert monitor_checks.check_events() == []


# The command, in a process of its own


@pytest.mark.parametrize("options", [[], ["--database", "default"]])
def test_manage_py_check_is_silent(tmp_path: Path, options: list[str]) -> None:
    done = subprocess.run(
        [
            *(sys.executable, "-W", "error", "-m", "django", "check"),
            *("--fail-level", "INFO", *options),
        ],
        env={
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "tests.settings",
            "DATABASE_URL": f"sqlite:///{tmp_path / 'db.sqlite3'}",
        },
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "no issues" in done.stdout
