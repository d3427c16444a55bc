"""The merge: what a row says of the call, the times, the route, the attempts."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from django_celery_monitor.merge import MAX_ATTEMPTS, OUTCOME
from django_celery_monitor.observation import MAX_ATTEMPT_TEXT
from django_celery_monitor.utils import fromtimestamp
from tests.attempts import TWO, attempt, fold, observe, retried, started, succeeded
from tests.events import NOW, received, sent

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


@pytest.mark.parametrize("first", [True, False])
def test_attempts_that_the_tracker_saw_are_not_told_twice(first: bool) -> None:
    tracked = [retried(NOW + 10 * i, f"Error({i})", attempt=i) for i in range(2)]
    events = [retried(NOW + 10 * i + 0.1, f"Error({i})") for i in range(2)]
    told = tracked + events if first else events + tracked
    row = fold(observe(event) for event in told)
    assert [attempt["retries"] for attempt in row["attempts"]] == [0, 1]


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
