"""What workers answer to actions, and what the user is told of it."""

from __future__ import annotations

import time
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.messages import ERROR, SUCCESS, WARNING
from django.test import Client

from django_celery_monitor.admin import replies
from tests.admin.conftest import (
    ENTERED,
    TASKS,
    WORKERS,
    Workers,
    act,
    confirm,
    post_action,
)
from tests.factories import TaskStateFactory, WorkerStateFactory

pytestmark = pytest.mark.django_db


def outcome(client: Client, url: str, action: str, *rows: Any) -> list[tuple[int, str]]:
    """Confirm an action; return each message with its level."""
    page = post_action(client, url, action, *rows)
    response = confirm(client, url, page, **ENTERED)
    return [(each.level, str(each)) for each in response.context["messages"]]


def history(row: Any) -> str:
    """Return the one entry in the history of a row."""
    return LogEntry.objects.get(object_id=str(row.pk)).get_change_message()


@pytest.mark.parametrize(
    ("action", "command", "arguments", "log"),
    [
        ("ping_nodes", "ping", {}, "Pinged it."),
        ("grow_pools", "pool_grow", {"n": 1}, "Told it to grow its pool by 1."),
        ("shrink_pools", "pool_shrink", {"n": 1}, "Told it to shrink its pool by 1."),
        ("restart_pools", "pool_restart", {}, "Told it to restart its pool."),
        (
            "add_consumer",
            "add_consumer",
            {"queue": "slow"},
            "Told it to consume from the queue slow.",
        ),
        (
            "cancel_consumer",
            "cancel_consumer",
            {"queue": "slow"},
            "Told it to consume no more from the queue slow.",
        ),
        ("enable_events", "enable_events", {}, "Told it to send events."),
        ("disable_events", "disable_events", {}, "Told it to send no events."),
    ],
)
def test_each_workers_reply_is_shown_and_logged(
    operator: Client,
    workers: Workers,
    action: str,
    command: str,
    arguments: dict[str, Any],
    log: str,
) -> None:
    agrees, refuses, silent, other = (
        WorkerStateFactory.create(hostname=name) for name in "abcd"
    )
    workers.start("a", **{command: {"ok": "as you wish"}})
    workers.start("b", **{command: {"error": "ValueError('not <b>me</b>')"}})
    workers.start("d", **{command: {"ok": "nobody asked"}})

    said = outcome(operator, WORKERS, action, agrees, refuses, silent)

    assert [level for level, _ in said] == [SUCCESS, ERROR, WARNING]
    assert said[0][1].startswith("3 workers were ")
    assert "<li>a: as you wish</li>" in said[0][1]
    assert "These workers refused:" in said[1][1]
    assert "<li>b: ValueError(&#x27;not &lt;b&gt;me&lt;/b&gt;&#x27;)</li>" in said[1][1]
    assert "These workers did not answer:" in said[2][1]
    assert "<li>c</li>" in said[2][1]
    assert history(agrees) == f"{log} It answered: as you wish"
    assert history(refuses) == f"{log} It answered: ValueError('not <b>me</b>')"
    assert history(silent) == f"{log} It did not answer."
    assert not LogEntry.objects.filter(object_id=str(other.pk)).exists()
    assert sorted(workers.heard) == [
        ("a", command, arguments),
        ("b", command, arguments),
    ]


@pytest.mark.parametrize(
    ("action", "command"),
    [
        ("revoke_tasks", "revoke"),
        ("terminate_tasks", "revoke"),
        ("kill_tasks", "revoke"),
        ("rate_limit_tasks", "rate_limit"),
        ("time_limit_tasks", "time_limit"),
    ],
)
def test_all_workers_answer_for_tasks(
    operator: Client, workers: Workers, action: str, command: str
) -> None:
    task = TaskStateFactory.create(worker=WorkerStateFactory.create(hostname="a"))
    # One that no camera has seen is told all the same.
    workers.start("a", **{command: {"ok": "done"}})
    workers.start("unseen", **{command: {"ok": "done"}})

    [(level, text)] = outcome(operator, TASKS, action, task)

    assert level == SUCCESS
    assert "<li>a: done</li>" in text
    assert "No worker has answered" not in history(task)
    assert {each[:2] for each in workers.heard} >= {("a", command)}


