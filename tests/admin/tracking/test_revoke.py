"""The page that revokes a task of an object."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.test import Client

from django_celery_monitor.models import TaskState
from django_celery_monitor.sanitize import fit_identifier
from tests.admin.conftest import Heard, StaffClient, Workers, told
from tests.admin.tracking.addresses import TASKS, revoke, tracker
from tests.admin.tracking.launches import history_of
from tests.factories import OrderFactory, TaskObjectLinkFactory, WorkerStateFactory
from tests.tracked.models import Order

pytestmark = [pytest.mark.django_db, pytest.mark.urls("tests.admin.tracking.sites")]


def link(order: Order, **about: Any) -> TaskState:
    """Return a new task of ``order``."""
    task = {"task__name": f"{TASKS}.ship", "task__state": "STARTED"}
    found = {**task, "task__worker": None, **about}
    return TaskObjectLinkFactory.create(content_object=order, **found).task


@pytest.mark.parametrize(
    ("command", "said", "terminate"),
    [("revoke", "revoke {}.", False), ("terminate", "terminate {} (SIGTERM).", True)],
)
def test_it_asks_and_tells_the_workers(
    revoker: Client,
    heard: Heard,
    order: Order,
    command: str,
    said: str,
    terminate: bool,
) -> None:
    task = link(order)
    url = revoke(order, task.task_id)
    html = revoker.get(url).content.decode()
    assert task.task_id in html
    assert "workers will not start it" in html
    assert f'name="command" value="{command}"' in html
    assert heard() == []
    response = revoker.post(url, {"command": command}, follow=True)
    assert response.redirect_chain == [(tracker(order), 302)]
    (message,) = heard()
    assert message["method"] == "revoke"
    assert message["arguments"]["task_id"] == [task.task_id]
    assert message["arguments"]["terminate"] is terminate
    name = f"{TASKS}.ship {task.task_id}"
    assert history_of(order) == [f"Told the workers to {said.format(name)}"]
    (entry,) = history_of(task)
    assert entry.startswith(f"Told the workers to {said.format('it')}")
    users = {entry.user_id for entry in LogEntry.objects.all()}
    assert users == {int(revoker.session["_auth_user_id"])}


def test_what_workers_answer_is_said(
    revoker: Client, order: Order, workers: Workers
) -> None:
    WorkerStateFactory.create(hostname="w1@host")
    workers.start("w1@host", revoke={"ok": "tasks flagged as revoked"})
    url = revoke(order, link(order).task_id)
    response = revoker.post(url, {"command": "revoke"}, follow=True)
    assert told(response) == ["The workers were told to revoke 1 task."]
    assert "w1@host: tasks flagged as revoked" in response.content.decode()


def test_a_post_that_says_nothing_asks_again(
    revoker: Client, heard: Heard, order: Order
) -> None:
    url = revoke(order, link(order).task_id)
    for data in ({}, {"command": "kill"}, {"confirmed": "yes"}):
        assert revoker.post(url, data).status_code == 200
    assert heard() == []
    assert not LogEntry.objects.exists()


@pytest.mark.parametrize(
    ("state", "offered"),
    [
        ("PENDING", True),
        ("RECEIVED", True),
        ("STARTED", True),
        ("RETRY", True),
        ("HALF", True),
        ("REJECTED", True),
        ("SUCCESS", False),
        ("FAILURE", False),
        ("REVOKED", False),
    ],
)
def test_it_is_offered_for_what_has_not_ended(
    revoker: Client, viewer: Client, order: Order, state: str, offered: bool
) -> None:
    link(order, task__state=state)
    html = revoker.get(tracker(order)).content.decode()
    assert ('class="celery-monitor-revoke"' in html) is offered
    html = viewer.get(tracker(order)).content.decode()
    assert "celery-monitor-revoke" not in html


def test_tasks_of_other_objects_are_not_there(
    superuser: Client, heard: Heard, order: Order
) -> None:
    other = link(OrderFactory.create())
    hidden = link(order, task__hidden=True)
    for task_id in (other.task_id, hidden.task_id, "none", "", "\0", "x" * 9000):
        url = revoke(order, task_id)
        assert superuser.get(url).status_code == 404
        assert superuser.post(url, {"command": "revoke"}).status_code == 404
    other_site = revoke(order, link(order, task__name="x").task_id, "restricted")
    assert superuser.post(other_site, {"command": "revoke"}).status_code == 404
    assert heard() == []
    assert not LogEntry.objects.exists()


def test_a_task_whose_id_was_cut_is_no_workers(
    revoker: Client, heard: Heard, order: Order
) -> None:
    task = link(order, task__task_id=fit_identifier("y" * 300))
    url = revoke(order, task.task_id)
    assert revoker.get(url).status_code == 404
    assert revoker.post(url, {"command": "revoke"}).status_code == 404
    assert "Revoke" not in revoker.get(tracker(order)).content.decode()
    assert heard() == []


def test_the_broker_fails(
    revoker: Client, order: Order, monkeypatch: pytest.MonkeyPatch
) -> None:
    from kombu.transport import memory

    def fail(*args: Any, **kwargs: Any) -> Any:
        raise ConnectionResetError("gone")

    monkeypatch.setattr(memory.Transport, "establish_connection", fail)
    monkeypatch.setattr(memory.Transport, "connection_errors", (OSError,))
    url = revoke(order, link(order).task_id)
    response = revoker.post(url, {"command": "revoke"}, follow=True)
    (said,) = told(response)
    assert said.startswith("The workers were not told, the message broker failed")
    assert not LogEntry.objects.exists()


def test_a_token_is_needed(staff: StaffClient, heard: Heard, order: Order) -> None:
    member = staff(is_superuser=True)
    client = Client(enforce_csrf_checks=True)
    client.cookies = member.cookies
    url = revoke(order, link(order).task_id)
    assert client.get(url).status_code == 200
    assert client.post(url, {"command": "revoke"}).status_code == 403
    assert heard() == []
