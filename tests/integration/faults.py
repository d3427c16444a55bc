"""Faults that tests and the soak inject, and the ledger that tells what they cost."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from celery.events import EventDispatcher
from celery.utils.log import get_logger
from django.db import OperationalError
from django.db.models import Model
from kombu import Queue

from tests.integration.brokers import free_port
from tests.integration.processes import FILES, Process, Project, wait_for
from tests.scratch import Scratch, scratch

if TYPE_CHECKING:
    from typing_extensions import Self

logger = get_logger(__name__)

WATCHED = "tests.integration.project.watched.Watched"
TASKS = "celery_monitor_taskstate"


@dataclass
class Ledger:
    """What was sent: the state, result and name that each task ended with, by id."""

    sent: dict[str, tuple[str, str, str | None]] = field(default_factory=dict)
    events: int = 0

    def send(self, dispatcher: EventDispatcher, number: int) -> None:
        """Send what workers send of a task: it succeeds, fails, or is retried first."""
        task_id = f"id-{number}"
        call = {"name": "proj.work", "args": f"({number},)", "kwargs": "{}"}

        def say(type_: str, **fields: Any) -> None:
            dispatcher.send(f"task-{type_}", uuid=task_id, **fields)
            self.events += 1

        attempts = 2 if number % 4 == 1 else 1
        for retries in range(attempts):
            say("received", retries=retries, **call)
            say("started")
            if retries + 1 < attempts:
                say("retried", exception="OSError()", traceback="Traceback")
        if number % 4 == 3:
            error = f"ValueError({number})"
            say("failed", exception=error, traceback="Traceback")
            self.sent[task_id] = ("FAILURE", error, call["name"])
        else:
            say("succeeded", result=str(number), runtime=0.5)
            self.sent[task_id] = ("SUCCESS", str(number), call["name"])

    def send_outcome(self, dispatcher: EventDispatcher, number: int) -> None:
        """Send that a task succeeds, and nothing else about it."""
        result = str(number)
        dispatcher.send("task-succeeded", uuid=f"id-{number}", result=result)
        self.events += 1
        self.sent[f"id-{number}"] = ("SUCCESS", result, None)

    def count(self, project: Project) -> dict[str, int]:
        """Return how many tasks were sent, have a row, have a wrong one, have none."""
        columns = ("task_id", "state", "result", "name", "worker__hostname")
        rows = {row[0]: row[1:] for row in project.tasks.values_list(*columns)}
        expected = {
            task_id: (*outcome, "worker@test") for task_id, outcome in self.sent.items()
        }
        wrong = [key for key, row in rows.items() if expected.get(key) != row]
        if wrong:
            logger.warning("Wrong: %s", [(key, rows[key]) for key in wrong[:5]])
        return {
            "sent": len(expected),
            "rows": len(rows),
            "wrong": len(wrong),
            "missing": len(expected.keys() - rows.keys()),
        }

    def check(self, project: Project, seconds: float = 30) -> None:
        """Wait until every task has ended in its row; compare all of them."""
        ended = project.tasks.filter(state__in=["SUCCESS", "FAILURE"])
        with suppress(AssertionError):
            wait_for(lambda: ended.count() >= len(self.sent), seconds)
        count = self.count(project)
        logger.warning("Ledger: %s, %d events", count, self.events)
        sent = len(self.sent)
        assert count == {"sent": sent, "rows": sent, "wrong": 0, "missing": 0}


class Flow(threading.Thread):
    """Sends the events of one task after another, from a thread of its own."""

    def __init__(self, project: Project, ledger: Ledger, rate: float) -> None:
        """Send those of ``rate`` tasks a second, about."""
        super().__init__(daemon=True)
        self.project = project
        self.ledger = ledger
        self.rate = rate
        self.error: Exception | None = None
        self._stopped = threading.Event()

    def run(self) -> None:
        """Send until told to stop."""
        try:
            with self.project.dispatcher() as dispatcher:
                while not self._stopped.wait(1 / self.rate):
                    self.ledger.send(dispatcher, len(self.ledger.sent))
        except Exception as error:  # noqa: BLE001 -- raised by stop()
            self.error = error

    def stop(self) -> None:
        """Finish the task at hand; raise what sending it raised."""
        self._stopped.set()
        self.join()
        if self.error is not None:
            raise self.error


@contextmanager
def flow(project: Project, ledger: Ledger, rate: float = 100) -> Iterator[Ledger]:
    """Send events meanwhile."""
    thread = Flow(project, ledger, rate)
    thread.start()
    try:
        yield ledger
    finally:
        thread.stop()


# Projects


def projects(*places: tuple[str, str]) -> pytest.MarkDecorator:
    """Return the mark that runs a test with a project in each of some places.

    A place is a kind of database, as ``scratch`` takes it, and a broker: the name of
    the variable with its URL, or that of files.
    """
    found = []
    for kind, broker in places:
        services = ["DATABASE_URL"] * (kind == "server") + [broker] * (broker != FILES)
        marks = [pytest.mark.services(*services)] if services else []
        name = "files" if broker == FILES else broker.partition("_")[0].lower()
        found.append(pytest.param((kind, broker), marks=marks, id=f"{kind}-{name}"))
    return pytest.mark.parametrize("project", found, indirect=True)


@contextmanager
def project_in(place: tuple[str, str], folder: Path) -> Iterator[Project]:
    """Return a project of the test's own in a place, see ``projects``."""
    kind, broker = place
    url = broker if broker == FILES else os.environ[broker]
    with scratch(kind, folder) as database, project_on(database, url, folder) as made:
        yield made
        end_processes(made)
        if broker == "AMQP_URL":
            remove_durable_queue(made)


