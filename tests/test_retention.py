"""Retention: what is deleted, and what is kept."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from datetime import timedelta
from typing import Any

import pytest
import time_machine
from celery import states
from django.db import transaction
from hypothesis import given
from hypothesis import strategies as st

from django_celery_monitor.models import TaskState, WorkerState
from django_celery_monitor.retention import Purged, Retention, task_expiry
from django_celery_monitor.utils import fromtimestamp
from tests.celery import app
from tests.expired import (
    HOUR,
    HOURLY,
    NEW,
    NOW,
    OLD,
    PENDING,
    SUCCESS,
    at,
    kept,
    old_worker,
)
from tests.factories import TaskStateFactory, WorkerStateFactory


@pytest.mark.django_db
class TestWhat:
    """What is deleted."""

    @pytest.fixture(autouse=True)
    def _stopped(self) -> Iterator[None]:
        with time_machine.travel(NOW, tick=False):
            yield

    def test_expired_tasks_go_and_others_stay(self) -> None:
        TaskStateFactory.create_batch(5, tstamp=OLD)
        new = TaskStateFactory.create(tstamp=NEW)
        assert Retention(HOURLY).run() == Purged(tasks=5, workers=0, done=True)
        assert kept() == {new.task_id}
        assert Retention(HOURLY).run() == Purged(tasks=0, workers=0, done=True)

    @pytest.mark.parametrize("state", [*sorted(states.ALL_STATES), "REJECTED", "OWN"])
    def test_each_state_goes_with_its_set(self, state: str) -> None:
        sets = [SUCCESS, states.EXCEPTION_STATES, PENDING]
        if state == states.SUCCESS:
            own = 0
        elif state in states.EXCEPTION_STATES:
            own = 1
        else:
            own = 2
        TaskStateFactory.create(state=state, tstamp=OLD)
        others = [(names, HOUR) for i, names in enumerate(sets) if i != own]
        assert Retention(others).run().tasks == 0
        assert Retention([(sets[own], HOUR)]).run().tasks == 1

    def test_many_custom_states(self) -> None:
        for name in ("AAA", "PROGRESS", "SUCCESSFUL", "zzz", "日本"):
            TaskStateFactory.create(state=name, tstamp=OLD)
            TaskStateFactory.create(state=name, tstamp=NEW)
            TaskStateFactory.create(state="SUCCESS", tstamp=OLD)
        assert Retention([(PENDING, HOUR)]).run().tasks == 5
        assert TaskState.objects.count() == 10

    def test_set_without_expiry_is_kept(self) -> None:
        TaskStateFactory.create(state="FAILURE", tstamp=at(-(10**8)))
        TaskStateFactory.create(state="SUCCESS", tstamp=OLD)
        expiry = ((SUCCESS, 3600), (states.EXCEPTION_STATES, None))
        assert Retention(expiry).run().tasks == 1
        assert TaskState.objects.get().state == "FAILURE"

    def test_task_that_waits_for_its_eta_is_kept(self) -> None:
        waits = TaskStateFactory.create(state="RECEIVED", tstamp=OLD, eta=at(60))
        TaskStateFactory.create(state="RECEIVED", tstamp=OLD, eta=OLD)
        assert Retention(HOURLY).run().tasks == 1
        assert kept() == {waits.task_id}

    def test_marked_tasks_go_whatever_their_age(self) -> None:
        TaskStateFactory.create_batch(2, hidden=True, tstamp=NEW)
        TaskStateFactory.create(hidden=True, tstamp=OLD)
        assert Retention(((SUCCESS, None),)).run().tasks == 3

    @pytest.mark.usefixtures("small_batches", "deletion_clock")
    def test_several_batches(self) -> None:
        for second in range(5):
            TaskStateFactory.create_batch(2, tstamp=OLD - timedelta(seconds=second))
        TaskStateFactory.create_batch(7, tstamp=OLD, state="FAILURE")
        TaskStateFactory.create_batch(4, hidden=True)
        new = TaskStateFactory.create(tstamp=NEW)
        assert Retention(HOURLY).run() == Purged(21, 0, done=True)
        assert kept() == {new.task_id}

    def test_workers_long_gone_are_forgotten(self) -> None:
        old_worker()
        old_worker(last_heartbeat=None)
        old_worker(offline_at=OLD)
        stay = [
            old_worker(last_heartbeat=NEW),
            old_worker(offline_at=NEW),
            old_worker(last_update=NEW),
        ]
        assert Retention((), HOUR).run() == Purged(0, 3, done=True)
        assert set(WorkerState.objects.all()) == set(stay)
        assert Retention((), 3598).run().workers == 3

    def test_workers_are_kept_without_an_expiry(self) -> None:
        old_worker()
        assert Retention(HOURLY, None).run() == Purged(0, 0, done=True)

    def test_worker_stays_while_a_task_refers_to_it(self) -> None:
        worker = old_worker()
        task = TaskStateFactory.create(worker=worker, tstamp=NEW)
        assert Retention(HOURLY, HOUR).run().workers == 0
        task.tstamp = OLD
        task.save()
        # With its last task, in the same run.
        assert Retention(HOURLY, HOUR).run() == Purged(1, 1, done=True)

    def test_count_deletes_nothing(self) -> None:
        TaskStateFactory.create_batch(2, tstamp=OLD, worker=None)
        TaskStateFactory.create(tstamp=OLD, worker=None, hidden=True)
        TaskStateFactory.create(tstamp=OLD, worker=None, state="OWN")
        old_worker()
        cleaner = Retention([*HOURLY, ({"NEVER"}, None)], HOUR)
        tasks, marked, workers = cleaner.count()
        assert [number for _, number in tasks] == [2, 0, 1]
        assert [names for names, _ in tasks] == [names for names, _ in HOURLY]
        assert (marked, workers) == (1, 1)
        assert Retention(()).count() == ([], 1, 0)
        assert cleaner.run() == Purged(4, 1, done=True)

    @given(
        rows=st.lists(
            st.tuples(
                st.sampled_from(["SUCCESS", "FAILURE", "RETRY", "STARTED", "OWN"]),
                st.integers(-7205, 5),
                st.none() | st.integers(-7205, 5),
                st.booleans(),
            ),
            max_size=12,
        ),
        expiry=st.lists(st.none() | st.integers(0, 7200), min_size=3, max_size=3),
    )
    def test_goes_exactly_what_would_be_marked_and_purged(
        self, rows: list[Any], expiry: list[int | None]
    ) -> None:
        TaskState.objects.all().delete()
        for state, tstamp, eta, hidden in rows:
            TaskStateFactory.create(
                state=state,
                tstamp=at(tstamp),
                eta=None if eta is None else at(eta),
                hidden=hidden,
                worker=None,
            )
        sets = tuple(zip([names for names, _ in HOURLY], expiry, strict=True))
        with transaction.atomic():
            for names, expires in sets:
                TaskState.objects.expire_by_states(names, expires)
            marked = TaskState.objects.purge()
            left = kept()
            transaction.set_rollback(True)
        assert Retention(sets).run().tasks == marked
        assert kept() == left


def test_settings_say_what_expires() -> None:
    assert task_expiry(app) == (
        (SUCCESS, timedelta(days=1)),
        (states.EXCEPTION_STATES, timedelta(days=3)),
        (PENDING, timedelta(days=5)),
    )


@pytest.mark.django_db
def test_from_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(app.conf, "monitor_task_success_expires", None)
    monkeypatch.setitem(app.conf, "monitor_worker_expires", 0)
    now = time.time()
    for state in ("SUCCESS", "FAILURE"):
        long_ago = fromtimestamp(now - 4 * 86_400)
        TaskStateFactory.create(state=state, tstamp=long_ago, worker=None)
    WorkerStateFactory.create(last_heartbeat=fromtimestamp(now - 1))
    WorkerState.objects.update(last_update=fromtimestamp(now - 1))
    assert Retention.from_settings(app).run() == Purged(1, 1, done=True)
    assert TaskState.objects.get().state == "SUCCESS"


def test_every_set_is_a_collection() -> None:
    expiry: Iterable[tuple[Any, Any]] = task_expiry(app)
    assert all(isinstance(names, frozenset) for names, _ in expiry)
