"""Runs the project: its worker and camera in processes, its client in this one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from celery import Celery, Signature
from celery.events import EventDispatcher

from django_celery_monitor.managers import TaskStateQuerySet, WorkerStateQuerySet
from django_celery_monitor.models import TaskState, WorkerState
from tests.scratch import Scratch

ROOT = Path(__file__).parents[2]
FILES = "filesystem://localhost"
CAMERA = "django_celery_monitor.camera.Camera"
#: What the processes are not to inherit from the run of the tests.
OWN = ("CELERY_", "COV", "DATABASE_URL", "DJANGO_", "PYTEST")


def wait_for(condition: Callable[[], object], seconds: float = 60) -> None:
    """Return once ``condition`` is true; raise AssertionError when time is up."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not true in {seconds} seconds"
        time.sleep(0.02)


@dataclass
class Process:
    """A process of the project, the leader of a group of its own."""

    log: Path
    popen: subprocess.Popen[bytes]

    def signal(self, *signals: signal.Signals) -> None:
        """Send signals, one right after the other."""
        for signum in signals:
            self.popen.send_signal(signum)

    def wait(self) -> int:
        """Return the exit code, once there is one."""
        return self.popen.wait(timeout=60)

    def output(self) -> str:
        """Return what the process has written so far."""
        return self.log.read_text(encoding="utf-8", errors="replace")

    def kill(self) -> None:
        """End the process and those it started, whatever they do."""
        with suppress(ProcessLookupError):
            os.killpg(self.popen.pid, signal.SIGKILL)
        self.popen.wait()


