"""From the arguments of a call to the object that it is about."""

from __future__ import annotations

import uuid
from inspect import Parameter, signature
from typing import Any

import pytest
from celery import Celery
from django.test import override_settings
from hypothesis import given
from hypothesis import strategies as st

from django_celery_monitor.tracking import task_tracker
from django_celery_monitor.tracking.arguments import by_name
from django_celery_monitor.tracking.registry import Registration, TaskTracker
from tests.factories import OrderFactory, ParcelFactory, WarehouseFactory
from tests.tracked import tasks
from tests.tracked.models import Customer, Gift, Order, Parcel

KEY = uuid.UUID("6f1c0e9a-3a1f-4f0e-9c57-0c2b8a3f5d11")


def registered(
    function: Any, model: Any = Order, id_query: Any = None, **options: Any
) -> Registration:
    """Return the registration of a task that ``function`` is, with such options."""
    tracker = TaskTracker()
    app: Any = Celery("mine", set_as_current=False)
    function.__name__ = "task"  # Celery has no tasks without a name.
    task = app.task(name="task", shared=False, **options)(function)
    tracker.register(model, id_query)(task)
    return tracker.registrations("task")[0]


def of(task: Any) -> Registration:
    """Return the first registration of one of the tests' tasks."""
    return task_tracker.registrations(task.name)[0]


# None: the first argument by position


@pytest.mark.parametrize(
    ("args", "kwargs"),
    [((42,), {}), ((42, 5), {}), ((), {"order_id": 42}), ((), {"order_id": "42"})],
)
def test_first_argument_is_found_by_position_or_by_name(args: Any, kwargs: Any) -> None:
    assert of(tasks.process_payment).object_id(args, kwargs) == 42
    assert of(tasks.process_payment).role == "order_id"


def test_task_itself_is_no_argument_of_a_bound_task() -> None:
    assert of(tasks.ship).object_id([42], None) == 42
    assert of(tasks.ship).object_id(None, {"order_id": 42}) == 42


@pytest.mark.parametrize("bind", [False, True])
def test_task_that_retries_by_itself_has_its_own_signature(bind: bool) -> None:
    def pay(self: Any, order_id: int) -> None:
        pass

    def pay_unbound(order_id: int) -> None:
        pass

    function = pay if bind else pay_unbound
    registration = registered(function, bind=bind, autoretry_for=(OSError,))
    assert registration.object_id((), {"order_id": 42}) == 42


def test_first_of_any_arguments_by_position() -> None:
    registration = registered(lambda *ids: None)
    assert registration.object_id((42, 43), {}) == 42
    assert registration.object_id((), {}) is None
    assert registration.role == "ids"


def test_default_counts() -> None:
    def pay(order_id: int = 42) -> None:
        pass

    assert registered(pay).object_id((), {}) == 42


def test_task_without_arguments_by_position_is_about_nothing() -> None:
    def pay(*, order_id: int) -> None:
        pass

    registration = registered(pay)
    assert registration.object_id((), {"order_id": 42}) is None
    assert registration.role == ""


# A string: the parameter of that name


@pytest.mark.parametrize(
    ("args", "kwargs"),
    [(("p", "WH 1"), {}), (("p",), {"warehouse": "WH 1"})],
)
def test_named_argument_is_found_by_position_or_by_name(args: Any, kwargs: Any) -> None:
    registration = task_tracker.registrations(tasks.store.name)[1]
    assert registration.object_id(args, kwargs) == "WH 1"


def test_named_argument_that_the_function_collects() -> None:
    registration = registered(lambda **kwargs: None, id_query="order")
    assert registration.object_id((), {"order": 42}) == 42
    assert registration.object_id((), {}) is None


def test_keyword_only_argument() -> None:
    def pay(*, order: int) -> None:
        pass

    assert registered(pay, id_query="order").object_id((), {"order": 42}) == 42


# Keys of each type


@pytest.mark.parametrize("value", [KEY, str(KEY), KEY.hex])
def test_uuid_in_any_form_is_the_key(value: Any) -> None:
    assert of(tasks.store).object_id((value, "WH 1"), {}) == KEY


def test_object_stands_for_its_key() -> None:
    assert of(tasks.process_payment).object_id((Order(pk=42),), {}) == 42
    assert of(tasks.process_payment).object_id((Customer(pk=42),), {}) is None
    assert of(tasks.store).object_id((Parcel(pk=str(KEY)), "WH 1"), {}) == KEY


def test_key_of_a_parent_is_the_key() -> None:
    def wrap(gift_id: int) -> None:
        pass

    assert registered(wrap, Gift).object_id(("42",), {}) == 42


@pytest.mark.parametrize("value", [None, "abc", [42], {}, float("nan"), 2**70, ""])
def test_what_can_be_no_key_is_about_nothing(value: Any) -> None:
    assert of(tasks.process_payment).object_id((value,), {}) is None


def test_text_longer_than_any_key_is_about_nothing() -> None:
    registration = task_tracker.registrations(tasks.store.name)[1]
    assert registration.object_id(("p", "x" * 41), {}) is None


@pytest.mark.parametrize(
    ("args", "kwargs"),
    [((), {}), ((1, 2, 3), {}), ((1,), {"order_id": 1}), ((1,), {"tip": 2})],
)
def test_arguments_that_do_not_fit_are_about_nothing(args: Any, kwargs: Any) -> None:
    assert of(tasks.process_payment).object_id(args, kwargs) is None


