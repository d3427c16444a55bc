"""What is written when a tracked task runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from billiard.einfo import ExceptionInfo
from celery import chain, signals
from celery.app import trace
from celery.app.task import Context
from celery.app.trace import build_tracer
from celery.exceptions import Ignore, Reject, TimeLimitExceeded
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from django_celery_monitor.models import TaskState, WorkerState
from django_celery_monitor.tracking import pool, worker, writing
from django_celery_monitor.tracking.recording import backlog
from tests.celery import app
from tests.outages import Outage
from tests.tracked import tasks
from tests.tracking.written import links_of, row_of, statements

committed = pytest.mark.django_db(transaction=True)


def execute(task: Any, *args: Any, **request: Any) -> str:
    """Run a task as a worker does, its message received already; return its id."""
    task = app.tasks[task.name]
    message = {"id": "id-1", "hostname": "celery@one", "retries": 0, **request}
    tracer = build_tracer(task.name, task, app=app, hostname="celery@one")
    tracer(message["id"], list(args), {}, message)
    return str(message["id"])


@pytest.fixture
def raising(monkeypatch: pytest.MonkeyPatch) -> Callable[[BaseException], None]:
    """Return what has the task ``process_payment`` raise an exception."""

    def raise_(error: BaseException) -> None:
        def run(order_id: int, amount: int = 0) -> None:
            raise error

        monkeypatch.setattr(app.tasks[tasks.process_payment.name], "run", run)

    return raise_


@committed
def test_success() -> None:
    row = row_of(execute(tasks.process_payment, 7))
    assert row is not None
    assert row["state"] == "SUCCESS"
    assert row["result"] == "'paid 0 for 7'"
    assert row["runtime"] > 0
    assert row["started_at"] < row["finished_at"]
    assert WorkerState.objects.get().pk == row["worker_id"]
    assert WorkerState.objects.get().hostname == "celery@one"
    assert links_of("id-1") == {("order", "7", "order_id")}


@committed
def test_run_says_what_the_message_says() -> None:
    execute(
        tasks.process_payment,
        7,
        argsrepr="(7,)",
        kwargsrepr="{'token': 'x'}",
        retries=2,
        root_id="root",
        parent_id="parent",
        eta="2026-03-02T10:01:00+00:00",
    )
    row = row_of("id-1")
    assert row is not None
    assert (row["args"], row["retries"]) == ("(7,)", 2)
    assert "'x'" not in row["kwargs"]
    assert (row["root_id"], row["parent_id"]) == ("root", "parent")
    assert row["eta"] is not None
    assert row["received_at"] is None


@committed
def test_failure(raising: Callable[[BaseException], None]) -> None:
    raising(ValueError("password='hunter2'"))
    row = row_of(execute(tasks.process_payment, 7))
    assert row is not None
    assert (row["state"], row["exception"]) == ("FAILURE", "ValueError")
    assert "hunter2" not in row["result"] + row["traceback"]
    assert "raise error" in row["traceback"]


@committed
def test_runtime_that_celery_does_not_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before 5.7 it is no part of the signal."""
    send = signals.task_success.send

    def send_less(*args: Any, runtime: float = 0.0, **kwargs: Any) -> Any:
        return send(*args, **kwargs)

    monkeypatch.setattr(trace, "send_success", send_less)
    row = row_of(execute(tasks.process_payment, 7))
    assert row is not None
    assert row["runtime"] > 0


@committed
def test_retries_and_their_attempts() -> None:
    for retries in range(3):
        execute(tasks.ship, 7, 2, retries=retries)
    row = row_of("id-1")
    assert row is not None
    assert (row["state"], row["retries"]) == ("SUCCESS", 2)
    attempts = [(a["retries"], a["exception"]) for a in row["attempts"]]
    error = "ConnectionError('no courier')"
    assert attempts == [(0, error), (1, error)]


@committed
def test_nothing_is_kept_of_a_task_that_waits_for_its_next_attempt() -> None:
    execute(tasks.ship, 7, 2)
    row = row_of("id-1")
    assert row is not None
    assert row["state"] == "RETRY"
    assert not writing._running


