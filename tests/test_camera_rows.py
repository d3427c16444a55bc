"""One worker or task at a time: what a subclass may call."""

from __future__ import annotations

from typing import Any

import pytest
from celery.events.state import Task, Worker

from django_celery_monitor.camera import Camera
from django_celery_monitor.models import TaskState, WorkerState
from django_celery_monitor.utils import fromtimestamp
from tests.cameras import started, succeeded
from tests.events import NOW, feed, received, sent, worker_event
from tests.factories import TaskStateFactory, WorkerStateFactory

pytestmark = pytest.mark.usefixtures("soon_after")


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
