"""Projects that narrow what a user may see, and extend the pages in their own way."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib import admin
from django.http import HttpRequest
from django.test import Client, RequestFactory
from django.test.utils import isolate_apps

from django_celery_monitor.admin import TaskMonitor
from django_celery_monitor.models import TaskState
from django_celery_monitor.utils import action
from tests.admin.conftest import TASKS, Heard, StaffClient, post_action
from tests.factories import TaskStateFactory, UserFactory

pytestmark = pytest.mark.django_db


def test_an_action_of_1_1_2_asks_for_the_permission_all_the_same(
    staff: StaffClient, heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = TaskMonitor.revoke_tasks

    @action("Revoke them")
    def revoke_tasks(self: TaskMonitor, request: Any, queryset: Any) -> Any:
        return ours(self, request, queryset)

    monkeypatch.setattr(TaskMonitor, "revoke_tasks", revoke_tasks)
    task = TaskStateFactory.create()
    client = staff("view_taskstate")
    response = post_action(client, TASKS, "revoke_tasks", task, confirmed="yes")
    assert response.status_code == 403
    assert heard() == []


@pytest.fixture
def _narrowed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide tasks whose names begin with "secret" from everybody."""
    rows = TaskMonitor.get_queryset

    def get_queryset(self: TaskMonitor, request: HttpRequest) -> Any:
        return rows(self, request).exclude(name__startswith="secret")

    monkeypatch.setattr(TaskMonitor, "get_queryset", get_queryset)


@pytest.mark.usefixtures("_narrowed")
def test_what_a_project_hides_is_nowhere(superuser: Client) -> None:
    task = TaskStateFactory.create(name="open")
    TaskStateFactory.create(
        name="secret.name", root_id=task.task_id, parent_id=task.task_id
    )
    for page in ("", f"{task.pk}/change/", f"{task.pk}/tree/", "export/?format=csv"):
        response: Any = superuser.get(TASKS + page)
        assert response.status_code == 200
        content = response.getvalue() if response.streaming else response.content
        assert b"secret.name" not in content


def test_a_task_that_may_not_be_seen_has_no_page(
    superuser: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    def has_view_permission(
        self: TaskMonitor, request: HttpRequest, obj: TaskState | None = None
    ) -> bool:
        return obj is None or obj.name == "open"

    monkeypatch.setattr(TaskMonitor, "has_view_permission", has_view_permission)
    open_one, other = (TaskStateFactory.create(name=name) for name in ("open", "x"))
    for page in ("change", "tree", "run"):
        assert superuser.get(f"{TASKS}{open_one.pk}/{page}/").status_code == 200
        assert superuser.get(f"{TASKS}{other.pk}/{page}/").status_code == 403


@isolate_apps("django_celery_monitor")
def test_a_proxy_has_an_export_of_its_own() -> None:
    class Job(TaskState):
        class Meta:
            proxy = True
            app_label = "celery_monitor"

    site = admin.AdminSite(name="jobs")
    site.register(Job, TaskMonitor)
    names = {url.name for url in site.get_model_admin(Job).get_urls()}
    assert "celery_monitor_job_export" in names


@pytest.mark.parametrize(
    ("fields", "found"),
    [(("name__exact",), ["a.b"]), (("worker__hostname__iexact",), []), (("^name",), 2)],
)
def test_search_fields_are_those_of_django(
    superuser: Client,
    monkeypatch: pytest.MonkeyPatch,
    fields: tuple[str, ...],
    found: Any,
) -> None:
    monkeypatch.setattr(TaskMonitor, "search_fields", fields)
    TaskStateFactory.create(name="a.b")
    TaskStateFactory.create(name="a.b.c")
    response = superuser.get(f"{TASKS}?q=a.b")
    names = [task.name for task in response.context["cl"].result_list]
    assert names == found or len(names) == found


def test_an_order_of_its_own_loses_no_row_of_an_export(
    superuser: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TaskMonitor, "ordering", ("task_id",))
    TaskStateFactory.create_batch(450)
    response: Any = superuser.get(f"{TASKS}export/?format=csv")
    assert len(response.getvalue().splitlines()) == 451


def test_what_no_index_has_in_order_is_not_sorted_by(rf: RequestFactory) -> None:
    request = rf.get(f"{TASKS}?o=9.-3")
    request.user = UserFactory.create(is_staff=True, is_superuser=True)
    monitor = admin.site.get_model_admin(TaskState)
    assert monitor.get_changelist_instance(request).queryset.query.order_by == (
        "-tstamp",
        "-pk",
    )
