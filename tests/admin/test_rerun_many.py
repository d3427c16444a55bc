"""Many tasks that are run again, and what can go wrong with it."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.messages import ERROR
from django.test import Client
from kombu.transport import memory
from pytest_django import DjangoAssertNumQueries

from django_celery_monitor.sanitize import fit_identifier
from tests.admin.conftest import (
    TASKS,
    Messages,
    confirm,
    post_action,
    told,
)
from tests.admin.reruns import create, run_url
from tests.celery import app

pytestmark = pytest.mark.django_db


def test_many_at_once(
    runner: Client,
    sent: Messages,
    django_assert_max_num_queries: DjangoAssertNumQueries,
) -> None:
    tasks = [create(args=f"({n},)") for n in range(30)]
    nameless = create(name=None)
    with django_assert_max_num_queries(13):
        page = post_action(runner, TASKS, "run_tasks_again", *tasks, nameless)
    html = page.content.decode()
    assert "<h2>30 tasks</h2>" in html
    assert "(7,) {&#x27;key&#x27;: None}" in html
    assert sent("slow") == []
    # The list that the user comes back to included.
    with django_assert_max_num_queries(26):
        response = confirm(runner, TASKS, page)
    messages = sent("slow")
    assert sorted(each["args"][0] for each in messages) == list(range(30))
    assert {each["parent_id"] for each in messages} == {t.task_id for t in tasks}
    assert LogEntry.objects.count() == 30
    assert told(response)[-1].startswith("30 tasks were sent again.")


def test_one_alone_leads_to_the_form(runner: Client) -> None:
    task = create()
    page = post_action(runner, TASKS, "run_tasks_again", task)
    assert (page.status_code, page["Location"]) == (302, run_url(task))


def test_nothing_is_left_to_run(runner: Client, sent: Messages) -> None:
    tasks = [create(name=None), create(args=None)]
    data = {"action": "run_tasks_again", "confirmed": "yes"}
    ids = [task.pk for task in tasks]
    response = runner.post(TASKS, {**data, "_selected_action": ids}, follow=True)
    assert told(response) == [
        "These tasks are left out:",
        "Nothing was done: none of the selected rows is left.",
    ]
    response = runner.get(run_url(tasks[0]), follow=True)
    assert told(response) == ["The task cannot be run again: its name is unknown."]


def test_a_name_that_was_cut_is_none(runner: Client, sent: Messages) -> None:
    task = create(name=fit_identifier("shop." + "long_" * 60))
    response = runner.get(run_url(task), follow=True)
    assert told(response) == ["The task cannot be run again: its name was cut."]
    page = post_action(runner, TASKS, "run_tasks_again", task, create())
    assert "its name was cut" in str(next(iter(page.context["messages"])))


def test_secrets_in_an_error_are_masked(
    runner: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Router:
        def route(self, *_: Any) -> None:
            raise ValueError("no route for {'password': 'hunter2'}")

    monkeypatch.setattr(app.amqp, "router", Router())
    form = {"args": "[]", "kwargs": '{"password": "hunter2"}', "queue": ""}
    page = runner.post(run_url(create()), form)
    [message] = page.context["messages"]
    assert "no route for" in str(message)
    assert "hunter2" not in str(message)


def test_what_cannot_be_sent_is_said(
    runner: Client, sent: Messages, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = create()
    form = {"args": "[{1}]", "kwargs": "{}", "queue": "slow"}
    response = runner.post(run_url(task), form)
    assert response.status_code == 200
    [message] = response.context["messages"]
    assert message.level == ERROR
    assert "EncodeError" in str(message)
    monkeypatch.setattr(app.amqp.queues, "create_missing", False)
    response = runner.post(run_url(task), {**form, "args": "[1]", "queue": "<b>"})
    assert "&lt;b&gt;" in response.content.decode()
    assert not LogEntry.objects.exists()


def test_the_broker_fails_in_the_middle(
    runner: Client, sent: Messages, monkeypatch: pytest.MonkeyPatch
) -> None:
    tasks = [create() for _ in range(3)]
    put = memory.Channel._put
    tries: list[object] = []

    def fail_second(self: Any, queue: str, *args: Any, **kwargs: Any) -> Any:
        # Whoever listens to events gets those of sending in between.
        tries.append(queue)
        if tries.count("slow") == 2:
            raise ConnectionResetError("gone")
        return put(self, queue, *args, **kwargs)

    page = post_action(runner, TASKS, "run_tasks_again", *tasks)
    monkeypatch.setattr(memory.Channel, "_put", fail_second)
    monkeypatch.setattr(memory.Transport, "connection_errors", (OSError,))
    response = confirm(runner, TASKS, page)
    failed, done = (str(each) for each in response.context["messages"])
    assert failed.startswith("The message broker failed: gone. Not sent:")
    assert failed.count("<li>") == 2
    assert done.startswith("1 task was sent again.")
    assert LogEntry.objects.count() == len(sent("slow")) == 1
