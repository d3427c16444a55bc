"""The saver: what it inserts, updates and leaves alone, beside other writers."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.db import OperationalError, connection
from django.db.models.signals import post_save
from django.test.utils import CaptureQueriesContext

from django_celery_monitor import saver as saver_module
from django_celery_monitor.bulk import Table
from django_celery_monitor.managers import ExtendedQuerySet
from django_celery_monitor.models import TaskState, WorkerState
from django_celery_monitor.saver import Saver
from tests.batches import OBSERVER, batch_of, many
from tests.events import NOW, received, task_event, worker_event

# Foreign keys are checked at the end of a real transaction.
pytestmark = pytest.mark.django_db(transaction=True)


def count(queries: CaptureQueriesContext, verb: str) -> int:
    """Return how many of the statements that begin with ``verb`` speak of tasks."""
    statements = [q["sql"].removeprefix("1000 times: ") for q in queries]
    return sum("taskstate" in sql and sql.startswith(verb) for sql in statements)


# Inserting, updating, leaving alone


@pytest.mark.usefixtures("writing")
def test_batch_is_saved_and_left_empty(saver: Saver) -> None:
    batch = batch_of(
        received(uuid="a"),
        task_event("task-succeeded", "b", result="4", runtime=1.5),
        worker_event(),
    )
    saver.save(batch)

    assert not batch
    assert batch.size == 0
    assert saver.counters.saved == 3
    worker = WorkerState.objects.get()
    assert (worker.hostname, worker.pid, worker.update_freq) == ("celery@one", 4711, 62)
    one, two = TaskState.objects.order_by("task_id")
    assert (one.state, one.name, one.worker) == ("RECEIVED", "proj.tasks.add", worker)
    assert (two.state, two.result, two.runtime) == ("SUCCESS", "4", 1.5)
    assert (two.hidden, two.retries) == (False, 0)
    assert two.updated_at is not None


@pytest.mark.usefixtures("writing")
def test_new_changed_and_known_rows_in_one_batch(saver: Saver) -> None:
    saver.save(many(20, "task-started"))
    before = dict(TaskState.objects.values_list("task_id", "updated_at"))
    batch = many(30, "task-started")
    for number in range(10):
        event = task_event("task-succeeded", f"id-{number:04}", NOW + 1, runtime=0.5)
        batch.see_task(*OBSERVER.task(event))
    pks = dict(TaskState.objects.values_list("task_id", "pk"))
    saver.counters.saved = 0

    saver.save(batch)

    assert saver.counters.saved == 20
    rows = list(TaskState.objects.order_by("task_id"))
    states = ["SUCCESS"] * 10 + ["STARTED"] * 20
    assert [row.state for row in rows] == states
    assert [row.runtime for row in rows[:11]] == [*[0.5] * 10, None]
    assert [row.pk for row in rows[:20]] == [pks[row.task_id] for row in rows[:20]]
    assert all(row.updated_at == before[row.task_id] for row in rows[10:20])
    assert all(row.updated_at != before[row.task_id] for row in rows[:10])


def test_a_thousand_rows_are_few_statements(
    saver: Saver, queries: CaptureQueriesContext
) -> None:
    with queries:
        saver.save(many(1000))
    # PostgreSQL copies, which is no statement.
    copies = connection.vendor == "postgresql"
    assert (count(queries, "SELECT"), count(queries, "INSERT")) == (1, not copies)
    assert len(queries) < 20

    with CaptureQueriesContext(connection) as queries:
        saver.save(many(1000))
    assert (count(queries, "SELECT"), count(queries, "INSERT")) == (1, 0)
    assert count(queries, "UPDATE") == 0

    with CaptureQueriesContext(connection) as queries:
        saver.save(many(1000, at=NOW + 1))
    # The driver of MySQL sends many rows in an INSERT alone.
    verb = "INSERT" if connection.vendor == "mysql" else "UPDATE"
    assert (count(queries, "SELECT"), count(queries, verb)) == (1, 1)
    assert len(queries) < 20


def test_more_than_a_chunk(saver: Saver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(saver_module, "CHUNK", 7)
    saver.save(many(20))
    assert TaskState.objects.count() == 20


def test_what_is_saved_stays_so_when_the_rest_fails(
    saver: Saver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next shot has only what is left to do."""
    monkeypatch.setattr(saver_module, "CHUNK", 10)
    batch = many(30)
    insert, calls = Table.insert, []

    def fail(self: Table, rows: Any) -> None:
        calls.append(len(rows))
        if self.model is TaskState and sum(calls) > 25:
            raise OperationalError("gone away")
        insert(self, rows)

    monkeypatch.setattr(Table, "insert", fail)
    with pytest.raises(OperationalError):
        saver.save(batch)
    saved = TaskState.objects.count()
    assert 0 < saved < 30
    assert len(batch) == 30 - saved
    monkeypatch.setattr(Table, "insert", insert)
    saver.save(batch)
    assert TaskState.objects.count() == 30
    assert saver.counters.quarantined == 0


