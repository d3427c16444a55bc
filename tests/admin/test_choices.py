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


class ByMore(TaskMonitor):
    """A list with filters of the project's own."""

    list_filter = (
        *TaskMonitor.list_filter,
        ("exchange", RecentFilter),
        ("retries", RecentFilter),
        ("worker__hostname", RecentFilter),
    )


@pytest.mark.parametrize(
    ("column", "title", "values"),
    [
        ("exchange", "exchange", ["one", "two"]),
        ("retries", "number of retries", [0, 2]),
        ("worker__hostname", "hostname", ["a", "b"]),
    ],
)
def test_a_filter_of_the_project_looks_at_the_newest(
    superuser: Client,
    django_assert_max_num_queries: Any,
    column: str,
    title: str,
    values: list[Any],
) -> None:
    for name, value in zip(("first", "second"), values, strict=True):
        TaskStateFactory.create(name=name, **{column: value})
    monitor = ByMore(TaskState, admin.site)
    request = RequestFactory().get(TASKS, {column: values[1]})
    request.user = UserFactory.create(is_staff=True, is_superuser=True)
    with django_assert_max_num_queries(12) as queries:
        page: Any = monitor.changelist_view(request)
        found = choices(page.render().content.decode(), title)
    distinct = [q["sql"] for q in queries if "DISTINCT" in q["sql"]]
    assert all("LIMIT" in sql for sql in distinct)
    assert [value for value in found if value not in {"All", "unknown"}] == [
        str(value) for value in values
    ]
    assert [task.name for task in page.context_data["cl"].result_list] == ["second"]


def test_tasks_to_choose_one_of_are_few(
    superuser: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bounds, "COUNTED", 5)
    create(8, args="abcd")
    TaskStateFactory.create(task_id="abcdef", tstamp=ago(days=9))
    # As it is where a form of the admin has the field.
    monkeypatch.setattr(TaskMonitor, "to_field_allowed", lambda *_: True)

    def offered(term: str) -> dict[str, Any]:
        field = {"model_name": "taskobjectlink", "field_name": "task"}
        query = {"app_label": "celery_monitor_tracking", **field, "term": term}
        found: dict[str, Any] = superuser.get("/admin/autocomplete/", query).json()
        return found

    assert [task["id"] for task in offered("abcd")["results"]] == ["abcdef"]
    assert len(offered("")["results"]) == 5