@dataclass
class Project:
    """The project in a folder, on a broker and a migrated database of its own."""

    folder: Path
    database: Scratch
    broker: str = FILES
    name: str = field(default_factory=lambda: f"monitor{uuid.uuid4().hex[:8]}")
    processes: list[Process] = field(default_factory=list)

    @property
    def tasks(self) -> TaskStateQuerySet:
        """The rows of tasks."""
        return TaskState.objects.using(self.database.alias)

    @property
    def workers(self) -> WorkerStateQuerySet:
        """The rows of workers."""
        return WorkerState.objects.using(self.database.alias)

    @property
    def environment(self) -> dict[str, str]:
        """The environment variables of the processes."""
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(OWN)}
        return {
            **inherited,
            "CELERY_BROKER_URL": self.broker,
            "DATABASE_URL": self.database.url,
            "DJANGO_SETTINGS_MODULE": "tests.integration.project.settings",
            "PROJECT_DIR": str(self.folder),
            "PROJECT_NAME": self.name,
            "PYTHONPATH": str(ROOT),
            "PYTHONUNBUFFERED": "1",
        }

    @cached_property
    def app(self) -> Celery:
        """A client of the project's broker in this process."""
        app = Celery("client", broker=self.broker, set_as_current=False)
        app.conf.update(
            task_default_queue=self.name,
            event_exchange=f"{self.name}.events",
            event_queue_prefix=f"{self.name}.events",
            control_exchange=f"{self.name}.control",
            task_send_sent_event=True,
        )
        if self.broker == FILES:
            app.conf.update(
                broker_transport="tests.integration.project.broker:Transport",
                broker_transport_options={
                    "data_folder_in": self.folder / "messages",
                    "data_folder_out": self.folder / "messages",
                    "control_folder": self.folder / "control",
                    "polling_interval": 0.05,
                },
            )
        return app

    def prepare(self) -> None:
        """Create tables, folders, and the exchanges of a file-system broker.

        Processes that bind the first queue of an exchange at the same moment can lose
        a binding there.
        """
        self.database.migrate_tracker()
        if self.broker != FILES:
            return
        for folder in ("messages", "control"):
            (self.folder / folder).mkdir(parents=True)
        pidbox = f"{self.name}.control.pidbox"
        for exchange in (self.name, f"{self.name}.events", pidbox, f"reply.{pidbox}"):
            (self.folder / "control" / f"{exchange}.exchange").write_text("[]")

    # Processes

    def start(self, *arguments: str, settings: str = "settings") -> Process:
        """Start a command of Celery on the project."""
        log = self.folder / f"{arguments[0]}{len(self.processes)}.log"
        module = f"tests.integration.project.{settings}"
        with log.open("wb") as output:
            popen = subprocess.Popen(
                [
                    *(sys.executable, "-m", "celery"),
                    *("-A", "tests.integration.project.celery", *arguments),
                ],
                cwd=self.folder,
                env={**self.environment, "DJANGO_SETTINGS_MODULE": module},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        process = Process(log, popen)
        self.processes.append(process)
        return process

    def worker(self, *arguments: str) -> Process:
        """Start a worker that sends events."""
        own = ("-E", "-l", "info", "-n", "worker@test", "--without-mingle")
        return self.start("worker", *own, *arguments)

    def camera(
        self, *arguments: str, camera: str = CAMERA, settings: str = "settings"
    ) -> Process:
        """Start the camera by the stock command; on files, wait until it listens."""
        own = ("-l", "info", "--camera", camera)
        if self.broker != FILES:
            return self.start("events", *own, *arguments, settings=settings)
        before = self.listening()
        process = self.start("events", *own, *arguments, settings=settings)
        wait_for(lambda: self.listening() > before or process.popen.poll() is not None)
        return process

    def listening(self) -> int:
        """Return how many queues a file-system broker has for events."""
        try:
            text = (
                self.folder / "control" / f"{self.name}.events.exchange"
            ).read_text()
            return len(json.loads(text))
        except json.JSONDecodeError:  # being written just now
            return 0

    def end(self) -> None:
        """End all processes and remove what the broker has of the project."""
        for process in self.processes:
            process.kill()
        if self.broker != FILES:
            self.remove_queues()
        self.app.close()

    def remove_queues(self) -> None:
        """Remove the project's queues and exchanges from the broker's server."""
        with self.app.connection_for_write() as connection:
            channel: Any = connection.default_channel
            if connection.transport.driver_type == "redis":
                for key in channel.client.scan_iter(f"*{self.name}*"):
                    channel.client.delete(key)
                return
            channel.queue_delete(self.name)
            pidbox = f"{self.name}.control.pidbox"
            for name in (self.name, f"{self.name}.events", pidbox, f"reply.{pidbox}"):
                channel.exchange_delete(name)

    # What the client does

    def task(self, task: str, *args: Any, **kwargs: Any) -> Signature[Any]:
        """Return the signature of a task of the project."""
        name = f"tests.integration.project.tasks.{task}"
        return self.app.signature(name, args=args, kwargs=kwargs)

    def send(self, task: str, *args: Any, **kwargs: Any) -> str:
        """Send a task; return its id."""
        return str(self.task(task, *args, **kwargs).apply_async().id)

    @contextmanager
    def dispatcher(self) -> Iterator[EventDispatcher]:
        """Return what sends events as a worker does."""
        with (
            self.app.connection_for_write() as connection,
            self.app.events.Dispatcher(
                connection, hostname="worker@test"
            ) as dispatcher,
        ):
            yield dispatcher

    def waiting(self) -> int:
        """Return how many messages of a file-system broker wait for a reader."""
        return len(list((self.folder / "messages").glob("*.msg")))

    def state(self, task_id: str) -> str | None:
        """Return the state that the row of a task has."""
        found: str | None = (
            self.tasks.filter(task_id=task_id).values_list("state", flat=True).first()
        )
        return found

    def ledger(self) -> list[dict[str, Any]]:
        """Return what the worker itself has noted of its tasks."""
        try:
            text = (self.folder / "ledger").read_text(encoding="utf-8")
        except FileNotFoundError:
            return []
        return [json.loads(line) for line in text.splitlines()]