@contextmanager
def project_on(database: Scratch, url: str, folder: Path) -> Iterator[Project]:
    """Return a project on a database and the broker at ``url``; end it at last."""
    project = Project(folder / "project", database, url)
    project.folder.mkdir()
    project.prepare()
    try:
        yield project
    finally:
        project.end()


def end_processes(project: Project) -> None:
    """End what still consumes, so that nothing is made anew that is removed."""
    for process in project.processes:
        process.kill()


# Cameras


def received(project: Project, camera: Process) -> int:
    """Return how many events a watched camera has received so far."""
    with suppress(FileNotFoundError):
        path = project.folder / f"received-{camera.popen.pid}"
        return int(path.read_text())
    return 0


def start_camera(
    project: Project,
    *arguments: str,
    settings: str = "settings",
    frequency: float = 0.3,
) -> Process:
    """Start a watched camera; return once an event has come to it."""
    own = (f"--frequency={frequency}", *arguments)
    camera = project.camera(*own, camera=WATCHED, settings=settings)

    def heard() -> bool:
        assert camera.popen.poll() is None, camera.output()
        return received(project, camera) > 0

    with project.dispatcher() as dispatcher:
        send_until(dispatcher, heard)
    return camera


def send_until(dispatcher: EventDispatcher, condition: Callable[[], object]) -> None:
    """Send heartbeats until ``condition`` is true."""

    def beat() -> object:
        dispatcher.send("worker-heartbeat", freq=2.0)
        return condition()

    wait_for(beat)


def hold(project: Project) -> Path:
    """Have the cameras take no shot until the file is removed."""
    path = project.folder / "hold"
    path.touch()
    return path


def kill_in_transaction(project: Project, camera: Process) -> None:
    """Have a watched camera kill itself between an insert and its commit."""
    (project.folder / f"die-{camera.popen.pid}").touch()
    assert camera.wait() == -9


def remove_durable_queue(project: Project) -> None:
    """Remove the queue of ``durable_settings`` from the broker."""
    with project.app.connection_for_write() as connection:
        Queue(f"{project.name}.durable", channel=connection.default_channel).delete()


# Databases


class Router:
    """Routes the models of the monitor to a database of a test."""

    alias = "default"

    def db_for_read(self, model: type[Model], **hints: Any) -> str | None:
        """Return the alias that a model is read from; None: no opinion."""
        return self.alias if model._meta.app_label == "celery_monitor" else None

    db_for_write = db_for_read


class KilledAfter:
    """Has the connection killed after a statement has been executed.

    Wraps each statement that is executed; number 0 is the first. On SQLite, which
    has no connection to kill, the statement fails after it has been executed.
    """

    def __init__(self, database: Scratch, number: int | None) -> None:
        self.database = database
        self.number = number
        self.executed = 0

    def __call__(self, execute: Callable[..., Any], sql: str, *arguments: Any) -> Any:
        """Execute a statement."""
        result = execute(sql, *arguments)
        self.executed += 1
        if self.executed - 1 == self.number:
            self.kill(self.database.connection.connection)
        return result

    def kill(self, raw: Any) -> None:
        """End a connection of the driver's from another one."""
        if self.database.vendor == "sqlite":
            raise OperationalError("disk I/O error")
        statement = (
            f"SELECT pg_terminate_backend({raw.info.backend_pid}, 5000)"
            if self.database.vendor == "postgresql"
            else f"KILL {raw.thread_id()}"
        )
        with self.database.connection._nodb_cursor() as cursor:
            cursor.execute(statement)


