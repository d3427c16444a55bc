"""The camera, on a State that is fed with events as they are sent."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
import time_machine
from celery import Celery
from celery.events.snapshot import Polaroid
from celery.events.state import State, Task, Worker
from django.core.exceptions import ImproperlyConfigured
from django.db import InterfaceError, OperationalError, connection
from django.db.models.signals import post_save
from django.test.utils import CaptureQueriesContext

from django_celery_monitor.camera import FIRST_CLEANUP, WORKER_UPDATE_FREQ, Camera
from django_celery_monitor.models import TaskState, WorkerState
from django_celery_monitor.utils import fromtimestamp
from tests.events import NOW, feed, received, sent, task_event, worker_event
from tests.factories import TaskStateFactory, WorkerStateFactory

Event = dict[str, Any]


class FakeTimer:
    """A timer that only remembers what it is asked to call."""

    class Entry:
        """One call."""

        canceled = False

        def cancel(self) -> None:
            self.canceled = True

    def __init__(self) -> None:
        self.calls: list[tuple[str, float, Callable[[], Any]]] = []
        self.entries: list[FakeTimer.Entry] = []

    def _enter(self, kind: str, secs: float, fun: Callable[[], Any]) -> Entry:
        self.calls.append((kind, secs, fun))
        self.entries.append(self.Entry())
        return self.entries[-1]

    def call_after(self, secs: float, fun: Callable[[], Any]) -> Entry:
        return self._enter("after", secs, fun)

    def call_repeatedly(self, secs: float, fun: Callable[[], Any]) -> Entry:
        return self._enter("repeatedly", secs, fun)


@pytest.fixture(autouse=True)
def _clock() -> Iterator[None]:
    """Let the tests take place soon after their events."""
    with time_machine.travel(NOW + 60, tick=False):
        yield


@pytest.fixture
def app() -> Celery:
    """Return a Celery app whose settings are this test's own."""
    return Celery("camera", broker="memory://", set_as_current=False)


@pytest.fixture
def state() -> Any:
    return State()


@pytest.fixture
def timer() -> FakeTimer:
    return FakeTimer()


@pytest.fixture
def camera(state: Any, app: Celery, timer: FakeTimer) -> Camera:
    return Camera(state, freq=2.0, app=app, timer=timer)


def make(cls: type[Camera], state: Any, **options: Any) -> Camera:
    """Return a camera of ``cls`` without a thread of its own."""
    return cls(state, **{"timer": FakeTimer(), **options})


def only_task(state: Any) -> tuple[str, Task]:
    ((uuid, task),) = state.itertasks()
    return uuid, task


def only_worker(state: Any) -> tuple[str, Worker]:
    ((hostname, worker),) = state.workers.items()
    return hostname, worker


def writes(queries: CaptureQueriesContext) -> list[str]:
    """Return the statements among ``queries`` that change a row."""
    verbs = ("INSERT", "UPDATE", "DELETE")
    return [q["sql"] for q in queries.captured_queries if q["sql"].startswith(verbs)]


def started(**fields: Any) -> Event:
    return task_event("task-started", **{"at": NOW + 2, **fields})


def succeeded(**fields: Any) -> Event:
    outcome = {"at": NOW + 3, "result": "4", "runtime": 1.5}
    return task_event("task-succeeded", **{**outcome, **fields})


# The class


def test_camera_is_what_celery_expects(camera: Camera, state: Any) -> None:
    assert isinstance(camera, Polaroid)
    assert (camera.state, camera.freq) == (state, 2.0)
    assert Camera.clear_after is True
    assert Camera.worker_update_freq == WORKER_UPDATE_FREQ == 60


def test_models_are_properties(camera: Camera) -> None:
    assert camera.TaskState is TaskState
    assert camera.WorkerState is WorkerState


def test_events_keep_their_time(camera: Camera, app: Celery) -> None:
    assert app.events.Receiver.__name__ == "Receiver"
    assert app.events.Receiver.__module__ == "django_celery_monitor.receiver"


# get_heartbeat


@pytest.mark.parametrize("use_tz", [True, False])
@pytest.mark.parametrize("zone", ["UTC", "America/New_York"])
def test_heartbeat_is_aware_exactly_under_use_tz(
    camera: Camera, state: Any, settings: Any, use_tz: bool, zone: str
) -> None:
    settings.USE_TZ, settings.TIME_ZONE = use_tz, zone
    feed([worker_event(at=NOW), worker_event(at=NOW + 2)], state)
    heartbeat = camera.get_heartbeat(only_worker(state)[1])
    assert heartbeat is not None
    assert heartbeat == fromtimestamp(NOW + 2)
    assert (heartbeat.tzinfo is not None) is use_tz
    if not use_tz:
        assert heartbeat.hour == {"UTC": 10, "America/New_York": 5}[zone]


