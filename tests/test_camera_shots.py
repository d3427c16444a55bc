"""What a shot saves of tasks and workers, and what it costs."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import connection

from django_celery_monitor.camera import Camera
from django_celery_monitor.models import TaskState, WorkerState
from django_celery_monitor.saver import CHUNK
from django_celery_monitor.utils import fromtimestamp
from tests.cameras import Statements, at, started, succeeded
from tests.events import NOW, feed, received, sent, task_event, worker_event

pytestmark = pytest.mark.usefixtures("soon_after")


@pytest.fixture
def state(camera: Camera) -> Any:
    return camera.state


# Tasks


@pytest.mark.django_db
def test_shot_saves_all_that_events_say(camera: Camera, state: Any) -> None:
    eta, expires = "2026-03-02T12:00:00+02:00", "2026-03-03T10:00:00"
    call = {"eta": eta, "expires": expires, "parent_id": "id-0"}
    feed([sent(eta=eta, expires=expires), received(at=NOW + 1, **call)], state)
    feed([started(), succeeded(), worker_event()], state)
    camera.capture()
    row = TaskState.objects.get()
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
    assert (row.hidden, row.updated_at) == (False, fromtimestamp(NOW + 60))
    assert row.worker == WorkerState.objects.get(hostname="celery@one")
    assert not camera.outbox
    assert camera.counters.saved == 2
    assert camera.counters.lag == 0


@pytest.mark.django_db
def test_task_that_is_only_sent_has_no_worker(camera: Camera, state: Any) -> None:
    feed([sent()], state)
    camera.capture()
    row = TaskState.objects.get()
    assert (row.state, row.worker) == ("PENDING", None)
    assert not WorkerState.objects.exists()


@pytest.mark.django_db
def test_nameless_task_is_saved_until_its_name_is_learnt(
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
    ending: dict[str, Any],
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
    camera: Camera, state: Any, value: object
) -> None:
    feed([received(eta=value, expires=value), succeeded()], state)
    camera.capture()
    row = TaskState.objects.get()
    assert (row.state, row.eta, row.expires) == ("SUCCESS", None, None)
    assert camera.counters.made_fit == 2


@pytest.mark.django_db
def test_ids_and_names_of_255_characters(camera: Camera, state: Any) -> None:
    uuid, name = "i" * 255, "n" * 255
    feed([received(uuid=uuid, name=name, root_id=uuid), succeeded(uuid=uuid)], state)
    camera.capture()
    row = TaskState.objects.get(task_id=uuid)
    assert (row.state, row.name, row.root_id) == ("SUCCESS", name, uuid)


# Workers


@pytest.mark.django_db
def test_worker_is_saved_with_what_it_says(camera: Camera, state: Any) -> None:
    feed([worker_event(at=NOW)], state)
    camera.capture()
    worker = WorkerState.objects.get()
    assert worker.hostname == "celery@one"
    assert worker.last_heartbeat == worker.first_seen == fromtimestamp(NOW)
    assert worker.last_heartbeat_us == NOW * 1_000_000
    assert (worker.pid, worker.freq) == (4711, 2.0)
    assert (worker.active, worker.processed) == (1, 7)
    assert worker.loadavg == [0.5, 0.25, 0.1]
    assert (worker.sw_ident, worker.sw_ver) == ("py-celery", "5.7.0")
    assert worker.sw_sys == "Linux"
    assert worker.last_update == fromtimestamp(NOW + 60)
    assert worker.update_freq == 62


@pytest.mark.django_db
def test_worker_known_from_its_tasks_says_nothing_of_itself(
    camera: Camera, state: Any
) -> None:
    feed([worker_event(at=NOW - 100, freq=30.0)], state)
    camera.capture()
    with at(300):
        feed([started(at=NOW + 299)], state)
        camera.capture()
    worker = WorkerState.objects.get()
    assert worker.last_heartbeat == fromtimestamp(NOW + 299)
    assert (worker.pid, worker.freq, worker.processed) == (4711, 30.0, 7)


@pytest.mark.django_db
def test_beating_worker_is_written_once_a_minute(camera: Camera, state: Any) -> None:
    for seconds, written in [(0, 0), (2, 0), (58, 0), (60, 60), (62, 60)]:
        with at(seconds):
            feed([worker_event(at=NOW + seconds)], state)
            with Statements() as statements:
                camera.capture()
        assert bool(statements.sql) is (seconds == written)
        row = WorkerState.objects.get()
        assert row.last_heartbeat == fromtimestamp(NOW + written)
    camera.cancel()
    row.refresh_from_db()
    assert row.last_heartbeat == fromtimestamp(NOW + 62)


@pytest.mark.django_db
def test_offline_is_written_at_once(camera: Camera, state: Any) -> None:
    feed([worker_event(at=NOW + 58)], state)
    camera.capture()
    assert WorkerState.objects.get().is_alive()

    feed([worker_event("worker-offline", at=NOW + 59)], state)
    camera.capture()
    row = WorkerState.objects.get()
    assert row.offline_at == fromtimestamp(NOW + 59)
    assert row.last_heartbeat == fromtimestamp(NOW + 58)
    assert not row.is_alive()
    with Statements() as statements:
        camera.capture()
    assert statements.sql == []


@pytest.mark.django_db
def test_worker_that_comes_back_is_written_at_once(camera: Camera, state: Any) -> None:
    feed([worker_event("worker-offline", at=NOW + 56)], state)
    camera.capture()
    feed([worker_event("worker-online", at=NOW + 58, pid=4712)], state)
    camera.capture()
    row = WorkerState.objects.get()
    assert row.is_alive()
    assert row.pid == 4712

    feed([worker_event("worker-online", at=NOW + 59, pid=4713)], state)
    camera.capture()
    row.refresh_from_db()
    assert row.pid == 4713


@pytest.mark.django_db
def test_restart_between_two_shots_leaves_the_worker_alive(
    camera: Camera, state: Any
) -> None:
    feed(
        [worker_event(at=NOW + 55), worker_event("worker-offline", at=NOW + 56)], state
    )
    feed([worker_event("worker-online", at=NOW + 58, pid=4712)], state)
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
    feed([started()], state)
    camera.capture()
    camera.cancel()
    assert not WorkerState.objects.get().is_alive()


# What a shot costs


@pytest.mark.django_db
def test_unchanged_rows_cost_the_locking_read_alone(camera: Camera, state: Any) -> None:
    events = [
        worker_event(),
        received(eta="2026-03-02T10:00:00.5+00:00"),
        started(),
        received(uuid="id-2"),
        task_event("task-retried", uuid="id-2", at=NOW + 3, exception="E()"),
        succeeded(uuid="id-3"),
    ]
    feed(events, state)
    camera.capture()
    with Statements() as statements:
        camera.capture()
    assert statements.sql == []

    feed(events, state)
    with Statements() as statements:
        camera.capture()
    # Tasks that have ended are apart from the others.
    assert len(statements.sql) == 2
    assert statements.writes == []


@pytest.mark.django_db
def test_burst_costs_few_statements(camera: Camera, state: Any) -> None:
    """Version 1.1.2 took 9 to 13 for each task."""
    feed([worker_event()], state)
    camera.capture()
    for number in range(3000):
        feed([received(uuid=f"{number}"), succeeded(uuid=f"{number}")], state)
    with Statements() as statements:
        camera.capture()
    assert TaskState.objects.filter(state="SUCCESS").count() == 3000
    reads = [sql for sql in statements.sql if sql not in statements.writes]
    chunks = -(-3000 // CHUNK)
    assert len(reads) == chunks
    if connection.vendor == "sqlite":  # PostgreSQL copies, which is no statement
        assert len(statements.writes) <= chunks


@pytest.mark.django_db
def test_heartbeats_of_all_workers_cost_few_statements(
    camera: Camera, state: Any
) -> None:
    for second in (0, 60):
        with at(100 + second):
            for number in range(200):
                hostname = f"celery@{number}"
                feed([worker_event(hostname=hostname, at=NOW + second)], state)
            with Statements() as statements:
                camera.capture()
        reads = [sql for sql in statements.sql if sql.startswith("SELECT")]
        assert len(reads) == 2  # the locking one, and the primary keys
        # PostgreSQL copies into a temporary table first.
        assert len(statements.writes) <= 4
    beats = WorkerState.objects.values_list("last_heartbeat", flat=True)
    assert list(beats) == [fromtimestamp(NOW + 60)] * 200
