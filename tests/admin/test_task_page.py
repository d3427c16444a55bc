"""What the page of a task shows beside its columns."""

from __future__ import annotations

import html
import json
import re
from typing import Any

import pytest
from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.contenttypes.models import ContentType
from django.contrib.staticfiles import finders
from django.test import Client
from pytest_django import DjangoAssertNumQueries

from django_celery_monitor.admin import task_page, texts
from django_celery_monitor.models import TaskState
from tests.admin.conftest import TASKS, StaffClient, act
from tests.factories import TaskStateFactory, UserFactory

pytestmark = pytest.mark.django_db

HOSTILE = "</pre></details><script>alert(1)</script>"


def page_of(client: Client, task: TaskState) -> str:
    """Return the HTML of the page of a task."""
    response = client.get(f"{TASKS}{task.pk}/change/")
    assert response.status_code == 200
    return str(response.content.decode())


def pre(page: str, name: str) -> str:
    """Return a text that a page shows."""
    found = re.search(
        rf'<pre class="celery-monitor-text" id="celery-monitor-{name}">(.*?)</pre>',
        page,
        re.S,
    )
    assert found
    return html.unescape(found[1])


def row(page: str, name: str) -> str:
    """Return the part of a page that shows a field."""
    return page.partition(f"field-{name}")[2].partition("form-row")[0]


def log(task: TaskState, *said: str) -> None:
    """Write what was done to ``task`` into the admin's log."""
    user = UserFactory.create(username="<ada>")
    for text in said:
        LogEntry.objects.log_actions(user.pk, [task], CHANGE, text, single_object=True)


# The head


@pytest.mark.parametrize("name", ["proj.add", None])
def test_the_head(operator: Client, name: str | None) -> None:
    task = TaskStateFactory.create(name=name, state="FAILURE", task_id="an-id")
    page = page_of(operator, task)
    head = page.partition("celery-monitor-head")[2].partition("</section>")[0]
    heading = re.search("<h2>(.*?)</h2>", head)
    assert heading
    assert heading[1].endswith(f">FAILURE</span> {name or 'unknown'}")
    assert ">an-id</code>" in head
    assert 'class="celery-monitor-copy" data-copy="an-id"' in head
    assert 'aria-label="Copy the id"' in head


def test_what_a_copy_button_copies_is_on_the_page(operator: Client) -> None:
    attempt = {"timestamp": 1, "exception": "OSError()", "traceback": "Traceback"}
    task = TaskStateFactory.create(
        args="(1,)",
        kwargs="{}",
        result="OSError()",
        traceback="Traceback",
        attempts=[attempt, attempt],
    )
    page = page_of(operator, task)
    sources = re.findall('data-copy-from="(.*?)"', page)
    assert len(sources) == 4 + 2 * 2
    ids = re.findall(r'\bid="(.*?)"', page)
    assert set(sources) <= set(ids)
    assert len(ids) == len(set(ids))
    assert "copy.js" in page
    for script in ("copy.js", "tree.js"):
        assert finders.find(f"django_celery_monitor/{script}")


def test_its_like(operator: Client) -> None:
    task = TaskStateFactory.create(
        name="proj.add", state="FAILURE", exception="Key&Error", task_id="this-one"
    )
    for other in (
        {"name": "proj.add", "state": "SUCCESS"},
        {"state": "FAILURE", "name": "other"},
        {"exception": "Key&Error", "name": "other"},
        {"worker": task.worker, "name": "other"},
    ):
        TaskStateFactory.create(**other)
    links = {
        title: html.unescape(url)
        for url, title in re.findall(
            rf'<a href="({TASKS}\?[^"]*)">(Tasks .*?)</a>', page_of(operator, task)
        )
    }
    counts = {
        title: operator.get(url).context["cl"].result_count
        for title, url in links.items()
    }
    assert counts == {
        "Tasks of this name": 2,
        "Tasks of this name and state": 1,
        "Tasks with this exception": 2,
        "Tasks on this worker": 2,
    }


