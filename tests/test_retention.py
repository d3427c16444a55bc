"""Retention: what is deleted, in which steps, and beside whom."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from datetime import datetime, timedelta
from functools import cache
from typing import Any

import pytest
import time_machine
from celery import states
from django.db import IntegrityError, OperationalError, connections, transaction
from django.db.models.signals import post_delete, pre_delete
from django.utils import timezone
from hypothesis import given
from hypothesis import strategies as st
from pytest_django import DjangoDbBlocker

from django_celery_monitor import deletion, retention
from django_celery_monitor.deletion import Batch, Deleter
from django_celery_monitor.models import TaskState, WorkerState
from django_celery_monitor.retention import Purged, Retention, task_expiry
from django_celery_monitor.utils import fromtimestamp
from tests.celery import app
from tests.factories import TaskStateFactory, WorkerStateFactory
from tests.scratch import EVERYWHERE, Scratch, scratch

NOW = 1_790_000_000
HOUR = timedelta(hours=1)
PENDING = states.UNREADY_STATES - states.EXCEPTION_STATES
SUCCESS = frozenset({states.SUCCESS})
HOURLY = tuple((names, HOUR) for names in (SUCCESS, states.EXCEPTION_STATES, PENDING))


def at(seconds: float) -> datetime:
    """Return the time so many seconds after the tests' own present."""
    return fromtimestamp(NOW + seconds)


OLD, NEW = at(-3601), at(-3599)


def old_worker(**columns: Any) -> WorkerState:
    """Create a worker that nothing was heard of for an hour."""
    columns = {"last_heartbeat": OLD, "last_update": OLD, **columns}
    worker = WorkerStateFactory.create()
    # last_update is set by every save.
    WorkerState.objects.filter(pk=worker.pk).update(**columns)
    return worker


def kept() -> set[str]:
    """Return the ids of the tasks that are there."""
    return set(TaskState.objects.values_list("task_id", flat=True))


class Clock:
    """A clock that passes in sleep alone, or with the rows that are deleted."""

    def __init__(self) -> None:
        self.now = 0.0
        #: Seconds that deleting a row takes.
        self.cost = 0.0
        self.sizes: list[int] = []
        self.sleeps: list[float] = []

    def monotonic(self) -> float:
        """Return the seconds that have passed."""
        return self.now

    def sleep(self, seconds: float) -> None:
        """Pass, at once."""
        self.now += seconds
        self.sleeps.append(seconds)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Return the clock that the deletion goes by."""
    clock = Clock()
    real = Deleter._transaction

    def transact(self: Deleter, batch: Batch) -> int:
        clock.sizes.append(len(batch.found))
        clock.now += len(batch.found) * clock.cost
        return real(self, batch)

    monkeypatch.setattr(Deleter, "_transaction", transact)
    for module in (deletion, retention):
        monkeypatch.setattr(module, "time", clock)
    return clock


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have batches of three rows."""
    for name in ("BATCH", "SMALLEST", "LARGEST", "LARGEST_LOADED"):
        monkeypatch.setattr(deletion, name, 3)


