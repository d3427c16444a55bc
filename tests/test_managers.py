"""The vocabulary of queries, on the default database and behind a router."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
import time_machine
from celery import states
from django.db import DatabaseError, connection, connections
from django.db.models.signals import post_save
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from django_celery_monitor.managers import ExtendedQuerySet
from django_celery_monitor.models import TaskState, WorkerState
from django_celery_monitor.utils import fromtimestamp
from tests.events import NOW
from tests.factories import TaskStateFactory, WorkerStateFactory
from tests.test_join_many import seen_many

pytestmark = pytest.mark.django_db


def at(seconds: float) -> datetime:
    """Return the datetime of ``NOW`` plus ``seconds``, as the database has it."""
    return fromtimestamp(NOW + seconds)


def writes(queries: CaptureQueriesContext) -> list[str]:
    """Return the statements among ``queries`` that change a row."""
    verbs = ("INSERT", "UPDATE", "DELETE")
    return [q["sql"] for q in queries.captured_queries if q["sql"].startswith(verbs)]


@pytest.fixture
def queries() -> CaptureQueriesContext:
    return CaptureQueriesContext(connection)


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


# update_heartbeat


def test_new_worker_is_saved() -> None:
    with time_machine.travel(NOW, tick=False):
        worker = WorkerState.objects.update_heartbeat("one", at(-1), 60)
    worker.refresh_from_db()
    assert worker.last_heartbeat == at(-1)
    assert worker.last_heartbeat_us == (NOW - 1) * 1_000_000
    assert worker.last_update == worker.first_seen == at(0)
    assert worker.offline_at is None


def test_arguments_by_keyword() -> None:
    worker = WorkerState.objects.update_heartbeat(
        hostname="one", heartbeat=at(0), update_freq=30
    )
    assert (worker.hostname, worker.update_freq) == ("one", 30)


def test_beating_worker_is_written_at_most_once_in_its_time(
    queries: CaptureQueriesContext,
) -> None:
    with time_machine.travel(NOW, tick=False) as clock:
        WorkerState.objects.update_heartbeat("one", at(0), 60)
        clock.shift(59)
        with queries:
            worker = WorkerState.objects.update_heartbeat("one", at(59), 60)
        assert writes(queries) == []
        assert worker.last_heartbeat == at(0)

        clock.shift(1)
        worker = WorkerState.objects.update_heartbeat("one", at(60), 60)
        worker.refresh_from_db()
        assert (worker.last_heartbeat, worker.last_update) == (at(60), at(60))


def test_the_same_heartbeat_is_not_written_again(
    queries: CaptureQueriesContext,
) -> None:
    WorkerState.objects.update_heartbeat("one", at(0), 0)
    with queries:
        WorkerState.objects.update_heartbeat("one", at(0), 0)
    assert writes(queries) == []


@pytest.mark.parametrize("heartbeat", [at(-5), None], ids=["older", "none"])
def test_older_heartbeat_never_replaces_a_newer_one(heartbeat: datetime | None) -> None:
    WorkerState.objects.update_heartbeat("one", at(0), 0)
    worker = WorkerState.objects.update_heartbeat("one", heartbeat, 0)
    worker.refresh_from_db()
    assert worker.last_heartbeat == at(0)


def test_going_offline_and_coming_back_are_written_at_once() -> None:
    with time_machine.travel(NOW, tick=False) as clock:
        WorkerState.objects.update_heartbeat("one", at(0), 60)
        clock.shift(1)
        WorkerState.objects.update_heartbeat("one", None, 60)
        worker = WorkerState.objects.get(hostname="one")
        assert worker.offline_at == at(1)
        assert not worker.is_alive()

        clock.shift(1)
        WorkerState.objects.update_heartbeat("one", at(2), 60)
        worker = WorkerState.objects.get(hostname="one")
        assert worker.last_heartbeat == at(2)
        assert worker.is_alive()


def test_restarted_worker_is_written_at_once() -> None:
    with time_machine.travel(NOW, tick=False):
        WorkerState.objects.update_heartbeat("one", at(-2), 60, {"pid": 1})
        WorkerState.objects.update_heartbeat("one", at(-1), 60, {"pid": 2})
    assert WorkerState.objects.get().pid == 2


def test_clock_that_went_back_does_not_hold_a_write_up() -> None:
    with time_machine.travel(NOW + 3600, tick=False):
        WorkerState.objects.update_heartbeat("one", at(0), 60)
    with time_machine.travel(NOW + 2, tick=False):
        WorkerState.objects.update_heartbeat("one", at(2), 60)
    assert WorkerState.objects.get().last_heartbeat == at(2)


def test_worker_that_was_only_seen_going_is_offline() -> None:
    with time_machine.travel(NOW, tick=False):
        worker = WorkerState.objects.update_heartbeat("one", None, 60)
        worker.refresh_from_db()
        assert worker.last_heartbeat is None
        assert worker.offline_at == at(0)
        assert not worker.is_alive()


def test_further_columns_are_saved_with_the_heartbeat() -> None:
    about = {"freq": 2.0, "sw_ver": "5.7.0", "loadavg": [0.1, 0.2, 0.3]}
    WorkerState.objects.update_heartbeat("one", at(0), 60, about)
    worker = WorkerState.objects.get(hostname="one")
    assert (worker.freq, worker.sw_ver) == (2.0, "5.7.0")
    assert worker.loadavg == [0.1, 0.2, 0.3]


def test_row_of_version_1_is_taken_on() -> None:
    """Its last_heartbeat is all it has."""
    WorkerStateFactory.create(hostname="one", last_heartbeat=at(0))
    with time_machine.travel(NOW - 3, tick=False):
        WorkerState.objects.update(last_update=timezone.now())

    with time_machine.travel(NOW, tick=False):
        WorkerState.objects.update_heartbeat("one", at(-1), 0)
        assert WorkerState.objects.get().last_heartbeat == at(0)
        WorkerState.objects.update_heartbeat("one", at(1), 0)
        assert WorkerState.objects.get().last_heartbeat == at(1)


# active, expired, expire_by_states, purge


def test_active_are_those_that_are_not_hidden() -> None:
    shown = TaskStateFactory.create()
    TaskStateFactory.create(hidden=True)
    assert list(TaskState.objects.active()) == [shown]
    assert list(TaskState.objects.filter(state="SUCCESS").active()) == [shown]


@pytest.mark.parametrize("expires", [timedelta(hours=1), 3600, 3600.0])
@pytest.mark.parametrize("keyword", [True, False])
@time_machine.travel(NOW, tick=False)
def test_expired_are_older_than_a_timedelta_or_seconds(
    expires: timedelta | float, keyword: bool
) -> None:
    old = TaskStateFactory.create(tstamp=at(-3601))
    TaskStateFactory.create(tstamp=at(-3599))
    TaskStateFactory.create(tstamp=at(-3601), state="FAILURE")
    if keyword:
        found = TaskState.objects.expired(states=["SUCCESS"], expires=expires)
    else:
        found = TaskState.objects.expired({"SUCCESS"}, expires)
    assert list(found) == [old]


@time_machine.travel(NOW, tick=False)
def test_age_counts_from_the_eta_where_that_is_later() -> None:
    TaskStateFactory.create(tstamp=at(-7200), eta=at(3600))
    TaskStateFactory.create(tstamp=at(-7200), eta=at(-60))
    TaskStateFactory.create(tstamp=at(-60), eta=at(-7200))
    waited = TaskStateFactory.create(tstamp=at(-7200), eta=at(-3700))
    assert list(TaskState.objects.expired({"SUCCESS"}, 3600)) == [waited]


@pytest.mark.parametrize("zone", ["UTC", "America/New_York", "Asia/Kolkata"])
@pytest.mark.parametrize("use_tz", [True, False])
@time_machine.travel(NOW, tick=False)
def test_age_is_right_in_every_time_zone(
    settings: Any, zone: str, use_tz: bool
) -> None:
    settings.TIME_ZONE, settings.USE_TZ = zone, use_tz
    old = TaskStateFactory.create(tstamp=at(-3601), worker=None)
    TaskStateFactory.create(tstamp=at(-3599), worker=None)
    assert list(TaskState.objects.expired({"SUCCESS"}, 3600)) == [old]


PENDING = states.UNREADY_STATES - states.EXCEPTION_STATES


@pytest.mark.parametrize(
    ("state", "names"),
    [
        ("SUCCESS", {"SUCCESS"}),
        ("FAILURE", states.EXCEPTION_STATES),
        ("RETRY", states.EXCEPTION_STATES),
        ("REVOKED", states.EXCEPTION_STATES),
        ("PENDING", PENDING),
        ("RECEIVED", PENDING),
        ("STARTED", PENDING),
        ("REJECTED", PENDING),
        ("IGNORED", PENDING),
        ("PROGRESS", PENDING),
    ],
)
@time_machine.travel(NOW, tick=False)
def test_each_state_expires_with_one_set_alone(
    state: str, names: frozenset[str]
) -> None:
    TaskStateFactory.create(state=state, tstamp=at(-1))
    sets = [{"SUCCESS"}, states.EXCEPTION_STATES, PENDING]
    assert [s for s in sets if TaskState.objects.expired(s, 0).exists()] == [names]


@time_machine.travel(NOW, tick=False)
def test_expire_by_states_marks_and_counts() -> None:
    old = TaskStateFactory.create(tstamp=at(-3601))
    new = TaskStateFactory.create(tstamp=at(-3599))
    assert TaskState.objects.expire_by_states({"SUCCESS"}, 3600) == 1
    old.refresh_from_db()
    new.refresh_from_db()
    assert (old.hidden, new.hidden) == (True, False)
    # What is marked already is not counted again.
    hour = timedelta(hours=1)
    assert TaskState.objects.expire_by_states(states={"SUCCESS"}, expires=hour) == 0


def test_rows_are_kept_for_ever_without_an_expiry() -> None:
    TaskStateFactory.create(tstamp=at(-(10**8)))
    assert TaskState.objects.expire_by_states({"SUCCESS"}, None) is None
    assert TaskState.objects.expire_by_states({"SUCCESS"}, expires=None) is None
    assert TaskState.objects.active().exists()


def test_purge_deletes_what_is_marked_and_counts() -> None:
    kept = TaskStateFactory.create()
    TaskStateFactory.create_batch(2, hidden=True, worker=kept.worker)
    assert TaskState.objects.purge() == 2
    assert list(TaskState.objects.all()) == [kept]
    assert TaskState.objects.purge() == 0
    assert WorkerState.objects.exists()


# update_state


def test_new_task_is_created() -> None:
    worker = WorkerStateFactory.create()
    task = TaskState.objects.update_state(
        "SUCCESS",
        "id-1",
        {"name": "add", "tstamp": at(0), "result": "4", "worker": worker},
    )
    task.refresh_from_db()
    assert (task.state, task.task_id, task.name) == ("SUCCESS", "id-1", "add")
    assert (task.tstamp, task.result, task.worker) == (at(0), "4", worker)
    assert task.tstamp_us == NOW * 1_000_000
    assert (task.retries, task.hidden) == (0, False)


def test_update_state_by_keyword() -> None:
    task = TaskState.objects.update_state(
        state="STARTED", task_id="id-1", defaults={"tstamp": at(0)}
    )
    assert task.state == "STARTED"


@time_machine.travel(NOW, tick=False)
def test_time_is_now_unless_given() -> None:
    assert TaskState.objects.update_state("STARTED", "id-1", {}).tstamp == at(0)
    assert TaskState.objects.update_state("STARTED", "id-2").tstamp == at(0)


def test_worker_of_an_outcome_may_be_unknown() -> None:
    defaults = {"tstamp": at(0), "worker": None}
    assert TaskState.objects.update_state("STARTED", "id-1", defaults).worker is None


@pytest.mark.parametrize("state", ["PENDING", "RECEIVED", "STARTED", "RETRY"])
@pytest.mark.parametrize("seconds", [-5, 5])
def test_late_event_does_not_turn_a_finished_task_back(
    state: str, seconds: int, queries: CaptureQueriesContext
) -> None:
    worker = WorkerStateFactory.create()
    outcome = {"tstamp": at(0), "result": "4", "runtime": 1.5, "worker": worker}
    TaskState.objects.update_state("SUCCESS", "id-1", outcome)
    with queries:
        TaskState.objects.update_state(
            state, "id-1", {"tstamp": at(seconds), "worker": None}
        )
    assert writes(queries) == []
    task = TaskState.objects.get()
    assert (task.state, task.tstamp, task.worker) == ("SUCCESS", at(0), worker)
    assert (task.result, task.runtime) == ("4", 1.5)


@pytest.mark.parametrize("seconds", [-5, 5])
def test_copy_that_expires_leaves_a_success_alone(seconds: int) -> None:
    success = {"tstamp": at(0), "result": "4"}
    TaskState.objects.update_state("SUCCESS", "id-1", success)
    TaskState.objects.update_state("REVOKED", "id-1", {"tstamp": at(seconds)})
    task = TaskState.objects.get()
    assert (task.state, task.result) == ("SUCCESS", "4")


def test_success_replaces_a_copy_that_expired() -> None:
    TaskState.objects.update_state("REVOKED", "id-1", {"tstamp": at(0)})
    TaskState.objects.update_state("SUCCESS", "id-1", {"tstamp": at(-1), "result": "4"})
    task = TaskState.objects.get()
    assert (task.state, task.result) == ("SUCCESS", "4")


def test_traceback_of_a_retry_goes_with_the_success() -> None:
    error = {"tstamp": at(0), "result": "OSError()", "traceback": "Traceback"}
    TaskState.objects.update_state("RETRY", "id-1", {**error, "retries": 1})
    TaskState.objects.update_state("SUCCESS", "id-1", {"tstamp": at(1), "result": "4"})
    task = TaskState.objects.get()
    assert (task.result, task.traceback, task.retries) == ("4", None, 1)


def test_nameless_observation_reaches_the_row() -> None:
    TaskState.objects.update_state("STARTED", "id-1", {"name": "add", "tstamp": at(0)})
    TaskState.objects.update_state("SUCCESS", "id-1", {"name": None, "tstamp": at(1)})
    task = TaskState.objects.get()
    assert (task.state, task.name) == ("SUCCESS", "add")


def test_finished_row_of_version_1_is_not_turned_back() -> None:
    TaskStateFactory.create(task_id="id-1", tstamp=at(0), tstamp_us=None)
    TaskState.objects.update_state("STARTED", "id-1", {"tstamp": at(9)})
    assert TaskState.objects.get().state == "SUCCESS"


def test_unfinished_row_of_version_1_is_taken_on() -> None:
    """Every task in flight over the restart of a camera was stuck."""
    TaskStateFactory.create(task_id="id-1", state="STARTED", tstamp=at(0))
    TaskState.objects.update_state("SUCCESS", "id-1", {"tstamp": at(9)})
    task = TaskState.objects.get()
    assert (task.state, task.tstamp, task.name) == ("SUCCESS", at(9), "proj.tasks.add")


def test_unchanged_row_is_not_written(queries: CaptureQueriesContext) -> None:
    seen = {
        "name": "add",
        "tstamp": at(0.123456),
        "eta": at(5.5),
        "runtime": 0.1 + 0.2,
        "received_at": at(-1),
        "worker": WorkerStateFactory.create(),
        "attempts": [{"timestamp": 1, "exception": "ä", "traceback": ""}],
    }
    TaskState.objects.update_state("SUCCESS", "id-1", seen)
    with queries:
        TaskState.objects.update_state("SUCCESS", "id-1", seen)
    assert writes(queries) == []


def test_only_the_columns_that_change_are_written(
    queries: CaptureQueriesContext,
) -> None:
    TaskState.objects.update_state("STARTED", "id-1", {"name": "add", "tstamp": at(0)})
    with queries:
        TaskState.objects.update_state("SUCCESS", "id-1", {"tstamp": at(1)})
    (update,) = writes(queries)
    columns = re.findall(r"(\w+).? = ", update.partition(" WHERE ")[0])
    assert set(columns) == {"state", "tstamp", "tstamp_us", "updated_at"}


def test_change_is_timed_and_announced() -> None:
    seen: list[tuple[str, bool]] = []

    def saved(instance: TaskState, created: bool, **kwargs: Any) -> None:
        seen.append((instance.state, created))

    post_save.connect(saved, sender=TaskState)
    try:
        for second, state in enumerate(["STARTED", "SUCCESS", "SUCCESS"]):
            with time_machine.travel(NOW + second, tick=False):
                tstamp = at(min(second, 1))
                TaskState.objects.update_state(state, "id-1", {"tstamp": tstamp})
    finally:
        post_save.disconnect(saved, sender=TaskState)
    assert seen == [("STARTED", True), ("SUCCESS", False)]
    assert TaskState.objects.get().updated_at == at(1)


def test_ids_and_names_of_255_characters() -> None:
    name, task_id = "n" * 255, "i" * 255
    TaskState.objects.update_state("STARTED", task_id, {"name": name, "tstamp": at(0)})
    assert TaskState.objects.get(task_id=task_id).name == name


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
                for _ in range(5):  # what a deadlock refuses is saved again
                    try:
                        TaskState.objects.update_state(state, task_id, seen)
                    except DatabaseError:
                        continue
                    break
                else:
                    raise AssertionError(task_id)
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
