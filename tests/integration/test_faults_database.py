"""What becomes of the events while the database fails: none of them is lost."""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from signal import SIGTERM
from typing import Any

import pytest
from celery import Celery
from celery.events.event import Event
from celery.events.state import State
from celery.utils.log import get_logger
from django.test import override_settings
from kombu.asynchronous.timer import Timer
from pytest_django import DjangoDbBlocker

from django_celery_monitor import saver
from django_celery_monitor.camera import Camera
from django_celery_monitor.models import CameraState, TaskState, WorkerState
from tests.events import NOW, feed, received, task_event
from tests.integration import database_faults, faults
from tests.integration.database_servers import Server
from tests.integration.faults import Ledger, flow, projects, start_camera
from tests.integration.processes import FILES, Process, Project, wait_for
from tests.scratch import EVERYWHERE, Scratch, scratch

logger = get_logger(__name__)

pytestmark = pytest.mark.integration

SQLITE, SERVER = ("sqlite", FILES), ("server", FILES)
REDIS, RABBITMQ = ("server", "REDIS_URL"), ("server", "AMQP_URL")


@pytest.fixture
def project(
    request: pytest.FixtureRequest, tmp_path: Path, django_db_blocker: DjangoDbBlocker
) -> Iterator[Project]:
    """Return a project in the place that the test names."""
    with (
        django_db_blocker.unblock(),
        faults.project_in(request.param, tmp_path) as made,
    ):
        yield made


def end(project: Project, camera: Process) -> CameraState:
    """End the camera, which has nothing unsaved; return what it counted."""
    camera.signal(SIGTERM)
    assert camera.wait() == 0
    counted = CameraState.objects.using(project.database.alias).get(
        pid=camera.popen.pid
    )
    assert counted.dropped == counted.quarantined == counted.poison == 0
    return counted


# Connections


@projects(SERVER)
def test_connections_killed_while_events_flow(project: Project) -> None:
    camera = start_camera(project)

    def noticed(before: int) -> bool:
        database_faults.kill_connections(project.database)
        return faults.told(project, camera).retried > before

    with flow(project, Ledger()) as ledger:
        for outage in range(4):
            wait_for(partial(noticed, outage))
            saved = project.tasks.count()
            # What failed has been saved since, and the next outage is another one.
            wait_for(lambda: project.tasks.count() > saved + 10)  # noqa: B023

    ledger.check(project)
    assert end(project, camera).retried >= 4


def send_outcomes(camera: Camera) -> None:
    """Have the camera see what came of 25 tasks, of which 12 have rows already."""
    for number in range(12):
        feed([received(uuid=f"id-{number}")], camera.state)
    camera.capture()
    assert not camera.outbox
    for number in range(25):
        at, host = NOW + 1, f"celery@{number % 3}"
        uuid, result = f"id-{number}", str(number)
        event = task_event("task-succeeded", uuid, at, host, result=result)
        feed([event], camera.state)


def rows(database: Scratch) -> dict[str, Any]:
    """Return what the rows of tasks say, apart from keys and times of writing."""
    found = TaskState.objects.using(database.alias).select_related("worker")
    own = {"id", "task_id", "worker_id", "updated_at"}
    return {
        row.task_id: (
            row.worker and row.worker.hostname,
            {name: v for name, v in row.columns().items() if name not in own},
        )
        for row in found
    }


def emptied(camera: Camera) -> bool:
    """Take a shot; return whether nothing is left."""
    camera.capture()
    return not camera.outbox


def run_shot(database: Scratch, number: int | None) -> int:
    """Take a shot whose connection is killed after statement ``number``, and others.

    Returns how many statements were executed.
    """
    TaskState.objects.using(database.alias).all().delete()
    WorkerState.objects.using(database.alias).all().delete()
    app = Celery("faults", broker="memory://", set_as_current=False)
    camera = Camera(State(), freq=0.001, app=app, timer=Timer())
    send_outcomes(camera)
    wrapper = database_faults.KilledAfter(database, number)
    with database.connection.execute_wrapper(wrapper):
        camera.capture()
        wait_for(partial(emptied, camera))
    assert camera.counters.quarantined == 0
    return wrapper.executed