def test_tasks_that_no_worker_answered_for_are_said_so(operator: Client) -> None:
    task = TaskStateFactory.create(worker=WorkerStateFactory.create(hostname="a"))
    [(level, text)] = outcome(operator, TASKS, "revoke_tasks", task)
    assert level == WARNING
    assert text.startswith("The workers were told to revoke 1 task. No worker has")
    assert "<li>a</li>" in text
    assert history(task).endswith("No worker has answered.")


def test_workers_that_are_gone_are_not_waited_for(
    operator: Client, workers: Workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replies, "TIMEOUT", 20)
    WorkerStateFactory.create(hostname="gone", last_heartbeat=None)
    task = TaskStateFactory.create(worker=WorkerStateFactory.create(hostname="a"))
    workers.start("a", revoke={"ok": "done"})
    started = time.monotonic()
    act(operator, TASKS, "revoke_tasks", task)
    assert time.monotonic() - started < 10


def test_many_names_are_all_sent_though_nobody_answers(
    operator: Client, workers: Workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The time to wait is one for all of them."""
    tasks = [TaskStateFactory.create(name=f"n{n:02}", worker=None) for n in range(30)]
    workers.start("mute", time_limit=None)
    monkeypatch.setattr(replies, "TIMEOUT", 0.3)
    WorkerStateFactory.create(hostname="silent")
    started = time.monotonic()
    act(operator, TASKS, "time_limit_tasks", *tasks, **ENTERED)
    assert time.monotonic() - started < 6
    workers.end()
    assert [each[2]["task_name"] for each in workers.heard] == [t.name for t in tasks]


@pytest.mark.parametrize(
    "answer",
    [
        "text",
        None,
        5,
        ["<script>"],
        {},
        {"ok": None},
        {"ok": "x" * 100_000},
        {"error": {"deep": ["<script>"]}},
    ],
)
def test_any_answer_is_shown_escaped_and_cut(
    operator: Client, workers: Workers, answer: object
) -> None:
    node = WorkerStateFactory.create(hostname="a")
    workers.start("a", ping=answer)
    [(_, text)] = outcome(operator, WORKERS, "ping_nodes", node)
    assert "<script>" not in text
    assert len(text) < 500


def test_an_answer_that_cannot_be_read_is_no_error(
    operator: Client, workers: Workers
) -> None:
    nodes = [WorkerStateFactory.create(hostname=name) for name in ("a", "b")]
    workers.serializer = "pickle"
    workers.start("a", ping={"ok": "pong"})
    [(level, text)] = outcome(operator, WORKERS, "ping_nodes", *nodes)
    assert level == WARNING
    assert "Refusing to deserialize" in text
    for node in nodes:
        assert history(node).startswith("Pinged it. An answer cannot be read: Refusing")


def test_the_history_of_a_task_says_that_an_answer_cannot_be_read(
    operator: Client, workers: Workers
) -> None:
    task = TaskStateFactory.create(worker=WorkerStateFactory.create(hostname="a"))
    workers.serializer = "pickle"
    workers.start("a", revoke={"ok": "done"})
    act(operator, TASKS, "revoke_tasks", task)
    assert "An answer cannot be read" in history(task)


def test_a_long_list_of_replies_is_cut(operator: Client) -> None:
    nodes = WorkerStateFactory.create_batch(25)
    [(_, text)] = outcome(operator, WORKERS, "ping_nodes", *nodes)
    assert text.count("<li>") == 21
    assert "<li>and 5 more</li>" in text


def test_a_worker_that_exits_is_not_asked(operator: Client, workers: Workers) -> None:
    node = WorkerStateFactory.create(hostname="a")
    said = outcome(operator, WORKERS, "shutdown_nodes", node)
    assert said == [(SUCCESS, "1 worker was told to shut down.")]
    assert history(node) == "Told it to shut down."
