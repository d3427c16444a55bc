"""Tasks that are run again."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from celery.backends.cache import CacheBackend
from django.contrib.admin.models import LogEntry
from django.contrib.messages import ERROR
from django.test import Client
from kombu.transport import memory
from pytest_django import DjangoAssertNumQueries

from django_celery_monitor.admin import calls
from django_celery_monitor.masking import MASK
from django_celery_monitor.models import TaskState
from django_celery_monitor.utils import fromtimestamp
from tests.admin.conftest import (
    TASKS,
    StaffClient,
    confirm,
    post_action,
    told,
)
from tests.celery import app
from tests.factories import TaskStateFactory

pytestmark = pytest.mark.django_db

Messages = Callable[[str], list[dict[str, Any]]]


@pytest.fixture
def runner(staff: StaffClient) -> Client:
    """Return the client of somebody who may see and run tasks."""
    return staff("view_taskstate", "run_tasks")


@pytest.fixture
def sent() -> Iterator[Messages]:
    """Return a function that returns what is in a queue: headers, args and kwargs."""
    with app.connection_for_write() as connection:
        channel: Any = connection.default_channel

        def messages(queue: str) -> list[dict[str, Any]]:
            found = []
            while (message := channel.basic_get(queue, no_ack=True)) is not None:
                args, kwargs, embed = json.loads(message.body)
                headers = message.headers
                found.append({**headers, "args": args, "kwargs": kwargs, **embed})
            return found

        yield messages
        for queue in ("slow", "other", "celery"):
            channel.queue_delete(queue)


def create(**fields: Any) -> TaskState:
    """Return a task that failed, called with arguments that are known in full."""
    call = {"args": "(2, 'two')", "kwargs": "{'key': None}", "queue": "slow"}
    made: TaskState = TaskStateFactory.create(**{"state": "FAILURE", **call, **fields})
    return made


def run_url(task: TaskState) -> str:
    """Return the address of the form."""
    return f"{TASKS}{task.pk}/run/"


def entered(html: str) -> dict[str, str]:
    """Return what the form shows for editing."""
    from html import unescape

    fields = dict(
        re.findall(r'<textarea name="(\w+)"[^>]*>\n?(.*?)</textarea>', html, re.DOTALL)
    )
    fields["queue"] = "".join(re.findall(r'name="queue" value="([^"]*)"', html))
    return {name: unescape(text) for name, text in fields.items()}


def test_one_task_with_its_arguments_shown_first(
    runner: Client, sent: Messages
) -> None:
    task = create(root_id="the root")
    page = runner.get(f"{TASKS}{task.pk}/change/")
    assert '<a class="button" href="../run/">Run again</a>' in page.content.decode()
    html = runner.get(run_url(task)).content.decode()
    form = entered(html)
    assert form == {"args": "(2, 'two')", "kwargs": "{'key': None}", "queue": "slow"}
    assert "callbacks are not repeated" in html

    response = runner.post(run_url(task), form, follow=True)

    assert response.redirect_chain == [(f"{TASKS}{task.pk}/change/", 302)]
    [message] = sent("slow")
    assert (message["task"], message["args"]) == (task.name, [2, "two"])
    assert message["kwargs"] == {"key": None}
    assert (message["parent_id"], message["root_id"]) == (task.task_id, "the root")
    assert message["id"] != task.task_id
    assert (message["eta"], message["expires"]) == (None, None)
    [said] = [str(each) for each in response.context["messages"]]
    assert f'<a href="{TASKS}?q={message["id"]}">{message["id"]}</a>' in said
    entry = LogEntry.objects.get()
    assert entry.get_change_message() == f"Ran it again as {message['id']}."
    assert entry.object_id == str(task.pk)


def test_what_was_edited_is_sent(runner: Client, sent: Messages) -> None:
    past = fromtimestamp(1_577_836_800)
    task = create(eta=past, expires=past)
    form = {"args": '[true, {"a": null}]', "kwargs": "{'n': 1.5}", "queue": "other"}
    runner.post(run_url(task), form)
    [message] = sent("other")
    assert (message["args"], message["kwargs"]) == ([True, {"a": None}], {"n": 1.5})
    assert (message["parent_id"], message["root_id"]) == (task.task_id, task.task_id)
    assert (message["eta"], message["expires"]) == (None, None)


def test_an_empty_queue_is_where_the_routes_lead(
    runner: Client, sent: Messages
) -> None:
    task = create(queue=None)
    assert entered(runner.get(run_url(task)).content.decode())["queue"] == ""
    runner.post(run_url(task), {"args": "[]", "kwargs": "{}", "queue": ""})
    assert len(sent("celery")) == 1


@pytest.mark.parametrize(
    ("field", "text"),
    [
        ("args", ""),
        ("args", "{}"),
        ("args", "5"),
        ("args", "(1"),
        ("args", "(f(),)"),
        ("args", "(...,)"),
        ("args", f"('{MASK}',)"),
        ("args", "[" * 5_000),
        ("kwargs", "[]"),
        ("kwargs", "{1: 2}"),
        ("kwargs", "{'a': <b>}"),
        ("queue", "a\nb"),
        ("queue", "q" * 256),
    ],
)
def test_bad_values_are_errors_of_the_form(
    runner: Client, sent: Messages, field: str, text: str
) -> None:
    task = create()
    form = {"args": "[]", "kwargs": "{}", "queue": "slow", field: text}
    response = runner.post(run_url(task), form)
    assert response.status_code == 200
    html = response.content.decode()
    assert '<ul class="errorlist"' in html
    assert "<b>" not in html
    assert not LogEntry.objects.exists()


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (None, "no event has told them"),
        ("('abc...',)", "their text was cut"),
        ("(1, ...)", "their text was cut"),
        ("('abc… [cut]", "their text was cut"),
        (f"('password', '{MASK}')", "secrets in them were masked"),
        ("[not stored: monitor_mask failed]", "secrets in them were masked"),
        ("(<Order 5>,)", "they are not made of plain values"),
        ("(Decimal('1'),)", "they are not made of plain values"),
        ("('a\nb',)", "they are not made of plain values"),
        # Celery writes a backslash as it is, and bytes as if they were text.
        (r"('C:\new',)", "their text can be read in more than one way"),
        (r"('it\\'s',)", "their text can be read in more than one way"),
        ("(b'6162',)", "their text can be read in more than one way"),
        ("(" + "1, " * 4_000 + ")", "they are too long to be read"),
        ("{}", "they are no list"),
        ("", "they are not made of plain values"),
    ],
)
def test_arguments_that_are_not_known_in_full_are_asked_for(
    runner: Client, sent: Messages, text: str | None, why: str
) -> None:
    task = create(args=text)
    html = runner.get(run_url(task)).content.decode()
    assert f"Not known in full: {why}." in html
    assert entered(html)["args"] == ""
    assert entered(html)["kwargs"] == "{'key': None}"

    other = create()
    page = post_action(runner, TASKS, "run_tasks_again", task, other)
    [message] = [str(each) for each in page.context["messages"]]
    assert f"{task.task_id}: the arguments are not complete: {why}" in message
    assert "<h2>1 task</h2>" in page.content.decode()
    confirm(runner, TASKS, page)
    assert [each["parent_id"] for each in sent("slow")] == [other.task_id]


def test_a_quote_is_no_problem(runner: Client, sent: Messages) -> None:
    task = create(args="('it\\'s', 'üb')")
    runner.post(run_url(task), entered(runner.get(run_url(task)).content.decode()))
    assert sent("slow")[0]["args"] == ["it's", "üb"]


def test_with_a_mask_of_the_projects_own_nothing_stored_is_trusted(
    runner: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(app.conf, "monitor_mask", str.upper)
    html = runner.get(run_url(create())).content.decode()
    assert html.count("Not known in full: secrets in them were masked.") == 2


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
        tries.append(queue)
        if len(tries) == 2:
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


@pytest.mark.parametrize(
    "codenames", [("view_taskstate", "control_tasks"), ("run_tasks",)]
)
def test_forged_requests_do_nothing(
    staff: StaffClient, client: Client, sent: Messages, codenames: tuple[str, ...]
) -> None:
    task = create()
    stranger = staff(*codenames)
    form = {"args": "[]", "kwargs": "{}", "queue": "slow"}
    assert stranger.get(run_url(task)).status_code == 403
    assert stranger.post(run_url(task), form).status_code == 403
    assert client.post(run_url(task), form).status_code == 302
    assert client.post(run_url(task), form)["Location"].startswith("/admin/login/")
    assert stranger.get(f"{TASKS}999999/run/").status_code == 403
    assert not LogEntry.objects.exists()


def test_no_form_for_what_is_not_there(runner: Client) -> None:
    hidden = create(hidden=True)
    for key in (hidden.pk, 999_999, "x", "../5"):
        assert runner.post(f"{TASKS}{key}/run/", {}).status_code in {302, 404}
    assert not LogEntry.objects.exists()


def test_the_old_and_the_new_link_to_each_other(
    runner: Client, django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    old = create(name="<b>old")
    TaskStateFactory.create(root_id=old.task_id, parent_id="another")
    new = TaskStateFactory.create(root_id=old.task_id, parent_id=old.task_id)
    TaskStateFactory.create(root_id=old.task_id, parent_id=old.task_id, hidden=True)
    with django_assert_max_num_queries(12):
        html = runner.get(f"{TASKS}{old.pk}/change/").content.decode()
    assert html.count("Sent, or run again as:") == 1
    assert f'href="{TASKS}{new.pk}/change/"' in html
    html = runner.get(f"{TASKS}{new.pk}/change/").content.decode()
    assert f'<a href="{TASKS}{old.pk}/change/">&lt;b&gt;old</a>' in html