@pytest.mark.django_db
class TestWhat:
    """What is deleted."""

    @pytest.fixture(autouse=True)
    def _stopped(self) -> Iterator[None]:
        with time_machine.travel(NOW, tick=False):
            yield

    def test_expired_tasks_go_and_others_stay(self) -> None:
        TaskStateFactory.create_batch(5, tstamp=OLD)
        new = TaskStateFactory.create(tstamp=NEW)
        assert Retention(HOURLY).run() == Purged(tasks=5, workers=0, done=True)
        assert kept() == {new.task_id}
        assert Retention(HOURLY).run() == Purged(tasks=0, workers=0, done=True)

    @pytest.mark.parametrize("state", [*sorted(states.ALL_STATES), "REJECTED", "OWN"])
    def test_each_state_goes_with_its_set(self, state: str) -> None:
        sets = [SUCCESS, states.EXCEPTION_STATES, PENDING]
        if state == states.SUCCESS:
            own = 0
        elif state in states.EXCEPTION_STATES:
            own = 1
        else:
            own = 2
        TaskStateFactory.create(state=state, tstamp=OLD)
        others = [(names, HOUR) for i, names in enumerate(sets) if i != own]
        assert Retention(others).run().tasks == 0
        assert Retention([(sets[own], HOUR)]).run().tasks == 1

    def test_many_custom_states(self) -> None:
        for name in ("AAA", "PROGRESS", "SUCCESSFUL", "zzz", "日本"):
            TaskStateFactory.create(state=name, tstamp=OLD)
            TaskStateFactory.create(state=name, tstamp=NEW)
            TaskStateFactory.create(state="SUCCESS", tstamp=OLD)
        assert Retention([(PENDING, HOUR)]).run().tasks == 5
        assert TaskState.objects.count() == 10

    def test_set_without_expiry_is_kept(self) -> None:
        TaskStateFactory.create(state="FAILURE", tstamp=at(-(10**8)))
        TaskStateFactory.create(state="SUCCESS", tstamp=OLD)
        expiry = ((SUCCESS, 3600), (states.EXCEPTION_STATES, None))
        assert Retention(expiry).run().tasks == 1
        assert TaskState.objects.get().state == "FAILURE"

    def test_task_that_waits_for_its_eta_is_kept(self) -> None:
        waits = TaskStateFactory.create(state="RECEIVED", tstamp=OLD, eta=at(60))
        TaskStateFactory.create(state="RECEIVED", tstamp=OLD, eta=OLD)
        assert Retention(HOURLY).run().tasks == 1
        assert kept() == {waits.task_id}

    def test_marked_tasks_go_whatever_their_age(self) -> None:
        TaskStateFactory.create_batch(2, hidden=True, tstamp=NEW)
        TaskStateFactory.create(hidden=True, tstamp=OLD)
        assert Retention(((SUCCESS, None),)).run().tasks == 3

    @pytest.mark.usefixtures("small", "clock")
    def test_several_batches(self) -> None:
        for second in range(5):
            TaskStateFactory.create_batch(2, tstamp=OLD - timedelta(seconds=second))
        TaskStateFactory.create_batch(7, tstamp=OLD, state="FAILURE")
        TaskStateFactory.create_batch(4, hidden=True)
        new = TaskStateFactory.create(tstamp=NEW)
        assert Retention(HOURLY).run() == Purged(21, 0, done=True)
        assert kept() == {new.task_id}

    def test_workers_long_gone_are_forgotten(self) -> None:
        old_worker()
        old_worker(last_heartbeat=None)
        old_worker(offline_at=OLD)
        stay = [
            old_worker(last_heartbeat=NEW),
            old_worker(offline_at=NEW),
            old_worker(last_update=NEW),
        ]
        assert Retention((), HOUR).run() == Purged(0, 3, done=True)
        assert set(WorkerState.objects.all()) == set(stay)
        assert Retention((), 3598).run().workers == 3

    def test_workers_are_kept_without_an_expiry(self) -> None:
        old_worker()
        assert Retention(HOURLY, None).run() == Purged(0, 0, done=True)

    def test_worker_stays_while_a_task_refers_to_it(self) -> None:
        worker = old_worker()
        task = TaskStateFactory.create(worker=worker, tstamp=NEW)
        assert Retention(HOURLY, HOUR).run().workers == 0
        task.tstamp = OLD
        task.save()
        # With its last task, in the same run.
        assert Retention(HOURLY, HOUR).run() == Purged(1, 1, done=True)

    def test_count_deletes_nothing(self) -> None:
        TaskStateFactory.create_batch(2, tstamp=OLD, worker=None)
        TaskStateFactory.create(tstamp=OLD, worker=None, hidden=True)
        TaskStateFactory.create(tstamp=OLD, worker=None, state="OWN")
        old_worker()
        cleaner = Retention([*HOURLY, ({"NEVER"}, None)], HOUR)
        tasks, marked, workers = cleaner.count()
        assert [number for _, number in tasks] == [2, 0, 1]
        assert [names for names, _ in tasks] == [names for names, _ in HOURLY]
        assert (marked, workers) == (1, 1)
        assert Retention(()).count() == ([], 1, 0)
        assert cleaner.run() == Purged(4, 1, done=True)

    @given(
        rows=st.lists(
            st.tuples(
                st.sampled_from(["SUCCESS", "FAILURE", "RETRY", "STARTED", "OWN"]),
                st.integers(-7205, 5),
                st.none() | st.integers(-7205, 5),
                st.booleans(),
            ),
            max_size=12,
        ),
        expiry=st.lists(st.none() | st.integers(0, 7200), min_size=3, max_size=3),
    )
    def test_goes_exactly_what_would_be_marked_and_purged(
        self, rows: list[Any], expiry: list[int | None]
    ) -> None:
        TaskState.objects.all().delete()
        for state, tstamp, eta, hidden in rows:
            TaskStateFactory.create(
                state=state,
                tstamp=at(tstamp),
                eta=None if eta is None else at(eta),
                hidden=hidden,
                worker=None,
            )
        sets = tuple(zip([names for names, _ in HOURLY], expiry, strict=True))
        with transaction.atomic():
            for names, expires in sets:
                TaskState.objects.expire_by_states(names, expires)
            marked = TaskState.objects.purge()
            left = kept()
            transaction.set_rollback(True)
        assert Retention(sets).run().tasks == marked
        assert kept() == left


