"""A thousand tasks through servers: every row says what the worker's ledger says."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import pytest
from celery import states
from celery.utils.saferepr import saferepr
from pytest_django import DjangoDbBlocker

from django_celery_monitor.models import TaskState
from tests.integration.conftest import MakeProject
from tests.integration.processes import Project, wait_for

TASKS = 1000
FINISHED = (states.SUCCESS, states.FAILURE, states.REVOKED, states.REJECTED)
PREFIX = "tests.integration.project.tasks"

pytestmark = pytest.mark.integration

brokers = pytest.mark.parametrize(
    "broker",
    [
        pytest.param(variable, marks=pytest.mark.services(variable, "DATABASE_URL"))
        for variable in ("REDIS_URL", "AMQP_URL")
    ],
)


def id_of(project: Project, number: int) -> str:
    """Return the id of a task; it is long for some of each kind."""
    return f"{'long' * 40 if number % 7 == 0 else 'id'}-{project.name}-{number}"


def send(project: Project, number: int) -> dict[str, Any]:
    """Send one of the kinds of tasks; return what its row is to say of the call."""
    text = f"<b>№ {number} & co</b>"
    name, args, options = (
        ("add", (number, 1), {}),
        ("echo", (text, None, 0.5), {}),
        ("fail", (text,), {}),
        ("flaky", (True,), {}),
        ("add", (1, number), {"countdown": 0.5}),
        ("flaky", (False,), {}),
        ("reject", (), {}),
        ("add", (number, number), {"expires": 3600}),
        ("wait", ("ledger",), {}),
        ("ignore", (), {}),
    )[number % 10]
    task_id = id_of(project, number)
    project.task(name, *args).apply_async(task_id=task_id, **options)
    return {
        "task_id": task_id,
        "name": f"{PREFIX}.{name}",
        "args": saferepr(args),
        "kwargs": "{}",
        "queue": project.name,
        "root_id": task_id,
        "parent_id": None,
        "has eta": "countdown" in options,
        "has expires": "expires" in options,
    }


def outcome(entries: list[dict[str, Any]]) -> dict[str, Any]:
    """Return what a row is to say of the outcome, by the ledger of the task."""
    said = {entry["what"]: entry["said"] for entry in entries}
    expected = {
        "state": states.STARTED,
        "result": None,
        "exception": None,
        "retries": max(entry["retries"] for entry in entries),
        "has run": "revoked" not in said,
    }
    if "succeeded" in said:
        return expected | {"state": states.SUCCESS, "result": said["succeeded"]}
    if "failed" in said:
        error = said["failed"]
        outcome = {"result": error, "exception": error.partition("(")[0]}
        return expected | {"state": states.FAILURE} | outcome
    if "revoked" in said:
        error = f"TaskRevokedError({said['revoked']!r})"
        outcome = {"result": error, "exception": "TaskRevokedError"}
        return expected | {"state": states.REVOKED} | outcome
    return expected


def content(row: TaskState) -> dict[str, Any]:
    """Return what a row says, as ``send`` and ``outcome`` put it."""
    columns = row.columns()
    same = ("task_id", "name", "args", "kwargs", "queue", "root_id", "parent_id")
    outcome = ("state", "result", "exception", "retries")
    return {
        **{name: columns[name] for name in (*same, *outcome)},
        "has eta": row.eta is not None,
        "has expires": row.expires is not None,
        "has run": row.started_at is not None,
    }


def check_details(row: TaskState, entries: list[dict[str, Any]]) -> None:
    """Check what follows from the state, and what the attempts said."""
    assert row.worker is not None
    assert row.worker.hostname == "worker@test"
    assert (row.runtime is not None) == (row.state == states.SUCCESS)
    assert (row.traceback is not None) == (row.state == states.FAILURE)
    assert row.sent_at is not None
    assert (row.received_at is not None) == (row.state != states.REVOKED)
    assert (row.finished_at is not None) == (row.state in FINISHED)
    # When an attempt is over before the camera's next shot, its words are lost.
    retried = {entry["said"] for entry in entries if entry["what"] == "retried"}
    assert {attempt["exception"] for attempt in row.attempts or ()} <= retried


def rejected(row: TaskState, entries: list[dict[str, Any]]) -> bool:
    """Return whether the task was rejected and its row says so.

    Newer versions of Celery say that it has failed.
    """
    assert "rejected" in [entry["what"] for entry in entries]
    return row.state in {states.REJECTED, states.FAILURE}


@brokers
def test_every_row_says_what_the_task_did(
    broker: str, make_project: MakeProject, django_db_blocker: DjangoDbBlocker
) -> None:
    with django_db_blocker.unblock():
        project = make_project("server", os.environ[broker])
        project.camera("--frequency=0.5")
        project.worker("-c", "4")
        wait_for(project.workers.exists)
        revoked = [id_of(project, number) for number in range(7, TASKS, 10)]
        assert project.app.control.revoke(revoked, reply=True, timeout=10, limit=1)
        sent = [send(project, number) for number in range(TASKS)]
        finished = project.tasks.filter(state__in=FINISHED)
        ignored = project.tasks.filter(state=states.STARTED, name=f"{PREFIX}.ignore")
        wait_for(lambda: finished.count() + ignored.count() == TASKS, 120)

        check(project, {call["task_id"]: call for call in sent})


def check(project: Project, sent: Mapping[str, dict[str, Any]]) -> None:
    """Compare the rows of all tasks with what was sent and with the ledger."""
    ledger = defaultdict(list)
    for entry in project.ledger():
        ledger[entry["id"]].append(entry)
    rows = {row.task_id: row for row in project.tasks.select_related("worker")}
    assert rows.keys() == sent.keys() == ledger.keys()
    for task_id, row in rows.items():
        entries = ledger[task_id]
        if sent[task_id]["name"].endswith("reject"):
            assert rejected(row, entries)
            continue
        assert content(row) == sent[task_id] | outcome(entries)
        check_details(row, entries)
    found = project.tasks.values_list("state", flat=True)
    assert {*FINISHED, states.STARTED} - set(found) <= {states.REJECTED}
