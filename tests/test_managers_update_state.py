"""update_state: what becomes of a task's row when one more event is seen."""

from __future__ import annotations

import re
from contextlib import nullcontext
from typing import Any

import pytest
import time_machine
from django.db import OperationalError, connection, transaction
from django.db.models.signals import post_save
from django.test.utils import CaptureQueriesContext

from django_celery_monitor.models import TaskState
from tests.events import NOW
from tests.factories import TaskStateFactory, WorkerStateFactory
from tests.outages import Before, refusal
from tests.rows import at, writes

pytestmark = pytest.mark.django_db


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


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("statement", ["INSERT", "UPDATE"])
@pytest.mark.parametrize(("number", "is_saved"), [(1213, True), (1205, False)])
def test_one_of_those_that_wait_for_each_other_begins_anew(
    statement: str, number: int, is_saved: bool
) -> None:
    if statement == "UPDATE":
        TaskStateFactory.create(task_id="id-1", state="STARTED", tstamp=at(0))
    refused = connection.execute_wrapper(Before(statement, refusal(number)))
    with refused, nullcontext() if is_saved else pytest.raises(OperationalError):
        TaskState.objects.update_state("SUCCESS", "id-1", {"tstamp": at(1)})
    assert TaskState.objects.filter(state="SUCCESS").exists() is is_saved


@pytest.mark.django_db(transaction=True)
def test_whoever_has_a_transaction_begins_it_anew() -> None:
    refused = connection.execute_wrapper(Before("INSERT", refusal(1213)))
    with refused, pytest.raises(OperationalError), transaction.atomic():
        TaskState.objects.update_state("SUCCESS", "id-1", {"tstamp": at(1)})
    TaskState.objects.update_state("SUCCESS", "id-1", {"tstamp": at(1)})
    assert TaskState.objects.count() == 1
