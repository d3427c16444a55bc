"""The saver: what it writes, and what it does with what the database refuses."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.db import Error, IntegrityError, OperationalError, connection
from django.db.models.signals import post_save
from django.test.utils import CaptureQueriesContext

from django_celery_monitor import saver as saver_module
from django_celery_monitor.bulk import Table
from django_celery_monitor.counters import Counters
from django_celery_monitor.managers import ExtendedQuerySet
from django_celery_monitor.models import TaskState, WorkerState
from django_celery_monitor.observation import Observer
from django_celery_monitor.outbox import Batch
from django_celery_monitor.sanitize import Sanitizer
from django_celery_monitor.saver import PATIENCE, UNUSABLE, Saver
from tests.events import NOW, received, task_event, worker_event

# Foreign keys are checked at the end of a real transaction.
pytestmark = pytest.mark.django_db(transaction=True)

Columns = dict[str, Any]
OBSERVER = Observer(Sanitizer([], 100_000))


def batch_of(*events: dict[str, Any]) -> Batch:
    """Return what a camera has to save that has seen ``events``."""
    batch = Batch()
    for event in events:
        if event["type"].startswith("worker"):
            batch.see_worker(*OBSERVER.worker(event))
        else:
            batch.see_task(*OBSERVER.task(event))
    return batch


def many(number: int, type_: str = "task-succeeded", at: float = NOW) -> Batch:
    return batch_of(*(task_event(type_, f"id-{i:04}", at) for i in range(number)))


@pytest.fixture(params=["fast", "orm"])
def path(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Write by the way of this database, and by that of any other."""
    if request.param == "orm":
        monkeypatch.setattr(Table, "vendor", property(lambda _: "other"))
    return str(request.param)


@pytest.fixture
def saver() -> Saver:
    return Saver(Counters(), 60, 2)


@pytest.fixture
def queries() -> CaptureQueriesContext:
    return CaptureQueriesContext(connection)


def count(queries: CaptureQueriesContext, verb: str) -> int:
    """Return how many of the statements that begin with ``verb`` speak of tasks."""
    statements = [q["sql"].removeprefix("1000 times: ") for q in queries]
    return sum("taskstate" in sql and sql.startswith(verb) for sql in statements)


# Inserting, updating, leaving alone


@pytest.mark.usefixtures("path")
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


@pytest.mark.usefixtures("path")
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
@pytest.mark.usefixtures("path")
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


@pytest.mark.usefixtures("path")
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


@pytest.mark.usefixtures("path")
def test_worker_that_was_deleted_between_two_batches(saver: Saver) -> None:
    saver.save(batch_of(worker_event(), task_event("task-started", "a")))
    WorkerState.objects.all().delete()

    saver.save(batch_of(*(task_event("task-started", f"b{n}") for n in range(20))))

    worker = WorkerState.objects.get()
    assert TaskState.objects.filter(worker=worker).count() == 20
    assert saver.counters.quarantined == 0
    assert TaskState.objects.get(task_id="a").worker is None


# What the database refuses

REFUSED: dict[str, Columns] = {
    "null": {"state": None},
    "surrogate": {"name": "\ud800"},
    "no time": {"tstamp": "never"},
    "no json": {"attempts": [{"exception": "", "traceback": "", "odd": object()}]},
}


@pytest.mark.usefixtures("path")
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


@pytest.mark.usefixtures("path")
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


# Ids that a collation may call equal

EQUAL = ["id-x", "ID-X", "id-x ", "íd-x"]


@pytest.mark.parametrize("together", [True, False])
@pytest.mark.usefixtures("path")
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
