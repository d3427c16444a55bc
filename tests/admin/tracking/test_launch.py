"""The form that launches a task for an object."""

from __future__ import annotations

from decimal import Decimal
from typing import Any
from unittest.mock import patch
from uuid import UUID

import pytest
from celery import Task
from django.contrib.admin.models import LogEntry
from django.db.models import Model
from django.test import Client
from kombu.transport import memory
from kombu.utils import json

from django_celery_monitor.models import TaskState
from django_celery_monitor.tracking import FromModel
from django_celery_monitor.tracking import launch as launching
from tests.admin.conftest import Messages, told
from tests.admin.tracking.addresses import TASKS, launch, tracker
from tests.admin.tracking.launches import errors, history_of, register, shown
from tests.celery import app
from tests.factories import (
    OrderFactory,
    ParcelFactory,
    TaskStateFactory,
    WarehouseFactory,
)
from tests.tracked.models import Customer, Order

pytestmark = [pytest.mark.django_db, pytest.mark.urls("tests.admin.tracking.sites")]


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have each task that is sent be a row."""
    real = Task.apply_async

    def send(self: Any, *args: Any, **options: Any) -> Any:
        TaskStateFactory.create(task_id=options["task_id"], state="PENDING")
        return real(self, *args, **options)

    monkeypatch.setattr(Task, "apply_async", send)


@pytest.mark.parametrize(
    ("task", "role", "args", "kwargs", "queue"),
    [
        ("process_payment", "order_id", "({pk},)", "{{}}", "celery"),
        # The task says itself where it goes.
        ("fulfill", "account_id, reference", '(7, "R\'7")', "{{}}", "slow"),
        ("remind", "email", "()", "{{'email': 'ada@example.com'}}", "celery"),
    ],
)
def test_it_shows_and_sends_what_the_object_has(
    launcher: Client,
    sent: Messages,
    order: Order,
    task: str,
    role: str,
    args: str,
    kwargs: str,
    queue: str,
) -> None:
    url = launch(order, task, role)
    form = shown(launcher, url)
    assert form == {"args": args.format(pk=order.pk), "kwargs": kwargs.format()}
    assert sent(queue) == []
    response = launcher.post(url, form, follow=True)
    assert response.redirect_chain == [(tracker(order), 302)]
    (message,) = sent(queue)
    assert message["task"] == f"{TASKS}.{task}"
    assert repr(tuple(message["args"])) == args.format(pk=order.pk)
    assert repr(message["kwargs"]) == kwargs.format()
    said = f"Launched {TASKS}.{task} as <code>{message['id']}</code>."
    assert told(response) == [said]


@pytest.mark.usefixtures("recorded")
def test_the_history_of_the_task_has_no_text_of_the_object(
    launcher: Client, order: Order, django_capture_on_commit_callbacks: Any
) -> None:
    # Whoever may see tasks may not see the object, of which a text may say a lot.
    url = launch(order, "ship")
    with (
        patch.object(Order, "__str__", lambda self: f"Order {self.pk} of Ada"),
        django_capture_on_commit_callbacks(execute=True),
    ):
        launcher.post(url, shown(launcher, url))
    task = TaskState.objects.get()
    assert history_of(task) == [f"Launched it for: Order {order.pk}."]


class Lagging:
    """Reads tasks where none have arrived yet."""

    def db_for_read(self, model: type[Model], **hints: Any) -> str | None:
        """Return the alias of the replica."""
        return "other" if model is TaskState else None

    def db_for_write(self, model: type[Model], **hints: Any) -> str | None:
        """Return the alias that is written to."""
        return "default"


@pytest.mark.django_db(databases=["default", "other"])
@pytest.mark.usefixtures("recorded")
def test_the_entry_on_the_task_does_not_wait_for_a_replica(
    launcher: Client,
    order: Order,
    settings: Any,
    django_capture_on_commit_callbacks: Any,
) -> None:
    url = launch(order, "ship")
    data = shown(launcher, url)
    settings.DATABASE_ROUTERS = [Lagging()]
    with django_capture_on_commit_callbacks(execute=True):
        launcher.post(url, data)
    assert len(history_of(TaskState.objects.using("default").get())) == 1


@pytest.mark.usefixtures("recorded")
def test_it_leaves_entries_on_the_object_and_on_the_task(
    launcher: Client,
    sent: Messages,
    order: Order,
    django_capture_on_commit_callbacks: Any,
) -> None:
    url = launch(order, "ship")
    with django_capture_on_commit_callbacks(execute=True):
        launcher.post(url, shown(launcher, url))
    (message,) = sent("celery")
    assert history_of(order) == [f"Launched {TASKS}.ship as {message['id']}."]
    task = TaskState.objects.get(task_id=message["id"])
    assert history_of(task) == [f"Launched it for: Order {order.pk}."]
    users = {entry.user_id for entry in LogEntry.objects.all()}
    assert users == {int(launcher.session["_auth_user_id"])}


def test_a_task_whose_row_is_late_is_named_in_the_log(
    launcher: Client,
    sent: Messages,
    order: Order,
    caplog: pytest.LogCaptureFixture,
    django_capture_on_commit_callbacks: Any,
) -> None:
    TaskState.objects.all().delete()
    with django_capture_on_commit_callbacks() as callbacks:
        launcher.post(launch(order, "ship"), {"args": f"[{order.pk}]", "kwargs": "{}"})
    TaskState.objects.all().delete()
    callbacks[-1]()
    (message,) = sent("celery")
    assert message["id"] in caplog.text
    assert len(history_of(order)) == 1


def test_what_was_edited_is_sent(
    launcher: Client, sent: Messages, order: Order
) -> None:
    form = {"args": "[]", "kwargs": f'{{"order_id": {order.pk}, "amount": 12}}'}
    launcher.post(launch(order, "process_payment"), form)
    (message,) = sent("celery")
    assert (message["args"], message["kwargs"]) == (
        [],
        {"order_id": order.pk, "amount": 12},
    )


@pytest.mark.parametrize(
    ("args", "kwargs", "error"),
    [
        ("()", "{}", "does not take these arguments: missing a required argument"),
        ("({pk}, 1, 2)", "{}", "too many positional arguments"),
        ("({pk},)", "{'none': 1}", "got an unexpected keyword argument 'none'"),
        ("({pk},)", "{'order_id': 1}", "multiple values for argument 'order_id'"),
        ("({other},)", "{}", "it would not be a task of Order {pk}"),
        ("(0,)", "{}", "it would not be a task of Order {pk}"),
        ("(None,)", "{}", "it would not be a task of Order {pk}"),
        ("'x'", "{}", "they are no list"),
        ("({pk},)", "[]", "they are no dictionary"),
        ("(open('x'),)", "{}", "they are not made of plain values"),
        ("", "{}", "This field is required."),
    ],
)
def test_what_the_task_does_not_take(
    launcher: Client, sent: Messages, order: Order, args: str, kwargs: str, error: str
) -> None:
    other = OrderFactory.create()
    keys = {"pk": order.pk, "other": other.pk}
    for name, key in keys.items():
        args, error = (text.replace(f"{{{name}}}", str(key)) for text in (args, error))
    url = launch(order, "process_payment")
    response = launcher.post(url, {"args": args, "kwargs": kwargs})
    (said,) = errors(response)
    assert error in said
    assert "Error:" in response.content.decode()
    assert sent("celery") == []
    assert not LogEntry.objects.exists()


def test_values_that_are_not_plain_are_sent_as_they_are(
    superuser: Client, sent: Messages
) -> None:
    parcel = ParcelFactory.create()
    url = launch(parcel, "store", "parcel_id")
    form = shown(superuser, url)
    assert form == {"args": f"('{parcel.pk}',)", "kwargs": "{}"}
    # It is only one of two arguments.
    response = superuser.post(url, form)
    assert "missing a required argument: 'warehouse'" in errors(response)[0]
    superuser.post(url, {**form, "kwargs": "{'warehouse': 'WH 1'}"})
    edited = f"('{parcel.pk}', 'WH 2')"
    superuser.post(url, {"args": edited, "kwargs": "{}"})
    messages = sent("celery")
    assert [decoded(each["args"][0]) for each in messages] == [parcel.pk] * 2
    assert messages[1]["args"][1] == "WH 2"


def decoded(value: Any) -> Any:
    """Return a UUID that a message holds."""
    return UUID(str(json.loads(json.dumps(value))))


@pytest.mark.parametrize(
    ("options", "args", "kwargs"),
    [
        ({"id_query": "order_id"}, "()", "{'order_id': 5}"),
        ({"launch_args": ()}, "()", "{}"),
        ({"launch_args": (1, FromModel("reference"))}, '(1, "R\'7")', "{}"),
        ({"launch_kwargs": {"amount": 3}}, "()", "{'amount': 3, 'order_id': 5}"),
        ({"launch_kwargs": {"order_id": 9}}, "()", "{'order_id': 9}"),
        (
            {"launch_args": (FromModel("pk"),), "launch_kwargs": {"amount": 1}},
            "(5,)",
            "{'amount': 1}",
        ),
        (
            {"id_query": {"customer": "order_id", "account_id": "amount"}},
            "()",
            "{'order_id': 3, 'amount': 7}",
        ),
        (
            {"id_query": {"customer__email": "order_id"}, "launch_kwargs": {}},
            "()",
            "{'order_id': 'ada@example.com'}",
        ),
    ],
)
def test_what_is_not_said_comes_from_what_finds_the_object(
    monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], args: str, kwargs: str
) -> None:
    register(monkeypatch, "process_payment", **options)
    customer = Customer(pk=3, email="ada@example.com")
    order = Order(pk=5, account_id=7, reference="R'7", customer=customer)
    (registration,) = launching.offered(Order)
    found = launching.arguments(registration, order)
    assert (repr(found[0]), repr(found[1])) == (args, kwargs)


def test_a_value_that_is_edited_beside_one_that_is_not_plain(
    launcher: Client,
    sent: Messages,
    order: Order,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Order, "total", Decimal("1.50"), raising=False)
    given = (FromModel("pk"), FromModel("total"))
    register(monkeypatch, "process_payment", launch_args=given)
    url = launch(order, "process_payment")
    form = shown(launcher, url)
    assert form["args"] == f"({order.pk}, '1.50')"
    launcher.post(url, {**form, "args": f"[{order.pk}, '1.50']"})
    launcher.post(url, {**form, "args": f"[{order.pk}, '2.50']"})
    first, second = sent("celery")
    assert json.loads(json.dumps(first["args"][1])) == Decimal("1.50")
    assert second["args"][1] == "2.50"


def test_secrets_are_masked_and_sent(
    launcher: Client, sent: Messages, order: Order, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = {"order_id": FromModel("pk"), "api_token": FromModel("customer.email")}
    register(monkeypatch, "notify", id_query="order_id", launch_kwargs=given)
    url = launch(order, "notify")
    form = shown(launcher, url)
    assert "ada@" not in launcher.get(url).content.decode()
    edited = form["kwargs"].replace(str(order.pk), f"{order.pk} ")
    assert errors(launcher.post(url, {**form, "kwargs": edited})) == [
        "Enter what is masked."
    ]
    launcher.post(url, form)
    (message,) = sent("celery")
    assert message["kwargs"]["api_token"] == "ada@example.com"


def test_where_tasks_run_at_once_no_broker_is_needed(
    launcher: Client, order: Order, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: Any, **kwargs: Any) -> Any:
        raise AssertionError

    monkeypatch.setattr(memory.Transport, "establish_connection", fail)
    app.conf.task_always_eager = True
    url = launch(order, "process_payment")
    try:
        response = launcher.post(url, shown(launcher, url))
    finally:
        app.conf.task_always_eager = False
    assert response.status_code == 302
    assert len(history_of(order)) == 1


def test_text_keys(superuser: Client, sent: Messages) -> None:
    warehouse = WarehouseFactory.create(code="A/b_c 'x'")
    url = launch(warehouse, "store", "warehouse")
    form = shown(superuser, url)
    assert form == {"args": "()", "kwargs": "{'warehouse': \"A/b_c 'x'\"}"}
    response = superuser.post(url, {**form, "args": "[7]"}, follow=True)
    assert response.status_code == 200
    (message,) = sent("celery")
    assert message["kwargs"] == {"warehouse": "A/b_c 'x'"}