def test_no_heartbeat_is_none(camera: Camera) -> None:
    assert camera.get_heartbeat(Worker("celery@one")) is None


def test_heartbeat_in_the_future_is_now(camera: Camera, state: Any) -> None:
    """A State takes the clock of the worker for that of its heartbeat."""
    feed([started(at=NOW + 9999, received=NOW)], state)
    heartbeat = camera.get_heartbeat(only_worker(state)[1])
    assert heartbeat == fromtimestamp(NOW + 60)


# handle_worker


@pytest.mark.django_db
def test_worker_is_saved_with_what_it_says(camera: Camera, state: Any) -> None:
    feed([worker_event(at=NOW)], state)
    worker = camera.handle_worker(only_worker(state))
    worker.refresh_from_db()
    assert worker.hostname == "celery@one"
    assert worker.last_heartbeat == fromtimestamp(NOW)
    assert worker.last_heartbeat_us == NOW * 1_000_000
    assert (worker.pid, worker.freq) == (4711, 2.0)
    assert (worker.active, worker.processed) == (1, 7)
    assert worker.loadavg == [0.5, 0.25, 0.1]
    assert (worker.sw_ident, worker.sw_ver) == ("py-celery", "5.7.0")
    assert worker.sw_sys == "Linux"
    assert worker.first_seen == worker.last_update == fromtimestamp(NOW + 60)
    assert worker.update_freq == 62


@pytest.mark.django_db
def test_worker_without_heartbeats_is_saved(camera: Camera) -> None:
    row = camera.handle_worker(("celery@one", Worker("celery@one")))
    row.refresh_from_db()
    assert row.last_heartbeat is None
    assert not row.is_alive()


@pytest.mark.django_db
def test_worker_known_from_its_tasks_says_nothing_of_itself(
    camera: Camera, state: Any
) -> None:
    """What a State has of such a worker are Celery's defaults, not its own."""
    feed([worker_event(at=NOW - 100, freq=30.0)], state)
    camera.capture()
    with time_machine.travel(NOW + 300, tick=False):
        feed([started(at=NOW + 299)], state)
        camera.capture()
    worker = WorkerState.objects.get()
    assert worker.last_heartbeat == fromtimestamp(NOW + 299)
    assert (worker.pid, worker.freq, worker.processed) == (4711, 30.0, 7)


@pytest.mark.django_db
def test_stale_worker_does_not_overwrite_a_newer_heartbeat(camera: Camera) -> None:
    camera.worker_update_freq = 0
    stale, fresh = feed([worker_event(at=NOW)]), feed([worker_event(at=NOW + 5)])
    camera.handle_worker(only_worker(fresh))
    row = camera.handle_worker(only_worker(stale))
    row.refresh_from_db()
    assert row.last_heartbeat == fromtimestamp(NOW + 5)


@pytest.mark.django_db
def test_beating_worker_is_written_once_a_minute(camera: Camera, state: Any) -> None:
    for seconds, written in [(0, 0), (2, 0), (58, 0), (60, 60), (62, 60)]:
        with time_machine.travel(NOW + seconds, tick=False):
            feed([worker_event(at=NOW + seconds)], state)
            camera.capture()
        row = WorkerState.objects.get()
        assert row.last_heartbeat == fromtimestamp(NOW + written)


@pytest.mark.django_db
def test_offline_is_written_at_once(camera: Camera, state: Any) -> None:
    feed([worker_event(at=NOW), worker_event("worker-offline", at=NOW + 1)], state)
    camera.capture()
    row = WorkerState.objects.get()
    assert row.offline_at == fromtimestamp(NOW + 1)
    assert not row.is_alive()


@pytest.mark.django_db
def test_offline_right_after_a_clear_is_saved(camera: Camera, state: Any) -> None:
    feed([worker_event(at=NOW + 58)], state)
    camera.capture()
    assert WorkerState.objects.get().is_alive()
    assert not state.workers

    feed([worker_event("worker-offline", at=NOW + 59)], state)
    camera.capture()

    row = WorkerState.objects.get()
    assert row.offline_at == fromtimestamp(NOW + 59)
    assert row.last_heartbeat == fromtimestamp(NOW + 58)
    assert not row.is_alive()
    with CaptureQueriesContext(connection) as queries:
        camera.capture()
    assert len(queries) == 0