# Fields and lookups


@pytest.mark.django_db
def test_fields_find_the_object() -> None:
    order, _ = (
        OrderFactory.create(reference="same"),
        OrderFactory.create(reference="same"),
    )
    registration = of(tasks.fulfill)
    assert registration.object_id((order.account_id, "same"), {}) == order.pk
    named = {"account_id": order.account_id, "reference": "same"}
    assert registration.object_id((), named) == order.pk
    assert registration.role == "account_id, reference"


@pytest.mark.django_db(databases=["default", "other"])
def test_fields_are_looked_up_where_the_model_is_written() -> None:
    class Replica:
        def db_for_read(self, model: Any, **hints: Any) -> str:
            return "other"

        def db_for_write(self, model: Any, **hints: Any) -> str:
            return "default"

    order = OrderFactory.create()
    with override_settings(DATABASE_ROUTERS=[Replica()]):
        found = of(tasks.fulfill).object_id((order.account_id, order.reference), {})
    assert found == order.pk


@pytest.mark.django_db
def test_lookups_find_the_object() -> None:
    customer = Customer.objects.create(email="a@example.com")
    order = OrderFactory.create(customer=customer)
    assert of(tasks.remind).object_id(("a@example.com",), {}) == order.pk
    assert of(tasks.remind).role == "email"


@pytest.mark.django_db
def test_object_that_a_lookup_finds_twice_is_one() -> None:
    customer = Customer.objects.create(email="a@example.com")
    OrderFactory.create_batch(2, customer=customer, account_id=7)

    def greet(account_id: int) -> None:
        pass

    registration = registered(greet, Customer, {"order__account_id": "account_id"})
    assert registration.object_id((7,), {}) == customer.pk


@pytest.mark.django_db
def test_no_object_and_several_are_about_nothing() -> None:
    registration = of(tasks.fulfill)
    assert registration.object_id((1, "same"), {}) is None
    OrderFactory.create_batch(2, account_id=1, reference="same")
    assert registration.object_id((1, "same"), {}) is None


@pytest.mark.django_db
@pytest.mark.parametrize("value", [[], {}, object()])
def test_values_that_cannot_be_looked_up_are_about_nothing(
    value: Any, caplog: pytest.LogCaptureFixture
) -> None:
    assert of(tasks.fulfill).object_id((value, "same"), {}) is None
    (record,) = caplog.records
    assert record.getMessage().startswith("Cannot look for tracked.Order")


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("factory", "name"),
    [(OrderFactory, "pk"), (ParcelFactory, "pk"), (WarehouseFactory, "code")],
)
def test_fields_find_keys_of_each_type(factory: Any, name: str) -> None:
    obj = factory()

    def task(key: Any) -> None:
        pass

    registration = registered(task, type(obj), id_query={name: "key"})
    assert registration.object_id((str(obj.pk),), {}) == obj.pk


# Laws

VALUES = st.integers(1, 2**31 - 1)


@st.composite
def calls(draw: st.DrawFn) -> tuple[Any, dict[str, Any], int]:
    """Draw a function, a call of it by name, and how many go by position instead."""
    count = draw(st.integers(1, 5))
    by_position = draw(st.integers(0, count))
    parameters = [
        Parameter(
            f"p{n}",
            Parameter.KEYWORD_ONLY
            if n >= by_position
            else Parameter.POSITIONAL_OR_KEYWORD,
        )
        for n in range(count)
    ]
    values = {p.name: draw(VALUES) for p in parameters}

    def function(*args: Any, **kwargs: Any) -> None:
        pass

    function.__signature__ = signature(function).replace(  # type: ignore[attr-defined]
        parameters=parameters
    )
    return function, values, by_position


@given(calls(), st.data())
def test_position_or_name_is_the_same(
    call: tuple[Any, dict[str, Any], int], data: st.DataObject
) -> None:
    function, values, by_position = call
    name = data.draw(st.sampled_from(list(values)))
    registration = registered(function, id_query=name)
    for number in range(by_position + 1):
        args = list(values.values())[:number]
        kwargs = dict(list(values.items())[number:])
        assert registration.object_id(args, kwargs) == values[name]
        assert by_name(registration.signature, args, kwargs) == values


@given(calls(), st.data())
def test_bound_or_not_is_the_same(
    call: tuple[Any, dict[str, Any], int], data: st.DataObject
) -> None:
    function, values, _ = call
    name = data.draw(st.sampled_from(list(values)))

    def bound(*args: Any, **kwargs: Any) -> None:
        pass

    parameters = list(signature(function).parameters.values())
    itself = Parameter("self", Parameter.POSITIONAL_ONLY)
    kinds = {p.kind for p in parameters}
    if Parameter.POSITIONAL_OR_KEYWORD in kinds:
        itself = itself.replace(kind=Parameter.POSITIONAL_OR_KEYWORD)
    bound.__signature__ = signature(bound).replace(  # type: ignore[attr-defined]
        parameters=[itself, *parameters]
    )
    registration = registered(bound, id_query=name, bind=True)
    assert registration.object_id((), values) == values[name]


@given(st.lists(VALUES), st.dictionaries(st.text(), VALUES))
def test_no_arguments_raise(args: list[int], kwargs: dict[str, int]) -> None:
    for task in (tasks.process_payment, tasks.ship):
        found = of(task).object_id(args, kwargs)
        assert found is None or found in {*args[:1], kwargs.get("order_id")}