@override_settings(DATABASE_ROUTERS=["tests.integration.database_faults.Router"])
@pytest.mark.parametrize("kind", EVERYWHERE)
def test_connection_killed_after_each_statement(
    kind: str,
    tmp_path: Path,
    django_db_blocker: DjangoDbBlocker,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Between each statement of a shot and the next one, and before each commit."""
    monkeypatch.setattr(saver, "CHUNK", 10)
    with django_db_blocker.unblock(), scratch(kind, tmp_path) as database:
        database.migrate_tracker()
        monkeypatch.setattr(database_faults.Router, "alias", database.alias)
        statements = run_shot(database, None)
        assert statements > 6
        expected = rows(database)
        assert len(expected) == 25
        for number in range(statements):
            run_shot(database, number)
            assert rows(database) == expected


@pytest.mark.services("DATABASE_URL")
def test_database_restarted(tmp_path: Path, server: Server) -> None:
    with faults.project_in(SERVER, tmp_path) as project:
        camera = start_camera(project)
        with flow(project, Ledger()) as ledger:
            for goal in (50, 100):
                wait_for(lambda: project.tasks.count() >= goal)  # noqa: B023
                project.database.connection.close()
                server.crash()
                sent = len(ledger.sent)
                wait_for(lambda: len(ledger.sent) >= sent + 50)  # noqa: B023
                server.start()
        ledger.check(project)
        end(project, camera)


# Locks


@projects(REDIS, RABBITMQ)
def test_table_locked_for_15_seconds(project: Project) -> None:
    """RabbitMQ drops what waits for more than 5 seconds to be received."""
    camera = start_camera(project)
    with flow(project, Ledger(), rate=50) as ledger:
        wait_for(lambda: len(ledger.sent) >= 20)
        with database_faults.locked(project.database):
            begin, before = time.monotonic(), faults.received(project, camera)
            wait_for(lambda: time.monotonic() - begin >= 15)
            during = faults.received(project, camera) - before
        at_once = ledger.events
    logger.warning("Received while the table was locked: %d of %d", during, at_once)
    # The intake went on: what it lags behind is the little that was under way.
    assert during > 0.8 * at_once

    ledger.check(project)
    end(project, camera)


@projects(SQLITE)
@pytest.mark.parametrize("settings", ["settings", "impatient_settings"])
def test_another_writer_of_sqlite(project: Project, settings: str) -> None:
    """The lock lasts less and more than the time that a connection waits for it."""
    camera = start_camera(project, settings=settings)
    with flow(project, Ledger()) as ledger:
        for _ in range(3):
            sent = len(ledger.sent)
            with database_faults.locked(project.database):
                wait_for(lambda: len(ledger.sent) >= sent + 150)  # noqa: B023

    ledger.check(project)
    retried = end(project, camera).retried
    assert (retried > 0) == (settings == "impatient_settings")


# Tables, amounts, values


@pytest.mark.timeout(300)
@projects(SQLITE, SERVER)
def test_table_renamed_and_restored(project: Project) -> None:
    camera = start_camera(project)
    with flow(project, Ledger()) as ledger:
        for _ in range(5):
            sent = len(ledger.sent)
            retried = faults.told(project, camera).retried
            with database_faults.renamed(project.database):
                wait_for(lambda: len(ledger.sent) >= sent + 80)  # noqa: B023
                # A camera on a slow machine may be in the middle of its longest wait.
                wait_for(lambda: faults.told(project, camera).retried > retried)  # noqa: B023
            wait_for(lambda: project.tasks.count() > sent)  # noqa: B023

    ledger.check(project)
    assert end(project, camera).retried >= 5


@projects(("sqlite", "REDIS_URL"), REDIS, RABBITMQ)
def test_50000_tasks_between_two_shots(project: Project) -> None:
    camera = start_camera(project)
    held = faults.hold(project)
    before = faults.received(project, camera)
    ledger = Ledger()
    tasks, step = 50_000, 500
    with project.dispatcher() as dispatcher:
        together: Any = dispatcher
        together.buffer_group = {"task"}
        for number in range(0, tasks, step):
            for n in range(number, number + step):
                ledger.send_outcome(dispatcher, n)
            # What waits on RabbitMQ for 5 seconds is dropped.
            dispatcher.flush()
            wait_for(
                lambda: (
                    faults.received(project, camera) - before > ledger.events - 10_000
                )
            )
        wait_for(lambda: faults.received(project, camera) - before >= ledger.events)
    assert not project.tasks.exists()

    held.unlink()

    ledger.check(project)
    end(project, camera)


#: What is unusual about an event.
DIRTY: dict[str, dict[str, Any]] = {
    "NUL": {"result": "'a\0b'", "args": "('\0',)", "name": "proj.\0"},
    "surrogate": {"result": "'\ud800'", "args": "('\udfff',)"},
    "long id": {"uuid": "i" * 1000},
    "NUL in id": {"uuid": "a\0b"},
    "long name": {"name": "n" * 1000},
    "long host": {"hostname": "h" * 1000},
    "long queue": {"queue": "q" * 1000, "routing_key": "r" * 1000},
    "long state": {"type": "task-" + "s" * 200},
    "retries": {"retries": 2**40},
    "negative retries": {"retries": -1},
    "NaN": {"runtime": float("nan")},
    "infinity": {"runtime": float("inf")},
    "no date": {"eta": "99999-13-41"},
    "year 1": {"eta": "0001-01-01T00:00:00+14:00"},
    "a date as a number": {"eta": 1e30},
    "2 MB": {"result": "x" * 2_000_000},
    "emoji": {"name": "proj.😀", "result": "'😀'", "hostname": "w@😀"},
    "mapping": {"args": {"a": [1]}, "result": {"b": 2}},
}


@projects(SQLITE, SERVER, REDIS, RABBITMQ)
def test_values_that_databases_refuse(project: Project) -> None:
    camera = start_camera(project)
    ledger = Ledger()
    with project.dispatcher() as dispatcher:
        for label, dirty in DIRTY.items():

            def sent(type_: str, **fields: Any) -> Any:
                return {**make(type_, **fields), "type": type_}

            def make(type_: str, **fields: Any) -> Any:
                return Event(**{"type": type_, **fields, **dirty})  # noqa: B023

            call: dict[str, Any] = {
                "uuid": label,
                "name": "proj.dirty",
                "kwargs": label,
            }
            dispatcher.send("task-sent", Event=sent, **call)
            dispatcher.send("task-received", Event=sent, **call)
            dispatcher.send("task-succeeded", Event=make, uuid=label, result="4")
        ledger.send(dispatcher, 0)

    wait_for(lambda: project.tasks.count() == len(DIRTY) + 1)
    wait_for(lambda: project.state("id-0") == "SUCCESS")
    assert end(project, camera).made_fit > 0
    found = {row.kwargs: row for row in project.tasks.exclude(task_id="id-0")}
    assert found.keys() == DIRTY.keys()
    long = found.pop("long state")
    assert long.state.startswith("SSSSS")
    assert "…" in long.state
    assert {row.state for row in found.values()} == {"SUCCESS"}
    for label, column in (
        *(("long id", "task_id"), ("long name", "name"), ("2 MB", "result")),
        ("long queue", "queue"),
    ):
        assert "…" in getattr(found[label], column)
    host = found["long host"].worker
    assert host is not None
    assert "…" in host.hostname
    assert found["NUL"].result == r"'a\x00b'"
    assert found["NUL in id"].task_id == r"a\x00b"
    assert found["surrogate"].result == r"'\ud800'"
    assert found["retries"].retries == 2**31 - 1
    assert found["negative retries"].retries == 0
    assert found["NaN"].runtime is None
    assert found["infinity"].runtime is None
    assert found["no date"].eta is None
    assert found["emoji"].result == "'😀'"
    assert found["mapping"].args == "{'a': [1]}"
