"""What workers and senders say may be anything."""

from __future__ import annotations

import re
from functools import partial
from typing import Any

import pytest
from django.contrib.admin import site
from django.contrib.admin.models import LogEntry
from django.core.exceptions import PermissionDenied
from django.test import Client, RequestFactory

from django_celery_monitor.admin import TaskMonitor
from django_celery_monitor.admin.calls import recall
from django_celery_monitor.models import TaskState
from django_celery_monitor.sanitize import fit_identifier
from tests.admin.conftest import (
    TASKS,
    WORKERS,
    Heard,
    Workers,
    act,
    confirm,
    post_action,
)
from tests.celery import app
from tests.factories import TaskStateFactory, UserFactory, WorkerStateFactory

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize("said", ["\ud800", "\0", "x" * 10_000, {"a": [1]}, None])
def test_any_answer_of_a_worker_is_kept_in_the_history(
    superuser: Client, workers: Workers, said: Any
) -> None:
    worker = WorkerStateFactory.create(hostname="a")
    workers.start("a", ping={"error": said})
    act(superuser, WORKERS, "ping_nodes", worker)
    (entry,) = LogEntry.objects.all()
    assert "It answered" in entry.change_message
    assert len(entry.change_message) < 400


def test_what_a_sender_hid_is_not_told_by_the_worker(
    superuser: Client, workers: Workers
) -> None:
    worker = WorkerStateFactory.create(hostname="a")
    task = {"id": "no-row", "name": "pay", "args": ["4111-1111"], "kwargs": {}}
    reserved = [task]
    scheduled = [{"eta": "later", "priority": 6, "request": task}]
    answers = {"ping": {"ok": "pong"}, "reserved": reserved, "scheduled": scheduled}
    workers.start("a", **answers)
    url = f"{WORKERS}{worker.pk}/inspect/"
    html = superuser.get(url).content.decode()
    assert "no-row" in html
    assert "4111" not in html


@pytest.mark.parametrize(
    "kwargs", ["{'iban': '**** **** **** 5678'}", "{'token': '********'}"]
)
def test_stars_are_no_arguments(kwargs: str) -> None:
    task = TaskStateFactory.create(args="()", kwargs=kwargs)
    assert "masked" in recall([task])[task.pk].problem


def test_what_a_project_masks_is_not_sent_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    task = TaskStateFactory.create()
    monkeypatch.setitem(app.conf, "monitor_mask", partial(re.sub, "hunter2", "hidden"))
    meta = {"args": ["hunter2", 1], "kwargs": {}}
    monkeypatch.setattr(
        "django_celery_monitor.admin.calls._from_backend",
        lambda _ids: {task.task_id: meta},
    )
    call = recall([task])[task.pk]
    assert "masked" in call.problem
    assert "hunter2" not in call.args.text
    assert call.kwargs.value == {}


def test_an_id_that_was_cut_is_no_workers(superuser: Client, heard: Heard) -> None:
    cut = TaskStateFactory.create(task_id=fit_identifier("x" * 300))
    other = TaskStateFactory.create()
    page = post_action(superuser, TASKS, "revoke_tasks", cut, other)
    assert "its id was cut" in str(next(iter(page.context["messages"])))
    confirm(superuser, TASKS, page)
    [command] = heard()
    assert command["arguments"]["task_id"] == [other.task_id]


def test_what_is_left_out_is_told_to_who_may_act_alone() -> None:
    """A project's own action may call one of these, and ask for nothing."""
    cut = TaskStateFactory.create(task_id=fit_identifier("x" * 300), name=None)
    request = RequestFactory().post(TASKS)
    request.user = UserFactory.create(is_staff=True)
    monitor = TaskMonitor(TaskState, site)
    for action in (monitor.revoke_tasks, monitor.rate_limit_tasks):
        # It has no messages to leave one in.
        with pytest.raises(PermissionDenied):
            action(request, TaskState.objects.filter(pk=cut.pk))


def test_a_task_that_says_to_be_its_own_parent(superuser: Client) -> None:
    task = TaskStateFactory.create(task_id="own", parent_id="own", root_id="own")
    html = superuser.get(f"{TASKS}{task.pk}/change/").content.decode()
    assert "Sent by" not in html
    assert "Sent, or run again as:" not in html


def test_a_blank_name_is_unknown(superuser: Client) -> None:
    TaskStateFactory.create(name="  ")
    assert ">unknown</a>" in superuser.get(TASKS).content.decode()


@pytest.mark.parametrize("task_id", ["hidden", "hidden" * 40, "hidden" * 60])
def test_a_worker_tells_nothing_of_a_task_that_the_user_may_not_see(
    superuser: Client,
    workers: Workers,
    monkeypatch: pytest.MonkeyPatch,
    task_id: str,
) -> None:
    rows = TaskMonitor.get_queryset
    monkeypatch.setattr(
        TaskMonitor,
        "get_queryset",
        lambda self, request: rows(self, request).exclude(name="pay"),
    )
    TaskStateFactory.create(task_id=fit_identifier(task_id), name="pay")
    worker = WorkerStateFactory.create(hostname="a")
    task = {"id": task_id, "name": "pay", "args": "('iban',)", "kwargs": "{}"}
    workers.start("a", ping={"ok": "pong"}, active=[task, {**task, "id": "new"}])
    html = superuser.get(f"{WORKERS}{worker.pk}/inspect/").content.decode()
    assert "hidden" in html
    assert html.count("iban") == 1
