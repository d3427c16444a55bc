"""The page of an object's tasks refreshes itself, if anything has changed."""

from __future__ import annotations

import re

import pytest
from django.test import Client
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries

from django_celery_monitor.models import TaskState
from tests.admin.conftest import StaffClient
from tests.admin.tracking.addresses import tracker
from tests.admin.tracking.conftest import SEE
from tests.admin.tracking.pages import html_of, link
from tests.celery import app
from tests.factories import (
    OrderFactory,
)
from tests.tracked.models import Order

pytestmark = [pytest.mark.django_db, pytest.mark.urls("tests.admin.tracking.sites")]


def tag_of(client: Client, url: str) -> str:
    """Return the ETag that a page gives to the script."""
    response = client.get(url)
    assert 'data-interval="5' in response.content.decode()
    return str(response.headers["ETag"])


def ask(client: Client, url: str, tag: str) -> int:
    """Return the status of the answer to the script, which has the page."""
    headers = {"If-None-Match": tag, "X-Celery-Monitor-Live": "1"}
    return int(client.get(url, headers=headers).status_code)


def test_nothing_has_changed(
    viewer: Client, order: Order, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    link(order, task__state="STARTED")
    tag = tag_of(viewer, tracker(order))
    link(OrderFactory.create())
    with django_assert_num_queries(8):
        assert ask(viewer, tracker(order), tag) == 304


def test_something_has_changed(viewer: Client, order: Order) -> None:
    url = tracker(order)
    task = link(order, task__state="STARTED")
    tags = [tag_of(viewer, url)]
    link(order)
    tags.append(tag_of(viewer, url))
    TaskState.objects.filter(pk=task.pk).update(
        state="SUCCESS", updated_at=timezone.now()
    )
    tags.append(tag_of(viewer, url))
    task.refresh_from_db()
    task.result = "1"
    task.save()
    tags.append(tag_of(viewer, url))
    TaskState.objects.filter(pk=task.pk).delete()
    tags.append(tag_of(viewer, url))
    assert len(set(tags)) == 5
    assert ask(viewer, url, tags[-1]) == 304
    assert ask(viewer, url, tags[0]) == 200


def test_only_those_who_may_see_learn_whether_anything_changed(
    viewer: Client, staff: StaffClient, order: Order
) -> None:
    tag = tag_of(viewer, tracker(order))
    for right in SEE:
        assert ask(staff(right), tracker(order), tag) == 403


@pytest.mark.parametrize(("setting", "interval"), [(7, "7.0"), (1, "5"), (0, None)])
def test_the_interval(
    viewer: Client, order: Order, setting: int, interval: str | None
) -> None:
    app.conf.monitor_refresh_interval = setting
    try:
        html = html_of(viewer, tracker(order))
    finally:
        del app.conf["monitor_refresh_interval"]
    found = re.search(r'data-interval="([^"]*)"', html)
    assert (found and found[1]) == interval
