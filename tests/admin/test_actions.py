"""What actions tell the workers, once confirmed, and the traces they leave."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.admin.models import CHANGE, LogEntry
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from pytest_django import DjangoAssertNumQueries

from django_celery_monitor.models import TaskState
from tests.admin.conftest import (
    ALL_ACTIONS,
    ENTERED,
    TASKS,
    WORKERS,
    Heard,
    act,
    confirm,
    hidden_fields,
    post_action,
    row_for,
    told,
)
from tests.factories import TaskStateFactory, WorkerStateFactory

pytestmark = pytest.mark.django_db

SILENCE = "No worker has answered."


@pytest.mark.parametrize(
    ("action", "arguments", "message", "log"),
    [
        (
            "revoke_tasks",
            {"terminate": False},
            "The workers were told to revoke 2 tasks.",
            "Told the workers to revoke it.",
        ),
        (
            "terminate_tasks",
            {"terminate": True, "signal": "SIGTERM"},
            "The workers were told to terminate 2 tasks.",
            "Told the workers to terminate it (SIGTERM).",
        ),
        (
            "kill_tasks",
            {"terminate": True, "signal": "SIGKILL"},
            "The workers were told to kill 2 tasks.",
            "Told the workers to kill it (SIGKILL).",
        ),
    ],
)
def test_tasks_are_revoked_in_one_broadcast(
    operator: Client,
    heard: Heard,
    action: str,
    arguments: dict[str, Any],
    message: str,
    log: str,
) -> None:
    tasks = TaskStateFactory.create_batch(2, state="STARTED")
    TaskStateFactory.create()

    assert act(operator, TASKS, action, *tasks) == [f"{message} {SILENCE}"]

    [broadcast] = heard()
    assert broadcast["method"] == "revoke"
    assert broadcast["destination"] is None
    assert arguments.items() <= broadcast["arguments"].items()
    assert sorted(broadcast["arguments"]["task_id"]) == sorted(
        task.task_id for task in tasks
    )
    entries = LogEntry.objects.all()
    assert {entry.object_id for entry in entries} == {str(task.pk) for task in tasks}
    for entry in entries:
        assert entry.action_flag == CHANGE
        assert entry.get_change_message() == f"{log} {SILENCE}"
        assert str(entry.user_id) == operator.session["_auth_user_id"]


@pytest.mark.parametrize(
    ("action", "method", "message", "log"),
    [
        (
            "shutdown_nodes",
            "shutdown",
            "1 worker was told to shut down.",
            "Told it to shut down.",
        ),
        (
            "enable_events",
            "enable_events",
            f"1 worker was told to send events. {SILENCE}",
            "Told it to send events. It did not answer.",
        ),
        (
            "disable_events",
            "disable_events",
            f"1 worker was told to send no events. {SILENCE}",
            "Told it to send no events. It did not answer.",
        ),
    ],
)
def test_only_the_chosen_workers_are_told(
    operator: Client, heard: Heard, action: str, method: str, message: str, log: str
) -> None:
    worker = WorkerStateFactory.create()
    WorkerStateFactory.create()

    assert act(operator, WORKERS, action, worker) == [message]

    [broadcast] = heard()
    assert broadcast["method"] == method
    assert broadcast["destination"] == [worker.hostname]
    entry = LogEntry.objects.get()
    assert entry.object_id == str(worker.pk)
    assert entry.object_repr == worker.hostname
    assert entry.get_change_message() == log


@pytest.mark.parametrize(("url", "action"), ALL_ACTIONS)
def test_nothing_happens_before_it_is_confirmed(
    operator: Client, heard: Heard, url: str, action: str
) -> None:
    row = row_for(url)
    operator.get(url, {"action": action, "_selected_action": row.pk, "confirmed": 1})
    page = post_action(operator, url, action, row)

    assert page.status_code == 200
    assert str(getattr(row, "hostname", row.name if url == TASKS else "")) in (
        page.content.decode()
    )
    assert heard() == []
    assert not LogEntry.objects.exists()


@pytest.mark.parametrize(("url", "action"), ALL_ACTIONS)
def test_rows_that_are_gone_are_no_selection(
    operator: Client, heard: Heard, url: str, action: str
) -> None:
    """Above all no command without a destination, which every worker obeys."""
    row = row_for(url)
    page = post_action(operator, url, action, row)
    data = hidden_fields(page.content.decode())
    type(row).objects.all().delete()
    chosen = {key: data[key] for key in ("action", "_selected_action")}
    for form in (
        {**chosen, "index": "0"},
        {**data, **ENTERED},
        {**data, **ENTERED, "select_across": "1"},
    ):
        response = operator.post(url, form, follow=True)
        assert response.redirect_chain == [(url, 302)]
        assert told(response) == [
            "Nothing was done: none of the selected rows is left."
        ]
    assert heard() == []
    assert not LogEntry.objects.exists()


def test_expired_tasks_cannot_be_selected(operator: Client, heard: Heard) -> None:
    task = TaskStateFactory.create(hidden=True)
    data = {
        "action": "kill_tasks",
        "_selected_action": task.pk,
        "confirmed": "yes",
    }
    operator.post(TASKS, data)
    operator.post(TASKS, {**data, "select_across": "1"})
    assert heard() == []


def test_all_that_match_are_hit_and_nothing_else(
    operator: Client, heard: Heard
) -> None:
    url = f"{TASKS}?state__exact=STARTED"
    started = TaskStateFactory.create_batch(4, state="STARTED", worker=None)
    TaskStateFactory.create_batch(2, state="SUCCESS")
    TaskStateFactory.create(state="STARTED", hidden=True)

    page = post_action(operator, url, "revoke_tasks", *started[:2], select_across="1")
    html = page.content.decode()
    assert "<h2>4 tasks</h2>" in html
    assert "All rows that match the filters are selected" in html
    # Not an identifier more than the form needs: there may be thousands.
    assert len(hidden_fields(html)["_selected_action"]) == 1
    assert f'href="{url}"' in html

    response = confirm(operator, url, page)
    assert told(response) == [f"The workers were told to revoke 4 tasks. {SILENCE}"]
    assert response.redirect_chain == [(url, 302)]
    [broadcast] = heard()
    assert sorted(broadcast["arguments"]["task_id"]) == sorted(
        task.task_id for task in started
    )
    assert LogEntry.objects.count() == 4


@pytest.mark.parametrize(
    ("index", "action"),
    [("0", "revoke_tasks"), ("1", "kill_tasks"), ("x", "revoke_tasks"), ("2", None)],
)
def test_the_choice_in_either_list_of_actions_is_kept(
    operator: Client, index: str, action: str | None
) -> None:
    """The last is the admin's own answer to an index that does not exist."""
    task = TaskStateFactory.create()
    data = {"action": ["revoke_tasks", "kill_tasks"], "_selected_action": task.pk}
    page = operator.post(TASKS, {**data, "index": index})
    html = page.content.decode()
    expected = action or "kill_tasks"
    assert hidden_fields(html)["action"] == [expected]
    assert f"<h1>{expected.split('_')[0].capitalize()} tasks</h1>" in html


