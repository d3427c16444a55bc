"""What is written when a tracked task is sent."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from celery import group
from django.db import connection
from django.test.utils import CaptureQueriesContext

from django_celery_monitor.models import TaskState
from django_celery_monitor.tracking.models import TaskObjectLink
from django_celery_monitor.tracking.recording import backlog, observer
from tests.celery import app
from tests.tracked import tasks
from tests.tracked.models import Order
from tests.tracking.written import links_of, row_of, send, statements

pytestmark = pytest.mark.usefixtures("known_content_types")

committed = pytest.mark.django_db(transaction=True)


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