@pytest.mark.django_db
def test_restart_between_two_shots_leaves_the_worker_alive(
    camera: Camera, state: Any
) -> None:
    feed(
        [
            worker_event(at=NOW + 55),
            worker_event("worker-offline", at=NOW + 56),
            worker_event("worker-online", at=NOW + 58, pid=4712),
        ],
        state,
    )
    camera.capture()
    row = WorkerState.objects.get()
    assert row.is_alive()
    assert row.pid == 4712


@pytest.mark.django_db
def test_task_of_a_worker_that_left_does_not_revive_it(
    camera: Camera, state: Any
) -> None:
    feed([received(), started()], state)
    camera.capture()
    feed([worker_event("worker-offline", at=NOW + 59)], state)
    camera.capture()
    assert len(state.tasks) == 1  # in flight, with the worker as it was
    camera.capture()
    assert not WorkerState.objects.get().is_alive()


# handle_task and update_task


@pytest.mark.django_db
def test_task_is_saved_with_all_that_its_events_say(camera: Camera, state: Any) -> None:
    eta, expires = "2026-03-02T12:00:00+02:00", "2026-03-03T10:00:00"
    feed(
        [
            sent(eta=eta, expires=expires),
            received(at=NOW + 1, eta=eta, expires=expires, parent_id="id-0"),
            started(),
            succeeded(),
        ],
        state,
    )
    row = camera.handle_task(only_task(state))
    assert row is not None
    row.refresh_from_db()
    assert (row.task_id, row.name, row.state) == ("id-1", "proj.tasks.add", "SUCCESS")
    assert (row.args, row.kwargs, row.result) == ("(2, 2)", "{}", "4")
    assert (row.runtime, row.retries, row.traceback) == (1.5, 0, None)
    assert row.tstamp == row.finished_at == fromtimestamp(NOW + 3)
    assert row.sent_at == fromtimestamp(NOW)
    assert row.received_at == fromtimestamp(NOW + 1)
    assert row.started_at == fromtimestamp(NOW + 2)
    assert row.eta == fromtimestamp(NOW)
    assert row.expires == fromtimestamp(NOW + 24 * 3600)  # UTC where no zone is given
    assert (row.queue, row.exchange, row.routing_key) == ("celery", "", "celery")
    assert (row.root_id, row.parent_id) == ("id-1", "id-0")
    assert row.worker == WorkerState.objects.get(hostname="celery@one")


@pytest.mark.django_db
def test_worker_of_a_task_is_saved_unless_given(camera: Camera, state: Any) -> None:
    feed([received()], state)
    known = WorkerStateFactory.create()
    row = camera.handle_task(only_task(state), known)
    assert row is not None
    assert row.worker == known
    assert WorkerState.objects.count() == 1
    row = camera.handle_task(uuid_task=only_task(feed([received(uuid="id-2")])))
    assert row is not None
    assert row.worker is not None
    assert row.worker.hostname == "celery@one"


@pytest.mark.django_db
def test_task_that_is_only_sent_has_no_worker(camera: Camera, state: Any) -> None:
    row = camera.handle_task(only_task(feed([sent()], state)))
    assert row is not None
    assert (row.state, row.worker) == ("PENDING", None)
    assert not WorkerState.objects.exists()


@pytest.mark.django_db
def test_nameless_task_without_a_row_is_not_saved(camera: Camera, state: Any) -> None:
    feed([started()], state)
    assert camera.handle_task(only_task(state)) is None
    assert not TaskState.objects.exists()


@pytest.mark.django_db
def test_nameless_task_with_a_row_is_saved(camera: Camera, state: Any) -> None:
    TaskStateFactory.create(
        task_id="id-1", state="STARTED", tstamp=fromtimestamp(NOW + 2)
    )
    feed([succeeded()], state)
    row = camera.handle_task(only_task(state))
    assert row is not None
    row.refresh_from_db()
    assert (row.state, row.result, row.name) == ("SUCCESS", "4", "proj.tasks.add")


@pytest.mark.django_db
def test_nameless_task_in_a_shot_is_saved_until_its_name_is_learnt(
    camera: Camera, state: Any
) -> None:
    feed([succeeded()], state)
    camera.capture()
    row = TaskState.objects.get()
    assert (row.state, row.name) == ("SUCCESS", None)

    feed([received(at=NOW + 1)], state)
    camera.capture()
    row.refresh_from_db()
    assert (row.state, row.name) == ("SUCCESS", "proj.tasks.add")


