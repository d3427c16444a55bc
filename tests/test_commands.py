"""``manage.py celery_monitor``: its options, what it runs, what it prints."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from celery import Celery
from celery.events.state import State
from click import Option
from django.core.management import CommandError, call_command
from django.db import OperationalError
from django.utils import timezone
from kombu.exceptions import OperationalError as BrokerError

from django_celery_monitor import conf
from django_celery_monitor.camera import Camera
from django_celery_monitor.management.commands import celery_monitor as module
from django_celery_monitor.models import TaskState, WorkerState
from django_celery_monitor.retention import Retention
from tests.factories import TaskStateFactory

DAY = timedelta(days=1)


@pytest.fixture
def celery_app(monkeypatch: pytest.MonkeyPatch) -> Iterator[Celery]:
    """Return an app that the command takes for the project's."""
    app = Celery("commands", broker="memory://", set_as_current=False)
    monkeypatch.setattr(conf, "get_app", lambda: app)
    yield app
    app.close()


class TestCamera:
    """The subcommand ``camera``."""

    @pytest.fixture
    def ran(
        self, celery_app: Celery, monkeypatch: pytest.MonkeyPatch
    ) -> list[dict[str, Any]]:
        """Return what the camera was run with, instead of running it."""
        calls: list[dict[str, Any]] = []

        def evcam(camera: str, **options: Any) -> None:
            calls.append({"camera": camera, **options})

        monkeypatch.setattr(module, "evcam", evcam)
        return calls

    def test_defaults_are_those_of_the_stock_command(
        self, ran: list[dict[str, Any]], celery_app: Celery
    ) -> None:
        call_command("celery_monitor", "camera")
        assert ran == [
            {
                "camera": "django_celery_monitor.camera.Camera",
                "freq": 1.0,
                "maxrate": None,
                "loglevel": 30,
                "logfile": None,
                "pidfile": None,
                "app": celery_app,
            }
        ]
        # What is not given is not set.
        assert {name: conf.get(name, celery_app) for name in conf.SETTINGS} == {
            name: setting.default for name, setting in conf.SETTINGS.items()
        }

    def test_options_of_the_stock_command(self, ran: list[dict[str, Any]]) -> None:
        short = ["-F", "2.5", "-r", "10/m", "-l", "info", "-f", "log"]
        long = ["--frequency=2.5", "--maxrate=10/m", "--loglevel=INFO"]
        for options in (short, [*long, "--logfile=log"]):
            call_command("celery_monitor", "camera", *options, "--pidfile", "pid")
        call_command("celery_monitor", "camera", "--freq", "2.5", "-l", "FATAL")
        assert [run["freq"] for run in ran] == [2.5] * 3
        assert ran[0] == ran[1]
        assert ran[0]["maxrate"] == "10/m"
        assert [run["loglevel"] for run in ran] == [20, 20, 50]
        assert (ran[0]["logfile"], ran[0]["pidfile"]) == ("log", "pid")

    def test_it_has_every_option_of_a_snapshot_but_detach(
        self, ran: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]
    ) -> None:
        from celery.bin.events import events

        with pytest.raises(SystemExit):
            call_command("celery_monitor", "camera", "--help")
        printed = capsys.readouterr().out
        snapshot = [
            option
            for option in events.params
            if isinstance(option, Option)
            and getattr(option, "help_group", "") == "Snapshot"
            and option.name != "detach"
        ]
        assert len(snapshot) == 4
        for option in snapshot:
            for name in option.opts:
                assert name in printed
        for name, *_ in module.SETTINGS:
            assert name in printed

    def test_another_camera(self, ran: list[dict[str, Any]]) -> None:
        name = "tests.integration.project.cameras.Picky"
        call_command("celery_monitor", "camera", "-c", name)
        assert ran[0]["camera"] == name

    def test_options_set_settings(
        self, ran: list[dict[str, Any]], celery_app: Celery
    ) -> None:
        celery_app.conf.monitor_outbox_max_tasks = 7
        call_command(
            "celery_monitor",
            "camera",
            *("--durable-queue=events", "--durable-queue-type=quorum"),
            *("--durable-queue-ttl=60", "--durable-queue-max-length=1000"),
            *("--durable-prefetch=50", "--max-tasks=10", "--max-bytes=100000"),
            *("--max-text-length=500", "--flush-timeout=2.5"),
        )
        values = (*("events", "quorum", 60, 1000, 50, 10, 100_000, 500, 2.5),)
        names = [name for _, name, *_ in module.SETTINGS]
        assert tuple(conf.get(name, celery_app) for name in names) == values
        assert len(ran) == 1

    def test_options_win_over_the_settings_of_django(
        self, ran: list[dict[str, Any]], celery_app: Celery
    ) -> None:
        settings = {"CELERY_MONITOR_FLUSH_TIMEOUT": 5}
        celery_app.config_from_object(settings, namespace="CELERY")
        assert conf.get("monitor_flush_timeout", celery_app) == 5
        call_command("celery_monitor", "camera", "--flush-timeout", "60")
        assert conf.get("monitor_flush_timeout", celery_app) == 60

    @pytest.mark.parametrize(
        ("option", "value"),
        [
            *(("--frequency", value) for value in ("0", "-1", "nan", "inf", "often")),
            *(("--maxrate", value) for value in ("often", "1/y", "0", "-3/s", "nan")),
            ("--loglevel", "loud"),
            *(("--max-tasks", value) for value in ("0", "-1", "1.5", "many")),
            ("--max-bytes", "0"),
            ("--max-text-length", "0"),
            *(("--flush-timeout", value) for value in ("-1", "long", "1e300", "nan")),
            *(("--durable-queue", value) for value in ("", "q" * 256)),
            ("--durable-queue-type", "stream"),
            ("--durable-queue-ttl", "-1"),
            ("--durable-queue-max-length", "0"),
            ("--durable-prefetch", "0"),
            ("--camera", "no_such_module.Camera"),
            ("--camera", "django_celery_monitor.camera.NoCamera"),
            ("--camera", ""),
        ],
    )
    def test_wrong_value_is_an_error_that_names_the_option(
        self, ran: list[dict[str, Any]], option: str, value: str
    ) -> None:
        with pytest.raises(CommandError, match=option):
            call_command("celery_monitor", "camera", f"{option}={value}")
        assert ran == []

    def test_wrong_setting_is_an_error_that_names_it(
        self,
        celery_app: Celery,
        monkeypatch: pytest.MonkeyPatch,
        ran: list[dict[str, Any]],
    ) -> None:
        celery_app.conf.monitor_task_error_expires = "1 day"

        def evcam(camera: str, **options: Any) -> None:
            Camera(State(), app=celery_app).install()

        monkeypatch.setattr(module, "evcam", evcam)
        with pytest.raises(CommandError, match=r"^monitor_task_error_expires must be"):
            call_command("celery_monitor", "camera")

    def test_broker_that_cannot_be_used(
        self, celery_app: Celery, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def evcam(camera: str, **options: Any) -> None:
            raise BrokerError("refused")

        monkeypatch.setattr(module, "evcam", evcam)
        with pytest.raises(CommandError, match=r"broker.*refused") as caught:
            call_command("celery_monitor", "camera")
        assert caught.value.returncode == os.EX_UNAVAILABLE


@pytest.mark.parametrize("arguments", [["camera"], ["purge"]])
@pytest.mark.django_db
def test_unknown_app_is_an_error_that_says_what_to_do(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    made_up = Celery("default", set_as_current=False)
    monkeypatch.setattr(conf, "get_app", lambda: made_up)
    monkeypatch.delenv("CELERY_BROKER_URL", raising=False)
    assert conf.is_fallback(made_up)
    with pytest.raises(CommandError, match=r"No Celery app .*__init__\.py"):
        call_command("celery_monitor", *arguments)


@pytest.mark.parametrize("arguments", [[], ["photograph"]])
def test_subcommand_is_required(arguments: list[str]) -> None:
    with pytest.raises(CommandError, match="subcommand"):
        call_command("celery_monitor", *arguments)


@pytest.mark.django_db(databases=["default", "other"])
@pytest.mark.usefixtures("celery_app")
class TestPurge:
    """The subcommand ``purge``."""

    def purge(self, capsys: pytest.CaptureFixture[str], *options: str) -> list[str]:
        """Run the command; return the lines that it prints."""
        call_command("celery_monitor", "purge", *options)
        return capsys.readouterr().out.splitlines()

    @pytest.fixture(autouse=True)
    def _rows(self) -> None:
        old = timezone.now() - 10 * DAY
        for state in ("SUCCESS", "SUCCESS", "FAILURE", "PENDING", "OWN"):
            TaskStateFactory.create(state=state, tstamp=old, worker=None)
        TaskStateFactory.create(worker=None)
        TaskStateFactory.create(worker=None, hidden=True)
        WorkerState.objects.create(hostname="gone")
        WorkerState.objects.update(last_update=timezone.now() - 40 * DAY)

    def test_what_has_expired_is_deleted(
        self, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert self.purge(capsys) == ["Deleted tasks: 6", "Deleted workers: 1"]
        assert TaskState.objects.count() == 1
        assert self.purge(capsys) == ["Deleted tasks: 0", "Deleted workers: 0"]

    def test_settings_are_heeded(
        self, capsys: pytest.CaptureFixture[str], celery_app: Celery
    ) -> None:
        celery_app.conf.update(
            monitor_task_success_expires=None,
            monitor_task_pending_expires=11 * DAY,
            monitor_worker_expires=None,
        )
        assert self.purge(capsys) == ["Deleted tasks: 2", "Deleted workers: 0"]

    def test_wrong_setting(self, celery_app: Celery) -> None:
        celery_app.conf.monitor_worker_expires = "never"
        with pytest.raises(CommandError, match=r"^monitor_worker_expires"):
            call_command("celery_monitor", "purge")

    def test_dry_run_counts(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert self.purge(capsys, "--dry-run") == [
            "SUCCESS: 2",
            "FAILURE, RETRY, REVOKED: 1",
            "PENDING, RECEIVED, REJECTED, STARTED and custom states: 2",
            "Marked as expired: 1",
            "Workers: 1",
        ]
        assert TaskState.objects.count() == 7
        assert WorkerState.objects.count() == 1

    def test_time_may_be_up(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert self.purge(capsys, "--seconds=1e-9") == [
            "Deleted tasks: 0",
            "Deleted workers: 0",
            "The time is up, and there may be more.",
        ]
        assert self.purge(capsys, "--seconds", "60")[0] == "Deleted tasks: 6"

    @pytest.mark.parametrize("value", ["0", "-1", "nan", "long"])
    def test_wrong_time(self, value: str) -> None:
        with pytest.raises(CommandError, match="--seconds"):
            call_command("celery_monitor", "purge", f"--seconds={value}")

    def test_another_database(self, capsys: pytest.CaptureFixture[str]) -> None:
        TaskState.objects.using("other").create(
            task_id="id", state="SUCCESS", tstamp=timezone.now() - 10 * DAY
        )
        printed = self.purge(capsys, "--database", "other")
        assert printed == ["Deleted tasks: 1", "Deleted workers: 0"]
        assert TaskState.objects.count() == 7

    def test_unknown_database(self) -> None:
        with pytest.raises(CommandError, match="--database must be one of default, o"):
            call_command("celery_monitor", "purge", "--database", "nowhere")

    def test_database_that_cannot_be_used(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(*args: Any) -> None:
            raise OperationalError("gone away")

        monkeypatch.setattr(Retention, "run", fail)
        with pytest.raises(CommandError, match=r"database .*gone away"):
            call_command("celery_monitor", "purge")