def kill_connections(database: Scratch) -> int:
    """End every connection to the database but this one; return how many."""
    if database.vendor == "postgresql":
        killed = database.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        return len(killed)
    others = database.execute(
        "SELECT id FROM information_schema.processlist"
        " WHERE db = DATABASE() AND id <> CONNECTION_ID()"
    )
    for (number,) in others:
        # It may have ended by itself.
        with suppress(OperationalError):
            database.execute(f"KILL {number}")
    return len(others)


LOCK = {
    "postgresql": ("BEGIN", f"LOCK TABLE {TASKS} IN ACCESS EXCLUSIVE MODE"),
    "mysql": (f"LOCK TABLES {TASKS} WRITE",),
    "sqlite": ("BEGIN IMMEDIATE",),
}
UNLOCK = {"postgresql": "COMMIT", "mysql": "UNLOCK TABLES", "sqlite": "COMMIT"}


@contextmanager
def locked(database: Scratch) -> Iterator[None]:
    """Keep everybody else from the table of tasks, on SQLite from writing at all."""
    for statement in LOCK[database.vendor]:
        database.execute(statement)
    try:
        yield
    finally:
        database.execute(UNLOCK[database.vendor])


def waits_for_lock(database: Scratch) -> bool:
    """Return whether a connection to a server waits for a lock on a table."""
    if database.vendor == "postgresql":
        waiting = (
            # pg_stat_activity would stay the same within a transaction.
            "SELECT 1 FROM pg_locks JOIN pg_database ON database = pg_database.oid"
            " WHERE datname = current_database() AND NOT granted"
        )
    else:
        waiting = (
            "SELECT 1 FROM information_schema.processlist"
            " WHERE db = DATABASE() AND state LIKE 'Waiting for table%'"
        )
    return bool(database.execute(waiting))


@contextmanager
def renamed(database: Scratch) -> Iterator[None]:
    """Take the table of tasks away for a while."""
    database.execute(f"ALTER TABLE {TASKS} RENAME TO away")
    try:
        yield
    finally:
        database.execute(f"ALTER TABLE away RENAME TO {TASKS}")


class PostgreSQL:
    """A server of the test's own, which it may crash and start again."""

    def __init__(self) -> None:
        found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
        on_path = shutil.which("initdb")
        if not found and not on_path:
            pytest.skip("there is no PostgreSQL to start")
        self.programs = (found[-1] if found else Path(on_path or "")).parent
        # The server refuses to run as root.
        self.user = "nobody" if os.geteuid() == 0 else None
        self.port = free_port()
        self.url = f"postgres://postgres@127.0.0.1:{self.port}/postgres"
        self.popen: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        """Create the cluster and start the server."""
        self.folder = Path(tempfile.mkdtemp(prefix="pg"))
        if self.user is not None:
            shutil.chown(self.folder, self.user)
        subprocess.run(
            [
                *(self.programs / "initdb", "-D", self.folder / "data"),
                *("-U", "postgres", "-A", "trust", "--no-sync"),
            ],
            check=True,
            cwd=self.folder,
            stdout=subprocess.DEVNULL,
            user=self.user,
        )
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop the server and remove the cluster."""
        self.crash()
        shutil.rmtree(self.folder, ignore_errors=True)

    def start(self) -> None:
        """Start the server; return when it answers."""
        options = {
            "fsync": "off",
            "listen_addresses": "127.0.0.1",
            "port": self.port,
            "unix_socket_directories": self.folder,
        }
        arguments = [f"--{name}={value}" for name, value in options.items()]
        with (self.folder / "log").open("ab") as log:
            self.popen = subprocess.Popen(
                [self.programs / "postgres", "-D", self.folder / "data", *arguments],
                cwd=self.folder,
                stdout=log,
                stderr=log,
                user=self.user,
            )
        ready = [self.programs / "pg_isready", "-h", "127.0.0.1", "-p", str(self.port)]
        quiet = subprocess.DEVNULL
        wait_for(lambda: subprocess.run(ready, stdout=quiet).returncode == 0)

    def crash(self) -> None:
        """Stop the server in the middle of what it does."""
        if self.popen is not None:
            self.popen.send_signal(signal.SIGQUIT)
            self.popen.wait(timeout=30)
            self.popen = None