def test_settings_say_what_expires() -> None:
    assert task_expiry(app) == (
        (SUCCESS, timedelta(days=1)),
        (states.EXCEPTION_STATES, timedelta(days=3)),
        (PENDING, timedelta(days=5)),
    )


@pytest.mark.django_db
def test_from_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(app.conf, "monitor_task_success_expires", None)
    monkeypatch.setitem(app.conf, "monitor_worker_expires", 0)
    now = time.time()
    for state in ("SUCCESS", "FAILURE"):
        long_ago = fromtimestamp(now - 4 * 86_400)
        TaskStateFactory.create(state=state, tstamp=long_ago, worker=None)
    WorkerStateFactory.create(last_heartbeat=fromtimestamp(now - 1))
    WorkerState.objects.update(last_update=fromtimestamp(now - 1))
    assert Retention.from_settings(app).run() == Purged(1, 1, done=True)
    assert TaskState.objects.get().state == "SUCCESS"


# In which steps


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
@pytest.mark.usefixtures("small", "clock")
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
@pytest.mark.usefixtures("small")
def test_nothing_is_begun_when_the_time_is_up(clock: Clock) -> None:
    old_tasks(10)
    clock.cost = 1
    cleaner = Retention([(SUCCESS, HOUR)])
    assert cleaner.run(seconds=0) == Purged(0, 0, done=False)
    assert cleaner.run(seconds=4) == Purged(4, 0, done=False)
    assert cleaner.run(seconds=60) == Purged(6, 0, done=True)


@pytest.mark.django_db
@pytest.mark.usefixtures("small", "clock")
def test_sets_take_turns() -> None:
    old_tasks(9)
    TaskState.objects.filter(task_id="id-8").update(state="FAILURE")
    answers = iter([False] * 3 + [True])
    assert Retention(HOURLY).run(stop=lambda: next(answers)).tasks == 3
    assert not TaskState.objects.filter(state="FAILURE").exists()


@pytest.mark.django_db
def test_batches_follow_the_time_that_they_take(clock: Clock) -> None:
    old_tasks(900)
    clock.cost = 0.001
    assert Retention([(SUCCESS, HOUR)]).run().tasks == 900
    # The last of a full batch comes with the next: others may have its time.
    assert clock.sizes == [499, 249, 124, 28]
    assert clock.sleeps[0] == pytest.approx(0.499 * deletion.REST)

    old_tasks(900)
    clock.sizes.clear()
    clock.cost = 0.00004
    cleaner = Retention([(SUCCESS, HOUR)])
    cleaner._deleter.size = deletion.SMALLEST
    assert cleaner.run().tasks == 900
    assert clock.sizes == [49, 99, 199, 399, 154]


