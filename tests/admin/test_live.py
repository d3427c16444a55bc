"""Pages that refresh themselves: what the server answers to the script."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
import time_machine
from django.test import Client
from django.utils.translation import override
from pytest_django import DjangoAssertNumQueries

from django_celery_monitor.models import CameraState
from django_celery_monitor.utils import correct_awareness
from tests.admin.conftest import TASKS, WORKERS, StaffClient, post_action
from tests.celery import app
from tests.factories import (
    CameraStateFactory,
    TaskStateFactory,
    UserFactory,
    WorkerStateFactory,
)

CAMERAS = "/admin/celery_monitor/camerastate/"
REGION = 'id="celery-monitor-live"'
NOW = datetime(2026, 3, 2, 10, 0, 5, tzinfo=timezone.utc)

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def clock() -> Iterator[time_machine.Traveller]:
    """Hold the time, within a minute."""
    with time_machine.travel(NOW, tick=False) as traveller:
        yield traveller


@pytest.fixture
def camera() -> CameraState:
    """Return a camera that has written something."""
    return CameraStateFactory.create(last_commit=correct_awareness(NOW), saved=1)


@pytest.fixture
def viewer(staff: StaffClient) -> Client:
    """Return the client of somebody who may see everything, and no more."""
    return staff("view_taskstate", "view_workerstate", "view_camerastate")


def change(row: Any) -> str:
    """Return the URL of the page of a task."""
    return f"{TASKS}{row.pk}/change/"


def tag_of(client: Client, url: str) -> str:
    """Return the ETag that a page gives to the script."""
    page = client.get(url)
    found = re.search(r'data-etag="([^"]*)"', page.content.decode())
    assert found, "not a page that refreshes itself"
    tag = found[1].replace("&quot;", '"')
    assert page.headers["ETag"] == tag
    return tag


def ask(client: Client, url: str, tag: str) -> Any:
    """Return the answer to the script, which has the page with this ETag."""
    return client.get(url, headers={"If-None-Match": tag, "X-Celery-Monitor-Live": "1"})


@pytest.mark.usefixtures("camera")
@pytest.mark.parametrize("url", [TASKS, WORKERS, CAMERAS, f"{TASKS}?q=add&p=1"])
def test_nothing_has_changed(
    viewer: Client, url: str, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    TaskStateFactory.create()
    tag = tag_of(viewer, url)
    # Session, user, two for permissions, cameras: no task and no worker.
    with django_assert_num_queries(5) as queries:
        answer = ask(viewer, url, tag)
    assert answer.status_code == 304
    assert answer.content == b""
    assert {"no-store", "private"} <= set(answer.headers["Cache-Control"].split(", "))
    assert not [q for q in queries if "FROM" in q["sql"] and "taskstate" in q["sql"]]


@pytest.mark.parametrize("url", [TASKS, WORKERS, CAMERAS])
def test_rows_were_written(viewer: Client, camera: CameraState, url: str) -> None:
    tag = tag_of(viewer, url)
    # By a camera whose clock lags.
    CameraState.objects.update(saved=2)
    assert ask(viewer, url, tag).status_code == 200
    tag = tag_of(viewer, url)
    CameraState.objects.update(last_commit=correct_awareness(NOW + timedelta(1)))
    assert ask(viewer, url, tag).status_code == 200
    tag = tag_of(viewer, url)
    CameraStateFactory.create()
    assert ask(viewer, url, tag).status_code == 200


@pytest.mark.parametrize(("url", "status"), [(TASKS, 304), (CAMERAS, 200)])
def test_a_shot_without_rows_shows_with_the_cameras_alone(
    viewer: Client, camera: CameraState, url: str, status: int
) -> None:
    tag = tag_of(viewer, url)
    CameraState.objects.update(last_shot=correct_awareness(NOW + timedelta(seconds=9)))
    assert ask(viewer, url, tag).status_code == status


def test_times_are_said_anew_each_minute(
    viewer: Client, clock: time_machine.Traveller
) -> None:
    tag = tag_of(viewer, TASKS)
    clock.shift(30)
    assert ask(viewer, TASKS, tag).status_code == 304
    clock.shift(30)
    assert ask(viewer, TASKS, tag).status_code == 200


def test_a_page_is_one_users_in_one_language(
    viewer: Client, staff: StaffClient
) -> None:
    tag = tag_of(viewer, TASKS)
    assert ask(viewer, TASKS, tag).status_code == 304
    assert ask(staff("view_taskstate"), TASKS, tag).status_code == 200
    assert ask(viewer, f"{TASKS}?state=SUCCESS", tag).status_code == 200
    viewer.defaults["HTTP_ACCEPT_LANGUAGE"] = "de"
    with override(None):
        assert ask(viewer, TASKS, tag).status_code == 200


def test_only_those_who_may_view_learn_whether_anything_changed(
    viewer: Client, staff: StaffClient, client: Client
) -> None:
    tag = tag_of(viewer, TASKS)
    assert ask(client, TASKS, tag).status_code == 302
    assert ask(client, TASKS, "*").status_code == 302
    assert ask(staff("view_workerstate"), TASKS, "*").status_code == 403
    task = TaskStateFactory.create(state="STARTED")
    assert ask(staff("view_workerstate"), change(task), "*").status_code == 403


def test_a_browser_by_itself_gets_the_whole_page(viewer: Client) -> None:
    tag = tag_of(viewer, TASKS)
    response = viewer.get(TASKS, headers={"If-None-Match": tag})
    assert response.status_code == 200


@pytest.mark.parametrize("tag", ["", "*", "x", '"', 'W/"x", "y"', "\x00", "é" * 3000])
def test_odd_tags_are_an_answer(viewer: Client, tag: str) -> None:
    assert ask(viewer, TASKS, tag).status_code in {200, 304}


@pytest.mark.parametrize("state", ["PENDING", "RECEIVED", "STARTED", "RETRY", "HALF"])
def test_the_page_of_a_task_that_runs(
    viewer: Client, state: str, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    CameraStateFactory.create()
    task = TaskStateFactory.create(state=state)
    tag = tag_of(viewer, change(task))
    with django_assert_num_queries(5):
        assert ask(viewer, change(task), tag).status_code == 304
    task.state = "SUCCESS"
    task.save()
    CameraState.objects.update(saved=5)
    page = ask(viewer, change(task), tag)
    assert page.status_code == 200
    assert "SUCCESS" in page.content.decode()
    # It has ended: the script is not to ask again.
    assert REGION not in page.content.decode()


@pytest.mark.parametrize("state", ["SUCCESS", "FAILURE", "REVOKED"])
def test_the_page_of_a_task_that_has_ended_stays(viewer: Client, state: str) -> None:
    task = TaskStateFactory.create(state=state)
    assert REGION not in viewer.get(change(task)).content.decode()


def test_pages_of_workers_and_cameras_stay(viewer: Client) -> None:
    worker, camera = WorkerStateFactory.create(), CameraStateFactory.create()
    for url in (f"{WORKERS}{worker.pk}/change/", f"{CAMERAS}{camera.pk}/change/"):
        assert REGION not in viewer.get(url).content.decode()


@pytest.mark.urls("tests.admin.urls")
def test_another_site_refreshes_its_own_pages(superuser: Client) -> None:
    jobs = "/operations/celery_monitor/taskstate/"
    tag = tag_of(superuser, jobs)
    assert ask(superuser, jobs, tag).status_code == 304
    assert ask(superuser, TASKS, tag).status_code == 200


def test_pages_that_ask_stay(operator: Client, superuser: Client) -> None:
    task = TaskStateFactory.create(state="STARTED")
    for client, action in ((operator, "kill_tasks"), (superuser, "delete_selected")):
        page = post_action(client, TASKS, action, task)
        assert page.status_code == 200
        assert REGION not in page.content.decode()


def test_messages_wait_for_a_page_that_is_looked_at(operator: Client) -> None:
    text = "Items must be selected"
    post_action(operator, TASKS, "kill_tasks")
    assert text not in ask(operator, TASKS, "x").content.decode()
    assert text in operator.get(TASKS).content.decode()


def test_a_task_that_is_gone_leaves_no_message_for_another_page(
    operator: Client,
) -> None:
    task = TaskStateFactory.create(state="STARTED")
    url, tag = change(task), tag_of(operator, change(task))
    task.delete()
    with time_machine.travel(NOW + timedelta(minutes=2), tick=False):
        assert ask(operator, url, tag).status_code == 404
        assert "exist" not in operator.get("/admin/").content.decode()
        page = operator.get(url, follow=True).content.decode()
    assert "Perhaps it was deleted?" in page


def test_a_popup_stays(operator: Client) -> None:
    """Django makes links choose their rows when it is opened, not later."""
    TaskStateFactory.create()
    assert REGION in operator.get(TASKS).content.decode()
    assert REGION not in operator.get(f"{TASKS}?_popup=1").content.decode()


def test_the_list_of_cameras_says_that_the_last_one_has_gone(viewer: Client) -> None:
    camera = CameraStateFactory.create()
    tag = tag_of(viewer, CAMERAS)
    CameraState.objects.filter(pk=camera.pk).update(stopped_at=correct_awareness(NOW))
    page = ask(viewer, CAMERAS, tag)
    assert "No camera is watching." in page.content.decode()
    assert list(viewer.get(CAMERAS).context["messages"]) == []


def test_a_request_that_is_no_get_is_left_alone(viewer: Client) -> None:
    assert "ETag" not in viewer.head(TASKS).headers
    assert "ETag" not in viewer.post(TASKS, {}).headers


def test_no_refresh_where_it_is_switched_off(viewer: Client) -> None:
    app.conf.monitor_refresh_interval = 0
    try:
        page = viewer.get(TASKS)
    finally:
        del app.conf["monitor_refresh_interval"]
    assert REGION not in page.content.decode()
    assert "ETag" not in page.headers


def test_the_interval_is_the_settings(viewer: Client) -> None:
    app.conf.monitor_refresh_interval = timedelta(seconds=7.5)
    viewer.defaults["HTTP_ACCEPT_LANGUAGE"] = "de"
    try:
        with override(None):
            page = viewer.get(TASKS).content.decode()
    finally:
        del app.conf["monitor_refresh_interval"]
    assert 'data-interval="7.5"' in page


def test_a_user_without_rights_is_refused_as_ever() -> None:
    client = Client()
    client.force_login(UserFactory.create())
    assert ask(client, TASKS, "*").status_code == 302