def test_the_like_of_a_task_of_which_little_is_known(operator: Client) -> None:
    task = TaskStateFactory.create(name=None, worker=None, state="PROGRESS")
    TaskStateFactory.create()
    links = re.findall(rf'<a href="({TASKS}\?[^"]*)">', page_of(operator, task))
    assert len(links) == 2
    for url in links:
        changelist = operator.get(html.unescape(url)).context["cl"]
        assert [found.pk for found in changelist.result_list] == [task.pk]


# Texts


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("(1, 'two')", "(1, 'two')"),
        ("[" + ", ".join(["1000"] * 30) + "]", None),
        (repr({"name": "x" * 40, "others": ["y" * 40]}), None),
        ("[" * 200 + "]" * 200, "[" * 200 + "]" * 200),
        ("[" * 70_000, "[" * 70_000),
        ('["' + "[" * 70_000, '["' + "[" * 70_000),
        ("[" * 60 + '"deep"' + "]" * 60, "[" * 60 + '"deep"' + "]" * 60),
        ("{'a': ..." + "." * 80, "{'a': ..." + "." * 80),
    ],
)
def test_python_is_laid_out_where_that_is_safe(
    operator: Client, text: str, expected: str | None
) -> None:
    shown = pre(page_of(operator, TaskStateFactory.create(args=text)), "args")
    if expected is None:
        assert shown != text
        assert max(map(len, shown.splitlines())) <= texts.WIDTH
        assert re.sub(r"\s", "", shown) == re.sub(r"\s", "", text)
    else:
        assert shown == expected


def test_json_is_laid_out_and_no_value_is_written_anew(operator: Client) -> None:
    text = (
        '{"price": 1.10, "huge": 123456789012345678901234567890.0e400, "twice": 1,'
        ' "twice": [true, null, {}, [ ], "a,\\"]: \\u00e9 {"], "no": {"x": []}}'
    )
    shown = pre(page_of(operator, TaskStateFactory.create(result=text)), "result")
    assert shown.splitlines() == [
        "{",
        '  "price": 1.10,',
        '  "huge": 123456789012345678901234567890.0e400,',
        '  "twice": 1,',
        '  "twice": [',
        "    true,",
        "    null,",
        "    {},",
        "    [ ],",
        '    "a,\\"]: \\u00e9 {"',
        "  ],",
        '  "no": {',
        '    "x": []',
        "  }",
        "}",
    ]
    assert json.loads(shown) == json.loads(text)


def test_a_long_text_is_folded(operator: Client) -> None:
    lines = [f'  File "{n}.py"' for n in range(40)]
    traceback = "\n".join(["Traceback:", *lines, "KeyError: 'x'", ""])
    page = page_of(
        operator,
        TaskStateFactory.create(
            traceback=traceback,
            args="x" * 3000,
            result=json.dumps({"n": [1] * 30}),
            kwargs="\n" * 3000,
            attempts=[{"timestamp": 1, "exception": "E()", "traceback": ""}],
        ),
    )
    for name, summary in (
        ("traceback", f"KeyError: &#x27;x&#x27;</code> ({len(traceback)} characters"),
        ("args", f"{'x' * texts.SUMMARY}…</code> (3000 characters"),
        ("kwargs", "<code></code> (3000 characters"),
        ("result", "<code>{&quot;n&quot;: [1, 1, "),
    ):
        folded = row(page, name).partition("<details><summary>")[2]
        assert summary in folded.partition("</summary>")[0]
        assert "<pre" in folded
    assert pre(page, "traceback") == traceback
    assert "<details" not in row(page, "attempts")


def test_hostile_texts_stay_texts(operator: Client) -> None:
    long = HOSTILE + "x" * 3000
    attempt = {"timestamp": 1, "exception": long, "traceback": long}
    task = TaskStateFactory.create(
        **dict.fromkeys(("args", "kwargs", "result", "traceback"), long),
        name=HOSTILE,
        exception=HOSTILE,
        task_id=f'" onclick="x{HOSTILE}',
        attempts=[attempt],
    )
    page = page_of(operator, task)
    assert "<script>alert" not in page
    assert 'onclick="x' not in page
    assert pre(page, "args") == pre(page, "traceback-1") == long


