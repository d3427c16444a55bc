"""Events as observations: what each type says."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
import time_machine
from celery import states
from hypothesis import given

from django_celery_monitor.merge import TASK
from django_celery_monitor.observation import exception_type, from_task
from django_celery_monitor.utils import fromtimestamp
from tests.events import NOW, feed, received, sent, task_event, worker_event
from tests.observations import US, Columns, Event, observe, observer
from tests.strategies import task_streams

# Each type of event


@pytest.mark.parametrize(
    ("type_", "state"),
    [
        ("task-sent", states.PENDING),
        ("task-received", states.RECEIVED),
        ("task-started", states.STARTED),
        ("task-retried", states.RETRY),
        ("task-rejected", states.REJECTED),
        ("task-revoked", states.REVOKED),
        ("task-failed", states.FAILURE),
        ("task-succeeded", states.SUCCESS),
        ("task-progress", "PROGRESS"),
        ("task-half-way", "HALF-WAY"),
        ("task-" + "s" * 64, "S" * 64),
    ],
)
def test_state_of_each_type(type_: str, state: str) -> None:
    task_id, seen = observer().task(task_event(type_))
    assert task_id == "id-1"
    assert (seen["state"], seen["tstamp_us"]) == (state, NOW * US)
    assert seen["tstamp"] == fromtimestamp(NOW)


def test_overlong_state_is_cut_and_told_apart() -> None:
    one, two = (observe(task_event(f"task-{'s' * 70}{n}"))["state"] for n in "12")
    assert len(one) == len(two) == 64
    assert one != two


def test_sent() -> None:
    seen = observe(sent(queue="q", exchange="x", routing_key="k", retries=2))
    assert "worker" not in seen
    assert (seen["queue"], seen["exchange"], seen["routing_key"]) == ("q", "x", "k")
    assert seen["retries"] == seen["route_retries"] == 2
    assert seen["sent_at"] == seen["tstamp"]
    assert seen["name"] == "proj.tasks.add"


def test_received() -> None:
    seen = observe(
        received(eta="2026-03-02T12:00:00+02:00", expires="2026-03-02T11:00:00")
    )
    assert (seen["name"], seen["worker"]) == ("proj.tasks.add", "celery@one")
    assert (seen["args"], seen["kwargs"]) == ("(2, 2)", "{}")
    assert (seen["root_id"], seen.get("parent_id")) == ("id-1", None)
    assert seen["received_at"] == seen["tstamp"]
    assert seen["eta"] == fromtimestamp(NOW)
    # What tells no zone is in UTC.
    assert seen["expires"] == fromtimestamp(NOW + 3600)


def test_retry_is_not_its_own_parent() -> None:
    assert "parent_id" not in observe(received(parent_id="id-1"))
    assert observe(received(parent_id="up"))["parent_id"] == "up"


@pytest.mark.parametrize("name", [None, "", 5, ["proj.add"]])
def test_without_a_name_nothing_is_known_of_the_call(name: Any) -> None:
    seen = observe(received(name=name))
    assert not seen.keys() & {"name", "args", "kwargs", "retries", "root_id"}
    assert seen["received_at"] == seen["tstamp"]


def test_started() -> None:
    seen = observe(task_event("task-started"))
    assert seen["started_at"] == seen["tstamp"]


@pytest.mark.parametrize("type_", ["task-started", "task-revoked"])
def test_call_that_the_tracker_tells(type_: str) -> None:
    call: Event = {"name": "proj.add", "args": "(1,)", "retries": 2}
    seen = observe(task_event(type_, **call))
    assert {name: seen[name] for name in call} == call


def test_name_in_a_state_of_the_projects_own_is_not_the_tasks() -> None:
    assert "name" not in observe(task_event("task-progress", name="step 2"))


def test_success() -> None:
    seen = observe(task_event("task-succeeded", result="4", runtime=1.5))
    assert (seen["result"], seen["runtime"]) == ("4", 1.5)
    assert seen["finished_at"] == seen["tstamp"]
    assert not seen.keys() & {"exception", "traceback"}


def test_failure() -> None:
    error: Event = {"exception": "proj.errors.Bad('b', 3)", "traceback": "Traceback"}
    seen = observe(task_event("task-failed", **error))
    assert (seen["result"], seen["exception"]) == (
        error["exception"],
        "proj.errors.Bad",
    )
    assert seen["traceback"] == "Traceback"
    assert seen["finished_at"] == seen["tstamp"]
    assert "runtime" not in seen


def test_retry() -> None:
    error: Event = {"exception": "OSError('a')", "traceback": "Traceback"}
    seen = observe(task_event("task-retried", **error))
    assert (seen["result"], seen["exception"]) == ("OSError('a')", "OSError")
    assert seen["attempts"] == [{"timestamp": NOW * US, **error}]
    assert "finished_at" not in seen


def test_retry_that_the_tracker_tells() -> None:
    (attempt,) = observe(task_event("task-retried", attempt=1))["attempts"]
    assert attempt["retries"] == 1


def test_retry_that_says_nothing_is_an_attempt() -> None:
    (attempt,) = observe(task_event("task-retried"))["attempts"]
    assert (attempt["exception"], attempt["traceback"]) == ("", "")


@pytest.mark.parametrize(
    ("fields", "result"),
    [
        ({"terminated": True, "expired": False}, "TaskRevokedError('terminated')"),
        ({"expired": True, "terminated": False}, "TaskRevokedError('expired')"),
        ({}, "TaskRevokedError('revoked')"),
    ],
)
def test_revoked(fields: dict[str, Any], result: str) -> None:
    seen = observe(task_event("task-revoked", **fields))
    assert (seen["state"], seen["result"]) == ("REVOKED", result)
    assert seen["exception"] == "TaskRevokedError"
    assert seen["finished_at"] == seen["tstamp"]


@pytest.mark.parametrize(("requeue", "finished"), [(True, False), (False, True)])
def test_rejected_is_finished_unless_it_is_requeued(
    requeue: bool, finished: bool
) -> None:
    seen = observe(task_event("task-rejected", requeue=requeue))
    assert ("finished_at" in seen) is finished


@pytest.mark.parametrize(
    ("text", "type_"),
    [
        ("ValueError('x')", "ValueError"),
        ("ValueError()", "ValueError"),
        ("a.b.Fehlgeschlagen('ä')", "a.b.Fehlgeschlagen"),
        ("<Odd object at 0x7f>", None),
        ("", None),
        (None, None),
        ("E" * 300 + "()", "E" * 255),
    ],
)
def test_exception_type(text: str | None, type_: str | None) -> None:
    assert exception_type(text) == type_


# Workers


def test_heartbeat() -> None:
    hostname, seen = observer().worker(worker_event(at=NOW))
    assert hostname == "celery@one"
    assert seen["last_heartbeat_us"] == seen["told_us"] == NOW * US
    assert seen["last_heartbeat"] == seen["first_seen"] == fromtimestamp(NOW)
    assert (seen["pid"], seen["freq"], seen["active"]) == (4711, 2.0, 1)
    assert seen["loadavg"] == [0.5, 0.25, 0.1]
    assert "offline_at" not in seen


def test_going_offline_is_no_sign_of_life() -> None:
    _, seen = observer().worker(worker_event("worker-offline", at=NOW))
    assert (seen["offline_at"], seen["offline_at_us"]) == (
        fromtimestamp(NOW),
        NOW * US,
    )
    assert "last_heartbeat" not in seen


def test_worker_that_says_nothing_of_itself() -> None:
    _, seen = observer().worker(worker_event(pid=None))
    assert not seen.keys() & {"told_us", "pid", "freq"}


# A task of Celery's State, for a camera that handles tasks of its own


def of_state(*stream: Event) -> Columns:
    """Return what a State that has seen the events says of their one task."""
    (task,) = feed(stream).tasks.values()
    return from_task(observer(), task)


def test_task_of_a_state_says_what_its_events_said() -> None:
    seen = of_state(
        sent(at=NOW, retries=1, queue="q"),
        received(at=NOW + 1, retries=1, parent_id="up"),
        task_event("task-started", at=NOW + 2),
        task_event("task-succeeded", at=NOW + 3, result="4", runtime=1.5),
    )
    assert (seen["state"], seen["result"], seen["runtime"]) == ("SUCCESS", "4", 1.5)
    assert (seen["name"], seen["retries"], seen["queue"]) == ("proj.tasks.add", 1, "q")
    assert (seen["parent_id"], seen["worker"]) == ("up", "celery@one")
    times = ("sent_at", "received_at", "started_at", "finished_at")
    expected = [fromtimestamp(NOW + second) for second in range(4)]
    assert [seen[column] for column in times] == expected
    assert seen["tstamp_us"] == (NOW + 3) * US


def test_exception_of_a_failure_is_not_that_of_the_retry_before() -> None:
    seen = of_state(
        task_event("task-retried", at=NOW, exception="OSError('a')"),
        task_event("task-failed", at=NOW + 1, exception="KeyError('b')"),
    )
    assert (seen["state"], seen["exception"]) == ("FAILURE", "KeyError")
    assert not seen.get("attempts")


def test_state_of_its_own_is_kept() -> None:
    seen = of_state(
        task_event("task-started", at=NOW), task_event("task-progress", at=NOW + 1)
    )
    assert (seen["state"], seen["tstamp_us"]) == ("PROGRESS", (NOW + 1) * US)


def test_task_without_a_time_is_seen_now() -> None:
    task, _ = feed([]).get_or_create_task("id-1")
    task.state = "PROGRESS"
    with time_machine.travel(NOW, tick=False):
        assert from_task(observer(), task)["tstamp_us"] == NOW * US


@given(task_streams)
def test_every_task_of_a_state_can_be_saved(stream: list[Event]) -> None:
    seen = of_state(*stream)
    assert seen.keys() <= set(TASK)
    assert seen["tstamp"] <= fromtimestamp(NOW) + timedelta(seconds=4)