@pytest.mark.django_db
def test_update_task(camera: Camera) -> None:
    assert camera.update_task("SUCCESS", "id-1") is None
    assert camera.update_task("SUCCESS", "id-1", {"name": None}) is None
    row = camera.update_task("SUCCESS", "id-1", {"name": "add"})
    assert row is not None
    assert (row.state, row.name) == ("SUCCESS", "add")
    row = camera.update_task(state="FAILURE", task_id="id-2", defaults={"name": "add"})
    assert row is not None
    row = camera.update_task("FAILURE", "id-1", {"retries": 3})
    assert row is not None
    assert row.retries == 3


@pytest.mark.parametrize(
    ("retries", "ending", "expected"),
    [
        (1, succeeded(at=NOW + 9), ("SUCCESS", "4", None, 1)),
        (
            2,
            task_event("task-failed", at=NOW + 9, exception="E()", traceback="Tb"),
            ("FAILURE", "E()", "Tb", 2),
        ),
    ],
)
@pytest.mark.parametrize("shots", [True, False])
@pytest.mark.django_db
def test_retries_are_counted_and_leave_no_traceback(
    camera: Camera,
    state: Any,
    retries: int,
    ending: Event,
    expected: tuple[Any, ...],
    shots: bool,
) -> None:
    retried = task_event(
        "task-retried", at=NOW + 3, exception="OSError()", traceback="Old"
    )
    again = received(at=NOW + 4, retries=retries, parent_id="id-1")
    for event in (received(), started(), retried, again, ending):
        feed([event], state)
        if shots:
            camera.capture()
    camera.capture()
    row = TaskState.objects.get()
    assert (row.state, row.result, row.traceback, row.retries) == expected
    assert row.parent_id is None
    if shots:
        assert row.attempts is not None
        assert [a["exception"] for a in row.attempts] == ["OSError()"]


@pytest.mark.django_db
def test_eta_without_a_zone_is_utc(camera: Camera, state: Any, settings: Any) -> None:
    settings.TIME_ZONE = "America/New_York"
    feed([received(eta="2026-03-02T10:00:00", expires="2026-03-02T11:00:00Z")], state)
    camera.capture()
    row = TaskState.objects.get()
    assert (row.eta, row.expires) == (fromtimestamp(NOW), fromtimestamp(NOW + 3600))


@pytest.mark.parametrize("value", ["tomorrow", 5, ["2026"], {"at": 1}])
@pytest.mark.django_db
def test_eta_that_is_no_time_is_left_out(
    camera: Camera, state: Any, value: object, caplog: pytest.LogCaptureFixture
) -> None:
    feed([received(eta=value, expires=value), succeeded()], state)
    camera.capture()
    row = TaskState.objects.get()
    assert (row.state, row.eta, row.expires) == ("SUCCESS", None, None)
    assert "Task 'id-1': eta" in caplog.text


@pytest.mark.django_db
def test_ids_and_names_of_255_characters(camera: Camera, state: Any) -> None:
    uuid, name = "i" * 255, "n" * 255
    feed([received(uuid=uuid, name=name, root_id=uuid), succeeded(uuid=uuid)], state)
    camera.capture()
    row = TaskState.objects.get(task_id=uuid)
    assert (row.state, row.name, row.root_id) == ("SUCCESS", name, uuid)


@pytest.mark.django_db
def test_clock_that_is_ahead_does_not_outlast_what_follows(
    camera: Camera, state: Any, app: Celery
) -> None:
    receiver = app.events.Receiver(app.connection_for_read())
    events = [
        started(at=NOW + 10**6),
        task_event("task-retried", at=NOW + 62, exception="E()"),
    ]
    for seconds, event in enumerate(events, 61):
        with time_machine.travel(NOW + seconds, tick=False):
            state.event(receiver.event_from_message(event)[1])
            camera.capture()
    row = TaskState.objects.get()
    assert (row.state, row.tstamp) == ("RETRY", fromtimestamp(NOW + 62))
    assert row.started_at == fromtimestamp(NOW + 61)


# A shot


@pytest.mark.django_db
def test_shot_saves_everything_and_forgets_what_is_finished(
    camera: Camera, state: Any
) -> None:
    feed(
        [
            worker_event(),
            received(uuid="done"),
            succeeded(uuid="done"),
            received(uuid="running"),
            started(uuid="running"),
        ],
        state,
    )
    camera.capture()
    rows = TaskState.objects.values_list("task_id", "state")
    assert dict(rows) == {"done": "SUCCESS", "running": "STARTED"}
    assert WorkerState.objects.count() == 1
    assert list(state.tasks) == ["running"]
    assert not state.workers


