"""The admin's actions on a real worker, and what the camera sees of them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.core.management import call_command
from django.test import Client
from pytest_django import DjangoDbBlocker

from django_celery_monitor import conf
from django_celery_monitor.admin import replies
from tests.admin.conftest import TASKS, WORKERS, confirm, post_action
from tests.factories import UserFactory
from tests.integration.conftest import MakeProject
from tests.integration.processes import FILES, Project, wait_for

pytestmark = [pytest.mark.integration]

HOSTNAME = "worker@test"
BROKERS = [
    FILES,
    pytest.param("REDIS_URL", marks=pytest.mark.services("REDIS_URL")),
    pytest.param("AMQP_URL", marks=pytest.mark.services("AMQP_URL")),
]


class ToTheProject:
    """Sends all queries to the project's own database."""

    alias = ""

    def db_for_read(self, model: Any, **hints: Any) -> str:
        """Return the database of the rows, and of the admin's users."""
        return self.alias

    db_for_write = db_for_read


@pytest.fixture(scope="module", params=BROKERS)
def _running(request: pytest.FixtureRequest, make_project: MakeProject) -> Project:
    project = make_project(broker=os.environ.get(request.param, request.param))
    call_command("migrate", database=project.database.alias, verbosity=0)
    project.camera("--frequency=0.3")
    project.worker("-c", "2")
    wait_for(project.workers.exists)
    return project


@pytest.fixture
def running(
    _running: Project,
    django_db_blocker: DjangoDbBlocker,
    monkeypatch: pytest.MonkeyPatch,
    settings: Any,
) -> Iterator[Project]:
    """Return a project that the admin is about."""
    monkeypatch.setattr(conf, "get_app", lambda: _running.app)
    monkeypatch.setattr(ToTheProject, "alias", _running.database.alias)
    monkeypatch.setattr(replies, "TIMEOUT", 10)
    settings.DATABASE_ROUTERS = [ToTheProject()]
    with django_db_blocker.unblock():
        yield _running


@pytest.fixture
def superuser(running: Project) -> Client:
    """Return the client of a superuser."""
    client = Client()
    client.force_login(UserFactory.create(is_staff=True, is_superuser=True))
    return client


def act(client: Client, url: str, action: str, *rows: Any, **entered: Any) -> list[str]:
    """Choose and confirm an action; return the messages."""
    page = post_action(client, url, action, *rows)
    response = confirm(client, url, page, **entered)
    return [str(each) for each in response.context["messages"]]


def test_the_worker_answers_each_command(running: Project, superuser: Client) -> None:
    worker = running.workers.get(hostname=HOSTNAME)
    for action, entered, answer in (
        ("ping_nodes", {}, "pong"),
        ("grow_pools", {"n": "1"}, "pool will grow"),
        ("shrink_pools", {"n": "1"}, "pool will shrink"),
        # A worker that was started with -E goes on sending them, and says so.
        ("disable_events", {}, "task events already disabled"),
        ("enable_events", {}, "task events already enabled"),
        ("add_consumer", {"queue": f"{running.name}.more"}, "add consumer"),
        ("cancel_consumer", {"queue": f"{running.name}.more"}, "no longer consuming"),
    ):
        [message] = act(superuser, WORKERS, action, worker, **entered)
        assert f"<li>{HOSTNAME}: {answer}" in message
        assert answer in LogEntry.objects.first().get_change_message()  # type: ignore[union-attr]
    [message] = act(superuser, WORKERS, "restart_pools", worker)
    assert message.startswith("These workers refused:")
    assert "Pool restarts not enabled" in message


def test_a_running_task_is_terminated(running: Project, superuser: Client) -> None:
    task_id = running.send("wait", "never")
    wait_for(lambda: running.state(task_id) == "STARTED")
    task = running.tasks.get(task_id=task_id)

    [message] = act(superuser, TASKS, "terminate_tasks", task)

    assert f"<li>{HOSTNAME}: terminate: {task_id}</li>" in message
    wait_for(lambda: running.state(task_id) == "REVOKED")