def test_new_and_changed_rows_are_announced(saver: Saver) -> None:
    heard: list[tuple[str, str, bool]] = []

    def saved(instance: TaskState, created: bool, **kwargs: Any) -> None:
        heard.append((instance.task_id, instance.state, created))
        if instance.task_id == "b":
            raise RuntimeError("a receiver of the project's own")

    saver.save(batch_of(*(task_event("task-started", uuid) for uuid in "bc")))
    post_save.connect(saved, sender=TaskState)
    try:
        saver.save(
            batch_of(
                *(task_event("task-started", uuid) for uuid in "ac"),
                task_event("task-succeeded", "b", NOW + 1),
            )
        )
    finally:
        post_save.disconnect(saved, sender=TaskState)
    assert sorted(heard) == [("a", "STARTED", True), ("b", "SUCCESS", False)]
    assert saver.counters.quarantined == 0


# Another writer


@contextmanager
def between(
    monkeypatch: pytest.MonkeyPatch, other: Callable[[], None]
) -> Iterator[Any]:
    """Let another writer write between the locking read and the insert, once."""
    read = ExtendedQuerySet._locked
    times: list[int] = []

    def locked(self: Any, *args: Any) -> Any:
        stored = read(self, *args)
        if self.model is TaskState and not times:
            times.append(1)
            thread = threading.Thread(target=other)
            thread.start()
            thread.join(timeout=20)
            assert not thread.is_alive()
        return stored

    with monkeypatch.context() as patched:
        patched.setattr(ExtendedQuerySet, "_locked", locked)
        yield times


@pytest.mark.services("DATABASE_URL")
@pytest.mark.usefixtures("writing")
def test_row_that_another_writer_inserts_first(
    saver: Saver, monkeypatch: pytest.MonkeyPatch
) -> None:
    def other() -> None:
        try:
            seen = {"name": "proj.tasks.add", "retries": 3}
            TaskState.objects.update_state(
                "STARTED", "id-0003", {"tstamp": OBSERVER.to_datetime(1), **seen}
            )
        finally:
            connection.close()

    with between(monkeypatch, other) as times:
        saver.save(many(20))

    assert times
    assert TaskState.objects.filter(state="SUCCESS").count() == 20
    row = TaskState.objects.get(task_id="id-0003")
    assert (row.name, row.retries) == ("proj.tasks.add", 3)
    assert saver.counters.quarantined == 0


@pytest.mark.usefixtures("writing")
def test_row_that_was_not_there_to_be_read(
    saver: Saver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same on a database that lets one writer in at a time."""
    saver.save(batch_of(received(uuid="id-0003", at=NOW - 1)))
    read, blind = ExtendedQuerySet._locked, [True]

    def locked(self: Any, *args: Any) -> Any:
        if self.model is TaskState and blind:
            blind.clear()
            return {}
        return read(self, *args)

    monkeypatch.setattr(ExtendedQuerySet, "_locked", locked)
    saver.save(many(20))

    row = TaskState.objects.get(task_id="id-0003")
    assert (row.state, row.name) == ("SUCCESS", "proj.tasks.add")
    assert TaskState.objects.filter(state="SUCCESS").count() == 20
    assert saver.counters.quarantined == 0


@pytest.mark.usefixtures("writing")
def test_worker_that_was_deleted_between_two_batches(saver: Saver) -> None:
    saver.save(batch_of(worker_event(), task_event("task-started", "a")))
    WorkerState.objects.all().delete()

    saver.save(batch_of(*(task_event("task-started", f"b{n}") for n in range(20))))

    worker = WorkerState.objects.get()
    assert TaskState.objects.filter(worker=worker).count() == 20
    assert saver.counters.quarantined == 0
    assert TaskState.objects.get(task_id="a").worker is None
