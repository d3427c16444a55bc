"""Retention: in which steps it deletes, and what may interrupt it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from django.db import IntegrityError, OperationalError
from django.db.models.signals import post_delete, pre_delete
from django.utils import timezone

from django_celery_monitor import deletion
from django_celery_monitor.deletion import Batch, Deleter
from django_celery_monitor.models import TaskState, WorkerState
from django_celery_monitor.retention import Purged, Retention
from tests.expired import HOUR, HOURLY, SUCCESS, Clock, kept, old_worker
from tests.factories import TaskStateFactory


def old_tasks(number: int, **columns: Any) -> None:
    """Create tasks that expired an hour ago."""
    TaskState.objects.bulk_create(
        TaskState(
            task_id=f"id-{i}",
            state="SUCCESS",
            tstamp=timezone.now() - 2 * HOUR + timedelta(seconds=i),
            **columns,
        )
        for i in range(number)
    )


@pytest.mark.django_db
@pytest.mark.usefixtures("small_batches", "deletion_clock")
def test_stop_is_asked_before_each_batch_and_the_oldest_go_first() -> None:
    old_tasks(10)
    answers = iter([False, False, True])
    found = []

    def stop() -> bool:
        found.append(TaskState.objects.count())
        return next(answers)

    assert Retention([(SUCCESS, HOUR)]).run(stop=stop) == Purged(2, 0, done=False)
    assert found == [10, 10, 8]
    assert kept() == {f"id-{i}" for i in range(2, 10)}
    assert Retention([(SUCCESS, HOUR)]).run(stop=lambda: False).tasks == 8


@pytest.mark.django_db
@pytest.mark.usefixtures("small_batches")
def test_nothing_is_begun_when_the_time_is_up(deletion_clock: Clock) -> None:
    old_tasks(10)
    deletion_clock.cost = 1
    cleaner = Retention([(SUCCESS, HOUR)])
    assert cleaner.run(seconds=0) == Purged(0, 0, done=False)
    assert cleaner.run(seconds=4) == Purged(4, 0, done=False)
    assert cleaner.run(seconds=60) == Purged(6, 0, done=True)


@pytest.mark.django_db
@pytest.mark.usefixtures("small_batches")
def test_sets_take_turns(deletion_clock: Clock) -> None:
    old_tasks(9)
    TaskState.objects.filter(task_id="id-8").update(state="FAILURE")
    deletion_clock.cost = 1
    assert Retention(HOURLY).run(seconds=2.5).tasks == 3
    assert not TaskState.objects.filter(state="FAILURE").exists()


@pytest.mark.django_db
@pytest.mark.usefixtures("small_batches", "deletion_clock")
def test_a_run_goes_on_where_the_last_one_was_interrupted() -> None:
    """However little each of them can do, as where there are many states."""
    old_tasks(3)
    for number in range(20):
        TaskStateFactory.create(state=f"PROGRESS-{number}", worker=None)
    old_worker()
    cleaner = Retention(HOURLY, worker_expires=HOUR)
    runs: list[Purged] = []
    while not (runs and runs[-1].done):
        answers = iter([False, True])
        runs.append(cleaner.run(stop=partial(next, answers)))
        assert len(runs) < 100
    assert sum(run.tasks for run in runs) == 3
    assert sum(run.workers for run in runs) == 1
    assert not WorkerState.objects.exists()
    # The next one begins anew.
    old_tasks(1)
    assert cleaner.run().tasks == 1


@pytest.mark.django_db
def test_batches_follow_the_time_that_they_take(deletion_clock: Clock) -> None:
    old_tasks(900)
    deletion_clock.cost = 0.001
    assert Retention([(SUCCESS, HOUR)]).run().tasks == 900
    # The last of a full batch comes with the next: others may have its time.
    assert deletion_clock.sizes == [499, 249, 124, 28]
    assert deletion_clock.sleeps[0] == pytest.approx(0.499 * deletion.REST)

    old_tasks(900)
    deletion_clock.sizes.clear()
    deletion_clock.cost = 0.00004
    cleaner = Retention([(SUCCESS, HOUR)])
    cleaner._deleter.size = deletion.SMALLEST
    assert cleaner.run().tasks == 900
    assert deletion_clock.sizes == [49, 99, 199, 399, 154]


@pytest.mark.django_db
@pytest.mark.usefixtures("small_batches", "deletion_clock")
@pytest.mark.parametrize("seconds", [[0] * 11, [*range(4), *[4] * 9, *range(4, 8)]])
def test_many_tasks_have_the_same_time(seconds: list[int]) -> None:
    start = timezone.now() - 2 * HOUR
    TaskState.objects.bulk_create(
        TaskState(task_id=f"id-{i}", state="SUCCESS", tstamp=start + second * HOUR / 60)
        for i, second in enumerate(seconds)
    )
    done = Retention([(SUCCESS, HOUR)]).run()
    assert done == Purged(len(seconds), 0, done=True)


@pytest.mark.django_db
def test_texts_are_not_loaded_and_a_batch_is_one_statement(
    django_assert_max_num_queries: Any,
) -> None:
    old_tasks(400, result="x" * 1000)
    # Hidden rows, three sets and links look once, the custom states twice; then a
    # batch, and with locks and a transaction four more.
    with django_assert_max_num_queries(20) as captured:
        Retention(HOURLY).run()
    statements = [query["sql"] for query in captured.captured_queries]
    assert not any("traceback" in sql or '"result"' in sql for sql in statements)
    assert sum(sql.startswith("DELETE") for sql in statements) == 1


@pytest.mark.django_db
def test_listeners_hear_of_every_row_in_small_batches(
    monkeypatch: pytest.MonkeyPatch, deletion_clock: Clock
) -> None:
    old_tasks(25, result="4", worker=old_worker())
    monkeypatch.setattr(deletion, "LARGEST_LOADED", 10)
    heard: list[tuple[str, str | None]] = []

    def hear(instance: TaskState, **_: Any) -> None:
        heard.append((instance.task_id, instance.result))

    for signal in (pre_delete, post_delete):
        signal.connect(hear, sender=TaskState)
    try:
        assert Retention(HOURLY).run().tasks == 25
    finally:
        for signal in (pre_delete, post_delete):
            signal.disconnect(hear, sender=TaskState)
    assert sorted(heard) == sorted([(f"id-{i}", "4") for i in range(25)] * 2)
    assert deletion_clock.sizes == [9, 9, 7]


@pytest.mark.django_db
@pytest.mark.usefixtures("deletion_clock")
def test_row_that_may_not_be_deleted_stays_alone(
    caplog: pytest.LogCaptureFixture,
) -> None:
    old_tasks(20)

    def protect(instance: TaskState, **_: Any) -> None:
        if instance.task_id == "id-7":
            raise IntegrityError("still needed")

    pre_delete.connect(protect, sender=TaskState)
    try:
        assert Retention(HOURLY).run() == Purged(19, 0, done=True)
    finally:
        pre_delete.disconnect(protect, sender=TaskState)
    assert kept() == {"id-7"}
    assert "still needed" in caplog.text


def failing(times: int) -> Callable[..., int]:
    """Return a transaction that fails so many times first."""
    real = Deleter._transaction
    failures = iter(range(times))

    def transact(self: Deleter, batch: Batch) -> int:
        if next(failures, None) is not None:
            raise OperationalError("deadlock detected")
        return real(self, batch)

    return transact


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("times", [1, deletion.TRIES - 1])
@pytest.mark.usefixtures("deletion_clock")
def test_deadlock_is_tried_again(monkeypatch: pytest.MonkeyPatch, times: int) -> None:
    old_tasks(3)
    monkeypatch.setattr(Deleter, "_transaction", failing(times))
    assert Retention(HOURLY).run().tasks == 3


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("deletion_clock")
def test_database_that_cannot_be_used_is_an_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    old_tasks(3)
    monkeypatch.setattr(Deleter, "_transaction", failing(deletion.TRIES))
    with pytest.raises(OperationalError):
        Retention(HOURLY).run()


@pytest.mark.django_db
def test_broken_transaction_of_the_caller_is_not_tried_again(
    monkeypatch: pytest.MonkeyPatch, deletion_clock: Clock
) -> None:
    old_tasks(3)
    monkeypatch.setattr(Deleter, "_transaction", failing(1))
    with pytest.raises(OperationalError):
        Retention(HOURLY).run()
    assert deletion_clock.sleeps == []


@pytest.mark.django_db(databases=["default", "other"])
def test_router_names_the_database(settings: Any) -> None:
    settings.DATABASE_ROUTERS = ["tests.routers.MonitorRouter"]
    for alias in ("default", "other"):
        TaskState.objects.using(alias).create(
            task_id="id", state="SUCCESS", tstamp=timezone.now() - 2 * HOUR
        )
    assert Retention(HOURLY).run().tasks == 1
    assert TaskState.objects.using("default").count() == 1
    assert Retention(HOURLY, using="default").run().tasks == 1