def test_a_revoked_task_is_not_run(running: Project, superuser: Client) -> None:
    signature = running.task("add", 1, 1)
    task_id = str(signature.apply_async(countdown=3).id)
    wait_for(lambda: running.state(task_id) == "RECEIVED")
    [message] = act(
        superuser, TASKS, "revoke_tasks", running.tasks.get(task_id=task_id)
    )
    assert "flagged as revoked" in message
    wait_for(lambda: running.state(task_id) == "REVOKED")


def test_limits_are_set(running: Project, superuser: Client) -> None:
    task_id = running.send("add", 1, 1)
    wait_for(lambda: running.state(task_id) == "SUCCESS")
    task = running.tasks.get(task_id=task_id)
    [message] = act(superuser, TASKS, "time_limit_tasks", task, soft="50", hard="60")
    assert "time limits set successfully" in message
    [message] = act(superuser, TASKS, "rate_limit_tasks", task, rate_limit="100/s")
    assert "new rate limit set successfully" in message
    worker = running.workers.get(hostname=HOSTNAME)
    html = superuser.get(f"{WORKERS}{worker.pk}/inspect/").content.decode()
    assert "project.tasks.add [rate_limit=100/s]" in html


def test_a_task_that_is_run_again_is_seen_by_the_camera(
    running: Project, superuser: Client
) -> None:
    task_id = running.send("add", 1, "x", y="it's")
    old_id = running.send("echo", 2, [3], key="it's")
    for each, state in ((task_id, "FAILURE"), (old_id, "SUCCESS")):
        wait_for(lambda: running.state(each) == state)  # noqa: B023
    old = running.tasks.get(task_id=old_id)
    html = superuser.get(f"{TASKS}{old.pk}/run/").content.decode()
    assert "(2, [3])" in html
    form = {"args": "(2, [3])", "kwargs": "{'key': \"it's\"}", "queue": old.queue}

    response = superuser.post(f"{TASKS}{old.pk}/run/", form, follow=True)

    [message] = [str(each) for each in response.context["messages"]]
    [new_id] = re.findall(r"\?q=([\w-]+)", message)
    wait_for(lambda: running.state(new_id) == "SUCCESS")
    new = running.tasks.get(task_id=new_id)
    assert (new.name, new.args, new.kwargs) == (old.name, old.args, old.kwargs)
    assert (new.parent_id, new.root_id) == (old_id, old.root_id)
    assert new.queue == old.queue
    html = superuser.get(f"{TASKS}{old.pk}/change/").content.decode()
    assert f'href="{TASKS}{new.pk}/change/"' in html
    html = superuser.get(f"{TASKS}{new.pk}/change/").content.decode()
    assert f'href="{TASKS}{old.pk}/change/"' in html

    act(superuser, TASKS, "run_tasks_again", old, new)
    again = running.tasks.filter(root_id=old_id, state="SUCCESS")
    wait_for(lambda: again.count() == 4)


def test_the_worker_is_asked(running: Project, superuser: Client) -> None:
    worker = running.workers.get(hostname=HOSTNAME)
    secret = {"password": "hush"}
    running_id = running.send("wait", "the end")
    wait_for(lambda: running.state(running_id) == "STARTED")
    later = running.task("echo", "later", **secret).apply_async(countdown=60)

    def page() -> str:
        response = superuser.get(f"{WORKERS}{worker.pk}/inspect/")
        return str(response.content.decode())

    wait_for(lambda: str(later.id) in page())
    html = page()
    assert "errornote" not in html
    assert running_id in html
    assert "hush" not in html
    assert "&#x27;the end&#x27;" in html
    assert f"<td>{running.name}</td>" in html
    assert "CELERY_TASK_DEFAULT_QUEUE" in html
    assert "INSTALLED_APPS" not in html
    assert str(worker.pid) in html
    (running.folder / "the end").touch()
    running.app.control.revoke(str(later.id))
    wait_for(lambda: running.state(running_id) == "SUCCESS")
