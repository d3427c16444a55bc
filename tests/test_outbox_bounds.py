"""The bounds of the outbox: what goes when it is too much, and is counted."""

from __future__ import annotations

import sys
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from django_celery_monitor.merge import Phase, join_task, phase
from django_celery_monitor.outbox import OVERHEAD, Batch, size_of
from tests.batches import OBSERVER
from tests.events import NOW, received, task_event
from tests.outboxes import Columns, ids, outbox, see, tasks_of
from tests.strategies import task_events


def test_of_too_many_the_oldest_unfinished_go_first() -> None:
    box = outbox(max_tasks=3)
    for uuid, type_ in (
        *(("done", "task-succeeded"), ("a", "task-started"), ("b", "task-started")),
        *(("a", "task-started"), ("c", "task-started")),
    ):
        see(box, type_, uuid)
    # That a was heard of again made b the oldest.
    assert box.counters.dropped == 1
    assert ids(box) == ["a", "c", "done"]


def test_finished_go_when_nothing_else_is_left() -> None:
    box = outbox(max_tasks=2)
    for uuid in "abc":
        see(box, "task-succeeded", uuid)
    assert box.counters.dropped == 1
    assert ids(box) == ["b", "c"]


def test_what_was_given_back_is_older() -> None:
    box = outbox(max_tasks=3)
    see(box, "task-started", "a")
    see(box, "task-succeeded", "b")
    batch = box.take()
    see(box, "task-started", "c")
    box.give_back(batch)
    see(box, "task-started", "d")
    assert box.counters.dropped == 1
    assert ids(box) == ["b", "c", "d"]


def test_what_is_being_saved_stays() -> None:
    box = outbox(max_tasks=2)
    see(box, "task-started", "a")
    see(box, "task-started", "b")
    batch = box.take()
    see(box, "task-started", "c")
    assert list(batch.unfinished) == ["a", "b"]
    assert box.counters.dropped == 1
    box.give_back(batch)
    assert ids(box) == ["a", "b"]


def test_bytes_are_bounded_too() -> None:
    box = outbox(max_bytes=10 * OVERHEAD)
    for number in range(20):
        see(box, "task-succeeded", f"id-{number}", result="x" * OVERHEAD)
    assert box.size <= 10 * OVERHEAD
    assert len(box) == 5
    assert box.counters.dropped == 15


def test_batch_that_lost_all_to_the_bounds_is_taken_again() -> None:
    box = outbox(max_tasks=1)
    see(box, "task-started", "a")
    box.give_back(box.take())
    see(box, "task-started", "b")
    assert ids(box) == ["b"]
    assert not box


@pytest.mark.parametrize("letter", ["x", "ä", "я", "😀"])
def test_size_is_about_that_of_the_memory(letter: str) -> None:
    """Not less than Python says, or the bound would not hold; nor much more."""
    texts = (letter * 2_000 + field for field in "abcdef")
    seen: Columns = {}
    for event in (
        received(args=next(texts), kwargs=next(texts)),
        task_event(
            "task-retried", at=NOW + 1, exception=next(texts), traceback=next(texts)
        ),
        task_event(
            "task-failed", at=NOW + 2, exception=next(texts), traceback=next(texts)
        ),
    ):
        one = OBSERVER.task(event)[1]
        seen = join_task(seen, one) if seen else one
    (attempt,) = seen["attempts"]
    values = {id(v): v for v in (seen, *seen.values(), attempt, *attempt.values())}
    memory = sum(map(sys.getsizeof, values.values()))
    assert 0.8 * memory <= size_of(seen) <= 4 * memory


class Machine(RuleBasedStateMachine):
    """Sees, takes and gives back at random; a ledger says what must be there."""

    MAX_TASKS = 6

    def __init__(self) -> None:
        super().__init__()
        self.box = outbox(self.MAX_TASKS, 12 * OVERHEAD)
        self.batch: Batch | None = None
        self.ledger: dict[str, list[Columns]] = {}
        self.saved: dict[str, list[Columns]] = {}

    @rule(uuid=st.sampled_from("abcdefgh"), event=task_events)
    def see(self, uuid: str, event: dict[str, Any]) -> None:
        _, seen = OBSERVER.task(event)
        self.ledger.setdefault(uuid, []).append(seen)
        self.box.see_task(uuid, dict(seen))

    @precondition(lambda self: self.batch is None)
    @rule()
    def take(self) -> None:
        self.batch = self.box.take()

    @precondition(lambda self: self.batch is not None)
    @rule(count=st.integers(0, 4))
    def save(self, count: int) -> None:
        assert self.batch is not None
        for uuid in list(tasks_of(self.batch))[:count]:
            self.saved.setdefault(uuid, []).append(tasks_of(self.batch)[uuid])
            self.batch.remove(uuid)
        if self.batch:
            self.box.give_back(self.batch)
        else:
            self.box.done(self.batch)
        self.batch = None

    @invariant()
    def accounts_are_right(self) -> None:
        batches = self.box._batches()
        for batch in batches:
            assert batch.size == sum(map(size_of, tasks_of(batch).values()))
            ended = {Phase.NOT_RUN, Phase.FINISHED}
            assert all(phase(seen) in ended for seen in batch.finished.values())
            assert not any(phase(seen) in ended for seen in batch.unfinished.values())
        taken = 0 if self.batch is None else len(self.batch)
        assert len(self.box) <= max(self.MAX_TASKS, taken)

    @invariant()
    def what_is_missing_was_counted(self) -> None:
        waiting = [key for b in self.box._batches() for key in tasks_of(b)]
        lost = self.ledger.keys() - set(waiting) - self.saved.keys()
        assert len(lost) <= self.box.counters.dropped

    def teardown(self) -> None:
        if self.batch is not None:
            self.box.give_back(self.batch)
        batch = self.box.take()
        if self.box.counters.dropped:
            return
        for uuid, seen in tasks_of(batch).items():
            self.saved.setdefault(uuid, []).append(seen)
        assert self.saved.keys() == self.ledger.keys()
        for uuid, observations in self.ledger.items():
            assert fold(self.saved[uuid]) == fold(observations)


def fold(observations: list[Columns]) -> Columns:
    first, *others = observations
    for seen in others:
        first = join_task(first, seen)
    known = {name: value for name, value in first.items() if value is not None}
    return {**known, "retries": known.get("retries", 0)}


TestMachine = Machine.TestCase
TestMachine.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
