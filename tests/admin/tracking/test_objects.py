"""The objects of a task, and who sent it, on the page of the task."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.contenttypes.models import ContentType
from django.test import Client
from pytest_django import DjangoAssertNumQueries

from django_celery_monitor.models import TaskState
from django_celery_monitor.tracking.models import TaskObjectLink
from tests.admin.conftest import TASKS as LIST
from tests.admin.conftest import StaffClient
from tests.admin.tracking.addresses import page, tracker
from tests.factories import (
    OrderFactory,
    ParcelFactory,
    TaskObjectLinkFactory,
    TaskStateFactory,
    WarehouseFactory,
)

pytestmark = [pytest.mark.django_db, pytest.mark.urls("tests.admin.tracking.sites")]


@pytest.fixture
def task() -> TaskState:
    """Return a task."""
    return TaskStateFactory.create()


def html_of(client: Client, task: TaskState, site: str = "admin") -> str:
    """Return the page of a task."""
    response = client.get(f"/{site}/celery_monitor/taskstate/{task.pk}/change/")
    assert response.status_code == 200
    return str(response.content.decode())


def link(task: TaskState, obj: Any, **about: Any) -> None:
    """Say that a task is about an object."""
    TaskObjectLinkFactory.create(task=task, content_object=obj, **about)


def test_its_objects_and_who_sent_it(superuser: Client, task: TaskState) -> None:
    objects = [OrderFactory.create(), ParcelFactory.create()]
    objects.append(WarehouseFactory.create(code="<WH>"))
    for obj in objects:
        link(task, obj, role="it", source="request", source_name="/a/", username="ada")
    html = html_of(superuser, task)
    assert f'Order\n      <a href="{page(objects[0])}">{objects[0]}</a>' in html
    assert f'<a href="{page(objects[1])}">{objects[1]}</a>' in html
    assert f'<a href="{page(objects[2])}">&lt;WH&gt;</a>' in html
    assert f'<a href="{tracker(objects[1])}">Task Tracker</a>' in html
    assert "(it)" in html
    said = "Sent by: Request <code>/<wbr>a/<wbr></code> by ada"
    assert said in " ".join(html.split())


def test_a_task_without_objects_says_nothing_of_them(
    superuser: Client, task: TaskState
) -> None:
    assert "<h2>Objects</h2>" not in html_of(superuser, task)
    assert superuser.get(LIST).status_code == 200


def test_an_object_that_was_deleted_is_a_text(
    superuser: Client, task: TaskState
) -> None:
    order = OrderFactory.create()
    key, url = order.pk, page(order)
    link(task, order)
    type(order).objects.filter(pk=key)._raw_delete("default")
    html = html_of(superuser, task)
    assert f"<code>{key}</code>" in html
    assert url not in html


@pytest.mark.parametrize(
    "about",
    [{"object_id": "no number"}, {"object_id": "9" * 40}, {"content_type_id": 999_999}],
)
def test_a_link_that_leads_nowhere_is_a_text(
    superuser: Client, task: TaskState, about: dict[str, Any]
) -> None:
    kind = ContentType.objects.get_for_model(OrderFactory.create())
    found = {"content_type_id": kind.pk, "object_id": "9", **about}
    TaskObjectLink.objects.create(task=task, **found)
    assert f"<code>{about.get('object_id', 9)}</code>" in html_of(superuser, task)


def test_a_model_that_is_gone_is_a_text(superuser: Client, task: TaskState) -> None:
    kind = ContentType.objects.create(app_label="tracked", model="gone")
    TaskObjectLink.objects.create(task=task, content_type=kind, object_id="5")
    assert "<code>5</code>" in html_of(superuser, task)


def test_whoever_may_not_see_an_object_sees_its_key_alone(
    staff: StaffClient, task: TaskState
) -> None:
    order = OrderFactory.create(reference="R")
    warehouse = WarehouseFactory.create(code="W1", city="Lyon")
    link(task, order)
    link(task, warehouse)
    html = html_of(staff("view_taskstate", "view_warehouse"), task)
    assert str(order) not in html
    assert f"<code>{order.pk}</code>" in html
    assert f'<a href="{page(warehouse)}">W1</a>' in html


def test_a_site_links_to_its_own_pages(superuser: Client, task: TaskState) -> None:
    order, parcel = OrderFactory.create(), ParcelFactory.create()
    link(task, order)
    link(task, parcel)
    html = html_of(superuser, task, "inlines")
    assert f'<a href="{page(order, site="inlines")}">' in html
    assert "/parcel/" not in html
    task.name = "tests.tracked.tasks.ship"
    task.save()
    assert page(order, site="restricted") not in html_of(superuser, task, "restricted")


def test_the_number_of_queries_does_not_grow(
    superuser: Client,
    task: TaskState,
    django_assert_num_queries: DjangoAssertNumQueries,
) -> None:
    link(task, OrderFactory.create())
    html_of(superuser, task)
    # Session, user, the task and its worker, the end of the log and the history, the
    # tasks of its root, its objects' links, and the objects; whether anything is new.
    with django_assert_num_queries(10):
        html_of(superuser, task)
    for _ in range(30):
        link(task, OrderFactory.create())
    with django_assert_num_queries(10):
        html_of(superuser, task)
