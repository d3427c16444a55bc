"""Rows that others write at the same time, and rows that are not what they were."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from django.db import OperationalError, connection, connections

from django_celery_monitor.models import TaskState, WorkerState
from django_celery_monitor.tracking import writing
from django_celery_monitor.tracking.models import TaskObjectLink
from django_celery_monitor.tracking.recording import observe
from django_celery_monitor.tracking.writing import Observed, write
from tests.events import NOW, sent, task_event
from tests.outages import Before, refusal
from tests.tracked import tasks
from tests.tracking.test_recording import signalled

NAME = tasks.process_payment.name
committed = pytest.mark.django_db(transaction=True)


def started(at: float = NOW + 1) -> Observed:
    event = task_event("task-started", at=at, name=NAME, args="(7,)")
    return observe(NAME, event, ((7,), {}))


def succeeded(at: float = NOW + 2) -> Observed:
    return observe(NAME, task_event("task-succeeded", at=at, result="1", runtime=0.5))


def camera(*events: dict[str, Any]) -> None:
    """Write what events tell as a camera does."""
    worker, _ = WorkerState.objects.get_or_create(hostname="celery@one")
    for event in events:
        observed = observe(NAME, event)
        TaskState.objects.join_many(
            {observed.task_id: observed.seen}, {"celery@one": worker.pk}
        )


@committed
def test_outcome_that_a_camera_writes_at_the_same_time() -> None:
    write(observe(NAME, sent(at=NOW, name=NAME)))
    outcome = task_event("task-succeeded", at=NOW + 3, result="1", runtime=0.5)
    with connection.execute_wrapper(Before("UPDATE", lambda: camera(outcome))):
        write(started())
    row = TaskState.objects.get()
    assert (row.state, row.result, row.args) == ("SUCCESS", "1", "(7,)")
    assert row.started_at is not None


@committed
def test_what_others_have_written_since_is_read_again() -> None:
    write(started())
    write(started())
    assert writing._running
    camera(sent(at=NOW, queue="orders", name=NAME, args="(7,)"))
    write(succeeded())
    row = TaskState.objects.get()
    assert (row.state, row.queue) == ("SUCCESS", "orders")


@committed
def test_row_that_another_one_inserts_first() -> None:
    first = observe(NAME, sent(at=NOW, name=NAME))
    with connection.execute_wrapper(Before("INSERT", lambda: write(first))):
        write(succeeded())
    row = TaskState.objects.get()
    assert row.state == "SUCCESS"
    assert row.sent_at is not None


@committed
def test_worker_that_is_deleted_while_its_task_runs() -> None:
    for observed in (started(), started(NOW + 1.5)):
        write(observed)
    WorkerState.objects.all().delete()
    write(succeeded())
    assert TaskState.objects.get().worker == WorkerState.objects.get()


@committed
def test_row_of_the_first_version() -> None:
    write(observe(NAME, sent(at=NOW, name=NAME)))
    TaskState.objects.update(updated_at=None, tstamp_us=None)
    write(started())
    write(succeeded())
    row = TaskState.objects.get()
    assert (row.state, row.worker and row.worker.hostname) == ("SUCCESS", "celery@one")


@committed
def test_row_that_never_stays_as_it_is() -> None:
    write(observe(NAME, sent(at=NOW, name=NAME)))

    def change(execute: Any, sql: str, *arguments: Any) -> Any:
        if sql.startswith("UPDATE"):
            with connection.cursor() as cursor:
                cursor.execute(
                    "update celery_monitor_taskstate set updated_at = null, state = %s",
                    [f"STATE {next(numbers)}"],
                )
        return execute(sql, *arguments)

    numbers = iter(range(100))
    with pytest.raises(OperationalError), connection.execute_wrapper(change):
        write(started())


@committed
def test_row_of_a_running_task_that_was_deleted() -> None:
    write(observe(NAME, sent(at=NOW, name=NAME)))
    write(started())
    TaskState.objects.all().delete()
    # Delivered again, it tells nothing that is not remembered.
    write(started())
    assert TaskState.objects.get().state == "STARTED"


@committed
@pytest.mark.parametrize(("number", "is_written"), [(1213, True), (1205, False)])
def test_one_of_those_that_wait_for_each_other_begins_anew(
    number: int, is_written: bool
) -> None:
    with connection.execute_wrapper(Before("INSERT", refusal(number))):
        if is_written:
            write(started())
        else:
            with pytest.raises(OperationalError):
                write(started())
    assert TaskState.objects.exists() is is_written


@committed
def test_running_tasks_are_not_remembered_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(writing, "MAX_RUNNING", 3)
    for number in range(10):
        for at in (NOW, NOW + 1):
            event = task_event("task-started", uuid=f"id-{number}", name=NAME, at=at)
            write(observe(NAME, event))
    assert list(writing._running) == ["id-7", "id-8", "id-9"]


@committed
@pytest.mark.parametrize("count", [4])
def test_many_at_once(count: int) -> None:
    """Whoever sends, the worker and two cameras write the same rows."""
    if connection.vendor == "sqlite":
        pytest.skip("a database in memory has one writer")
    errors: list[Exception] = []
    begin = threading.Barrier(count)

    def run(number: int) -> None:
        begin.wait()
        try:
            told = signalled()
            for observed in told[number:] + told[:number]:
                write(observed)
        except Exception as error:  # noqa: BLE001 -- raised below
            errors.append(error)
        finally:
            connections.close_all()

    for _ in range(5):
        threads = [threading.Thread(target=run, args=(n,)) for n in range(count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not errors
        row = TaskState.objects.get()
        assert (row.state, row.retries) == ("SUCCESS", 1)
        assert len(row.attempts or ()) == 1
        assert TaskObjectLink.objects.count() == 1
        TaskState.objects.all().delete()
        writing._running.clear()
