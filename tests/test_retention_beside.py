"""Retention beside writers, other cleaners and whoever holds a row."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial

import pytest
from django.db import connections, transaction
from django.utils import timezone

from django_celery_monitor import deletion
from django_celery_monitor.deletion import Batch, Deleter
from django_celery_monitor.models import TaskState, WorkerState
from django_celery_monitor.retention import Purged, Retention
from tests.expired import HOUR, HOURLY, SUCCESS
from tests.scratch import EVERYWHERE, Scratch, until_done


def fill(database: Scratch, number: int) -> None:
    """Create tasks that have expired."""
    TaskState.objects.using(database.alias).bulk_create(
        TaskState(task_id=f"id-{i}", state="SUCCESS", tstamp=timezone.now() - 2 * HOUR)
        for i in range(number)
    )


def beside(database: Scratch, *calls: Callable[[], object]) -> None:
    """Make each call in a thread of its own; raise what any of them raised."""
    errors: list[BaseException] = []

    def work(call: Callable[[], object]) -> None:
        try:
            call()
        except BaseException as error:  # noqa: BLE001 -- raised again below
            errors.append(error)
        finally:
            connections[database.alias].close()

    threads = [threading.Thread(target=work, args=(call,)) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


@pytest.mark.parametrize("database", EVERYWHERE[1:], indirect=True)
@pytest.mark.usefixtures("small_batches", "deletion_clock")
def test_rows_that_a_writer_holds_are_passed_over(database: Scratch) -> None:
    fill(database, 20)
    tasks = TaskState.objects.using(database.alias)
    cleaner = Retention(HOURLY, using=database.alias)
    found: list[Purged] = []
    with transaction.atomic(using=database.alias):
        held = {"id-0", "id-7", "id-8"}
        assert len(tasks.select_for_update().filter(task_id__in=held)) == 3
        beside(database, lambda: found.append(cleaner.run()))
        assert found == [Purged(17, 0, done=True)]
    assert set(tasks.values_list("task_id", flat=True)) == held
    assert cleaner.run().tasks == 3


@pytest.mark.parametrize("database", EVERYWHERE, indirect=True)
@pytest.mark.usefixtures("small_batches", "deletion_clock")
def test_row_that_was_refreshed_since_it_was_found_stays(
    database: Scratch, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(database, 9)
    tasks = TaskState.objects.using(database.alias)
    real = Deleter._transaction
    first = iter([True])

    def refreshed(self: Deleter, batch: Batch) -> int:
        if next(first, False):
            changed = tasks.filter(
                pk__in=list(batch.found), task_id__in=("id-0", "id-1")
            )
            beside(database, lambda: changed.update(tstamp=timezone.now()))
        return real(self, batch)

    monkeypatch.setattr(Deleter, "_transaction", refreshed)
    assert Retention(HOURLY, using=database.alias).run().tasks == 7
    assert set(tasks.values_list("task_id", flat=True)) == {"id-0", "id-1"}


@pytest.mark.parametrize("database", EVERYWHERE, indirect=True)
def test_worker_that_was_heard_of_since_it_was_found_stays(
    database: Scratch, monkeypatch: pytest.MonkeyPatch
) -> None:
    workers = WorkerState.objects.using(database.alias)
    workers.bulk_create(WorkerState(hostname=name) for name in ("gone", "back", "new"))
    workers.update(last_update=timezone.now() - 2 * HOUR)
    real = Deleter._transaction

    def refreshed(self: Deleter, batch: Batch) -> int:
        workers.filter(hostname="back").update(last_heartbeat=timezone.now())
        TaskState.objects.using(database.alias).create(
            task_id="id",
            state="STARTED",
            tstamp=timezone.now(),
            worker=workers.get(hostname="new"),
        )
        return real(self, batch)

    monkeypatch.setattr(Deleter, "_transaction", refreshed)
    assert Retention((), HOUR, database.alias).run().workers == 1
    assert set(workers.values_list("hostname", flat=True)) == {"back", "new"}


@pytest.mark.parametrize("database", EVERYWHERE, indirect=True)
def test_two_cleaners_and_a_writer(
    database: Scratch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deletion, "LARGEST", 40)
    monkeypatch.setattr(deletion, "BATCH", 40)
    fill(database, 600)
    tasks = TaskState.objects.using(database.alias)
    deleted: list[int] = []

    def clean() -> None:
        cleaner = Retention(HOURLY, using=database.alias)
        deleted.append(cleaner.run().tasks)

    def touch(start: int) -> None:
        with transaction.atomic(using=database.alias):
            mine = [f"id-{i}" for i in range(start, start + 60, 7)]
            rows = tasks.filter(task_id__in=mine)
            if database.vendor != "sqlite":
                rows = rows.select_for_update().order_by("pk")
                rows = tasks.filter(pk__in=[row.pk for row in rows])
            rows.update(tstamp=timezone.now())

    def write() -> None:
        for start in range(0, 600, 60):
            until_done(partial(touch, start))

    beside(database, clean, clean, write)

    Retention(HOURLY, using=database.alias).run()
    left = set(tasks.values_list("task_id", flat=True))
    written = {f"id-{i}" for s in range(0, 600, 60) for i in range(s, s + 60, 7)}
    # What the writer came too late for is gone, and nothing else is left.
    assert left <= written
    assert not tasks.expired(SUCCESS, HOUR).exists()
    assert sum(deleted) + len(left) <= 600
