"""What workers and senders say may be anything."""

from __future__ import annotations

import re
from functools import partial
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.test import Client

from django_celery_monitor.admin.calls import recall
from tests.admin.conftest import WORKERS, Workers, act
from tests.celery import app
from tests.factories import TaskStateFactory, WorkerStateFactory

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
    monkeypatch.setitem(app.conf, "monitor_mask", partial(re.sub, "hunter2", "XXX"))
    meta = {"args": ["hunter2", 1], "kwargs": {}}
    monkeypatch.setattr(
        "django_celery_monitor.admin.calls._from_backend",
        lambda _ids: {task.task_id: meta},
    )
    call = recall([task])[task.pk]
    assert "masked" in call.problem
    assert "hunter2" not in call.args.text
    assert call.kwargs.value == {}
