"""The merge: which state a row has once it has seen events in whatever order."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence

import pytest
from celery import states
from hypothesis import given
from hypothesis import strategies as st

from django_celery_monitor.merge import OUTCOME
from django_celery_monitor.utils import fromtimestamp
from tests.attempts import (
    TWO,
    Event,
    attempt,
    failed,
    fold,
    observe,
    retried,
    revoked,
    started,
    succeeded,
)
from tests.events import NOW, received, sent, task_event

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