@pytest.mark.parametrize(("count", "more"), [(100, None), (101, "1"), (103, "3")])
def test_a_long_selection_is_listed_in_part(
    operator: Client,
    django_assert_max_num_queries: DjangoAssertNumQueries,
    count: int,
    more: str | None,
) -> None:
    TaskState.objects.bulk_create(
        TaskStateFactory.build_batch(count, worker=None, args="x" * 1000)
    )
    tasks = TaskState.objects.all()
    with django_assert_max_num_queries(13):
        page = post_action(operator, TASKS, "kill_tasks", *tasks)
    html = page.content.decode()
    assert html.count('class="celery-monitor-state ') == 100
    assert len(hidden_fields(html)["_selected_action"]) == count
    if more is None:
        assert "more</li>" not in html
    else:
        assert f"<li>and {more} more</li>" in html


def test_many_tasks_cost_as_many_queries_as_few(operator: Client) -> None:
    def queries(tasks: int) -> int:
        rows = TaskStateFactory.create_batch(tasks)
        data = {"confirmed": "yes", "action": "revoke_tasks"}
        data["_selected_action"] = [row.pk for row in rows]  # type: ignore[assignment]
        with CaptureQueriesContext(connection) as captured:
            operator.post(TASKS, data)
        return len(captured)

    queries(1)  # the content type is looked up once
    assert queries(40) == queries(2)
    assert LogEntry.objects.count() == 43
