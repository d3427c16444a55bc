"""The saver: what it does with what the database refuses, or calls equal."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest
from django.db import (
    Error,
    IntegrityError,
    OperationalError,
    ProgrammingError,
    connection,
)

from django_celery_monitor.bulk import Table
from django_celery_monitor.managers import TaskStateQuerySet
from django_celery_monitor.models import TaskState, WorkerState
from django_celery_monitor.saver import PATIENCE, UNUSABLE, Saver
from tests.batches import OBSERVER, batch_of, many
from tests.events import NOW, task_event, worker_event

# Foreign keys are checked at the end of a real transaction.
pytestmark = pytest.mark.django_db(transaction=True)

Columns = dict[str, Any]

# What the database refuses

REFUSED: dict[str, Columns] = {
    "null": {"state": None},
    "surrogate": {"name": "\ud800"},
    "no time": {"tstamp": "never"},
    "no json": {"attempts": [{"exception": "", "traceback": "", "odd": object()}]},
}


@pytest.mark.usefixtures("writing")
@pytest.mark.parametrize("name", REFUSED)
def test_refused_row_costs_itself_alone(
    saver: Saver, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    batch = many(1000)
    batch.finished["id-0577"] = {**batch.finished["id-0577"], **REFUSED[name]}

    for _ in range(PATIENCE + 1):
        if batch:
            try:
                saver.save(batch)
            except UNUSABLE:
                continue

    assert not batch
    assert saver.counters.quarantined == 1
    assert TaskState.objects.count() == 999
    assert not TaskState.objects.filter(task_id="id-0577").exists()
    assert [r for r in caplog.records if "'id-0577'" in r.getMessage()]


@pytest.mark.usefixtures("writing")
def test_refused_change_leaves_the_row_as_it_was(saver: Saver) -> None:
    saver.save(many(20, "task-started"))
    batch = many(20, at=NOW + 1)
    batch.finished["id-0007"] = {**batch.finished["id-0007"], "result": "\ud800"}

    saver.save(batch)

    assert saver.counters.quarantined == 1
    states = set(TaskState.objects.exclude(task_id="id-0007").values_list("state"))
    assert states == {("SUCCESS",)}
    assert TaskState.objects.get(task_id="id-0007").state == "STARTED"


def test_refused_worker_costs_itself_alone(saver: Saver) -> None:
    batch = batch_of(
        *(worker_event(hostname=f"h{number}") for number in range(20)),
        task_event("task-started", "a", hostname="h3"),
    )
    batch.workers["h3"] = {**batch.workers["h3"], "sw_ver": "\ud800"}
    saver.save(batch)
    assert saver.counters.quarantined == 1
    # The task that it ran brings its name alone.
    assert WorkerState.objects.count() == 20
    row = TaskState.objects.get()
    assert row.worker is not None
    assert (row.worker.hostname, row.worker.pid) == ("h3", None)


@contextmanager
def without_table(model: Any) -> Iterator[None]:
    table, quote = model._meta.db_table, connection.ops.quote_name
    rename = f"ALTER TABLE {quote(table)} RENAME TO {quote('gone')}"
    back = f"ALTER TABLE {quote('gone')} RENAME TO {quote(table)}"
    with connection.cursor() as cursor:
        cursor.execute(rename)
    try:
        yield
    finally:
        with connection.cursor() as cursor:
            cursor.execute(back)


@pytest.mark.parametrize("model", [TaskState, WorkerState])
def test_table_that_is_not_there_keeps_everything(saver: Saver, model: Any) -> None:
    batch = batch_of(
        worker_event(),
        *(task_event("task-succeeded", f"id-{number}") for number in range(20)),
    )
    with without_table(model):
        for _ in range(PATIENCE + 3):
            with pytest.raises(Error):
                saver.save(batch)
    assert len(batch) == 20
    assert saver.counters.quarantined == 0

    saver.save(batch)
    assert TaskState.objects.filter(worker__hostname="celery@one").count() == 20
    assert WorkerState.objects.get().pid == 4711


@pytest.mark.parametrize("error", [OperationalError, IntegrityError])
def test_database_that_takes_nothing_keeps_everything(
    saver: Saver, monkeypatch: pytest.MonkeyPatch, error: type[Error]
) -> None:
    def fail(*args: Any) -> int:
        raise error("nothing at all")

    batch = many(20)
    with monkeypatch.context() as patched:
        patched.setattr(Table, "insert", fail)
        for _ in range(PATIENCE + 3):
            with pytest.raises(error):
                saver.save(batch)
    assert len(batch) == 20
    assert saver.counters.quarantined == 0
    saver.save(batch)
    assert TaskState.objects.count() == 20


@pytest.mark.parametrize("fails", [{1}, {1, 2}, {1, 3, 4}])
def test_table_that_comes_and_goes_keeps_everything(
    saver: Saver, monkeypatch: pytest.MonkeyPatch, fails: set[int]
) -> None:
    """Between any two writes the table may have been renamed, or renamed back."""
    written = 0
    join_many = TaskStateQuerySet.join_many

    def write(rows: Any, *arguments: Any) -> Any:
        nonlocal written
        written += 1
        if written in fails:
            raise ProgrammingError("there is no such table")
        return join_many(rows, *arguments)

    monkeypatch.setattr(TaskStateQuerySet, "join_many", write)
    batch = many(1)
    with suppress(ProgrammingError):
        saver.save(batch)
    assert bool(batch) == (fails != {1})
    saver.save(batch)

    assert saver.counters.quarantined == 0
    assert TaskState.objects.count() == 1


# Ids that a collation may call equal

EQUAL = ["id-x", "ID-X", "id-x ", "íd-x"]


@pytest.mark.parametrize("together", [True, False])
@pytest.mark.usefixtures("writing")
def test_ids_that_the_database_calls_equal_block_nothing(
    saver: Saver, together: bool
) -> None:
    events = [task_event("task-succeeded", uuid, result=uuid) for uuid in EQUAL]
    batches = [batch_of(*events)] if together else [batch_of(e) for e in events]

    for batch in batches:
        for uuid in "abc":
            batch.see_task(*OBSERVER.task(task_event("task-started", uuid)))
        saver.save(batch)
        assert not batch

    rows = dict(
        TaskState.objects.filter(state="SUCCESS").values_list("task_id", "result")
    )
    # Each row is one task's alone, and what was not saved was counted.
    assert all(uuid == result for uuid, result in rows.items())
    assert len(rows) + saver.counters.quarantined == len(EQUAL)
    assert TaskState.objects.filter(state="STARTED").count() == 3
    if connection.vendor != "mysql":
        assert saver.counters.quarantined == 0


def test_hostnames_that_the_database_calls_equal_block_nothing(saver: Saver) -> None:
    hostnames = ["celery@Web", "celery@web"]
    for _ in range(2):
        saver.save(
            batch_of(
                *(worker_event(hostname=hostname) for hostname in hostnames),
                *(
                    task_event("task-started", hostname, hostname=hostname)
                    for hostname in hostnames
                ),
            ),
            last=True,
        )
    found = set(WorkerState.objects.values_list("hostname", flat=True))
    assert found <= set(hostnames)
    if connection.vendor != "mysql":
        assert len(found) == 2