@pytest.mark.django_db
def test_shot_of_a_state_that_is_handed_in(camera: Camera, state: Any) -> None:
    camera.on_shutter(feed([received(), succeeded(), worker_event()]))
    assert TaskState.objects.get().state == "SUCCESS"
    assert WorkerState.objects.get().pid == 4711
    assert not state.tasks


@pytest.mark.django_db
def test_camera_that_keeps_its_state(state: Any) -> None:
    class Keeping(Camera):
        """A camera that does not clear."""

        clear_after = False

    feed([received(), succeeded()], state)
    make(Keeping, state).capture()
    assert TaskState.objects.count() == 1
    assert list(state.tasks) == ["id-1"]


@pytest.mark.django_db
def test_unchanged_rows_are_not_written(camera: Camera, state: Any) -> None:
    feed([worker_event(), received(eta="2026-03-02T10:00:00.5+00:00")], state)
    feed([started(), received(uuid="id-2"), started(uuid="id-2")], state)
    feed([task_event("task-retried", uuid="id-2", at=NOW + 3, exception="E()")], state)
    camera.capture()
    with CaptureQueriesContext(connection) as queries:
        camera.capture()
    assert len(queries) > 0
    assert writes(queries) == []


@pytest.mark.django_db
def test_new_task_costs_few_queries(
    camera: Camera, state: Any, django_assert_max_num_queries: Any
) -> None:
    """Version 1.1.2 took 9 to 13."""
    feed([worker_event(), received(), started()], state)
    camera.capture()
    feed([received(uuid="id-2"), worker_event(at=NOW + 4)], state)
    state.tasks.pop("id-1")
    # One for the worker; look, insert between two savepoints twice, for the task.
    with django_assert_max_num_queries(8):
        camera.capture()


@pytest.mark.parametrize("error", [OperationalError, InterfaceError])
@pytest.mark.django_db
def test_what_a_broken_database_refuses_is_saved_by_the_next_shot(
    state: Any, error: type[Exception]
) -> None:
    class Flaky(Camera):
        """A camera whose database breaks at the second task."""

        broken = True

        def handle_task(self, uuid_task: Any, worker: Any = None) -> Any:
            if self.broken and uuid_task[0] == "id-2":
                raise error
            return super().handle_task(uuid_task, worker)

    camera = Flaky(state, timer=FakeTimer())
    for number in range(4):
        uuid = f"id-{number}"
        feed([received(uuid=uuid), succeeded(uuid=uuid)], state)
    feed([worker_event("worker-offline", hostname="celery@gone")], state)

    with pytest.raises(error):
        camera.capture()
    assert len(state.tasks) == 4

    camera.broken = False
    camera.capture()
    assert set(TaskState.objects.values_list("state")) == {("SUCCESS",)}
    assert TaskState.objects.count() == 4
    assert WorkerState.objects.filter(hostname="celery@gone").exists()
    assert not state.tasks


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
@pytest.mark.parametrize("statement", range(1, 7))
@pytest.mark.django_db(transaction=True)
def test_connection_that_is_killed_is_replaced_and_nothing_is_lost(
    camera: Camera, state: Any, statement: int
) -> None:
    statements = itertools.count(1)

    def execute(execute: Any, *args: Any) -> Any:
        if next(statements) == statement:
            kill_connection()
        return execute(*args)

    feed([worker_event(), received(), succeeded()], state)
    with (
        pytest.raises((InterfaceError, OperationalError)),
        connection.execute_wrapper(execute),
    ):
        camera.capture()
    assert list(state.tasks) == ["id-1"]

    camera.capture()
    assert TaskState.objects.get().state == "SUCCESS"
    assert WorkerState.objects.get().pid == 4711
    assert not state.tasks


@pytest.mark.django_db
def test_offline_that_was_not_saved_is_not_forgotten(
    camera: Camera, state: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*args: Any) -> None:
        raise OperationalError

    feed([worker_event(at=NOW)], state)
    camera.capture()
    feed([worker_event("worker-offline", at=NOW + 1)], state)
    with monkeypatch.context() as patch:
        patch.setattr(camera, "handle_worker", broken)
        with pytest.raises(OperationalError):
            camera.capture()
    camera.capture()
    assert WorkerState.objects.get().is_offline()


