"""The vocabulary of queries, on the default database and behind a router."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection, connections
from django.db.models.signals import post_save
from django.test.utils import CaptureQueriesContext

from django_celery_monitor.managers import ExtendedQuerySet
from django_celery_monitor.models import TaskState, WorkerState
from tests.factories import WorkerStateFactory
from tests.rows import at, seen_many

pytestmark = pytest.mark.django_db


# select_for_update_or_create


def test_creates_the_row_that_is_missing() -> None:
    worker, created = WorkerState.objects.select_for_update_or_create(
        {"last_heartbeat": at(0)}, hostname="one"
    )
    assert created is True
    worker.refresh_from_db()
    assert (worker.hostname, worker.last_heartbeat) == ("one", at(0))


def test_updates_the_row_that_is_there() -> None:
    WorkerStateFactory.create(hostname="one", last_heartbeat=at(0))
    worker, created = WorkerState.objects.select_for_update_or_create(
        hostname="one", defaults={"last_heartbeat": at(9)}
    )
    assert created is False
    worker.refresh_from_db()
    assert worker.last_heartbeat == at(9)


def test_defaults_may_be_left_out() -> None:
    assert WorkerState.objects.select_for_update_or_create(hostname="one")[1]
    assert not WorkerState.objects.select_for_update_or_create(hostname="one")[1]


def test_callable_defaults_are_called() -> None:
    for expected in (True, False):
        worker, created = WorkerState.objects.select_for_update_or_create(
            {"last_heartbeat": lambda: at(5)}, hostname="one"
        )
        assert created is expected
        worker.refresh_from_db()
        assert worker.last_heartbeat == at(5)


def test_the_row_is_locked_where_the_database_can(
    queries: CaptureQueriesContext,
) -> None:
    WorkerStateFactory.create(hostname="one")
    with queries:
        WorkerState.objects.select_for_update_or_create({"pid": 1}, hostname="one")
    locks = [q for q in queries.captured_queries if "FOR UPDATE" in q["sql"]]
    assert bool(locks) is connection.features.has_select_for_update


def test_failure_leaves_nothing_behind() -> None:
    class BrokenError(Exception):
        """What a receiver of post_save raises."""

    def fail(**kwargs: Any) -> None:
        raise BrokenError

    post_save.connect(fail, sender=WorkerState)
    try:
        with pytest.raises(BrokenError):
            WorkerState.objects.select_for_update_or_create(hostname="one")
    finally:
        post_save.disconnect(fail, sender=WorkerState)
    assert not WorkerState.objects.exists()


def test_both_managers_have_the_vocabulary() -> None:
    assert isinstance(WorkerState.objects.all(), ExtendedQuerySet)
    assert isinstance(TaskState.objects.all(), ExtendedQuerySet)


# A database of its own


@pytest.fixture
def routed(settings: Any) -> CaptureQueriesContext:
    """Route the models to "other"; return what reaches "default"."""
    settings.DATABASE_ROUTERS = ["tests.routers.MonitorRouter"]
    return CaptureQueriesContext(connections["default"])


OPERATIONS: dict[str, Callable[[Any, Any], Any]] = {
    "select_for_update_or_create": lambda tasks, workers: (
        workers.select_for_update_or_create({"pid": 3}, hostname="one")
    ),
    "update_heartbeat": lambda tasks, workers: (
        workers.update_heartbeat("one", at(0), 0),
        workers.update_heartbeat("one", at(1), 0),
        workers.update_heartbeat("one", None, 0),
    ),
    "update_state": lambda tasks, workers: (
        tasks.update_state("STARTED", "id-1", {"tstamp": at(0)}),
        tasks.update_state("SUCCESS", "id-1", {"tstamp": at(1)}),
    ),
    "join_many": lambda tasks, workers: (
        workers.join_many({"one": {"pid": 1}}),
        tasks.join_many(seen_many(2), {}),
        tasks.join_many(seen_many(3, state="SUCCESS"), {}),
    ),
    "expiry": lambda tasks, workers: (
        tasks.expired({"SUCCESS"}, 1).count(),
        tasks.expire_by_states({"SUCCESS"}, 1),
        tasks.active().count(),
        tasks.purge(),
    ),
}


@pytest.mark.django_db(databases={"default", "other"})
@pytest.mark.parametrize("name", OPERATIONS)
def test_router_names_the_database(routed: CaptureQueriesContext, name: str) -> None:
    with CaptureQueriesContext(connections["other"]) as other, routed:
        OPERATIONS[name](TaskState.objects, WorkerState.objects)
    assert len(routed) == 0
    assert len(other) > 0


@pytest.mark.django_db(databases={"default", "other"})
@pytest.mark.parametrize("name", sorted(OPERATIONS.keys() - {"expiry"}))
def test_replica_is_not_asked_for_what_is_written(settings: Any, name: str) -> None:
    settings.DATABASE_ROUTERS = ["tests.routers.ReplicaRouter"]
    with CaptureQueriesContext(connections["default"]) as replica:
        OPERATIONS[name](TaskState.objects, WorkerState.objects)
    assert len(replica) == 0


@pytest.mark.django_db(databases={"default", "other"})
@pytest.mark.parametrize("name", OPERATIONS)
def test_using_names_the_database(name: str) -> None:
    tasks, workers = (
        TaskState.objects.using("other"),
        WorkerState.objects.using("other"),
    )
    with (
        CaptureQueriesContext(connections["default"]) as default,
        CaptureQueriesContext(connections["other"]) as other,
    ):
        OPERATIONS[name](tasks, workers)
    assert len(default) == 0
    assert len(other) > 0


@pytest.mark.django_db(databases={"default", "other"})
def test_rows_of_the_other_database_are_kept_apart(
    routed: CaptureQueriesContext,
) -> None:
    worker = WorkerState.objects.update_heartbeat("one", at(0), 60)
    seen = {"tstamp": at(0), "worker": worker}
    task = TaskState.objects.update_state("SUCCESS", "id-1", seen)
    assert task._state.db == worker._state.db == "other"
    assert TaskState.objects.using("other").get().worker == worker
    assert not TaskState.objects.using("default").exists()


# Two writers


@pytest.mark.services("DATABASE_URL")
@pytest.mark.django_db(transaction=True)
def test_two_cameras_that_save_the_same_tasks_agree() -> None:
    """In whatever order the two transactions come, no event is lost."""
    task_ids = [f"id-{number}" for number in range(20)]
    start = threading.Barrier(2, timeout=20)
    errors: list[Exception] = []

    def save(state: str, seconds: int, columns: dict[str, Any]) -> None:
        try:
            start.wait()
            for task_id in task_ids:
                seen = {"tstamp": at(seconds), **columns}
                TaskState.objects.update_state(state, task_id, seen)
        except Exception as error:  # noqa: BLE001 -- told to the test's own thread
            errors.append(error)
        finally:
            connection.close()

    threads = [
        threading.Thread(target=save, args=("SUCCESS", 1, {"result": "4"})),
        threading.Thread(target=save, args=("STARTED", 0, {"name": "add"})),
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)

    assert errors == []
    rows = TaskState.objects.values_list("state", "name", "result").distinct()
    assert list(rows.order_by()) == [("SUCCESS", "add", "4")]
    assert TaskState.objects.count() == len(task_ids)
