"""The merge: what a row says once it has seen events in whatever order."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterable, Sequence
from functools import reduce
from typing import Any

import pytest
from celery import states
from hypothesis import given
from hypothesis import strategies as st

from django_celery_monitor.merge import (
    MAX_ATTEMPTS,
    OUTCOME,
    TASK,
    join_task,
    merge_task,
    merge_worker,
)
from django_celery_monitor.observation import MAX_ATTEMPT_TEXT, Observer
from django_celery_monitor.sanitize import Sanitizer
from django_celery_monitor.utils import fromtimestamp
from tests.events import NOW, received, sent, task_event

Event = dict[str, Any]
Columns = dict[str, Any]


def observe(*events: Event) -> Columns:
    """Return what a camera has in memory that has seen ``events`` of one task."""
    observer = Observer(Sanitizer(["password"], 100_000))
    return reduce(join_task, [observer.task(event)[1] for event in events])


def fold(observations: Iterable[Columns]) -> Columns:
    """Return the row that ``observations`` leave, merged one after the other."""
    first, *others = observations
    row = {**dict.fromkeys(TASK), "retries": 0, **first}
    for seen in others:
        row.update(merge_task(row, seen))
    return row


def succeeded(at: float, **fields: Any) -> Event:
    return task_event("task-succeeded", at=at, **{"result": "4", **fields}, runtime=1.5)


def failed(at: float, error: str = "KeyError('b')", **fields: Any) -> Event:
    fields.setdefault("traceback", f"Traceback of {error}")
    return task_event("task-failed", at=at, exception=error, **fields)


def retried(at: float, error: str = "OSError('a')", **fields: Any) -> Event:
    fields.setdefault("traceback", f"Traceback of {error}")
    return task_event("task-retried", at=at, exception=error, **fields)


def started(at: float, **fields: Any) -> Event:
    return task_event("task-started", at=at, **fields)


def revoked(at: float, **fields: Any) -> Event:
    reason = {"terminated": False, "signum": None, "expired": False}
    return task_event("task-revoked", at=at, **{**reason, **fields})


def attempt(number: int, at: float) -> Event:
    """Return what a worker says when it receives a retry."""
    # As Celery does, the retry is a child of the task it retries: itself.
    eta = f"2026-03-02T10:{number:02}:00+00:00"
    return received(at=at, retries=number, eta=eta, parent_id="id-1")


TWO = "celery@two"
STREAMS: dict[str, list[Event]] = {
    "success": [
        sent(at=NOW),
        received(at=NOW + 1),
        started(NOW + 2),
        succeeded(NOW + 3),
    ],
    "failure": [received(at=NOW + 1), started(NOW + 2), failed(NOW + 3)],
    "success after a retry": [
        sent(at=NOW),
        received(at=NOW + 1),
        started(NOW + 2),
        retried(NOW + 3),
        attempt(1, NOW + 4),
        started(NOW + 5),
        succeeded(NOW + 6),
    ],
    "failure after a retry": [
        received(at=NOW + 1),
        started(NOW + 2),
        retried(NOW + 3),
        attempt(1, NOW + 4),
        started(NOW + 5),
        failed(NOW + 6),
    ],
    "success, then another copy expires": [
        received(at=NOW + 1),
        started(NOW + 2),
        succeeded(NOW + 3),
        received(at=NOW + 4, hostname=TWO),
        revoked(NOW + 5, hostname=TWO, expired=True),
    ],
    "a copy expires, then another succeeds": [
        received(at=NOW + 1),
        revoked(NOW + 2, expired=True),
        received(at=NOW + 3, hostname=TWO),
        started(NOW + 4, hostname=TWO),
        succeeded(NOW + 5, hostname=TWO),
    ],
    "terminated": [
        received(at=NOW + 1),
        started(NOW + 2),
        revoked(NOW + 3, terminated=True, signum="SIGTERM"),
    ],
    "requeued, then success": [
        received(at=NOW + 1),
        task_event("task-rejected", at=NOW + 2, requeue=True),
        received(at=NOW + 3, hostname=TWO),
        started(NOW + 4, hostname=TWO),
        succeeded(NOW + 5, hostname=TWO),
    ],
    "rejected": [
        received(at=NOW + 1),
        started(NOW + 2),
        task_event("task-rejected", at=NOW + 3, requeue=False),
    ],
    "a state of its own, then success": [
        received(at=NOW + 1),
        started(NOW + 2),
        task_event("task-progress", at=NOW + 3, percent=40),
        succeeded(NOW + 4),
    ],
}


def parts(events: Sequence[Event], cuts: Sequence[bool]) -> list[Sequence[Event]]:
    """Return ``events`` in pieces, one more than there are true ``cuts``."""
    bounds = [0, *(i for i, cut in enumerate(cuts, 1) if cut), len(events)]
    return [events[begin:end] for begin, end in itertools.pairwise(bounds)]


@pytest.mark.parametrize("name", STREAMS)
def test_every_order_of_single_events_leaves_the_same_row(name: str) -> None:
    observations = [observe(event) for event in STREAMS[name]]
    row = fold(observations)
    orders = list(itertools.permutations(observations))

    for order in random.sample(orders, min(len(orders), 150)):
        assert fold(order) == row


@pytest.mark.parametrize("name", STREAMS)
@given(rng=st.randoms(use_true_random=False), data=st.data())
def test_shots_at_any_moment_leave_the_same_row(
    name: str, rng: random.Random, data: st.DataObject
) -> None:
    """However many events a camera has seen between two shots, in whatever order."""
    events = STREAMS[name]
    row = fold(observe(event) for event in events)
    size = len(events)
    cuts = data.draw(st.lists(st.booleans(), min_size=size - 1, max_size=size - 1))

    shots = parts(rng.sample(events, size), cuts)

    assert fold(observe(*shot) for shot in shots) == row


# Which state wins


@pytest.mark.parametrize(
    ("late", "state"),
    [
        (sent(at=NOW), states.PENDING),
        (received(at=NOW + 1), states.RECEIVED),
        (started(NOW + 1), states.STARTED),
        (retried(NOW + 1), states.RETRY),
        (task_event("task-progress", at=NOW + 1), "PROGRESS"),
        # Nor do workers whose clocks are ahead.
        (started(NOW + 50), states.STARTED),
        (retried(NOW + 50), states.RETRY),
        (task_event("task-rejected", at=NOW + 50, requeue=True), states.REJECTED),
    ],
)
@pytest.mark.parametrize(
    "finish",
    [
        succeeded(NOW + 3),
        failed(NOW + 3),
        revoked(NOW + 3, terminated=True),
        revoked(NOW + 3, expired=True),
        task_event("task-rejected", at=NOW + 3, requeue=False),
    ],
)
def test_nothing_turns_a_finished_task_back(
    finish: Event, late: Event, state: str
) -> None:
    finished = observe(finish)
    assert observe(late)["state"] == state

    row = fold([finished, observe(late)])

    assert {c: row[c] for c in OUTCOME if c in finished} == {
        c: finished[c] for c in OUTCOME if c in finished
    }


@pytest.mark.parametrize("at", [NOW - 50, NOW + 3, NOW + 50])
@pytest.mark.parametrize(
    "not_run",
    [
        revoked(NOW, expired=True),
        revoked(NOW),
        task_event("task-rejected", at=NOW, requeue=False),
    ],
)
def test_a_copy_that_never_ran_loses_whenever_it_ended(
    not_run: Event, at: float
) -> None:
    row = fold([observe(succeeded(NOW + 3)), observe({**not_run, "timestamp": at})])
    assert (row["state"], row["result"], row["runtime"]) == ("SUCCESS", "4", 1.5)


@pytest.mark.parametrize(("at", "state"), [(NOW + 1, "SUCCESS"), (NOW + 5, "REVOKED")])
def test_a_task_that_was_terminated_ended_when_it_was(at: float, state: str) -> None:
    row = fold([observe(succeeded(NOW + 3)), observe(revoked(at, terminated=True))])
    assert row["state"] == state
    assert row["finished_at"] == fromtimestamp(max(at, NOW + 3))


def test_at_the_same_time_celerys_precedence_decides() -> None:
    order = [sent(), received(), started(NOW), task_event("task-progress")]
    for earlier, later in itertools.pairwise(order):
        row = fold([observe(later), observe(earlier)])
        assert row["state"] == observe(later)["state"]


def test_without_progress_the_later_time_decides() -> None:
    row = fold([observe(retried(NOW + 5)), observe(started(NOW + 6))])
    assert row["state"] == "STARTED"
    row = fold([observe(retried(NOW + 5)), observe(started(NOW + 4))])
    assert row["state"] == "RETRY"


# What goes with the outcome


def test_what_a_retry_said_does_not_stay_on_the_success() -> None:
    row = fold([observe(retried(NOW)), observe(succeeded(NOW + 3))])
    assert row["result"] == "4"
    assert row["exception"] is row["traceback"] is None
    (kept,) = row["attempts"]
    assert kept == {
        "timestamp": round(NOW * 1_000_000),
        "exception": "OSError('a')",
        "traceback": "Traceback of OSError('a')",
    }


# Facts of the call, times, attempts


def test_nameless_observation_keeps_what_is_known() -> None:
    row = fold([observe(sent(), received()), observe(succeeded(NOW + 3))])
    assert row["name"] == "proj.tasks.add"
    assert (row["args"], row["kwargs"]) == ("(2, 2)", "{}")
    assert (row["queue"], row["routing_key"]) == ("celery", "celery")
    assert row["root_id"] == "id-1"


def test_name_that_is_learnt_late_reaches_the_row() -> None:
    row = fold([observe(succeeded(NOW + 3)), observe(received())])
    assert (row["state"], row["name"]) == ("SUCCESS", "proj.tasks.add")


def test_call_is_the_newest_attempts() -> None:
    first = observe(received(args="(1,)"))
    second = observe(attempt(1, NOW + 4) | {"args": "(2,)"})
    for order in ([first, second], [second, first]):
        row = fold(order)
        assert (row["args"], row["retries"]) == ("(2,)", 1)
        assert row["eta"] == fromtimestamp(NOW + 60)


def test_retry_is_not_its_own_parent() -> None:
    row = fold([observe(received(parent_id="up")), observe(attempt(1, NOW + 4))])
    assert row["parent_id"] == "up"


def test_retries_are_the_most_that_were_seen() -> None:
    row = fold([observe(attempt(2, NOW)), observe(attempt(1, NOW + 9))])
    assert row["retries"] == 2
    assert fold([row, observe(succeeded(NOW + 10))])["retries"] == 2


def test_first_sending_and_latest_start_are_kept() -> None:
    row = fold(
        observe(event)
        for event in (
            sent(at=NOW + 5, retries=1),
            sent(at=NOW),
            attempt(1, NOW + 6),
            received(at=NOW + 1),
            started(NOW + 7),
            started(NOW + 2),
        )
    )
    assert row["sent_at"] == fromtimestamp(NOW)
    assert row["received_at"] == fromtimestamp(NOW + 6)
    assert row["started_at"] == fromtimestamp(NOW + 7)


def test_attempts_are_the_newest_and_cut() -> None:
    long = "x" * (MAX_ATTEMPT_TEXT + 7)
    row = fold(
        observe(retried(NOW + i, f"{i}{long}", traceback=f"{long}{i}"))
        for i in range(MAX_ATTEMPTS + 3)
    )
    assert len(row["attempts"]) == MAX_ATTEMPTS
    last = row["attempts"][-1]
    assert last["timestamp"] == round((NOW + MAX_ATTEMPTS + 2) * 1_000_000)
    assert row["attempts"] == sorted(row["attempts"], key=lambda a: a["timestamp"])
    # What matters of an exception comes first, of a traceback last.
    assert last["exception"].startswith("12x")
    assert last["traceback"].endswith("x12")
    assert {len(a["exception"]) for a in row["attempts"]} == {MAX_ATTEMPT_TEXT}
    assert {len(a["traceback"]) for a in row["attempts"]} == {MAX_ATTEMPT_TEXT}


def test_eta_that_a_newer_attempt_does_not_have_goes() -> None:
    first = observe(received(eta="2026-03-02T10:05:00+00:00"))
    second = observe(received(at=NOW + 4, retries=1))
    for order in ([first, second], [second, first]):
        assert fold(order)["eta"] is None


def test_route_is_the_newest_attempts_together() -> None:
    first = observe(sent(queue="one", exchange="x", routing_key="one"))
    second = observe(
        sent(at=NOW + 3, retries=1, queue="two", exchange=None, routing_key="two")
    )
    for order in ([first, second], [second, first]):
        row = fold(order)
        assert (row["queue"], row["exchange"], row["routing_key"]) == (
            "two",
            None,
            "two",
        )
        assert row["route_retries"] == 1


def test_route_stays_where_a_newer_attempt_tells_none() -> None:
    """Clients of retries are workers, which may not be told to send task-sent."""
    for order in itertools.permutations([sent(queue="one"), attempt(1, NOW + 4)]):
        row = fold(observe(event) for event in order)
        assert (row["queue"], row["retries"], row["route_retries"]) == ("one", 1, 0)


def test_route_does_not_follow_the_outcome() -> None:
    """A task-sent that comes last of all, of an attempt before."""
    row = fold([observe(attempt(1, NOW + 4), succeeded(NOW + 5)), observe(sent())])
    assert (row["state"], row["queue"], row["retries"]) == ("SUCCESS", "celery", 1)


@pytest.mark.parametrize(
    "change", [{"result": "5"}, {"runtime": 2.5}, {"hostname": TWO}, {"result": None}]
)
def test_exact_ties_are_broken_by_the_values(change: dict[str, Any]) -> None:
    """Two copies of a task that end in the same microsecond."""
    one = {**succeeded(NOW), "pid": 1}
    both = [observe(one), observe({**one, **change})]
    row = fold(both)
    assert fold(reversed(both)) == row
    outcomes = [{c: seen.get(c) for c in OUTCOME} for seen in both]
    assert {c: row[c] for c in OUTCOME} in outcomes


# Workers


def heard(us: int | None = None, offline: int | None = None, **fields: Any) -> Columns:
    """Return a row of a worker that told of itself with its last heartbeat."""
    row = {"last_heartbeat": us, "last_heartbeat_us": us, "pid": None, "freq": None}
    told = us if fields else None
    row = {**row, "offline_at": offline, "offline_at_us": offline, "told_us": told}
    return {**row, **fields}


def test_newer_heartbeat_brings_everything() -> None:
    changes = merge_worker(heard(5, pid=1, freq=2.0), heard(6, pid=2, freq=2.0))
    assert changes == {
        "last_heartbeat": 6,
        "last_heartbeat_us": 6,
        "told_us": 6,
        "pid": 2,
    }


def test_older_heartbeat_brings_nothing() -> None:
    assert merge_worker(heard(5, pid=1), heard(4, pid=2)) == {}


def test_of_two_words_at_the_same_time_the_greater_counts() -> None:
    one, two = heard(5, pid=1), heard(5, pid=2)
    assert merge_worker(two, one) == {}
    assert merge_worker(one, two) == {"pid": 2}


def test_what_is_said_together_stays_together() -> None:
    """What a newer word leaves out is not what an older one said."""
    changes = merge_worker(heard(5, pid=1, freq=2.0), heard(6, pid=2))
    assert changes["freq"] is None


def test_sign_of_life_from_a_task_leaves_what_the_worker_said() -> None:
    changes = merge_worker(heard(5, pid=1), heard(6))
    assert changes == {"last_heartbeat": 6, "last_heartbeat_us": 6}


def test_going_offline_only_moves_forward() -> None:
    assert merge_worker(heard(5, 7), heard(offline=6)) == {}
    assert merge_worker(heard(5, 7), heard(offline=8)) == {
        "offline_at": 8,
        "offline_at_us": 8,
    }


def test_first_seen_only_moves_back() -> None:
    row = {**heard(5), "first_seen": 3}
    assert merge_worker(row, {"first_seen": 4}) == {}
    assert merge_worker(row, {"first_seen": 2}) == {"first_seen": 2}


def test_how_often_a_row_is_written_changes_with_the_rest() -> None:
    row = {**heard(5), "update_freq": 60}
    assert merge_worker(row, {**heard(5), "update_freq": 30}) == {}
    changes = merge_worker(row, {**heard(6), "update_freq": 30})
    assert changes["update_freq"] == 30