@committed
@pytest.mark.parametrize(
    ("error", "state", "finished"),
    [
        (Reject("no", requeue=False), "REJECTED", True),
        (Reject("no", requeue=True), "REJECTED", False),
        (Ignore(), "IGNORED", False),
    ],
)
def test_end_without_an_outcome(
    raising: Callable[[BaseException], None],
    error: BaseException,
    state: str,
    finished: bool,
) -> None:
    raising(error)
    row = row_of(execute(tasks.process_payment, 7))
    assert row is not None
    assert row["state"] == state
    assert (row["finished_at"] is not None) == finished


@committed
def test_task_that_is_not_registered_is_not_touched() -> None:
    execute(tasks.untracked, 1)
    with CaptureQueriesContext(connection) as captured:
        execute(tasks.untracked, 7)
    assert not captured.captured_queries


@committed
def test_redelivered_task_is_one() -> None:
    for _ in range(2):
        execute(tasks.process_payment, 7, delivery_info={"redelivered": True})
    assert TaskState.objects.count() == 1
    assert links_of("id-1") == {("order", "7", "order_id")}


@committed
def test_two_models() -> None:
    execute(tasks.store, "6f4a7c1e-8d2b-4b7a-9d57-0c4f7d3e2a10", "north")
    roles = {(model, role) for model, _, role in links_of("id-1")}
    assert roles == {("parcel", "parcel_id"), ("warehouse", "warehouse")}


@committed
def test_worker_that_was_deleted_has_a_row_again() -> None:
    execute(tasks.process_payment, 7, id="id-0")
    WorkerState.objects.all().delete()
    row = row_of(execute(tasks.process_payment, 7))
    assert row is not None
    assert row["worker_id"] == WorkerState.objects.get().pk


@committed
def test_statements_of_a_run() -> None:
    tasks.process_payment.apply_async((1,), task_id="id-0")
    execute(tasks.process_payment, 1, id="id-0")
    tasks.process_payment.apply_async((7,), task_id="id-1")
    with CaptureQueriesContext(connection) as captured:
        execute(tasks.process_payment, 7, parent_id="parent")
    # A link, and two times a locking read and an update.
    # A link, what is known, the start, the end.
    assert len(statements(captured)) == 4


@committed
def test_task_runs_where_the_database_fails() -> None:
    with Outage():
        execute(tasks.process_payment, 7)
    assert row_of("id-1") is None
    backlog.flush(20)


# At once


@committed
def test_eager() -> None:
    result = tasks.process_payment.apply((7,))
    row = row_of(result.id)
    assert row is not None
    assert (row["state"], row["worker_id"]) == ("SUCCESS", None)
    assert links_of(result.id) == {("order", "7", "order_id")}


@committed
def test_long_arguments_are_cut_as_celery_cuts_them() -> None:
    result = tasks.process_payment.apply((7, "x" * 100_000))
    row = row_of(result.id)
    assert row is not None
    assert len(row["args"]) < 2_000


