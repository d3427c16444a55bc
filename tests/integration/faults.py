"""Faults that tests and the soak inject, and the ledger that tells what they cost."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from celery.events import EventDispatcher
from celery.utils.log import get_logger
from kombu import Queue

from tests.integration.processes import FILES, Process, Project, wait_for
from tests.scratch import Scratch, scratch

logger = get_logger(__name__)

WATCHED = "tests.integration.project.watched.Watched"


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

    def check(self, project: Project, seconds: float = 60) -> None:
        """Wait until every task has ended in its row; compare all of them."""
        sent = len(self.sent)
        right = {"sent": sent, "rows": sent, "wrong": 0, "missing": 0}
        ended = project.tasks.filter(state__in=["SUCCESS", "FAILURE"])
        with suppress(AssertionError):
            wait_for(lambda: ended.count() >= sent, seconds)
            # Of cameras that share a queue, one may save how a task ended before
            # another one saves how it began.
            wait_for(lambda: self.count(project) == right, seconds)
        count = self.count(project)
        logger.warning("Ledger: %s, %d events", count, self.events)
        assert count == right


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


class Told(NamedTuple):
    """What a watched camera has counted so far."""

    events: int = 0
    tasks: int = 0
    retried: int = 0


def told(project: Project, camera: Process) -> Told:
    """Return what a watched camera tells."""
    with suppress(FileNotFoundError):
        text = (project.folder / f"told-{camera.popen.pid}").read_text()
        return Told(*map(int, text.split()))
    return Told()


def received(project: Project, camera: Process) -> int:
    """Return how many events of tasks a watched camera has received so far.

    Heartbeats that it was started with may come late.
    """
    return told(project, camera).tasks


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
        return told(project, camera).events > 0

    with project.dispatcher() as dispatcher:
        send_until(dispatcher, heard)
    return camera


def send_until(dispatcher: EventDispatcher, condition: Callable[[], object]) -> None:
    """Send heartbeats until ``condition`` is true."""

    def beat() -> object:
        dispatcher.send("worker-heartbeat", freq=2.0)
        return condition()

    # A camera that has lost its broker may wait for half a minute itself.
    wait_for(beat)


def hold(project: Project) -> Path:
    """Have the cameras take no shot until the file is removed."""
    path = project.folder / "hold"
    path.touch()
    return path


def kill_in_transaction(project: Project, camera: Process) -> None:
    """Have a watched camera kill itself when it is about to commit tasks."""
    (project.folder / f"die-{camera.popen.pid}").touch()
    assert camera.wait() == -9


def remove_durable_queue(project: Project) -> None:
    """Remove the queue of ``durable_settings`` from the broker."""
    with project.app.connection_for_write() as connection:
        Queue(f"{project.name}.durable", channel=connection.default_channel).delete()
