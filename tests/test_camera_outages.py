"""The camera and a database that is away, breaks or refuses: nothing is lost."""

from __future__ import annotations

import itertools
import logging
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import pytest
from django.db import DatabaseError, InterfaceError, OperationalError, connection
from django.db.models.signals import post_save
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from django_celery_monitor import camera as camera_module
from django_celery_monitor import saver
from django_celery_monitor.camera import MAX_BACKOFF, Camera
from django_celery_monitor.guard import Poison
from django_celery_monitor.models import CameraState, TaskState, WorkerState
from django_celery_monitor.outbox import size_of
from django_celery_monitor.reconnecting import Reconnecting
from django_celery_monitor.sanitize import Sanitizer
from django_celery_monitor.saver import PATIENCE, REFUSALS
from django_celery_monitor.utils import fromtimestamp
from tests.cameras import Statements, at, make, started, succeeded
from tests.events import NOW, feed, received, task_event, worker_event


@pytest.fixture(autouse=True)
def _clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let the tests take place soon after their events, with no receiver at work."""
    monkeypatch.setattr(Reconnecting, "consuming", None)
    with at(60):
        yield


@pytest.fixture
def camera() -> Camera:
    camera: Camera = make()
    return camera


class Rowwise(Camera):
    """A camera that saves row by row."""

    def handle_task(self, uuid_task: Any, worker: Any = None) -> TaskState | None:
        return super().handle_task(uuid_task, worker)


class Outage:
    """Has statements fail while it is a context.

    ``fails`` says it of a statement, by its number, its text and its values.
    """

    def __init__(
        self,
        fails: Callable[[int, str, Any], bool] = lambda *_: True,
        error: type[Exception] = OperationalError,
    ) -> None:
        self.fails = fails
        self.error = error
        self.count = 0
        self.failed = 0
        self._wrapper: AbstractContextManager[None] = connection.execute_wrapper(self)

    def __call__(self, execute: Any, sql: str, params: Any, *args: Any) -> Any:
        self.count += 1
        if self.fails(self.count, sql, params):
            self.failed += 1
            raise self.error("the database is away")
        return execute(sql, params, *args)

    def __enter__(self) -> Outage:
        self._wrapper.__enter__()
        return self

    def __exit__(self, *args: Any) -> None:
        self._wrapper.__exit__(*args)


def life_of(*uuids: str) -> list[dict[str, Any]]:
    """Return events of a worker and of tasks that succeed."""
    tasks = [
        event
        for uuid in uuids
        for event in (received(uuid=uuid), started(uuid=uuid), succeeded(uuid=uuid))
    ]
    return [worker_event(), *tasks]


def rows() -> set[tuple[Any, ...]]:
    columns = ("task_id", "state", "name", "result", "worker__hostname")
    return set(TaskState.objects.values_list(*columns))


def saved(*uuids: str) -> set[tuple[Any, ...]]:
    """Return what ``rows`` returns when all of ``life_of`` is saved."""
    about = ("SUCCESS", "proj.tasks.add", "4", "celery@one")
    return {(uuid, *about) for uuid in uuids}


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


def kill_connection() -> None:
    """Have the database server end the connection of this test."""
    kill = {
        "postgresql": ("SELECT pg_backend_pid()", "SELECT pg_terminate_backend({})"),
        "mysql": ("SELECT connection_id()", "KILL {}"),
    }
    ask, end = kill[connection.vendor]
    with connection.cursor() as cursor:
        cursor.execute(ask)
        (number,) = cursor.fetchone()
    other = connection.copy()
    with other.cursor() as cursor:
        cursor.execute(end.format(number))
    other.close()


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
            kill_connection()
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


# The end


@pytest.mark.django_db(transaction=True)
def test_last_shot_does_not_wait_for_the_next_try(camera: Camera) -> None:
    feed(life_of("id-1"), camera.state)
    with Outage():
        camera.capture()
    camera.cancel()
    assert rows() == saved("id-1")


@pytest.mark.django_db(transaction=True)
def test_last_shot_is_tried_until_the_database_is_back() -> None:
    camera = make(monitor_flush_timeout=20)
    feed(life_of("id-1"), camera.state)
    with Outage(lambda n, *_: n <= 3):
        camera.cancel()
    assert rows() == saved("id-1")
    assert camera.counters.retried >= 1


@pytest.mark.django_db(transaction=True)
def test_last_shot_saves_what_it_can_and_says_that_it_could_not_save_all(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(saver, "CHUNK", 2)
    camera = make(monitor_flush_timeout=0.05)
    feed(life_of(*(f"id-{number}" for number in range(5))), camera.state)
    reads = itertools.count(1)
    with (
        Outage(lambda _, sql, __: "taskstate" in sql and next(reads) > 2),
        pytest.raises(SystemExit) as ended,
    ):
        camera.cancel()
    assert ended.value.code == 1
    assert "3 tasks are not saved" in caplog.text
    assert rows() == saved("id-0", "id-1")
    assert CameraState.objects.get().stopped_at is not None


@pytest.mark.parametrize("waits", [True, False])
@pytest.mark.django_db(transaction=True)
def test_last_heartbeats_that_are_not_saved_are_told_too(waits: bool) -> None:
    camera = make(monitor_flush_timeout=0.05)
    feed([worker_event()], camera.state)
    camera.capture()
    feed([worker_event(at=NOW + 9)], camera.state)
    if waits:
        camera.capture()
    with Outage(), pytest.raises(SystemExit) as ended:
        camera.cancel()
    assert ended.value.code == 1


@pytest.mark.django_db(transaction=True)
def test_last_shot_that_the_database_holds_up_is_given_up(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = threading.Event()
    codes: list[int] = []

    def end(code: int) -> None:
        codes.append(code)
        ended.set()

    def hang(*args: Any) -> bool:
        return ended.wait(timeout=20)

    monkeypatch.setattr(os, "_exit", end)
    monkeypatch.setattr(camera_module, "HARD_LIMIT", 0.1)
    camera = make(monitor_flush_timeout=0.05)
    feed(life_of("id-1"), camera.state)
    with Outage(hang), pytest.raises(SystemExit):
        camera.cancel()
    assert codes == [1]
    assert "holds up the last shot, 1 tasks are not saved" in caplog.text


# Refused


@pytest.mark.parametrize(
    "refused",
    [
        succeeded(uuid="id-2", result="a lone surrogate: \ud800, NUL: \0"),
        {**succeeded(uuid="id-2", at=1e20), "local_received": None},
        received(uuid="id-2", retries="many", eta="tomorrow"),
        received(uuid="id-2", retries=2**80),
        succeeded(uuid="id-2", runtime=float("nan")),
    ],
    ids=["text", "time", "words", "number", "nan"],
)
@pytest.mark.django_db(transaction=True)
def test_value_that_no_database_takes_is_made_fit(
    camera: Camera, refused: dict[str, Any]
) -> None:
    feed([*life_of("id-1", "id-3"), received(uuid="id-2"), refused], camera.state)
    camera.capture()
    state = "SUCCESS" if refused["type"] == "task-succeeded" else "RECEIVED"
    assert TaskState.objects.get(task_id="id-2").state == state
    assert TaskState.objects.count() == 3
    # A clock that is ahead is nothing that is refused.
    assert bool(camera.counters.made_fit) is (refused["timestamp"] < 1e20)
    assert camera.counters.quarantined == 0


@pytest.mark.django_db(transaction=True)
def test_row_that_is_refused_for_good_costs_itself_alone(
    camera: Camera, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Sanitizer, "text", lambda self, value, keep="start": value)
    uuids = [f"id-{number}" for number in range(40)]
    feed(life_of(*uuids), camera.state)
    for uuid in ("id-7", "id-30"):
        feed([succeeded(uuid=uuid, at=NOW + 9, result="\ud800")], camera.state)
    camera.capture()
    assert rows() == saved(*uuids) - saved("id-7", "id-30")
    assert camera.counters.quarantined == 2
    assert not camera.outbox
    errors = [r for r in caplog.records if r.levelno == logging.ERROR]
    assert len(errors) == 2
    assert "refuses task 'id-7' for good" in caplog.text


@pytest.mark.django_db(transaction=True)
def test_worker_that_is_refused_does_not_cost_its_tasks(
    camera: Camera, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(Sanitizer, "identifier", lambda self, value, *_: value)
        feed([worker_event(sw_ident="\ud800"), received(), succeeded()], camera.state)
    feed([worker_event(hostname="celery@two")], camera.state)
    camera.capture()
    assert TaskState.objects.get().state == "SUCCESS"
    assert WorkerState.objects.filter(hostname="celery@two", pid=4711).exists()
    assert camera.counters.quarantined == 1
    assert "refuses worker 'celery@one' for good" in caplog.text


@pytest.mark.django_db(transaction=True)
def test_driver_that_calls_a_refused_value_an_operational_error(camera: Camera) -> None:
    def refuses(_: int, sql: str, params: Any) -> bool:
        return "INSERT" in sql and "poison" in str(params)

    uuids = [f"id-{number}" for number in range(5)]
    feed([*life_of(*uuids), succeeded(at=NOW + 9, result="poison")], camera.state)
    with Outage(refuses):
        for number in range(PATIENCE + REFUSALS - 1):
            with at(60 + 100 * number):
                camera.capture()
            assert camera.outbox
            assert camera.counters.quarantined == 0
        with at(10_000):
            camera.capture()
    assert rows() == saved(*uuids) - saved("id-1")
    assert camera.counters.quarantined == 1
    assert not camera.outbox


@pytest.mark.django_db(transaction=True)
def test_database_that_comes_back_while_rows_are_tried_alone(camera: Camera) -> None:
    """It may do so just when it is asked whether it takes any row."""
    back = False

    def is_away(_: int, sql: str, params: Any) -> bool:
        nonlocal back
        back = back or ("INSERT" in sql and "probe-" in str(params))
        return not back and "INSERT" in sql and "taskstate" in sql

    feed(life_of("id-1", "id-2"), camera.state)
    with Outage(is_away):
        for number in range(PATIENCE + 2):
            with at(60 + 100 * number):
                camera.capture()
    assert back
    assert camera.counters.quarantined == 0
    assert rows() == saved("id-1", "id-2")


@pytest.mark.django_db(transaction=True)
def test_table_that_takes_nothing_quarantines_nothing(
    camera: Camera, caplog: pytest.LogCaptureFixture
) -> None:
    uuids = [f"id-{number}" for number in range(5)]
    feed(life_of(*uuids), camera.state)
    outage = Outage(lambda _, sql, __: "INSERT" in sql and "taskstate" in sql)
    with outage:
        for number in range(2 * PATIENCE):
            with at(60 + 100 * number):
                camera.capture()
    other = Outage(lambda _, sql, __: "INSERT" in sql and "tasks" in sql, DatabaseError)
    with other, at(2000):
        camera.capture()
    assert "The shot failed" in caplog.text
    assert camera.counters.quarantined == 0
    assert len(camera.outbox) == 5
    with at(3000):
        camera.capture()
    assert rows() == saved(*uuids)


@pytest.mark.django_db(transaction=True)
def test_worker_whose_row_was_deleted_is_made_again(camera: Camera) -> None:
    feed(life_of("id-1"), camera.state)
    camera.capture()
    TaskState.objects.all().delete()
    WorkerState.objects.all().delete()
    feed(life_of("id-2"), camera.state)
    with at(200):
        camera.capture()
    assert rows() == saved("id-2")


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


def test_bytes_are_bounded_too() -> None:
    event = received(args="x" * 10_000)
    size = size_of({"args": event["args"]})
    camera = make(monitor_outbox_max_bytes=5 * size)
    for number in range(9):
        feed([{**event, "uuid": f"id-{number}"}], camera.state)
    assert 4 <= len(camera.outbox) <= 5
    assert camera.outbox.size <= 5 * size
    assert camera.counters.dropped == 9 - len(camera.outbox)


# Laws

VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(st.characters(codec=None), max_size=300),
    st.lists(st.integers() | st.text(max_size=3), max_size=3),
    st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
)
TYPES = st.sampled_from(
    [
        *("task-sent", "task-received", "task-started", "task-succeeded"),
        *("task-failed", "task-retried", "task-revoked", "task-rejected"),
        *("task-progress", "worker-heartbeat", "worker-offline", "worker-online"),
    ]
)
FIELDS = st.sampled_from(
    [
        *("uuid", "hostname", "timestamp", "local_received", "clock", "pid", "name"),
        *("args", "kwargs", "eta", "expires", "retries", "root_id", "parent_id"),
        *("result", "runtime", "exception", "traceback", "queue", "exchange"),
        *("routing_key", "requeue", "terminated", "freq", "active", "processed"),
        *("loadavg", "sw_ident", "sw_ver", "sw_sys", "state", "worker", "utcoffset"),
    ]
)


@pytest.mark.parametrize("cls", [Camera, Rowwise])
@pytest.mark.django_db
@given(
    st.lists(st.tuples(TYPES, st.dictionaries(FIELDS, VALUES, max_size=6)), max_size=4)
)
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_event_is_poison(cls: type[Camera], events: list[Any]) -> None:
    TaskState.objects.all().delete()
    camera = make(cls)
    receiver = camera.app.events.Receiver(camera.app.connection_for_read())
    expected = set()
    for number, (type_, fields) in enumerate(events):
        fields.pop("uuid", None)
        event = {**received(uuid=f"id-{number}"), "type": type_, **fields}
        try:
            event = receiver.event_from_message(event)[1]
        except Poison:
            continue
        feed([event], camera.state)
        if type_.startswith("task-"):
            expected.add(f"id-{number}")
    camera.capture()
    assert set(TaskState.objects.values_list("task_id", flat=True)) == expected
    assert camera.counters.quarantined == 0
    assert not camera.outbox


LIFE = [
    *(worker_event(), received(), started()),
    *(task_event("task-retried", at=NOW + 3, exception="E()"),),
    *(received(at=NOW + 4, retries=1), started(at=NOW + 5), succeeded(at=NOW + 6)),
    *(received(uuid="id-2"), started(uuid="id-2"), worker_event(at=NOW + 7)),
]


@pytest.mark.django_db(transaction=True)
@given(
    st.permutations([*LIFE, *LIFE]),
    st.sets(st.integers(1, 19)),
    st.lists(st.integers(1, 12), min_size=20, max_size=20),
)
@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_rows_do_not_depend_on_when_shots_are_taken_and_which_fail(
    events: list[Any], shots: set[int], lasts: list[int]
) -> None:
    TaskState.objects.all().delete()
    camera = make()
    for number, event in enumerate(events):
        feed([event], camera.state)
        if number in shots:
            # Within a shot the database goes away, and does not come back.
            last = lasts[number]
            with at(60 + 100 * number), Outage(lambda n, *_, last=last: n > last):
                camera.capture()
    camera.cancel()
    rows = TaskState.objects.order_by("task_id").values_list(
        *("state", "retries", "result", "worker__hostname", "started_at", "attempts")
    )
    first, second = rows
    assert first[:4] == ("SUCCESS", 1, "4", "celery@one")
    assert first[4] == fromtimestamp(NOW + 5)
    assert [a["exception"] for a in first[5]] == ["E()"]
    assert second[:4] == ("STARTED", 0, None, "celery@one")
    assert not camera.outbox