def test_attempts_show_the_type_first(operator: Client) -> None:
    said = ["ConnectionError('x')", "('no', 'type')", ""]
    task = TaskStateFactory.create(
        attempts=[
            {"timestamp": n, "exception": text, "traceback": "a\nb" if n else ""}
            for n, text in enumerate(said)
        ]
    )
    shown = row(page_of(operator, task), "attempts")
    items = re.findall("<li[^>]*>(.*?)</li>", shown, re.S)
    assert "<strong>ConnectionError</strong>" in items[0]
    assert "<details" not in items[0]
    assert "<strong>" not in items[1]
    assert "<summary><code>b</code>" in items[1]
    assert "exception-3" not in items[2]


# The workflow


def test_where_it_comes_from(operator: Client) -> None:
    root = TaskStateFactory.create(root_id="root", task_id="root", name="proj.first")
    sender = TaskStateFactory.create(root_id="root", parent_id="root", name="proj.mid")
    task = TaskStateFactory.create(root_id="root", parent_id=sender.task_id)
    orphan = TaskStateFactory.create(root_id="gone", parent_id="<gone>")

    page = page_of(operator, root)
    assert "It is the first task of its workflow." in page
    page = page_of(operator, sender)
    assert page.count("proj.first") == 1
    page = page_of(operator, task)
    for other in (root, sender):
        assert f'<a href="{TASKS}{other.pk}/change/">{other.name}</a>' in page
    assert f'href="{TASKS}{task.pk}/tree/"' in page
    page = page_of(operator, orphan)
    assert page.count("(nothing else is known of it)") == 2
    assert "<code>&lt;gone&gt;</code>" in page


def test_the_page_costs_a_fixed_number_of_queries(
    operator: Client, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    task = TaskStateFactory.create(root_id="root", parent_id="parent")
    TaskStateFactory.create_batch(20, root_id="root", parent_id=task.task_id)
    log(task, *("again" for _ in range(20)))
    ContentType.objects.get_for_model(TaskState)
    # Session, user, permissions of the user and of groups, the task with its root and
    # parent, its worker, its history with the end of the log and the users, the tasks
    # of its root that it may have sent, its objects, and whether anything was written.
    with django_assert_num_queries(15):
        page_of(operator, task)


# The history


def test_what_was_done_to_it(operator: Client, staff: StaffClient, heard: Any) -> None:
    task = TaskStateFactory.create()
    assert "Nothing in this admin." in page_of(operator, task)
    act(operator, TASKS, "revoke_tasks", task)
    for client in (operator, staff("view_taskstate")):
        assert "Told the workers to revoke it." in page_of(client, task)
    other = TaskStateFactory.create()
    assert "Told the workers" not in page_of(operator, other)
    assert f'href="{TASKS}{task.pk}/history/"' in page_of(operator, task)


def test_the_history_is_bounded(
    operator: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = TaskStateFactory.create()
    log(task, *(f"<b>{n}" for n in range(12)))
    shown = re.findall(
        r"<strong>&lt;ada&gt;</strong> &lt;b&gt;(\d+)<", page_of(operator, task)
    )
    assert shown == [str(n) for n in range(11, 1, -1)]
    monkeypatch.setattr(task_page, "LOOKED_THROUGH", 3)
    assert page_of(operator, task).count("&lt;ada&gt;") == 3


def test_a_row_that_is_entered_by_hand(
    superuser: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    from django.contrib import admin

    monkeypatch.setattr(type(admin.site.get_model_admin(TaskState)), "can_add", True)
    response = superuser.get(f"{TASKS}add/")
    assert response.status_code == 200
    assert "celery-monitor-head" not in response.content.decode()
