"""The merge: what a row says once it has seen events in whatever order."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterable, Sequence
from typing import Any

import pytest
from celery import states
from hypothesis import given
from hypothesis import strategies as st

from django_celery_monitor.observation import (
    CALL,
    MAX_ATTEMPT_TEXT,
    MAX_ATTEMPTS,
    OUTCOME,
    exception_type,
    from_task,
    merge_task,
    merge_worker,
    microseconds,
)
from tests.events import NOW, feed, received, sent, task_event

Event = dict[str, Any]
Columns = dict[str, Any]

#: Every column that the merge decides; ``tstamp`` only mirrors ``tstamp_us``.
COLUMNS = {*OUTCOME, *CALL, "retries", "attempts"} - {"tstamp"}
COLUMNS |= {"sent_at", "received_at", "started_at"}
WORKERS = {"celery@one": 1, "celery@two": 2}


def observe(*events: Event) -> Columns:
    """Return what a State that has seen ``events`` says about their one task."""
    (task,) = feed(events).tasks.values()
    worker = task.worker and WORKERS[task.worker.hostname]
    return {**from_task(task), "worker_id": worker}


def fold(observations: Iterable[Columns]) -> Columns:
    """Return the row that ``observations`` leave, merged one after the other."""
    first, *others = observations
    row = {**dict.fromkeys(COLUMNS | {"tstamp"}), "retries": 0, **first}
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


def arrivals(events: Iterable[Event]) -> list[Event]:
    """Return events that the camera gets in this order, whenever they happened."""
    return [
        {**event, "local_received": NOW + 100 + i} for i, event in enumerate(events)
    ]


def parts(events: Sequence[Event], cuts: Sequence[bool]) -> list[Sequence[Event]]:
    """Return ``events`` in pieces, one more than there are true ``cuts``."""
    bounds = [0, *(i for i, cut in enumerate(cuts, 1) if cut), len(events)]
    return [events[begin:end] for begin, end in itertools.pairwise(bounds)]


# The laws


@st.composite
def histories(draw: st.DrawFn) -> list[Event]:
    """Draw the events of one task in the order in which they happened."""
    clock = itertools.count(1)
    events = [sent(at=NOW)] if draw(st.booleans()) else []
    retries = draw(st.integers(0, MAX_ATTEMPTS + 2))
    for number in range(retries + 1):
        event = attempt(number, NOW + next(clock)) if number else received(at=NOW + 1)
        events += [event, started(NOW + next(clock))]
        if number < retries:
            events.append(retried(NOW + next(clock), f"OSError({number})"))
    # Two events may bear the same time, from two workers.
    at = NOW + next(clock) - draw(st.integers(0, 1))
    copy = {"hostname": draw(st.sampled_from(sorted(WORKERS)))}
    endings = [
        [],
        [succeeded(at)],
        [succeeded(at), succeeded(at, **copy)],
        [succeeded(at), succeeded(at + 1, **copy, result="5")],
        [failed(at)],
        [failed(at), succeeded(at + 1, **copy)],
        [succeeded(at), revoked(at + 1, **copy, expired=True)],
        [revoked(at, expired=True), succeeded(at + 1, **copy)],
        [revoked(at, terminated=True), succeeded(at + 1, **copy)],
        [task_event("task-rejected", at=at, requeue=False), failed(at, **copy)],
        [task_event("task-progress", at=at, percent=40), succeeded(at + 1)],
    ]
    return events + draw(st.sampled_from(endings))


@given(histories(), st.randoms(use_true_random=False))
def test_order_of_observations_does_not_matter(
    events: list[Event], rng: random.Random
) -> None:
    observations = [observe(event) for event in events]
    shuffled = rng.sample(observations, len(observations))

    assert fold(shuffled) == fold(observations)


@given(histories(), st.randoms(use_true_random=False))
def test_merging_what_is_known_changes_nothing(
    events: list[Event], rng: random.Random
) -> None:
    observations = [observe(event) for event in events]
    row = fold(rng.sample(observations, len(observations)))

    for seen in [*observations, row]:
        assert merge_task(row, seen) == {}


@given(histories(), st.randoms(use_true_random=False), st.data())
def test_two_cameras_may_merge_their_halves(
    events: list[Event], rng: random.Random, data: st.DataObject
) -> None:
    observations = rng.sample([observe(event) for event in events], len(events))
    cut = data.draw(st.integers(1, len(observations)))
    one, two = observations[:cut], observations[cut:]

    assert fold([fold(one), *([fold(two)] if two else [])]) == fold(observations)


@pytest.mark.parametrize("name", STREAMS)
def test_every_order_of_single_events_leaves_the_same_row(name: str) -> None:
    events = STREAMS[name]
    observations = [observe(event) for event in events]
    row = fold(observations)
    orders = list(itertools.permutations(observations))

    for order in random.sample(orders, min(len(orders), 150)):
        assert fold(order) == row


@pytest.mark.parametrize("name", STREAMS)
def test_shots_at_any_moment_leave_the_same_outcome(name: str) -> None:
    """However many events a State has seen between two shots, in their order."""
    events = STREAMS[name]
    row = fold(observe(event) for event in events)
    # A State knows only the worker that spoke last, and a retry until it failed.
    lost = {"worker_id", "attempts"}

    for cuts in itertools.product([False, True], repeat=len(events) - 1):
        merged = fold(observe(*part) for part in parts(events, cuts))
        assert {c: merged[c] for c in COLUMNS - lost} == {
            c: row[c] for c in COLUMNS - lost
        }


@pytest.mark.parametrize("name", STREAMS)
@given(rng=st.randoms(use_true_random=False), data=st.data())
def test_finished_state_is_right_in_every_order_and_any_shots(
    name: str, rng: random.Random, data: st.DataObject
) -> None:
    events = STREAMS[name]
    row = fold(observe(event) for event in events)
    size = len(events)
    shuffled = arrivals(rng.sample(events, size))
    cuts = data.draw(st.lists(st.booleans(), min_size=size - 1, max_size=size - 1))

    merged = fold(observe(*part) for part in parts(shuffled, cuts))

    finished = ["state", "tstamp_us", "finished_at", "runtime"]
    if name != "failure after a retry":  # a State has one exception for both
        finished += ["result", "exception", "traceback"]
    assert {c: merged[c] for c in finished} == {c: row[c] for c in finished}


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
    assert row["finished_at"] == microseconds(max(at, NOW + 3))


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


# What an outcome says


def test_success() -> None:
    seen = observe(received(), succeeded(NOW + 3))
    assert seen["result"] == "4"
    assert seen["runtime"] == 1.5
    assert seen["finished_at"] == seen["tstamp_us"] == microseconds(NOW + 3)
    assert seen["exception"] is seen["traceback"] is None


def test_failure() -> None:
    seen = observe(received(), failed(NOW + 3, "proj.errors.Bad('b', 3)"))
    assert seen["result"] == "proj.errors.Bad('b', 3)"
    assert seen["exception"] == "proj.errors.Bad"
    assert seen["traceback"] == "Traceback of proj.errors.Bad('b', 3)"
    assert seen["runtime"] is None


@pytest.mark.parametrize(
    ("fields", "result"),
    [
        ({"terminated": True}, "TaskRevokedError('terminated')"),
        ({"expired": True}, "TaskRevokedError('expired')"),
        ({}, "TaskRevokedError('revoked')"),
    ],
)
def test_revoked(fields: dict[str, bool], result: str) -> None:
    seen = observe(received(), revoked(NOW + 3, **fields))
    assert (seen["state"], seen["result"]) == ("REVOKED", result)
    assert seen["exception"] == "TaskRevokedError"


@pytest.mark.parametrize(("requeue", "finished"), [(True, False), (False, True)])
def test_rejected_is_finished_unless_it_is_requeued(
    requeue: bool, finished: bool
) -> None:
    seen = observe(started(NOW), task_event("task-rejected", at=NOW, requeue=requeue))
    assert (seen["finished_at"] is not None) is finished


def test_what_a_retry_said_does_not_stay_on_the_success() -> None:
    row = fold([observe(retried(NOW)), observe(succeeded(NOW + 3))])
    assert row["result"] == "4"
    assert row["exception"] is row["traceback"] is None
    (kept,) = row["attempts"]
    assert kept == {
        "timestamp": microseconds(NOW),
        "exception": "OSError('a')",
        "traceback": "Traceback of OSError('a')",
    }


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
        assert row["eta"] == "2026-03-02T10:01:00+00:00"


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
    assert row["sent_at"] == microseconds(NOW)
    assert row["received_at"] == microseconds(NOW + 6)
    assert row["started_at"] == microseconds(NOW + 7)


def test_attempts_are_the_newest_and_cut() -> None:
    long = "x" * (MAX_ATTEMPT_TEXT + 7)
    row = fold(
        observe(retried(NOW + i, f"{i}{long}", traceback=f"{long}{i}"))
        for i in range(MAX_ATTEMPTS + 3)
    )
    assert len(row["attempts"]) == MAX_ATTEMPTS
    last = row["attempts"][-1]
    assert last["timestamp"] == microseconds(NOW + MAX_ATTEMPTS + 2)
    assert row["attempts"] == sorted(row["attempts"], key=lambda a: a["timestamp"])
    # What matters of an exception comes first, of a traceback last.
    assert last["exception"].startswith("12x")
    assert last["traceback"].endswith("x12")
    assert {len(a["exception"]) for a in row["attempts"]} == {MAX_ATTEMPT_TEXT}
    assert {len(a["traceback"]) for a in row["attempts"]} == {MAX_ATTEMPT_TEXT}


def test_retry_that_says_nothing_is_an_attempt() -> None:
    seen = observe(task_event("task-retried"))
    (kept,) = seen["attempts"]
    assert (kept["exception"], kept["traceback"]) == ("", "")


# Time


def test_time_in_the_future_is_when_it_was_received() -> None:
    ahead = 4_000_000_000.0
    assert microseconds(ahead, NOW) == microseconds(NOW)
    seen = observe(succeeded(ahead, received=NOW))
    assert seen["tstamp_us"] == seen["finished_at"] == microseconds(NOW)


def test_time_in_the_past_is_the_events_own() -> None:
    """A late event does not take the time of another one that came before it."""
    seen = observe(succeeded(NOW, received=NOW), received(at=NOW + 10))
    assert seen["received_at"] == microseconds(NOW + 10)
    assert seen["tstamp_us"] == microseconds(NOW)


def test_time_is_rounded_to_whole_microseconds() -> None:
    assert microseconds(NOW + 0.123456) == 1_772_445_600_123_456


def test_task_without_a_time_is_seen_now() -> None:
    before = microseconds(0)
    state = feed([])
    task, _ = state.get_or_create_task("id-1")
    task.state = "PROGRESS"
    assert from_task(task)["tstamp_us"] > before


# Workers


def heard(us: int | None = None, offline: int | None = None, **fields: Any) -> Columns:
    row = {"last_heartbeat": us, "last_heartbeat_us": us, "pid": None, "freq": None}
    return {**row, "offline_at": offline, "offline_at_us": offline, **fields}


def test_newer_heartbeat_brings_everything() -> None:
    changes = merge_worker(heard(5, pid=1, freq=2.0), heard(6, pid=2, freq=2.0))
    assert changes == {"last_heartbeat": 6, "last_heartbeat_us": 6, "pid": 2}


@pytest.mark.parametrize("us", [4, 5])
def test_older_heartbeat_brings_nothing(us: int) -> None:
    assert merge_worker(heard(5, pid=1), heard(us, pid=2)) == {}


def test_unknown_values_do_not_replace_known_ones() -> None:
    changes = merge_worker(heard(5, pid=1), heard(6, pid=None))
    assert changes == {"last_heartbeat": 6, "last_heartbeat_us": 6}


def test_going_offline_only_moves_forward() -> None:
    assert merge_worker(heard(5, 7), heard(offline=6)) == {}
    assert merge_worker(heard(5, 7), heard(offline=8)) == {
        "offline_at": 8,
        "offline_at_us": 8,
    }


@given(
    st.lists(
        st.builds(
            heard,
            st.none() | st.integers(1, 5),
            st.none() | st.integers(1, 5),
        ),
        min_size=1,
    ),
    st.randoms(use_true_random=False),
)
def test_order_of_what_workers_say_does_not_matter(
    observations: list[Columns], rng: random.Random
) -> None:
    def merged(order: Iterable[Columns]) -> Columns:
        row = heard()
        for seen in order:
            row.update(merge_worker(row, seen))
        return row

    row = merged(observations)
    assert merged(rng.sample(observations, len(observations))) == row
    assert all(merge_worker(row, seen) == {} for seen in observations)