@pytest.mark.parametrize(
    "refused",
    [
        succeeded(uuid="id-2", result="a lone surrogate: \ud800"),
        {**succeeded(uuid="id-2", at=1e20), "local_received": None},
        received(uuid="id-2", retries="many"),
    ],
    ids=["text", "time", "number"],
)
@pytest.mark.django_db
def test_value_that_is_refused_costs_its_own_row_alone(
    camera: Camera, state: Any, caplog: pytest.LogCaptureFixture, refused: Event
) -> None:
    for uuid in ("id-1", "id-2", "id-3"):
        feed([received(uuid=uuid)], state)
        feed([refused if uuid == "id-2" else succeeded(uuid=uuid)], state)
    camera.capture()
    rows = TaskState.objects.values_list("task_id", "state")
    assert set(rows) == {("id-1", "SUCCESS"), ("id-3", "SUCCESS")}
    assert "Cannot save 'id-2'" in caplog.text


@pytest.mark.django_db
def test_worker_that_is_refused_does_not_cost_its_tasks(
    camera: Camera, state: Any, caplog: pytest.LogCaptureFixture
) -> None:
    feed([worker_event(sw_ident="\ud800"), received(), succeeded()], state)
    camera.capture()
    row = TaskState.objects.get()
    assert (row.state, row.worker) == ("SUCCESS", None)
    assert "Cannot save 'celery@one'" in caplog.text


@pytest.mark.django_db
def test_every_change_passes_through_what_a_subclass_overrides(state: Any) -> None:
    calls: list[tuple[str, str]] = []

    class Custom(Camera):
        """A camera that sees everything that is saved."""

        def on_shutter(self, state: Any) -> None:
            calls.append(("on_shutter", type(state).__name__))
            super().on_shutter(state)

        def get_heartbeat(self, worker: Worker) -> datetime | None:
            calls.append(("get_heartbeat", worker.hostname))
            return super().get_heartbeat(worker)

        def handle_worker(self, hostname_worker: Any) -> WorkerState:
            calls.append(("handle_worker", hostname_worker[0]))
            return super().handle_worker(hostname_worker)

        def handle_task(self, uuid_task: Any, worker: Any = None) -> TaskState | None:
            calls.append(("handle_task", uuid_task[0]))
            return super().handle_task(uuid_task, worker)

        def update_task(
            self, state: str, task_id: str, defaults: Any = None
        ) -> TaskState | None:
            calls.append(("update_task", state))
            return super().update_task(state, task_id, {**defaults, "kwargs": "***"})

    feed([worker_event(), received(), succeeded()], state)
    make(Custom, state).capture()
    assert calls == [
        ("on_shutter", "State"),
        ("handle_worker", "celery@one"),
        ("get_heartbeat", "celery@one"),
        ("handle_task", "id-1"),
        ("update_task", "SUCCESS"),
    ]
    assert TaskState.objects.get().kwargs == "***"


@pytest.mark.django_db
def test_signals_are_sent(camera: Camera, state: Any) -> None:
    sent_signals: list[tuple[str, Any]] = []

    def shutter(sender: Any, **kwargs: Any) -> None:
        sent_signals.append(("shutter", sender))

    def cleanup(sender: Any, **kwargs: Any) -> None:
        sent_signals.append(("cleanup", sender))

    def saved(sender: Any, **kwargs: Any) -> None:
        sent_signals.append(("saved", sender))

    Camera.shutter_signal.connect(shutter)
    Camera.cleanup_signal.connect(cleanup)
    post_save.connect(saved)
    try:
        feed([received()], state)
        camera.capture()
        camera.cleanup()
    finally:
        post_save.disconnect(saved)
        Camera.cleanup_signal.disconnect(cleanup)
        Camera.shutter_signal.disconnect(shutter)
    assert sent_signals == [
        ("shutter", state),
        ("saved", WorkerState),
        ("saved", TaskState),
        ("cleanup", state),
    ]


# When a shot is taken


@pytest.mark.django_db
def test_maximum_rate_puts_a_shot_off_and_loses_nothing(state: Any) -> None:
    camera = make(Camera, state, maxrate="1/h")
    camera.capture()
    feed([received(), succeeded(), worker_event()], state)
    camera.capture()
    assert not TaskState.objects.exists()
    assert list(state.tasks) == ["id-1"]

    camera.cancel()
    assert TaskState.objects.get().state == "SUCCESS"
    assert WorkerState.objects.exists()


@pytest.mark.usefixtures("signal_handlers")
def test_timer_is_told_when_to_shoot_and_when_to_clean(
    camera: Camera, timer: FakeTimer
) -> None:
    camera.install()
    assert timer.calls == [
        ("repeatedly", 2.0, camera.capture),
        ("repeatedly", 3600.0, camera.cleanup),
        ("after", FIRST_CLEANUP, camera.cleanup),
    ]


