"""A camera that saves row by row: nothing is lost, and each row is announced."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import InterfaceError, OperationalError
from django.db.models.signals import post_save

from django_celery_monitor.camera import Camera
from django_celery_monitor.models import TaskState, WorkerState
from django_celery_monitor.saver import REFUSALS
from django_celery_monitor.utils import fromtimestamp
from tests.cameras import Rowwise, at, make, succeeded
from tests.events import NOW, feed, received, task_event, worker_event

pytestmark = pytest.mark.usefixtures("soon_after")


@pytest.mark.parametrize("clears", [True, False])
@pytest.mark.django_db
def test_state_keeps_what_is_in_flight_or_all_of_it(clears: bool) -> None:
    camera = make(type("Custom", (Rowwise,), {"clear_after": clears}))
    feed([received(), succeeded(), received(uuid="id-2")], camera.state)
    camera.capture()
    assert TaskState.objects.count() == 2
    assert set(camera.state.tasks) == ({"id-2"} if clears else {"id-1", "id-2"})
    assert len(camera.state.workers) == (0 if clears else 1)


@pytest.mark.django_db
def test_all_events_between_two_shots_are_saved_where_the_state_has_the_last() -> None:
    camera = make(Rowwise)
    for second, error in enumerate(("A()", "B()", "C()")):
        event = task_event("task-retried", at=NOW + second, exception=error)
        feed([received(), event], camera.state)
    camera.capture()
    attempts = TaskState.objects.get().attempts
    assert [a["exception"] for a in attempts or ()] == ["A()", "B()", "C()"]


@pytest.mark.django_db
def test_row_that_is_refused_does_not_hold_up_the_others() -> None:
    """Some drivers say it of a value as if the database were away."""

    class Picky(Rowwise):
        def update_task(self, state: str, task_id: str, defaults: Any = None) -> Any:
            if task_id == "id-0":
                raise OperationalError(1366, "Incorrect string value")
            return super().update_task(state, task_id, defaults)

    camera = make(Picky)
    feed([received(uuid=f"id-{number}") for number in range(5)], camera.state)
    for shot in range(REFUSALS):
        assert camera.counters.quarantined == 0
        with at(100 * shot):
            camera.capture()
    assert camera.counters.quarantined == 1
    ids = set(TaskState.objects.values_list("task_id", flat=True))
    assert ids == {f"id-{number}" for number in range(1, 5)}
    assert not camera.outbox


@pytest.mark.parametrize("shots", [True, False])
@pytest.mark.django_db
def test_offline_is_saved_with_its_time(shots: bool) -> None:
    camera = make(Rowwise)
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
    camera = make(Rowwise)
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

    camera = make(Rowwise)
    post_save.connect(saved)
    try:
        feed([received()], camera.state)
        camera.capture()
        feed([succeeded()], camera.state)
        camera.capture()
    finally:
        post_save.disconnect(saved)
    assert heard == [(WorkerState, True), (TaskState, True), (TaskState, False)]
