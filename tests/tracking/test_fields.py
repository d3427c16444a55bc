"""Links of objects with keys of each type in one table: joins, filters, prefetches."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from celery import states
from django.contrib.contenttypes.models import ContentType
from django.db import connection, models
from django.db.models import Count, Exists, OuterRef
from pytest_django import DjangoAssertNumQueries

from django_celery_monitor.tracking.fields import ObjectIdField
from django_celery_monitor.tracking.models import TaskObjectLink
from tests.factories import (
    GiftFactory,
    OrderFactory,
    ParcelFactory,
    TaskObjectLinkFactory,
    TaskStateFactory,
    WarehouseFactory,
)
from tests.tracked.models import Order

pytestmark = pytest.mark.django_db

FACTORIES: tuple[Any, ...] = (
    OrderFactory,
    GiftFactory,
    ParcelFactory,
    WarehouseFactory,
)
EACH = pytest.mark.parametrize("factory", FACTORIES)
BOTH = pytest.mark.parametrize("relation", ["tasks", "plain_tasks"])


@pytest.fixture(autouse=True)
def _others() -> None:
    """Fill the table with the tasks of objects of every model."""
    for factory in FACTORIES:
        for state in (states.SUCCESS, states.FAILURE):
            TaskObjectLinkFactory.create(content_object=factory(), task__state=state)
    # A text that is no number, and the number of an order.
    WarehouseFactory.create(code="no number")
    number = OrderFactory.create().pk
    TaskObjectLinkFactory.create(
        content_object=WarehouseFactory.create(code=str(number))
    )


def link(obj: models.Model, state: str = states.SUCCESS) -> TaskObjectLink:
    """Return the link of a new task of an object."""
    made: TaskObjectLink = TaskObjectLinkFactory.create(
        content_object=obj, task__state=state
    )
    return made


@EACH
@BOTH
def test_relation_of_an_object_has_its_links_alone(factory: Any, relation: str) -> None:
    obj = factory()
    mine = [link(obj), link(obj)]
    links = getattr(obj, relation)
    assert set(links.all()) == set(mine)
    assert links.filter(task__state=states.FAILURE).count() == 0


@EACH
@BOTH
def test_filter_joins_the_tasks_of_the_model_alone(factory: Any, relation: str) -> None:
    obj, other = factory(), factory()
    link(obj, "MINE")
    link(other, states.SUCCESS)
    found = type(obj).objects.filter(**{f"{relation}__task__state": "MINE"})
    assert list(found) == [obj]
    assert list(found.filter(pk=obj.pk)) == [obj]
    assert not found.filter(pk=other.pk)


@EACH
@BOTH
def test_exclude_leaves_the_others(factory: Any, relation: str) -> None:
    obj, other = factory(), factory()
    link(obj, "MINE")
    link(other, states.SUCCESS)
    left = type(obj).objects.exclude(**{f"{relation}__task__state": "MINE"})
    assert obj not in left
    assert other in left


@EACH
@BOTH
def test_objects_without_tasks(factory: Any, relation: str) -> None:
    obj, other = factory(), factory()
    link(obj)
    without = type(obj).objects.filter(**{f"{relation}__isnull": True})
    assert obj not in without
    assert other in without


@EACH
@BOTH
def test_counts_and_subqueries(factory: Any, relation: str) -> None:
    obj, other = factory(), factory()
    link(obj)
    link(obj)
    model = type(obj)
    counted = model.objects.annotate(number=Count(relation))
    assert counted.get(pk=obj.pk).number == 2
    assert counted.get(pk=other.pk).number == 0
    content_type = ContentType.objects.get_for_model(model)
    links = TaskObjectLink.objects.filter(
        content_type=content_type, object_id=OuterRef("pk")
    )
    tracked = model.objects.filter(Exists(links))
    assert obj in tracked
    assert other not in tracked


@EACH
@BOTH
def test_prefetch_has_the_links_and_tasks_of_each_object(
    factory: Any, relation: str, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    objects = factory.create_batch(3)
    wanted = {obj.pk: {link(obj).task for _ in range(2)} for obj in objects}
    rows = type(objects[0]).objects.filter(pk__in=list(wanted))
    with django_assert_num_queries(3):
        found = {
            obj.pk: {made.task for made in getattr(obj, relation).all()}
            for obj in rows.prefetch_related(f"{relation}__task")
        }
    assert found == wanted


@EACH
def test_object_of_a_link(factory: Any) -> None:
    obj = factory()
    made = link(obj)
    stored = TaskObjectLink.objects.get(pk=made.pk)
    assert stored.content_object == obj
    stored = TaskObjectLink.objects.prefetch_related("content_object").get(pk=made.pk)
    assert stored.content_object == obj
    assert stored.object_id == TaskObjectLink.objects.for_object(obj).get().object_id


@EACH
def test_object_that_is_deleted_leaves_tasks_without_links(factory: Any) -> None:
    obj = factory()
    made = link(obj)
    obj.delete()
    assert not TaskObjectLink.objects.filter(pk=made.pk)
    made.task.refresh_from_db()


@EACH
def test_links_of_several_objects_are_asked_for_at_once(factory: Any) -> None:
    objects = factory.create_batch(2)
    mine = {link(obj) for obj in objects}
    content_type = ContentType.objects.get_for_model(objects[0])
    found = TaskObjectLink.objects.filter(
        content_type=content_type, object_id__in=[obj.pk for obj in objects]
    )
    assert set(found) == mine


def test_relation_creates_links() -> None:
    for factory in FACTORIES:
        obj = factory()
        obj.tasks.create(task=TaskStateFactory.create())
        assert obj.tasks.count() == 1


def test_uuid_is_stored_as_the_database_stores_it() -> None:
    parcel = ParcelFactory.create()
    link(parcel)
    table = TaskObjectLink._meta.db_table
    content_type = ContentType.objects.get_for_model(parcel)
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT object_id FROM {table} WHERE content_type_id = %s",  # noqa: S608
            [content_type.pk],
        )
        stored = {row[0] for row in cursor.fetchall()}
    native = connection.features.has_native_uuid_field
    assert (str(parcel.pk) if native else parcel.pk.hex) in stored


@BOTH
def test_text_that_turns_the_direction_of_writing_is_joined(relation: str) -> None:
    warehouse = WarehouseFactory.create(code="a\u2066b")
    link(warehouse, "MINE")
    found = type(warehouse).objects.filter(**{f"{relation}__task__state": "MINE"})
    assert list(found) == [warehouse]


def test_long_text_keeps_its_beginning_and_differs_from_others() -> None:
    field = ObjectIdField(max_length=255)
    first, second = "x" * 300, "x" * 301
    fits = [field.get_db_prep_value(text, connection) for text in (first, second)]
    assert fits[0] != fits[1]
    assert all(len(fit) == 255 and fit.startswith("x" * 200) for fit in fits)
    assert field.get_db_prep_value(fits[0], connection) == fits[0]


@pytest.mark.parametrize("value", [None, "WH 1", uuid.UUID(int=5)])
def test_values_are_prepared_once(value: Any) -> None:
    field = ObjectIdField(max_length=255)
    prepared = field.get_prep_value(value)
    once = field.get_db_prep_value(prepared, connection, prepared=True)
    assert once == field.get_db_prep_value(value, connection)
    assert once is None or isinstance(once, str)


def test_numbers_that_differ_in_their_last_bits_are_told_apart() -> None:
    """As a double, which MySQL compares texts and numbers by, they are the same."""
    first, second = (OrderFactory.create(pk=2**60 + bit) for bit in (0, 1))
    link(first, "MINE")
    found = Order.objects.filter(tasks__task__state="MINE")
    assert list(found) == [first]
    assert second in Order.objects.filter(tasks__isnull=True)


def test_number_of_another_query() -> None:
    order = OrderFactory.create()
    made = link(order)
    newest = Order.objects.filter(reference=order.reference).values("pk")[:1]
    content_type = ContentType.objects.get_for_model(Order)
    found = TaskObjectLink.objects.filter(content_type=content_type, object_id=newest)
    assert list(found) == [made]


@pytest.mark.services("DATABASE_URL")
@EACH
def test_collation_of_the_connection_does_not_matter(factory: Any) -> None:
    if connection.vendor != "mysql":
        pytest.skip("others compare by the collation of the column")
    obj = factory.create()
    link(obj, "MINE")
    with connection.cursor() as cursor:
        cursor.execute("SELECT @@collation_connection")
        (before,) = cursor.fetchone()
        cursor.execute("SET collation_connection = 'utf8mb4_unicode_520_ci'")
        try:
            found = type(obj).objects.filter(tasks__task__state="MINE")
            assert list(found) == [obj]
            assert obj not in type(obj).objects.exclude(tasks__task__state="MINE")
        finally:
            cursor.execute("SET collation_connection = %s", [before])
