"""The camera and a database that is away for a while: nothing is lost."""

from __future__ import annotations

import itertools
import threading
from asyncio import CancelledError
from collections.abc import Iterator
from typing import Any
from unittest import mock

import pytest
from django.db import InterfaceError, OperationalError, ProgrammingError, connection
from django.db.models.signals import post_save

from django_celery_monitor import outbox, saver
from django_celery_monitor.camera import MAX_BACKOFF, Camera
from django_celery_monitor.models import TaskState, WorkerState
from django_celery_monitor.outbox import size_of
from django_celery_monitor.utils import fromtimestamp
from tests.cameras import Rowwise, Statements, at, make
from tests.events import NOW, feed, received, worker_event
from tests.outages import Outage, kill_connection, life_of, rows, saved

pytestmark = pytest.mark.usefixtures("soon_after")


# Away for a while


@pytest.mark.parametrize("cls", [Camera, Rowwise])
@pytest.mark.parametrize("error", [OperationalError, InterfaceError])
@pytest.mark.django_db(transaction=True)
def test_error_of_any_statement_of_a_shot_loses_nothing(
    cls: type[Camera], error: type[Exception]
) -> None:
    for statement in itertools.count(1):
        TaskState.objects.all().delete()
        WorkerState.objects.all().delete()
        camera = make(cls)
        camera._reporter.report = lambda **_: None  # its row is no data
        # One row to change and one to insert, of a worker that comes back.
        feed([worker_event("worker-offline", at=NOW - 9), received()], camera.state)
        camera.capture()
        feed(life_of("id-1", "id-2"), camera.state)
        with Outage(lambda n, *_, at=statement: n == at, error) as outage:
            camera.capture()
        assert camera.counters.retried == outage.failed
        assert bool(camera.outbox) is bool(outage.failed)

        with at(60 + MAX_BACKOFF):
            camera.capture()
        assert rows() == saved("id-1", "id-2")
        worker = WorkerState.objects.get()
        assert worker.pid == 4711
        assert worker.is_alive()
        if cls is Camera:
            assert worker.last_heartbeat == fromtimestamp(NOW + 3)
        assert not camera.outbox
        assert camera.counters.quarantined == 0
        if not outage.failed:
            break
    assert statement > 5


@pytest.mark.django_db(transaction=True)
def test_commit_that_fails_loses_nothing(
    camera: Camera, monkeypatch: pytest.MonkeyPatch
) -> None:
    camera._reporter.report = lambda **_: None  # type: ignore[method-assign]
    feed(life_of("id-1"), camera.state)
    commit = connection._commit  # type: ignore[attr-defined]
    for commits in (0, 1):
        left = iter(range(commits))

        def fails(left: Iterator[int] = left) -> None:
            if next(left, None) is None:
                raise OperationalError("the connection is gone")
            commit()

        with monkeypatch.context() as patch:
            patch.setattr(connection, "_commit", fails)
            with at(100 + 100 * commits):
                camera.capture()
        assert camera.outbox
        assert rows() == set()
    with at(300):
        camera.capture()
    assert rows() == saved("id-1")
    assert not camera.outbox


@pytest.mark.django_db(transaction=True)
def test_shots_are_put_off_longer_each_time_until_one_succeeds(
    camera: Camera, caplog: pytest.LogCaptureFixture
) -> None:
    feed(life_of("id-1"), camera.state)
    tries = []
    with Outage(lambda _, sql, __: "kerstate" in sql or "taskstate" in sql) as outage:
        for second in range(100):
            failed = outage.failed
            with at(60 + second):
                camera.capture()
            if outage.failed > failed:
                tries.append(second)
    waits = [b - a for a, b in itertools.pairwise(tries)]
    assert 5 <= len(tries) <= 12
    assert waits[0] <= 2
    assert max(waits) <= MAX_BACKOFF + 1
    assert camera.counters.retried == len(tries)
    # Once, not with every shot.
    assert caplog.text.count("The database cannot be used, all is kept") == 1
    with at(300):
        camera.capture()
        assert rows() == saved("id-1")
        # All is as it was: the next shot is not put off.
        feed(life_of("id-2"), camera.state)
        camera.capture()
    assert rows() == saved("id-1", "id-2")


