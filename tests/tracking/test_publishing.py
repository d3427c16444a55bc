"""What is written when a tracked task is sent."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from celery import group
from django.contrib.contenttypes.models import ContentType
from django.db import DataError, IntegrityError, connection, connections, transaction
from django.db.transaction import TransactionManagementError
from django.http import HttpRequest, HttpResponse
from django.test import Client, override_settings
from django.test.utils import CaptureQueriesContext
from django.urls import path
from pytest_django import DjangoCaptureOnCommitCallbacks

from django_celery_monitor.models import TaskState
from django_celery_monitor.tracking.backlog import Backlog
from django_celery_monitor.tracking.models import TaskObjectLink
from django_celery_monitor.tracking.recording import backlog, observer
from tests.celery import app
from tests.outages import Outage
from tests.tracked import tasks
from tests.tracked.models import Order, Parcel, Warehouse
from tests.tracking.written import links_of, row_of, statements

committed = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def _known_content_types(request: pytest.FixtureRequest) -> None:
    """Have the content types in memory, as after the first task of a process."""
    if request.node.get_closest_marker("django_db"):
        request.getfixturevalue("db")
        ContentType.objects.get_for_models(Order, Parcel, Warehouse)


def send(task: Any, *args: Any, **options: Any) -> str:
    """Send a task; return its id."""
    return str(task.apply_async(args, **options).id)


@committed
def test_sent_task_has_a_row_and_a_link() -> None:
    task_id = send(tasks.process_payment, 7)
    row = row_of(task_id)
    assert row is not None
    assert row["state"] == "PENDING"
    assert row["name"] == "tests.tracked.tasks.process_payment"
    assert row["args"] == "(7,)"
    assert links_of(task_id) == {("order", "7", "order_id")}


@committed
def test_row_says_what_the_event_says(monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[dict[str, Any]] = []

    def publish(type_: str, fields: dict[str, Any], *_: Any, **__: Any) -> None:
        events.append({**fields, "type": type_})

    amqp: Any = app.amqp
    monkeypatch.setattr(amqp._event_dispatcher, "publish", publish)
    task_id = send(tasks.process_payment, 7, countdown=60, expires=90)
    (event,) = events
    row = row_of(task_id)
    assert row is not None
    told = observer().task({**event, "timestamp": row["tstamp_us"] / 1_000_000})[1]
    assert {name: row[name] for name in told} == told


@committed
def test_two_statements() -> None:
    send(tasks.process_payment, 1)
    with CaptureQueriesContext(connection) as captured:
        send(tasks.process_payment, 7)
    assert 1 <= len(statements(captured)) <= 2


@committed
def test_two_statements_for_two_objects() -> None:
    parcel = "6f4a7c1e-8d2b-4b7a-9d57-0c4f7d3e2a10"
    with CaptureQueriesContext(connection) as captured:
        task_id = send(tasks.store, parcel, "north")
    assert 1 <= len(statements(captured)) <= 2
    uuid = (
        parcel if connection.features.has_native_uuid_field else parcel.replace("-", "")
    )
    assert links_of(task_id) == {
        ("parcel", uuid, "parcel_id"),
        ("warehouse", "north", "warehouse"),
    }


@committed
def test_object_that_is_looked_up_takes_one_select_more() -> None:
    order = Order.objects.create(account_id=3, reference="r")
    send(tasks.fulfill, 3, "r")
    with CaptureQueriesContext(connection) as captured:
        task_id = send(tasks.fulfill, 3, "r")
    selects = [sql for sql in statements(captured) if "tracked_order" in sql]
    assert len(selects) == 1
    assert 2 <= len(statements(captured)) <= 3
    assert links_of(task_id) == {("order", str(order.pk), "account_id, reference")}


@committed
def test_task_that_is_not_registered_is_not_touched() -> None:
    with CaptureQueriesContext(connection) as captured:
        task_id = send(tasks.untracked, 7)
    assert not captured.captured_queries
    assert row_of(task_id) is None


@committed
def test_retry_is_the_workers_to_tell() -> None:
    with CaptureQueriesContext(connection) as captured:
        send(tasks.process_payment, 7, retries=1)
    assert not captured.captured_queries


@committed
def test_same_task_sent_twice_is_one() -> None:
    for _ in range(2):
        send(tasks.process_payment, 7, task_id="same")
    assert TaskState.objects.filter(task_id="same").count() == 1
    assert TaskObjectLink.objects.count() == 1


@committed
def test_row_of_a_worker_that_was_faster_keeps_what_it_says() -> None:
    TaskState.objects.update_state(
        "STARTED", "early", {"name": "x", "started_at": None, "args": "(1,)"}
    )
    send(tasks.process_payment, 7, task_id="early")
    row = row_of("early")
    assert row is not None
    assert row["state"] == "STARTED"
    assert row["queue"] == "celery"
    assert links_of("early") == {("order", "7", "order_id")}


# Transactions of the project's


@committed
def test_nothing_is_written_before_the_commit() -> None:
    with transaction.atomic():
        with CaptureQueriesContext(connection) as captured:
            task_id = send(tasks.process_payment, 7)
        assert not captured.captured_queries
    assert row_of(task_id) is not None


@committed
def test_object_that_is_made_in_the_same_transaction_is_found() -> None:
    with transaction.atomic():
        order = Order.objects.create(account_id=3, reference="r")
        task_id = send(tasks.fulfill, 3, "r")
    assert links_of(task_id) == {("order", str(order.pk), "account_id, reference")}


@committed
def test_what_is_rolled_back_is_left_to_the_worker() -> None:
    with transaction.atomic():
        task_id = send(tasks.process_payment, 7)
        transaction.set_rollback(True)
    assert row_of(task_id) is None


@committed
def test_broken_transaction_stays_as_it_is() -> None:
    order = Order.objects.create()
    with transaction.atomic():
        other = Order.objects.create()
        with pytest.raises(IntegrityError), transaction.atomic(savepoint=False):
            Order.objects.create(pk=order.pk)
        assert connection.needs_rollback
        send(tasks.process_payment, 7)
        assert connection.needs_rollback
        with pytest.raises(TransactionManagementError):
            Order.objects.count()
    assert not Order.objects.filter(pk=other.pk)


@committed
def test_failing_write_leaves_the_transaction_committed() -> None:
    with Outage(lambda _, sql, __: "celery_monitor" in sql), transaction.atomic():
        order = Order.objects.create()
        task_id = send(tasks.process_payment, order.pk)
    assert Order.objects.filter(pk=order.pk)
    assert row_of(task_id) is None
    backlog.flush(20)


@committed
def test_database_that_has_failed_is_left_to_the_thread(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Backlog, "failing", True)
    with CaptureQueriesContext(connection) as captured:
        task_id = send(tasks.process_payment, 7)
    assert not captured.captured_queries
    backlog.flush(20)
    assert row_of(task_id) is not None


@committed
def test_nobody_waits_for_a_place_in_a_pool_of_connections(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    waiting: list[str] = []
    monkeypatch.setattr(backlog, "add", lambda seen: waiting.append(seen.task_id))
    with monkeypatch.context() as patch:
        patch.setitem(connection.settings_dict["OPTIONS"], "pool", value=True)
        patch.setattr(connections["default"], "connection", None)
        task_id = send(tasks.process_payment, 7)
        assert connection.connection is None
    assert waiting == [task_id]


@committed
def test_transaction_that_was_begun_by_hand_is_not_written_in() -> None:
    transaction.set_autocommit(False)
    try:
        with CaptureQueriesContext(connection) as captured:
            task_id = send(tasks.process_payment, 7)
        assert not captured.captured_queries
        transaction.rollback()
    finally:
        transaction.set_autocommit(True)
    backlog.flush(20)
    assert row_of(task_id) is not None


@pytest.mark.django_db
def test_in_a_test_of_the_projects_own(
    django_capture_on_commit_callbacks: DjangoCaptureOnCommitCallbacks,
) -> None:
    with django_capture_on_commit_callbacks(execute=True):
        task_id = send(tasks.process_payment, 7)
        assert row_of(task_id) is None
    assert row_of(task_id) is not None


@pytest.mark.django_db
def test_failing_write_in_a_test_of_the_projects_own(
    django_capture_on_commit_callbacks: DjangoCaptureOnCommitCallbacks,
) -> None:
    with (
        Outage(lambda _, sql, __: "celery_monitor_taskstate" in sql),
        django_capture_on_commit_callbacks(execute=True),
    ):
        send(tasks.process_payment, 7)
    assert Order.objects.count() == 0
    assert not TaskObjectLink.objects.exists()


@pytest.fixture
def _tasks_elsewhere() -> Iterator[None]:
    """Have the tasks in a database of their own."""
    with override_settings(DATABASE_ROUTERS=["tests.routers.MonitorRouter"]):
        yield


@pytest.mark.django_db(transaction=True, databases=["default", "other"])
@pytest.mark.usefixtures("_tasks_elsewhere")
def test_transaction_in_another_database_is_not_waited_for() -> None:
    with transaction.atomic():
        order = Order.objects.create(account_id=3, reference="r")
        task_id = send(tasks.fulfill, 3, "r")
        assert row_of(task_id) is not None
        assert TaskObjectLink.objects.get().object_id == str(order.pk)


@pytest.mark.django_db(transaction=True, databases=["default", "other"])
@pytest.mark.usefixtures("_tasks_elsewhere")
def test_lookup_in_a_broken_transaction_of_another_database() -> None:
    with transaction.atomic():
        transaction.set_rollback(True)
        task_id = send(tasks.fulfill, 3, "r")
        assert connection.needs_rollback
    assert row_of(task_id) is not None
    assert not TaskObjectLink.objects.exists()


@pytest.mark.django_db(transaction=True, databases=["default", "other"])
@pytest.mark.usefixtures("_tasks_elsewhere")
def test_lookup_that_fails_breaks_no_transaction_of_another_database() -> None:
    with transaction.atomic():
        order = Order.objects.create()
        with Outage(lambda _, sql, __: "account_id" in sql, error=DataError):
            send(tasks.fulfill, 3, "r")
        assert Order.objects.count() == 1
    assert Order.objects.filter(pk=order.pk)


def view(request: HttpRequest) -> HttpResponse:
    """Send a task, and say whether it has a row by then."""
    task_id = send(tasks.process_payment, 7)
    assert connection.in_atomic_block == ("atomic" in request.GET)
    if "fail" in request.GET:
        raise ValueError
    return HttpResponse(task_id)


urlpatterns = [path("send/", view)]


@committed
@override_settings(ROOT_URLCONF=__name__)
def test_atomic_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(connection.settings_dict, "ATOMIC_REQUESTS", value=True)
    client = Client(raise_request_exception=False)
    task_id = client.get("/send/?atomic").content.decode()
    assert row_of(task_id) is not None
    assert client.get("/send/?atomic&fail").status_code == 500
    assert TaskState.objects.count() == 1


# Event loops


@committed
def test_event_loop_is_not_kept_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> str:
        return send(tasks.process_payment, 7)

    task_id = asyncio.run(main())
    backlog.flush(20)
    assert row_of(task_id) is not None
    assert links_of(task_id) == {("order", "7", "order_id")}


# Many, and odd ones


@committed
def test_group() -> None:
    result: Any = group(tasks.process_payment.s(n) for n in range(100)).apply_async()
    ids = {child.id for child in result.children}
    assert set(TaskState.objects.values_list("task_id", flat=True)) == ids
    assert TaskObjectLink.objects.count() == 100


@committed
@pytest.mark.parametrize(
    ("args", "kwargs"),
    [
        ((), {}),
        ((None,), {}),
        (("x" * 100_000,), {}),
        (("\0\ud800",), {}),
        (({"a": 1},), {}),
        ((2**100,), {}),
        ((1, 2, 3, 4), {}),
        ((), {"other": 1}),
        ((1,), {"order_id": 1}),
    ],
)
def test_odd_arguments_have_a_row(args: Any, kwargs: Any) -> None:
    name = "tests.tracked.tasks.process_payment"
    task_id = app.send_task(name, args, kwargs, serializer="pickle").id
    assert row_of(task_id) is not None
    assert links_of(task_id) == set()


@committed
@pytest.mark.parametrize("value", ["nobody", None, 2**100, "\0", [1]])
def test_odd_lookups_have_a_row(value: Any) -> None:
    task_id = send(tasks.fulfill, value, "r")
    assert row_of(task_id) is not None
    assert links_of(task_id) == set()
    assert len(backlog) == backlog.dropped == 0


@committed
def test_first_version_of_the_protocol(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(app.amqp.__dict__, "create_task_message", app.amqp.as_task_v1)
    task_id = send(tasks.process_payment, 7)
    row = row_of(task_id)
    assert row is not None
    assert row["args"] == "(7,)"
    assert links_of(task_id) == {("order", "7", "order_id")}
    row = row_of(send(tasks.process_payment, 7, "x" * 100_000))
    assert row is not None
    assert len(row["args"]) < 2_000


@committed
def test_exchange_of_another_type_names_no_queue() -> None:
    send(tasks.process_payment, 7, task_id="topic", exchange="x", routing_key="a.b")
    row = row_of("topic")
    assert row is not None
    assert (row["queue"], row["exchange"], row["routing_key"]) == (None, "x", "a.b")


@committed
def test_secrets_are_masked() -> None:
    name = "tests.tracked.tasks.process_payment"
    row = row_of(app.send_task(name, kwargs={"password": "hunter2"}).id)
    assert row is not None
    assert "hunter2" not in row["kwargs"]


@committed
def test_listeners_of_the_row_hear_of_it() -> None:
    from django.db.models.signals import post_save

    heard: list[tuple[str, bool]] = []

    def listen(instance: TaskState, created: bool, **_: Any) -> None:
        heard.append((instance.task_id, created))

    post_save.connect(listen, sender=TaskState)
    try:
        for _ in range(2):
            send(tasks.process_payment, 7, task_id="heard")
    finally:
        post_save.disconnect(listen, sender=TaskState)
    assert heard[0] == ("heard", True)
