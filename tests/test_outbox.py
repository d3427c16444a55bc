"""The outbox: it loses nothing but what is too much, and counts that."""

from __future__ import annotations

import random
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from django_celery_monitor.counters import Counters
from django_celery_monitor.merge import Phase, join_task, phase
from django_celery_monitor.observation import Observer
from django_celery_monitor.outbox import MAX_WORKERS, OVERHEAD, Batch, Outbox, size_of
from django_celery_monitor.sanitize import Sanitizer
from tests.events import NOW, received, task_event, worker_event
from tests.strategies import task_events

Columns = dict[str, Any]
OBSERVER = Observer(Sanitizer([], 100_000))


def outbox(max_tasks: int = 1_000, max_bytes: int = 10**9, **kwargs: Any) -> Outbox:
    return Outbox(max_tasks, max_bytes, Counters(), **kwargs)


def see(box: Outbox, type_: str, uuid: str = "id-1", **fields: Any) -> None:
    box.see_task(*OBSERVER.task(task_event(type_, uuid, **fields)))


def tasks_of(batch: Batch) -> dict[str, Columns]:
    return {**batch.finished, **batch.unfinished}


def ids(box: Outbox) -> list[str]:
    """Return the ids of the tasks that wait, and leave nothing."""
    batch = box.take()
    box.done(batch)
    return sorted(tasks_of(batch))


# What waits


def test_nothing_waits_at_first() -> None:
    box = outbox()
    assert (len(box), bool(box), box.size, box.lag) == (0, False, 0, 0.0)
    batch = box.take()
    assert not batch
    box.done(batch)
    assert not box


def test_one_observation_waits_for_each_task_and_worker() -> None:
    box = outbox()
    box.see_task(*OBSERVER.task(received(at=NOW)))
    see(box, "task-started", at=NOW + 1)
    see(box, "task-started", "id-2", at=NOW + 2)
    box.see_worker(*OBSERVER.worker(worker_event(at=NOW + 3)))
    assert (len(box), box.counters.merged) == (2, 1)

    batch = box.take()
    seen = tasks_of(batch)["id-1"]
    assert (seen["state"], seen["name"]) == ("STARTED", "proj.tasks.add")
    (worker,) = batch.workers.values()
    assert worker["last_heartbeat_us"] == (NOW + 3) * 1_000_000
    assert worker["pid"] == 4711


def test_task_is_a_sign_of_life_of_its_worker_alone() -> None:
    box = outbox()
    box.see_task(*OBSERVER.task({**received(), "type": "task-sent"}))
    assert not box.take().workers
    box = outbox()
    for at in (NOW + 5, NOW + 9, NOW + 7):
        see(box, "task-started", at=at)
    (life,) = box.take().workers.values()
    assert life["last_heartbeat_us"] == (NOW + 9) * 1_000_000
    assert life["first_seen"] == OBSERVER.to_datetime(round((NOW + 5) * 1_000_000))


def test_worker_alone_is_worth_a_shot() -> None:
    box = outbox()
    box.see_worker(*OBSERVER.worker(worker_event()))
    assert box
    assert len(box) == 0


def test_finished_tasks_are_apart() -> None:
    box = outbox()
    for uuid, type_ in (
        *(("a", "task-started"), ("b", "task-succeeded"), ("c", "task-revoked")),
        *(("b", "task-started"), ("a", "task-failed")),
    ):
        see(box, type_, uuid)
    see(box, "task-retried", "d", exception="OSError()")
    batch = box.take()
    assert list(batch.finished) == ["b", "c", "a"]
    assert list(batch.unfinished) == ["d"]


def test_workers_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("django_celery_monitor.outbox.MAX_WORKERS", 3)
    assert MAX_WORKERS > 3
    box = outbox()
    for number in range(5):
        box.see_worker(f"host{number}", OBSERVER.worker(worker_event())[1])
    assert list(box.take().workers) == ["host2", "host3", "host4"]


# Generations


def test_generations() -> None:
    box = outbox()
    assert (box.generation, box.committed) == (1, 0)
    see(box, "task-started", "a")
    first = box.take()
    assert (box.generation, box.committed) == (2, 0)
    see(box, "task-started", "b")
    box.done(first)
    assert (box.generation, box.committed) == (2, 1)
    box.done(box.take())
    assert (box.generation, box.committed) == (3, 2)


def test_what_is_given_back_comes_with_what_came_since() -> None:
    box = outbox()
    see(box, "task-started", "a", at=NOW)
    see(box, "task-started", "b", at=NOW)
    batch = box.take()
    see(box, "task-succeeded", "a", at=NOW + 1)
    see(box, "task-started", "c", at=NOW + 1)
    batch.remove("b")
    box.give_back(batch)
    # A generation is committed when all before it are.
    assert (len(box), box.generation, box.committed) == (3, 2, 0)

    again = box.take()
    assert again.generation == 2
    assert {key: seen["state"] for key, seen in tasks_of(again).items()} == {
        "a": "SUCCESS",
        "c": "STARTED",
    }
    assert tasks_of(again)["a"]["started_at"] is not None
    box.done(again)
    assert (box.committed, len(box), box.size) == (2, 0, 0)


def test_lag_is_of_the_oldest() -> None:
    now = [100.0]
    box = outbox(clock=lambda: now[0])
    see(box, "task-started", "a")
    now[0] += 5
    assert box.lag == 5
    batch = box.take()
    see(box, "task-started", "b")
    now[0] += 5
    assert box.lag == 10
    box.give_back(batch)
    assert box.lag == 10
    box.done(box.take())
    assert box.lag == 0.0
    # A clock that goes back makes no negative one.
    see(box, "task-started", "c")
    now[0] -= 50
    assert box.lag == 0.0


# Bounds


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


# Two threads


EVENTS = 6_000


def random_ids() -> Iterator[str]:
    """Yield the task of each event, always the same."""
    rng = random.Random(1)
    return (f"id-{rng.randrange(40)}" for _ in range(EVENTS))


def save_until(ended: threading.Event, box: Outbox, saved: dict[str, int]) -> None:
    """Save some of what waits over and over, and all of it at the end."""
    rng = random.Random(2)
    while not ended.is_set() or box:
        batch = box.take()
        for uuid, seen in list(tasks_of(batch).items()):
            if ended.is_set() or rng.random() < 0.7:
                saved[uuid] = max(saved.get(uuid, 0), seen["tstamp_us"])
                batch.remove(uuid)
        if not tasks_of(batch):
            batch.clear()
        (box.give_back if batch else box.done)(batch)


@pytest.fixture
def hurried() -> Iterator[None]:
    """Let threads take turns as often as can be."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(interval)


@pytest.mark.usefixtures("hurried")
def test_nothing_is_lost_between_two_threads() -> None:
    """Whatever comes last of a task is saved, whenever it comes."""
    box = outbox()
    saved: dict[str, int] = {}
    last: dict[str, int] = {}
    ended = threading.Event()
    saving = threading.Thread(target=save_until, args=(ended, box, saved))
    saving.start()
    try:
        for number, uuid in enumerate(random_ids()):
            see(box, "task-started", uuid, at=NOW + number)
            last[uuid] = round((NOW + number) * 1_000_000)
    finally:
        ended.set()
        saving.join(timeout=50)

    assert saved == last
    assert (len(box), box.size, box.counters.dropped) == (0, 0, 0)
    assert box.committed == box.generation - 1
