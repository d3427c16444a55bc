"""A task that is run again, by its form."""

from __future__ import annotations

import pytest
from django.contrib.admin.models import LogEntry
from django.test import Client
from pytest_django import DjangoAssertNumQueries

from django_celery_monitor.masking import MASK
from django_celery_monitor.utils import fromtimestamp
from tests.admin.conftest import (
    TASKS,
    Messages,
    StaffClient,
    confirm,
    post_action,
)
from tests.admin.reruns import create, entered, run_url
from tests.celery import app
from tests.factories import TaskStateFactory

pytestmark = pytest.mark.django_db


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
    with django_assert_max_num_queries(13):
        html = runner.get(f"{TASKS}{old.pk}/change/").content.decode()
    assert html.count("Sent, or run again as:") == 1
    assert f'href="{TASKS}{new.pk}/change/"' in html
    html = runner.get(f"{TASKS}{new.pk}/change/").content.decode()
    assert f'<a href="{TASKS}{old.pk}/change/">&lt;b&gt;old</a>' in html