@pytest.mark.usefixtures("signal_handlers")
@pytest.mark.django_db
def test_last_shot_stops_the_timer(
    camera: Camera, state: Any, timer: FakeTimer
) -> None:
    with camera:
        feed([received(), succeeded()], state)
        assert not any(entry.canceled for entry in timer.entries)
    assert all(entry.canceled for entry in timer.entries)
    assert TaskState.objects.get().state == "SUCCESS"


@pytest.mark.django_db
def test_camera_that_was_not_installed_can_be_cancelled(
    camera: Camera, state: Any
) -> None:
    feed([received()], state)
    camera.cancel()
    assert TaskState.objects.exists()


def test_last_shot_waits_for_the_one_in_flight(state: Any) -> None:
    log: list[str] = []
    shooting, go_on = threading.Event(), threading.Event()

    class Slow(Camera):
        """A camera whose first shot takes until it may go on."""

        def on_shutter(self, state: Any) -> None:
            log.append(f"begin {len(state.tasks)}")
            if not shooting.is_set():
                shooting.set()
                assert go_on.wait(timeout=20)
            log.append("end")

    camera = make(Slow, state)
    feed([received(), started()], state)
    shot = threading.Thread(target=camera.capture)
    last = threading.Thread(target=camera.cancel)
    shot.start()
    assert shooting.wait(timeout=20)
    last.start()
    feeder = threading.Thread(target=feed, args=([received(uuid="id-2")], state))
    feeder.start()
    go_on.set()
    for thread in (shot, last, feeder):
        thread.join(timeout=20)
    assert log[:2] == ["begin 1", "end"]
    assert log[2:] in (["begin 1", "end"], ["begin 2", "end"])


# Starting


@pytest.fixture
def signal_handlers() -> Iterator[None]:
    """Give back the handlers that a camera replaces."""
    handlers = {s: signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)}
    yield
    for signum, handler in handlers.items():
        signal.signal(signum, handler)


@pytest.mark.usefixtures("signal_handlers")
@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_signals_end_the_command_in_good_order(camera: Camera, signum: int) -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    camera.install()
    with pytest.raises(SystemExit) as ended:
        signal.raise_signal(signum)
    assert ended.value.code == 0
    # A second one does not interrupt the last shot.
    signal.raise_signal(signal.SIGTERM)
    signal.raise_signal(signal.SIGINT)


@pytest.mark.usefixtures("signal_handlers")
@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_handlers_of_others_stay(camera: Camera, signum: int) -> None:
    def handler(*args: Any) -> None:
        """Handle the signal in the host's own way."""

    signal.signal(signum, handler)
    camera.install()
    assert signal.getsignal(signum) is handler


@pytest.mark.usefixtures("signal_handlers")
def test_camera_in_a_thread_leaves_signals_alone(
    camera: Camera, timer: FakeTimer
) -> None:
    before = [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)]
    thread = threading.Thread(target=camera.install)
    thread.start()
    thread.join(timeout=20)
    assert len(timer.calls) == 3
    assert [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)] == before


