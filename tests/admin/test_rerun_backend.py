"""The arguments that the result backend has, for tasks that are run again."""

from __future__ import annotations

import time
from typing import Any

import pytest
from celery.backends.cache import CacheBackend
from django.test import Client

from django_celery_monitor.admin import calls
from tests.admin.conftest import (
    TASKS,
    Messages,
    confirm,
    post_action,
)
from tests.admin.reruns import create, entered, run_url
from tests.celery import app

pytestmark = pytest.mark.django_db


class ResultBackend:
    """A result backend that has what a test puts there."""

    def __init__(self) -> None:
        self.metas: dict[str, Any] = {}
        self.delay = 0.0

    def get_task_meta(self, task_id: str) -> Any:
        """Return what is known of a task."""
        time.sleep(self.delay)
        if isinstance(self.metas.get(task_id), Exception):
            raise self.metas[task_id]
        return self.metas.get(task_id, {"status": "PENDING", "result": None})


@pytest.fixture
def backend(monkeypatch: pytest.MonkeyPatch) -> ResultBackend:
    """Return the project's result backend."""
    made = ResultBackend()
    monkeypatch.setitem(app.conf, "result_backend", "cache+memory://")

    def get_task_meta(self: object, task_id: str, **_: object) -> Any:
        return made.get_task_meta(task_id)

    monkeypatch.setattr(CacheBackend, "get_task_meta", get_task_meta)
    monkeypatch.setattr(type(app), "backend", CacheBackend(app=app, backend="memory"))
    return made


def test_the_result_backend_knows_better(
    runner: Client, sent: Messages, backend: ResultBackend
) -> None:
    """What it has is sent; secrets in it are not shown."""
    task, other = create(args="('cut...',)"), create()
    secret = {"password": "hush", "path": "C:\\new"}
    backend.metas[task.task_id] = {"args": [1, secret], "kwargs": {}}

    html = runner.get(run_url(task)).content.decode()
    assert "hush" not in html
    assert "Not known in full" not in html
    runner.post(run_url(task), entered(html))
    [message] = sent("slow")
    assert (message["args"], message["kwargs"]) == ([1, secret], {})

    page = post_action(runner, TASKS, "run_tasks_again", task, other)
    assert "hush" not in page.content.decode()
    confirm(runner, TASKS, page)
    assert sorted(each["args"][0] for each in sent("slow")) == [1, 2]


@pytest.mark.parametrize(
    "meta",
    [
        None,
        "text",
        {"args": "(1, 2)", "kwargs": "{}"},
        {"args": None, "kwargs": None},
        RuntimeError("down"),
    ],
)
def test_a_result_backend_that_does_not_help(
    runner: Client, backend: ResultBackend, meta: Any
) -> None:
    task = create()
    backend.metas[task.task_id] = meta
    form = entered(runner.get(run_url(task)).content.decode())
    assert (form["args"], form["kwargs"]) == ("(2, 'two')", "{'key': None}")


def test_nobody_waits_long_for_the_result_backend(
    runner: Client, backend: ResultBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calls, "BACKEND_TIMEOUT", 0.05)
    backend.delay = 0.5
    tasks = [create() for _ in range(20)]
    started = time.monotonic()
    page = post_action(runner, TASKS, "run_tasks_again", *tasks)
    assert time.monotonic() - started < 5
    assert "<h2>20 tasks</h2>" in page.content.decode()
    # What still waits there ends, before the next test has a backend of its own.
    time.sleep(0.6)