@pytest.mark.django_db
@pytest.mark.usefixtures("small", "clock")
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
    # Hidden rows and three sets look once, the custom states twice; then a batch,
    # and with locks and a transaction four more.
    with django_assert_max_num_queries(20) as captured:
        Retention(HOURLY).run()
    statements = [query["sql"] for query in captured.captured_queries]
    assert not any("traceback" in sql or '"result"' in sql for sql in statements)
    assert sum(sql.startswith("DELETE") for sql in statements) == 1


@pytest.mark.django_db
def test_listeners_hear_of_every_row_in_small_batches(
    monkeypatch: pytest.MonkeyPatch, clock: Clock
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
    assert clock.sizes == [9, 9, 7]


@pytest.mark.django_db
@pytest.mark.usefixtures("clock")
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
@pytest.mark.usefixtures("clock")
def test_deadlock_is_tried_again(monkeypatch: pytest.MonkeyPatch, times: int) -> None:
    old_tasks(3)
    monkeypatch.setattr(Deleter, "_transaction", failing(times))
    assert Retention(HOURLY).run().tasks == 3


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("clock")
def test_database_that_cannot_be_used_is_an_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    old_tasks(3)
    monkeypatch.setattr(Deleter, "_transaction", failing(deletion.TRIES))
    with pytest.raises(OperationalError):
        Retention(HOURLY).run()


@pytest.mark.django_db
def test_broken_transaction_of_the_caller_is_not_tried_again(
    monkeypatch: pytest.MonkeyPatch, clock: Clock
) -> None:
    old_tasks(3)
    monkeypatch.setattr(Deleter, "_transaction", failing(1))
    with pytest.raises(OperationalError):
        Retention(HOURLY).run()
    assert clock.sleeps == []


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


# Beside whom


@pytest.fixture(scope="module")
def databases(
    tmp_path_factory: pytest.TempPathFactory, django_db_blocker: DjangoDbBlocker
) -> Iterator[Callable[[str], Scratch]]:
    """Return what makes a migrated database of a kind, once."""
    with django_db_blocker.unblock(), ExitStack() as stack:

        @cache
        def make(kind: str) -> Scratch:
            made = stack.enter_context(scratch(kind, tmp_path_factory.mktemp("db")))
            made.migrate()
            return made

        yield make


@pytest.fixture
def database(
    request: pytest.FixtureRequest,
    databases: Callable[[str], Scratch],
    django_db_blocker: DjangoDbBlocker,
) -> Iterator[Scratch]:
    """Return an empty database that connections of other threads reach too."""
    with django_db_blocker.unblock():
        made = databases(request.param)
        yield made
        TaskState.objects.using(made.alias).all().delete()
        WorkerState.objects.using(made.alias).all().delete()


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
@pytest.mark.usefixtures("small", "clock")
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
@pytest.mark.usefixtures("small", "clock")
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

    def write() -> None:
        for start in range(0, 600, 60):
            with transaction.atomic(using=database.alias):
                mine = [f"id-{i}" for i in range(start, start + 60, 7)]
                rows = tasks.filter(task_id__in=mine)
                if database.vendor != "sqlite":
                    rows = rows.select_for_update().order_by("pk")
                    rows = tasks.filter(pk__in=[row.pk for row in rows])
                rows.update(tstamp=timezone.now())

    beside(database, clean, clean, write)

    Retention(HOURLY, using=database.alias).run()
    left = set(tasks.values_list("task_id", flat=True))
    written = {f"id-{i}" for s in range(0, 600, 60) for i in range(s, s + 60, 7)}
    # What the writer came too late for is gone, and nothing else is left.
    assert left <= written
    assert not tasks.expired(SUCCESS, HOUR).exists()
    assert sum(deleted) + len(left) <= 600


def test_every_set_is_a_collection() -> None:
    expiry: Iterable[tuple[Any, Any]] = task_expiry(app)
    assert all(isinstance(names, frozenset) for names, _ in expiry)
