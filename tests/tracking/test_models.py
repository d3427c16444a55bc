"""The link from a task to an object, and the queries of it."""

from __future__ import annotations

import subprocess
import sys

import pytest
from django.contrib.contenttypes.models import ContentType
from django.core.exceptions import ImproperlyConfigured
from django.db import IntegrityError, connection, transaction
from django.test import override_settings
from django.test.utils import CaptureQueriesContext

from django_celery_monitor.models import TaskState
from django_celery_monitor.tracking import task_tracker
from django_celery_monitor.tracking.models import TaskObjectLink
from tests.factories import OrderFactory, TaskObjectLinkFactory, TaskStateFactory
from tests.tracked.models import Order, Parcel, UrgentOrder


@pytest.mark.django_db
def test_tasks_of_an_object() -> None:
    order = OrderFactory.create()
    mine = {TaskObjectLinkFactory.create(content_object=order).task for _ in range(2)}
    TaskObjectLinkFactory.create()
    assert set(TaskState.objects.for_object(order)) == mine
    assert set(task_tracker.tasks_for(order)) == mine


@pytest.mark.django_db
def test_task_that_is_about_an_object_in_two_roles_is_one() -> None:
    order = OrderFactory.create()
    link = TaskObjectLinkFactory.create(content_object=order, role="order_id")
    TaskObjectLinkFactory.create(content_object=order, role="next", task=link.task)
    assert list(task_tracker.tasks_for(order)) == [link.task]
    assert task_tracker.tasks_for(order).count() == 1


@pytest.mark.django_db
def test_tasks_of_an_object_are_filtered_like_any_other() -> None:
    order = OrderFactory.create()
    link = TaskObjectLinkFactory.create(content_object=order, task__state="FAILURE")
    TaskObjectLinkFactory.create(content_object=order)
    tasks = TaskState.objects.filter(state="FAILURE").for_object(order)
    assert list(tasks) == [link.task]
    assert not tasks.exclude(state="FAILURE")


@pytest.mark.django_db
def test_proxy_has_the_tasks_of_its_object() -> None:
    link = TaskObjectLinkFactory.create()
    proxy = UrgentOrder.objects.get(pk=link.object_id)
    assert list(task_tracker.tasks_for(proxy)) == [link.task]


@pytest.mark.django_db
def test_object_that_is_not_saved_has_no_tasks() -> None:
    assert list(task_tracker.tasks_for(Order())) == []


@pytest.mark.django_db
def test_link_may_come_before_its_task() -> None:
    order = OrderFactory.create()
    TaskObjectLink.objects.create(task_id="not yet", content_object=order)
    assert list(task_tracker.tasks_for(order)) == []
    task = TaskStateFactory.create(task_id="not yet")
    assert list(task_tracker.tasks_for(order)) == [task]


@pytest.mark.django_db(databases=["default", "other"])
def test_tasks_in_a_database_of_their_own_are_found() -> None:
    order = OrderFactory.create()
    with override_settings(DATABASE_ROUTERS=["tests.routers.MonitorRouter"]):
        task = TaskStateFactory.create()
        content_type = ContentType.objects.get_for_model(Order)
        TaskObjectLink.objects.create(
            task_id=task.task_id, content_type_id=content_type.pk, object_id=order.pk
        )
        assert task._state.db == "other"
        assert list(task_tracker.tasks_for(order)) == [task]
        task_tracker.tasks_for(order).delete()
        assert not TaskObjectLink.objects.exists()


@pytest.mark.django_db
def test_link_is_unique() -> None:
    link = TaskObjectLinkFactory.create()
    with pytest.raises(IntegrityError), transaction.atomic():
        TaskObjectLinkFactory.create(task=link.task, content_object=link.content_object)


@pytest.mark.django_db
def test_content_type_that_is_deleted_leaves_links_to_their_tasks() -> None:
    """Its database may be another one, and have no table of links."""
    link = TaskObjectLinkFactory.create()
    with CaptureQueriesContext(connection) as captured:
        ContentType.objects.get_for_model(Order).delete()
    ContentType.objects.clear_cache()
    assert not [q for q in captured.captured_queries if "celery_monitor" in q["sql"]]
    link.task.delete()
    assert not TaskObjectLink.objects.exists()


@pytest.mark.django_db
def test_text_of_a_link_has_its_ids() -> None:
    link = TaskObjectLinkFactory.create()
    assert str(link) == f"{link.task_id}: {link.content_type_id} {link.object_id}"


def test_tasks_of_an_object_need_the_tracker_installed() -> None:
    with (
        override_settings(
            INSTALLED_APPS=[
                "django.contrib.auth",
                "django.contrib.contenttypes",
                "django_celery_monitor",
            ]
        ),
        pytest.raises(ImproperlyConfigured, match=r"django_celery_monitor\.tracking"),
    ):
        TaskState.objects.for_object(Order(pk=1))


def test_tracker_can_be_imported_before_django_is_set_up() -> None:
    program = "import sys; from django_celery_monitor.tracking import task_tracker"
    subprocess.run([sys.executable, "-W", "error", "-c", program], check=True)


@pytest.mark.django_db
def test_object_whose_key_is_still_a_text_is_found() -> None:
    key = "6f1c0e9a-3a1f-4f0e-9c57-0c2b8a3f5d11"
    parcel = Parcel.objects.create(id=key)
    link = TaskObjectLinkFactory.create(content_object=Parcel.objects.get())
    assert TaskObjectLink.objects.for_object(parcel).get() == link