@pytest.mark.usefixtures("signal_handlers")
def test_django_is_set_up_before_the_timer_runs(
    state: Any, timer: FakeTimer, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls_before: list[int] = []
    monkeypatch.setattr("django.setup", lambda: calls_before.append(len(timer.calls)))
    make(Camera, state, timer=timer).install()
    assert calls_before == [0]
    assert timer.calls


def test_camera_sets_django_up_in_a_process_that_has_not() -> None:
    program = """
from unittest.mock import MagicMock

from celery.events.state import State
from django.apps import apps

import tests.celery
from django_celery_monitor.camera import Camera

camera = Camera(State(), timer=MagicMock())
assert not apps.ready
camera.install()
assert apps.ready
assert camera.TaskState.objects is not None
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        env={**os.environ, "DJANGO_SETTINGS_MODULE": "tests.settings"},
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "name",
    [
        "monitor_task_success_expires",
        "monitor_task_error_expires",
        "monitor_task_pending_expires",
    ],
)
@pytest.mark.usefixtures("signal_handlers")
def test_wrong_setting_ends_the_command(
    camera: Camera, app: Celery, timer: FakeTimer, name: str
) -> None:
    app.conf[name] = "a week"
    with pytest.raises(ImproperlyConfigured, match=name):
        camera.install()
    assert not timer.calls


# Cleaning up


def test_expiry_has_three_sets_and_defaults(camera: Camera) -> None:
    assert [(set(names), expires) for names, expires in camera.expire_task_states] == [
        ({"SUCCESS"}, timedelta(days=1)),
        ({"FAILURE", "RETRY", "REVOKED"}, timedelta(days=3)),
        ({"PENDING", "RECEIVED", "STARTED", "REJECTED"}, timedelta(days=5)),
    ]


def test_expiry_follows_the_settings(camera: Camera, app: Celery) -> None:
    app.conf.monitor_task_success_expires = 60
    app.conf.monitor_task_error_expires = None
    app.conf.monitor_task_pending_expires = timedelta(hours=2)
    times = [expires for _, expires in camera.expire_task_states]
    assert times == [timedelta(minutes=1), None, timedelta(hours=2)]


def test_expiry_follows_the_older_names(camera: Camera, app: Celery) -> None:
    app.conf.monitors_expire_success = timedelta(minutes=1)
    app.conf.monitors_expire_error = timedelta(minutes=2)
    app.conf.monitors_expire_pending = None
    with pytest.warns(DeprecationWarning, match="monitors_expire_"):
        times = [expires for _, expires in camera.expire_task_states]
    assert times == [timedelta(minutes=1), timedelta(minutes=2), None]


def ages(*days: float) -> dict[str, datetime]:
    """Return the time that was so many days ago, by its number of days."""
    return {f"{day}": fromtimestamp(NOW + 60 - day * 86400) for day in days}


@pytest.mark.django_db
def test_cleanup_deletes_what_has_expired_and_counts(camera: Camera) -> None:
    for state in ("SUCCESS", "FAILURE", "RETRY", "STARTED", "PROGRESS", "IGNORED"):
        for days, tstamp in ages(0.9, 1.1, 2.9, 3.1, 4.9, 5.1).items():
            TaskStateFactory.create(
                state=state, task_id=f"{state}-{days}", tstamp=tstamp
            )
    expected = {
        *("SUCCESS-0.9", "FAILURE-0.9", "FAILURE-1.1", "FAILURE-2.9"),
        *("RETRY-0.9", "RETRY-1.1", "RETRY-2.9"),
        *(
            f"{state}-{days}"
            for state in ("STARTED", "PROGRESS", "IGNORED")
            for days in (0.9, 1.1, 2.9, 3.1, 4.9)
        ),
    }
    assert camera.on_cleanup() == 36 - len(expected)
    assert set(TaskState.objects.values_list("task_id", flat=True)) == expected
    assert camera.on_cleanup() == 0


@pytest.mark.django_db
def test_cleanup_keeps_for_ever_what_does_not_expire(
    camera: Camera, app: Celery
) -> None:
    app.conf.monitor_task_success_expires = None
    app.conf.monitor_task_error_expires = timedelta(0)
    kept = TaskStateFactory.create(tstamp=fromtimestamp(0))
    TaskStateFactory.create(state="FAILURE", tstamp=fromtimestamp(NOW + 59))
    assert camera.on_cleanup() == 1
    assert TaskState.objects.get() == kept


@pytest.mark.django_db
def test_cleanup_keeps_a_task_that_waits_for_its_eta(camera: Camera) -> None:
    TaskStateFactory.create(
        state="RECEIVED",
        tstamp=fromtimestamp(NOW - 30 * 86400),
        eta=datetime(2027, 1, 1, tzinfo=timezone.utc)
        if fromtimestamp(0).tzinfo
        else datetime(2027, 1, 1),
    )
    assert camera.on_cleanup() == 0


@pytest.mark.django_db
def test_cleanup_can_be_overridden(state: Any) -> None:
    class Thorough(Camera):
        """A camera that keeps nothing."""

        def on_cleanup(self) -> int:  # type: ignore[override]
            self.TaskState.objects.update(hidden=True)
            return super().on_cleanup()

    TaskStateFactory.create()
    make(Thorough, state).cleanup()
    assert not TaskState.objects.exists()


# A database of its own


@pytest.mark.django_db(databases={"default", "other"})
def test_router_names_the_database(camera: Camera, state: Any, settings: Any) -> None:
    settings.DATABASE_ROUTERS = ["tests.routers.MonitorRouter"]
    feed([worker_event(), received(), succeeded(uuid="id-2")], state)
    with CaptureQueriesContext(connection) as queries:
        camera.capture()
        camera.update_task("FAILURE", "id-3", {"retries": 1})
        camera.on_cleanup()
    assert len(queries) == 0
    assert TaskState.objects.using("other").count() == 2
    assert WorkerState.objects.using("other").count() == 1
