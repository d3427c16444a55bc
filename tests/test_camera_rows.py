"""One worker or task at a time: what a subclass calls, and what it overrides."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

import pytest
from celery.events.state import State, Task, Worker
from django.db import InterfaceError, OperationalError
from django.db.models.signals import post_save

from django_celery_monitor.camera import Camera
from django_celery_monitor.models import TaskState, WorkerState
from django_celery_monitor.utils import fromtimestamp
from tests.cameras import at, make, started, succeeded
from tests.events import NOW, feed, received, sent, task_event, worker_event
from tests.factories import TaskStateFactory, WorkerStateFactory


@pytest.fixture(autouse=True)
def _clock() -> Iterator[None]:
    """Let the tests take place soon after their events."""
    with at(60):
        yield


@pytest.fixture
def camera() -> Camera:
    camera: Camera = make()
    return camera


def only_task(state: Any) -> tuple[str, Task]:
    ((uuid, task),) = state.itertasks()
    return uuid, task


def only_worker(state: Any) -> tuple[str, Worker]:
    ((hostname, worker),) = state.workers.items()
    return hostname, worker


# get_heartbeat


@pytest.mark.parametrize("use_tz", [True, False])
@pytest.mark.parametrize("zone", ["UTC", "America/New_York"])
def test_heartbeat_is_aware_exactly_under_use_tz(
    camera: Camera, settings: Any, use_tz: bool, zone: str
) -> None:
    settings.USE_TZ, settings.TIME_ZONE = use_tz, zone
    state = feed([worker_event(at=NOW), worker_event(at=NOW + 2)])
    heartbeat = camera.get_heartbeat(only_worker(state)[1])
    assert heartbeat is not None
    assert heartbeat == fromtimestamp(NOW + 2)
    assert (heartbeat.tzinfo is not None) is use_tz
    if not use_tz:
        assert heartbeat.hour == {"UTC": 10, "America/New_York": 5}[zone]


def test_no_heartbeat_is_none(camera: Camera) -> None:
    assert camera.get_heartbeat(Worker("celery@one")) is None


def test_heartbeat_in_the_future_is_now(camera: Camera) -> None:
    """A State takes the clock of the worker for that of its heartbeat."""
    state = feed([started(at=NOW + 9999, received=NOW)])
    heartbeat = camera.get_heartbeat(only_worker(state)[1])
    assert heartbeat == fromtimestamp(NOW + 60)


# handle_worker


@pytest.mark.django_db
def test_worker_is_saved_with_what_it_says(camera: Camera) -> None:
    worker = camera.handle_worker(only_worker(feed([worker_event(at=NOW)])))
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
def test_stale_worker_does_not_overwrite_a_newer_heartbeat(camera: Camera) -> None:
    camera.worker_update_freq = 0
    stale, fresh = feed([worker_event(at=NOW)]), feed([worker_event(at=NOW + 5)])
    camera.handle_worker(only_worker(fresh))
    row = camera.handle_worker(only_worker(stale))
    row.refresh_from_db()
    assert row.last_heartbeat == fromtimestamp(NOW + 5)


@pytest.mark.django_db
def test_worker_is_saved_whatever_it_says(camera: Camera) -> None:
    event = worker_event(hostname="h" * 300, freq="", active=2**70, loadavg="x")
    row = camera.handle_worker(only_worker(feed([event])))
    row.refresh_from_db()
    assert row.hostname.startswith("hhh")
    assert len(row.hostname) == 255
    assert (row.pid, row.freq, row.active) == (4711, None, 2**31 - 1)


# handle_task and update_task


@pytest.mark.django_db
def test_task_is_saved_whatever_it_says(camera: Camera) -> None:
    event = received(uuid="i" * 300, name="n\0", retries="x", eta=5, args="\ud800")
    row = camera.handle_task(only_task(feed([event])))
    assert row is not None
    row.refresh_from_db()
    assert len(row.task_id) == 255
    assert (row.name, row.retries, row.eta) == ("n\\x00", 0, None)
    assert row.args == "\\ud800"


@pytest.mark.django_db
def test_task_is_saved_with_all_that_its_events_say(camera: Camera) -> None:
    eta, expires = "2026-03-02T12:00:00+02:00", "2026-03-03T10:00:00"
    state = feed(
        [
            sent(eta=eta, expires=expires),
            received(at=NOW + 1, eta=eta, expires=expires, parent_id="id-0"),
            started(),
            succeeded(),
        ]
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
def test_worker_of_a_task_is_saved_unless_given(camera: Camera) -> None:
    known = WorkerStateFactory.create()
    row = camera.handle_task(only_task(feed([received()])), known)
    assert row is not None
    assert row.worker == known
    assert WorkerState.objects.count() == 1
    row = camera.handle_task(uuid_task=only_task(feed([received(uuid="id-2")])))
    assert row is not None
    assert row.worker is not None
    assert row.worker.hostname == "celery@one"


@pytest.mark.django_db
def test_task_that_is_only_sent_has_no_worker(camera: Camera) -> None:
    row = camera.handle_task(only_task(feed([sent()])))
    assert row is not None
    assert (row.state, row.worker) == ("PENDING", None)
    assert not WorkerState.objects.exists()


@pytest.mark.django_db
def test_nameless_task_without_a_row_is_not_saved(camera: Camera) -> None:
    assert camera.handle_task(only_task(feed([started()]))) is None
    assert not TaskState.objects.exists()


@pytest.mark.django_db
def test_nameless_task_with_a_row_is_saved(camera: Camera) -> None:
    TaskStateFactory.create(
        task_id="id-1", state="STARTED", tstamp=fromtimestamp(NOW + 2)
    )
    row = camera.handle_task(only_task(feed([succeeded()])))
    assert row is not None
    row.refresh_from_db()
    assert (row.state, row.result, row.name) == ("SUCCESS", "4", "proj.tasks.add")


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


@pytest.mark.django_db
def test_shot_of_a_state_that_is_handed_in(camera: Camera) -> None:
    camera.on_shutter(feed([received(), succeeded(), worker_event()]))
    camera.on_shutter(feed([started(uuid="id-2")]))
    rows = TaskState.objects.values_list("state", "name")
    assert set(rows) == {("SUCCESS", "proj.tasks.add"), ("STARTED", None)}
    assert WorkerState.objects.get().pid == 4711


# Under a subclass


class RowwiseCamera(Camera):
    """A camera that sees every task, and changes nothing."""

    def handle_task(self, uuid_task: Any, worker: Any = None) -> TaskState | None:
        return super().handle_task(uuid_task, worker)


@pytest.mark.django_db
def test_every_change_passes_through_what_a_subclass_overrides() -> None:
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

    camera = make(Custom)
    feed([worker_event(), received(), succeeded()], camera.state)
    camera.capture()
    assert calls == [
        ("on_shutter", "State"),
        ("handle_worker", "celery@one"),
        ("get_heartbeat", "celery@one"),
        ("handle_task", "id-1"),
        ("update_task", "SUCCESS"),
    ]
    assert TaskState.objects.get().kwargs == "***"


@pytest.mark.parametrize(
    "name", ["on_shutter", "handle_worker", "handle_task", "update_task"]
)
@pytest.mark.django_db
def test_one_override_is_enough(name: str) -> None:
    calls: list[str] = []

    def overridden(self: Camera, *args: Any, **kwargs: Any) -> Any:
        calls.append(name)
        return getattr(Camera, name)(self, *args, **kwargs)

    camera = make(type("Custom", (Camera,), {name: overridden}))
    feed([worker_event(), received(), succeeded()], camera.state)
    camera.capture()
    assert calls == [name]
    assert TaskState.objects.get().state == "SUCCESS"


@pytest.mark.django_db
def test_subclass_is_handed_a_state_of_its_own_with_what_changed() -> None:
    shots: list[Any] = []

    class Looking(Camera):
        """A camera that only looks."""

        def on_shutter(self, state: Any) -> None:
            shots.append(state)

    camera = make(Looking)
    feed([worker_event(), sent(), received(), started()], camera.state)
    feed([received(uuid="id-2"), succeeded(uuid="id-2")], camera.state)
    camera.capture()
    feed([succeeded(), received(uuid="id-3")], camera.state)
    camera.capture()
    camera.capture()
    first, second = shots
    assert all(isinstance(shot, State) for shot in shots)
    assert camera.state not in shots
    assert {i: t.state for i, t in first.itertasks()} == {
        "id-1": "STARTED",
        "id-2": "SUCCESS",
    }
    assert first.workers["celery@one"].pid == 4711
    assert (first.tasks["id-1"].sent, first.tasks["id-1"].queue) == (NOW, "celery")
    # A task in flight stays in the State, with all that was told of it.
    assert second.tasks["id-1"].name == "proj.tasks.add"
    assert {i: t.state for i, t in second.itertasks()} == {
        "id-1": "SUCCESS",
        "id-3": "RECEIVED",
    }
    assert len(list(second.tasks_by_time())) == 2
    # A subclass may look at whatever Celery documents.
    assert (first.event_count, first.task_count) == (6, 2)
    assert first.task_types() == ["proj.tasks.add"]
    assert len(first.tasks_by_worker["celery@one"]) == 2


@pytest.mark.django_db
def test_subclass_sees_who_called_whom() -> None:
    found: list[Any] = []

    class Looking(Camera):
        """A camera that only looks."""

        def on_shutter(self, state: Any) -> None:
            parent, child = state.tasks["id-1"], state.tasks["id-2"]
            found.extend([child.parent is parent, child.root is parent])
            found.append(list(parent.children) == [child])

    camera = make(Looking)
    feed([received(), received(uuid="id-2", parent_id="id-1")], camera.state)
    camera.capture()
    assert found == [True, True, True]


@pytest.mark.parametrize("clears", [True, False])
@pytest.mark.django_db
def test_state_keeps_what_is_in_flight_or_all_of_it(clears: bool) -> None:
    camera = make(type("Custom", (RowwiseCamera,), {"clear_after": clears}))
    feed([received(), succeeded(), received(uuid="id-2")], camera.state)
    camera.capture()
    assert TaskState.objects.count() == 2
    assert set(camera.state.tasks) == ({"id-2"} if clears else {"id-1", "id-2"})
    assert len(camera.state.workers) == (0 if clears else 1)


@pytest.mark.django_db
def test_all_events_between_two_shots_are_saved_where_the_state_has_the_last() -> None:
    camera = make(RowwiseCamera)
    for second, error in enumerate(("A()", "B()", "C()")):
        event = task_event("task-retried", at=NOW + second, exception=error)
        feed([received(), event], camera.state)
    camera.capture()
    attempts = TaskState.objects.get().attempts
    assert [a["exception"] for a in attempts or ()] == ["A()", "B()", "C()"]


@pytest.mark.parametrize("shots", [True, False])
@pytest.mark.django_db
def test_offline_is_saved_with_its_time(shots: bool) -> None:
    camera = make(RowwiseCamera)
    feed([worker_event(at=NOW + 40), received()], camera.state)
    if shots:
        camera.capture()
    feed([worker_event("worker-offline", at=NOW + 41)], camera.state)
    camera.capture()
    row = WorkerState.objects.get()
    assert row.offline_at == fromtimestamp(NOW + 41)
    assert row.last_heartbeat == fromtimestamp(NOW + 40)
    assert not row.is_alive()
    camera.capture()
    assert not WorkerState.objects.get().is_alive()


@pytest.mark.django_db
def test_restart_between_two_shots_leaves_the_worker_alive() -> None:
    camera = make(RowwiseCamera)
    about = [("heartbeat", 4711), ("offline", 4711), ("online", 4712)]
    for second, (subject, pid) in enumerate(about, 55):
        event = worker_event(f"worker-{subject}", at=NOW + second, pid=pid)
        feed([event], camera.state)
    camera.capture()
    row = WorkerState.objects.get()
    assert row.is_alive()
    assert (row.pid, row.offline_at) == (4712, fromtimestamp(NOW + 56))


@pytest.mark.parametrize("error", [OperationalError, InterfaceError])
@pytest.mark.django_db
def test_what_a_broken_database_refuses_is_saved_by_the_next_shot(
    error: type[Exception],
) -> None:
    class Flaky(Camera):
        """A camera whose database breaks at the second task."""

        broken = True

        def handle_task(self, uuid_task: Any, worker: Any = None) -> Any:
            if self.broken and uuid_task[0] == "id-2":
                raise error
            return super().handle_task(uuid_task, worker)

    camera = make(Flaky)
    for number in range(4):
        uuid = f"id-{number}"
        feed([received(uuid=uuid), succeeded(uuid=uuid)], camera.state)
    feed([worker_event("worker-offline", hostname="celery@gone")], camera.state)
    feed([worker_event(hostname="celery@two", processed=9)], camera.state)
    camera.capture()
    WorkerState.objects.filter(hostname="celery@two").delete()  # as if never written
    assert len(camera.outbox) == 4
    assert camera.counters.retried == 1

    camera.broken = False
    with at(90):
        camera.capture()
    rows = TaskState.objects.values_list("state", "name", "result")
    assert list(rows) == [("SUCCESS", "proj.tasks.add", "4")] * 4
    assert WorkerState.objects.get(hostname="celery@gone").is_offline()
    other = WorkerState.objects.get(hostname="celery@two")
    assert (other.pid, other.processed, other.sw_ver) == (4711, 9, "5.7.0")
    assert not camera.outbox


@pytest.mark.django_db
def test_row_that_fails_costs_itself_alone(caplog: pytest.LogCaptureFixture) -> None:
    class Failing(Camera):
        """A camera with a mistake."""

        def handle_worker(self, hostname_worker: Any) -> WorkerState:
            raise KeyError("worker")

        def handle_task(self, uuid_task: Any, worker: Any = None) -> TaskState | None:
            if uuid_task[0] == "id-2":
                raise KeyError("task")
            return super().handle_task((uuid_task[0], uuid_task[1]), worker)

    camera = make(Failing)
    for uuid in ("id-1", "id-2", "id-3"):
        feed([received(uuid=uuid), succeeded(uuid=uuid)], camera.state)
    camera.capture()
    rows = TaskState.objects.filter(worker=None).values_list("task_id", "state")
    assert set(rows) == {("id-1", "SUCCESS"), ("id-3", "SUCCESS")}
    assert "Cannot save 'id-2'" in caplog.text
    assert "Cannot save 'celery@one'" in caplog.text
    assert not camera.outbox


@pytest.mark.django_db
def test_listeners_hear_of_every_row() -> None:
    heard: list[tuple[type, bool]] = []

    def saved(sender: Any, created: bool, **kwargs: Any) -> None:
        if sender in {TaskState, WorkerState}:
            heard.append((sender, created))

    camera = make(RowwiseCamera)
    post_save.connect(saved)
    try:
        feed([received()], camera.state)
        camera.capture()
        feed([succeeded()], camera.state)
        camera.capture()
    finally:
        post_save.disconnect(saved)
    assert heard == [(WorkerState, True), (TaskState, True), (TaskState, False)]


@pytest.mark.parametrize("calls_super", [True, False])
@pytest.mark.django_db
def test_state_does_not_grow_with_the_names_that_come_and_go(calls_super: bool) -> None:
    class Looking(Camera):
        """A camera that saves nothing."""

        def on_shutter(self, state: Any) -> None:
            if calls_super:
                super().on_shutter(state)

        def handle_worker(self, hostname_worker: Any) -> Any:
            return None

        def handle_task(self, uuid_task: Any, worker: Any = None) -> Any:
            return None

    camera = make(Looking)
    sizes = set()
    for number in range(1000):
        about = {"hostname": f"celery@{number}", "uuid": f"id-{number}"}
        name = f"proj.tasks.{number}"
        ended = worker_event("worker-offline", hostname=about["hostname"])
        feed([received(**about, name=name), succeeded(**about), ended], camera.state)
        if number % 100 == 99:
            camera.capture()
            state = camera.state
            kept = [state.tasks, state.workers, state.tasks_by_type]
            kept += [state.tasks_by_worker, state._seen_types, camera._left]
            sizes.add(tuple(map(len, kept)))
    assert len(sizes) == 1
    assert max(sizes.pop()) <= 1


@pytest.mark.django_db
def test_burst_beyond_the_bounds_of_a_state_is_handed_over_whole() -> None:
    seen: list[tuple[int, int, int]] = []

    class Looking(Camera):
        """A camera that only looks."""

        def on_shutter(self, state: Any) -> None:
            seen.append((len(state.tasks), len(state.workers), state.event_count))

    live = State(max_tasks_in_memory=10, max_workers_in_memory=10)
    camera = make(Looking, state=live)
    events = [received(uuid=f"{n}", hostname=f"celery@{n}") for n in range(25)]
    feed(events, camera.state)
    camera.capture()
    assert seen == [(25, 25, 25)]
