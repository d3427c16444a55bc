"""The admin in other hands: subclasses, another site, another language."""

from __future__ import annotations

import pytest
from django.contrib.admin.models import LogEntry
from django.test import Client
from django.utils.translation import override

import django_celery_monitor.admin as package
from django_celery_monitor.models import WorkerState
from tests.admin.conftest import (
    TASKS,
    WORKERS,
    Heard,
    StaffClient,
    confirm,
    post_action,
    told,
)
from tests.factories import TaskStateFactory, WorkerStateFactory

JOBS = "/operations/celery_monitor/taskstate/"
NODES = "/operations/celery_monitor/workerstate/"

pytestmark = pytest.mark.django_db
own_site = pytest.mark.urls("tests.admin.urls")


def test_the_names_that_projects_import() -> None:
    for name in package.__all__:
        assert hasattr(package, name)
    monitor = package.ModelMonitor
    assert (monitor.can_add, monitor.can_delete) == (False, True)
    assert issubclass(package.TaskMonitor, monitor)
    assert issubclass(package.WorkerMonitor, monitor)
    assert package.TaskMonitor.rate_limit_confirmation_template == (
        "django_celery_monitor/confirm_rate_limit.html"
    )


@own_site
def test_another_site_keeps_to_itself(superuser: Client, heard: Heard) -> None:
    task = TaskStateFactory.create()
    html = superuser.get(f"{JOBS}{task.pk}/change/").content.decode()
    assert f'href="{NODES}{task.worker_id}/change/"' in html

    page = post_action(superuser, JOBS, "kill_tasks", task)
    html = page.content.decode()
    assert "Operations" in html
    assert f'href="{JOBS}{task.pk}/change/"' in html
    assert f'href="{JOBS}"' in html
    assert 'href="/admin/' not in html
    response = confirm(superuser, JOBS, page)
    assert response.redirect_chain == [(JOBS, 302)]
    assert len(heard()) == 1


@own_site
def test_titles_and_templates_of_a_subclass(superuser: Client) -> None:
    task = TaskStateFactory.create()
    assert "<h1>Jobs</h1>" in superuser.get(JOBS).content.decode()
    page = superuser.get(f"{JOBS}{task.pk}/change/")
    assert "<h1>Job</h1>" in page.content.decode()
    page = post_action(superuser, JOBS, "rate_limit_tasks", task)
    assert [template.name for template in page.templates][:1] == [
        "admin/base_site.html"
    ]
    page = post_action(superuser, NODES, "enable_events", task.worker)
    assert f">{task.worker}</a>" in page.content.decode()
    assert "celery-monitor-state" not in page.content.decode()


@own_site
def test_a_subclass_forbids_deletion_to_all(superuser: Client) -> None:
    task = TaskStateFactory.create()
    assert 'value="delete_selected"' not in superuser.get(JOBS).content.decode()
    response = superuser.post(f"{JOBS}{task.pk}/delete/", {"post": "yes"})
    assert response.status_code == 403


@own_site
def test_a_subclass_lets_those_add_who_may(
    superuser: Client, staff: StaffClient
) -> None:
    hostname = "celery@new"
    data = {"hostname": hostname, "last_heartbeat_0": "", "last_heartbeat_1": ""}
    data |= {"last_heartbeat_0": "2026-03-02", "last_heartbeat_1": "10:00"}
    viewer = staff("view_workerstate")
    assert viewer.post(f"{NODES}add/", data).status_code == 403
    page = superuser.get(f"{NODES}add/")
    assert page.status_code == 200
    assert b'name="hostname"' in page.content
    response = superuser.post(f"{NODES}add/", {**data, "loadavg": "null"})
    assert response.status_code == 302
    worker = WorkerState.objects.get(hostname=hostname)
    # Even so, nobody changes it afterwards.
    change = f"{NODES}{worker.pk}/change/"
    assert superuser.post(change, {**data, "hostname": "x"}).status_code == 403


def test_the_admin_in_another_language(operator: Client, heard: Heard) -> None:
    worker = WorkerStateFactory.create()
    operator.defaults["HTTP_ACCEPT_LANGUAGE"] = "de"
    with override(None):
        html = operator.get(TASKS).content.decode()
        assert '<html lang="de"' in html
        page = post_action(operator, WORKERS, "shutdown_nodes", worker)
        assert ">Start</a>" in page.content.decode()
        response = confirm(operator, WORKERS, page)
    assert len(told(response)) == len(heard()) == LogEntry.objects.count() == 1


def test_numbers_of_rows_are_not_localized(
    operator: Client, settings: object, heard: Heard
) -> None:
    """1.234 for 1234 would select nothing."""
    operator.defaults["HTTP_ACCEPT_LANGUAGE"] = "de"
    settings.USE_THOUSAND_SEPARATOR = True  # type: ignore[attr-defined]
    worker = WorkerStateFactory.create(pk=1234567)
    page = post_action(operator, WORKERS, "enable_events", worker)
    assert 'value="1234567"' in page.content.decode()
    assert f'href="{WORKERS}1234567/change/"' in page.content.decode()
    confirm(operator, WORKERS, page)
    assert [each["destination"] for each in heard()] == [[worker.hostname]]
