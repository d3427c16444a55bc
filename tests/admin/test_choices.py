"""What there is to choose from, beside the list and where another model has a task."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib import admin
from django.test import Client, RequestFactory

from django_celery_monitor.admin import TaskMonitor, bounds, filters
from django_celery_monitor.admin.filters import RecentFilter
from django_celery_monitor.models import TaskState, WorkerState
from tests.admin.conftest import TASKS, WORKERS
from tests.admin.test_filters import ago, choices, create, get
from tests.factories import TaskStateFactory, UserFactory, WorkerStateFactory

pytestmark = pytest.mark.django_db


def test_workers_that_are_gone_are_not_too_many_to_list(
    operator: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(filters, "MOST_WORKERS", 3)
    for number in range(5):
        WorkerStateFactory.create(last_heartbeat=ago(hours=number))
    found = choices(get(operator), "worker")
    last = WorkerState.objects.order_by("-last_heartbeat")[:3]
    assert set(found) == {"All", "-", *map(str, last)}


def test_workers_that_were_never_heard_of_come_last(
    operator: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(filters, "MOST_WORKERS", 3)
    for _ in range(4):
        WorkerStateFactory.create(last_heartbeat=None)
    alive = WorkerStateFactory.create(last_heartbeat=ago(hours=0))
    assert alive.hostname in choices(get(operator), "worker")
    page = operator.get(WORKERS)
    assert page.context["cl"].result_list[0] == alive


def test_values_to_choose_from_are_bounded(
    operator: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(filters, "MOST_VALUES", 3)
    for name in [*"cabed", None]:
        create(1, name=name)
    assert list(choices(get(operator), "name")) == ["All", "a", "b", "c", "unknown"]
    found = choices(get(operator, "?name=e"), "name")
    assert list(found) == ["All", "a", "b", "c", "e", "unknown"]


class ByExchange(TaskMonitor):
    """A list with a filter of the project's own."""

    list_filter = (*TaskMonitor.list_filter, ("exchange", RecentFilter))


def test_a_filter_of_the_project_looks_at_the_newest(
    superuser: Client, django_assert_max_num_queries: Any
) -> None:
    create(1, exchange="one", name="first")
    create(1, exchange="two", name="second")
    monitor = ByExchange(TaskState, admin.site)
    request = RequestFactory().get(TASKS, {"exchange": "two"})
    request.user = UserFactory.create(is_staff=True, is_superuser=True)
    with django_assert_max_num_queries(12) as queries:
        page: Any = monitor.changelist_view(request)
        found = choices(page.render().content.decode(), "exchange")
    distinct = [q["sql"] for q in queries if "DISTINCT" in q["sql"]]
    assert all("LIMIT" in sql for sql in distinct)
    assert {"one", "two"} <= set(found)
    assert [task.name for task in page.context_data["cl"].result_list] == ["second"]


def test_tasks_to_choose_one_of_are_few(
    superuser: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bounds, "COUNTED", 5)
    create(8, args="abcd")
    TaskStateFactory.create(task_id="abcdef", tstamp=ago(days=9))
    monitor = TaskMonitor(TaskState, admin.site)
    request = RequestFactory().get("/")
    tasks = monitor.get_queryset(request)
    found, _ = monitor.get_search_results(request, tasks, "abcd")
    assert [task.task_id for task in found] == ["abcdef"]
    found, _ = monitor.get_search_results(request, tasks, "")
    assert monitor.get_paginator(request, found, 20).count == 5