@pytest.mark.django_db(transaction=True)
def test_what_comes_during_an_outage_is_saved_with_the_rest(camera: Camera) -> None:
    for number in range(5):
        feed([received(uuid=f"id-{number}")], camera.state)
        with Outage(), at(60 + 40 * number):
            camera.capture()
    assert len(camera.outbox) == 5
    assert camera.outbox.committed == 0
    feed(life_of(*(f"id-{number}" for number in range(5))), camera.state)
    with at(300):
        camera.capture()
    assert rows() == saved(*(f"id-{number}" for number in range(5)))
    assert camera.outbox.committed == camera.outbox.generation - 1
    assert camera.counters.lag == 240


@pytest.mark.django_db(transaction=True)
def test_chunks_that_were_committed_are_not_saved_again(
    camera: Camera, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(saver, "CHUNK", 2)
    uuids = [f"id-{number}" for number in range(5)]
    feed(life_of(*uuids), camera.state)
    inserts = itertools.count(1)
    with Outage(lambda _, sql, __: "taskstate" in sql and next(inserts) > 2):
        camera.capture()
    assert rows() == saved("id-0", "id-1")
    assert len(camera.outbox) == 3
    with at(100), Statements() as statements:
        camera.capture()
    assert rows() == saved(*uuids)
    assert not any("'id-0'" in sql for sql in statements.sql)


@pytest.mark.parametrize("cls", [Camera, Rowwise])
@pytest.mark.django_db(transaction=True)
def test_worker_alone_that_was_not_saved_is_not_forgotten(cls: type[Camera]) -> None:
    camera = make(cls)
    feed([worker_event(at=NOW)], camera.state)
    camera.capture()
    feed([worker_event("worker-offline", at=NOW + 1)], camera.state)
    with Outage():
        camera.capture()
    with at(100):
        camera.capture()
    row = WorkerState.objects.get()
    assert row.offline_at == fromtimestamp(NOW + 1)
    assert row.is_offline()


@pytest.mark.services("DATABASE_URL")
@pytest.mark.parametrize("cls", [Camera, Rowwise])
@pytest.mark.parametrize("statement", range(1, 6))
@pytest.mark.django_db(transaction=True)
def test_connection_that_is_killed_is_replaced_and_nothing_is_lost(
    cls: type[Camera], statement: int
) -> None:
    statements = itertools.count(1)

    def execute(execute: Any, *args: Any) -> Any:
        if next(statements) == statement:
            kill_connection(connection)
        return execute(*args)

    camera = make(cls)
    camera._reporter.report = lambda **_: None
    feed(life_of("id-1", "id-2"), camera.state)
    with connection.execute_wrapper(execute):
        camera.capture()
    assert next(statements) > statement
    assert camera.outbox
    assert camera.counters.retried == 1

    with at(100):
        camera.capture()
    assert rows() == saved("id-1", "id-2")
    assert WorkerState.objects.get().pid == 4711
    assert not camera.outbox


@pytest.mark.services("DATABASE_URL")
@pytest.mark.django_db(transaction=True)
def test_first_shot_saves_all_once_connections_no_longer_die(
    camera: Camera, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Django takes a block for entered that a dead connection could not begin."""
    commit = connection._commit  # type: ignore[attr-defined]

    def dies() -> None:
        commit()
        kill_connection(connection)

    feed(life_of("id-1", "id-2"), camera.state)
    with monkeypatch.context() as patch:
        patch.setattr(connection, "_commit", dies)
        for shot in range(saver.PATIENCE + 2):
            with at(100 * shot):
                camera.capture()
    retried = camera.counters.retried
    assert retried > 0

    feed(life_of("id-3"), camera.state)
    with at(1_000):
        camera.capture()
    assert camera.counters.retried == retried
    assert rows() == saved("id-1", "id-2", "id-3")
    assert not camera.outbox


@pytest.mark.services("DATABASE_URL")
@pytest.mark.django_db(transaction=True)
def test_each_shot_after_one_that_failed_has_a_connection_of_its_own(
    camera: Camera,
) -> None:
    """The last one may be to a server that only reads for now."""
    feed(life_of("id-1"), camera.state)
    connection.ensure_connection()
    connection.close_at = None  # as CONN_MAX_AGE = None has it
    before = connection.connection
    with Outage():
        camera.capture()
    assert connection.connection is before
    with at(100):
        camera.capture()
    assert connection.connection is not before
    assert rows() == saved("id-1")


@pytest.mark.services("DATABASE_URL")
@pytest.mark.django_db(transaction=True)
def test_block_that_never_was_is_left_though_the_connection_was_closed_in_it(
    camera: Camera,
) -> None:
    feed(life_of("id-1"), camera.state)
    connection.ensure_connection()
    connection.in_atomic_block = True
    connection.close()
    camera.capture()
    assert rows() == saved("id-1")


@pytest.mark.parametrize("cls", [Camera, Rowwise])
@pytest.mark.django_db(transaction=True)
def test_table_that_is_not_there_loses_nothing(cls: type[Camera]) -> None:
    camera = make(cls)
    feed(life_of("id-1", "id-2"), camera.state)
    with Outage(error=ProgrammingError):
        camera.capture()
    assert camera.counters.quarantined == 0
    with at(100):
        camera.capture()
    assert rows() == saved("id-1", "id-2")
    assert camera.counters.quarantined == 0


@pytest.mark.django_db(transaction=True)
def test_what_is_no_exception_does_not_end_the_thread_that_saves(
    camera: Camera, monkeypatch: pytest.MonkeyPatch
) -> None:
    def shoot() -> None:
        camera.capture()
        connection.close()

    feed(life_of("id-1"), camera.state)
    with monkeypatch.context() as patch:
        patch.setattr(camera._saver, "save", mock.Mock(side_effect=CancelledError))
        thread = threading.Thread(target=shoot)
        thread.start()
        thread.join(20)
        with at(100), pytest.raises(CancelledError):
            camera.capture()
    assert camera.counters.retried == 1
    with at(200):
        camera.capture()
    assert rows() == saved("id-1")


# A listener of the project's own


@pytest.mark.django_db(transaction=True)
def test_listener_that_fails_loses_nothing(
    camera: Camera, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(sender: Any, **kwargs: Any) -> None:
        if sender in {TaskState, WorkerState}:
            raise OperationalError("the listener's")

    post_save.connect(fails)
    try:
        feed(life_of("id-1"), camera.state)
        camera.capture()
    finally:
        post_save.disconnect(fails)
    assert rows() == saved("id-1")
    assert "the listener's" in caplog.text
    assert not camera.outbox
    assert camera.counters.retried == 0


# Bounds


@pytest.mark.django_db(transaction=True)
def test_oldest_tasks_that_have_not_ended_go_first() -> None:
    camera = make(monitor_outbox_max_tasks=10)
    with Outage():
        for number in range(8):
            feed(life_of(f"done-{number}"), camera.state)
            feed([received(uuid=f"flying-{number}")], camera.state)
            with at(60 + 100 * number):
                camera.capture()
            assert len(camera.outbox) <= 10
    with at(2000):
        camera.capture()
    states = dict(TaskState.objects.values_list("task_id", "state"))
    flying = {f"flying-{number}": "RECEIVED" for number in (6, 7)}
    assert states == {f"done-{number}": "SUCCESS" for number in range(8)} | flying
    assert camera.counters.dropped == 6


@pytest.mark.django_db(transaction=True)
def test_workers_are_bounded_through_an_outage(
    camera: Camera, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (outbox, saver):
        monkeypatch.setattr(module, "MAX_WORKERS", 10)
    monkeypatch.setattr(saver, "CHUNK", 4)
    with Outage():
        for shot in range(4):
            hosts = [f"celery@{shot}-{number}" for number in range(8)]
            feed([worker_event(hostname=host) for host in hosts], camera.state)
            with at(60 + 100 * shot):
                camera.capture()
            assert len(camera._saver._waiting) <= 10
    with at(1_000):
        camera.capture()
    assert WorkerState.objects.count() == 10
    assert camera.counters.dropped == 4 * 8 - 10


def test_bytes_are_bounded_too() -> None:
    event = received(args="x" * 10_000)
    size = size_of({"args": event["args"]})
    camera = make(monitor_outbox_max_bytes=5 * size)
    for number in range(9):
        feed([{**event, "uuid": f"id-{number}"}], camera.state)
    assert 4 <= len(camera.outbox) <= 5
    assert camera.outbox.size <= 5 * size
    assert camera.counters.dropped == 9 - len(camera.outbox)
