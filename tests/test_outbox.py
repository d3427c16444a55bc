"""The outbox: it loses nothing of what waits, whoever takes it and gives it back."""

from __future__ import annotations

import random
import sys
import threading
from collections.abc import Iterator

import pytest

from django_celery_monitor.outbox import MAX_WORKERS, Outbox
from tests.batches import OBSERVER
from tests.events import NOW, received, worker_event
from tests.outboxes import outbox, see, tasks_of

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


def test_workers_that_are_too_many_are_counted_whatever_fails(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("django_celery_monitor.outbox.MAX_WORKERS", 10)
    box = outbox()
    for number in range(31):
        box.see_worker(f"w{number}", {"first_seen": NOW})
        if number % 8 == 7:
            box.give_back(box.take())
    batch = box.take()
    kept = len(batch.workers)
    box.done(batch)
    assert (kept, box.counters.dropped) == (10, 21)


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