@committed
def test_always_eager(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(app.conf, "task_always_eager", value=True)
    result = tasks.ship.delay(7, 2)
    row = row_of(result.id)
    assert row is not None
    assert (row["state"], row["retries"]) == ("SUCCESS", 2)
    assert len(row["attempts"]) == 2


@committed
def test_eager_in_a_transaction() -> None:
    with transaction.atomic():
        with CaptureQueriesContext(connection) as captured:
            result = tasks.process_payment.apply((7,))
        assert not captured.captured_queries
    row = row_of(result.id)
    assert row is not None
    assert row["state"] == "SUCCESS"


@committed
def test_chain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(app.conf, "task_always_eager", value=True)
    chain(tasks.process_payment.si(1), tasks.process_payment.si(2)).apply_async()
    assert set(TaskState.objects.values_list("args", flat=True)) == {"(1,)", "(2,)"}
    assert set(TaskState.objects.values_list("state", flat=True)) == {"SUCCESS"}


# The main process of a worker


class Pool:
    """A pool of processes that keeps what it is given."""

    uses_semaphore = True

    def __init__(self, takes: Any = Context) -> None:
        self.takes = takes
        self.given: list[tuple[Any, Any]] = []
        self.jobs: list[Any] = []

    def on_apply(self, function: Any, args: Any, kwargs: Any, **options: Any) -> Any:
        """Keep a function and its arguments."""
        assert options == {"waitforslot": False}
        if isinstance(self.takes, Exception):
            raise self.takes
        self.given.append((function, args))
        job = None if self.takes is None else self.takes()
        self.jobs.append(job)
        return job


class Threads(Pool):
    """A pool of threads."""

    uses_semaphore = False


@contextmanager
def main_process(of: Any) -> Iterator[None]:
    """Be the main process of a worker."""
    controller = Context(pool=of, pool_cls=type(of), hostname="celery@one")
    pool._on_worker_init(controller)
    try:
        yield
    finally:
        pool._worker = None


def end_in_the_main_process() -> None:
    """Tell of a task that is revoked, and of one whose process is lost."""
    task = app.tasks[tasks.process_payment.name]
    request = Context(id="id-1", args=(7,), kwargs={}, root_id="id-1")
    signals.task_revoked.send(
        sender=task, request=request, terminated=True, signum=15, expired=False
    )
    error = TimeLimitExceeded(1)
    try:
        raise error
    except TimeLimitExceeded:
        einfo = ExceptionInfo()
    signals.task_failure.send(
        sender=task, task_id="id-2", exception=error, args=(), kwargs={}, einfo=einfo
    )


def check_ends() -> None:
    revoked, failed = row_of("id-1"), row_of("id-2")
    assert revoked is not None
    assert failed is not None
    assert revoked["state"] == "REVOKED"
    assert revoked["name"] == tasks.process_payment.name
    assert links_of("id-1") == {("order", "7", "order_id")}
    assert (failed["state"], failed["exception"]) == ("FAILURE", "TimeLimitExceeded")
    assert failed["worker_id"] == WorkerState.objects.get().pk


@committed
def test_main_process_leaves_the_database_to_its_children() -> None:
    children = Pool()
    with main_process(children), CaptureQueriesContext(connection) as captured:
        end_in_the_main_process()
        tasks.process_payment.delay(8)
    assert not captured.captured_queries
    assert len(children.given) == 3
    for function, args in children.given:
        function(*args)
    check_ends()


@committed
def test_main_process_with_threads_does_not_wait() -> None:
    with main_process(Threads()):
        with CaptureQueriesContext(connection) as captured:
            end_in_the_main_process()
        assert not captured.captured_queries
        backlog.flush(20)
    check_ends()


@committed
@pytest.mark.parametrize("takes", [None, OSError("closed")])
def test_pool_that_takes_nothing(takes: Any) -> None:
    with main_process(Pool(takes)):
        end_in_the_main_process()
    assert row_of("id-1") is None


@committed
def test_pool_is_given_no_more_than_it_may_keep(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pool, "MAX_WAITING", 3)
    children = Pool()
    with main_process(children):
        for _ in range(5):
            tasks.process_payment.delay(7)
        assert len(children.given) == 3
        children.given.clear()
        children.jobs.clear()
        tasks.process_payment.delay(7)
    assert len(children.given) == 1


@committed
def test_process_whose_worker_has_ended_is_as_any_other() -> None:
    with main_process(Pool()):
        assert pool.is_consumer()
        signals.worker_shutdown.send(sender=pool._worker)
        assert not pool.is_consumer()
        assert row_of(tasks.process_payment.delay(7).id) is not None


@committed
def test_task_in_a_thread_of_the_worker_writes_itself() -> None:
    with main_process(Threads()):
        row = row_of(execute(tasks.process_payment, 7))
    assert row is not None
    assert row["state"] == "SUCCESS"


def test_handlers_come_after_those_of_the_worker() -> None:
    order: list[str] = []

    def closes_connections(**_: Any) -> None:
        order.append("closed")

    signals.task_prerun.connect(closes_connections)
    worker._listen()
    receivers = [r for _, r in signals.task_prerun.receivers]
    assert receivers[-1] is worker.on_prerun
    signals.task_prerun.disconnect(closes_connections)
