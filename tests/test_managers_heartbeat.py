"""update_heartbeat: when a worker is written, and what its row says."""

from __future__ import annotations

from datetime import datetime

import pytest
import time_machine
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from django_celery_monitor.models import WorkerState
from tests.events import NOW
from tests.factories import WorkerStateFactory
from tests.rows import at, writes

pytestmark = pytest.mark.django_db


def test_new_worker_is_saved() -> None:
    with time_machine.travel(NOW, tick=False):
        worker = WorkerState.objects.update_heartbeat("one", at(-1), 60)
    worker.refresh_from_db()
    assert worker.last_heartbeat == at(-1)
    assert worker.last_heartbeat_us == (NOW - 1) * 1_000_000
    assert worker.last_update == worker.first_seen == at(0)
    assert worker.offline_at is None


def test_arguments_by_keyword() -> None:
    worker = WorkerState.objects.update_heartbeat(
        hostname="one", heartbeat=at(0), update_freq=30
    )
    assert (worker.hostname, worker.update_freq) == ("one", 30)


def test_beating_worker_is_written_at_most_once_in_its_time(
    queries: CaptureQueriesContext,
) -> None:
    with time_machine.travel(NOW, tick=False) as clock:
        WorkerState.objects.update_heartbeat("one", at(0), 60)
        clock.shift(59)
        with queries:
            worker = WorkerState.objects.update_heartbeat("one", at(59), 60)
        assert writes(queries) == []
        assert worker.last_heartbeat == at(0)

        clock.shift(1)
        worker = WorkerState.objects.update_heartbeat("one", at(60), 60)
        worker.refresh_from_db()
        assert (worker.last_heartbeat, worker.last_update) == (at(60), at(60))


def test_the_same_heartbeat_is_not_written_again(
    queries: CaptureQueriesContext,
) -> None:
    WorkerState.objects.update_heartbeat("one", at(0), 0)
    with queries:
        WorkerState.objects.update_heartbeat("one", at(0), 0)
    assert writes(queries) == []


@pytest.mark.parametrize("heartbeat", [at(-5), None], ids=["older", "none"])
def test_older_heartbeat_never_replaces_a_newer_one(heartbeat: datetime | None) -> None:
    WorkerState.objects.update_heartbeat("one", at(0), 0)
    worker = WorkerState.objects.update_heartbeat("one", heartbeat, 0)
    worker.refresh_from_db()
    assert worker.last_heartbeat == at(0)


def test_going_offline_and_coming_back_are_written_at_once() -> None:
    with time_machine.travel(NOW, tick=False) as clock:
        WorkerState.objects.update_heartbeat("one", at(0), 60)
        clock.shift(1)
        WorkerState.objects.update_heartbeat("one", None, 60)
        worker = WorkerState.objects.get(hostname="one")
        assert worker.offline_at == at(1)
        assert not worker.is_alive()

        clock.shift(1)
        WorkerState.objects.update_heartbeat("one", at(2), 60)
        worker = WorkerState.objects.get(hostname="one")
        assert worker.last_heartbeat == at(2)
        assert worker.is_alive()


def test_restarted_worker_is_written_at_once() -> None:
    with time_machine.travel(NOW, tick=False):
        WorkerState.objects.update_heartbeat("one", at(-2), 60, {"pid": 1})
        WorkerState.objects.update_heartbeat("one", at(-1), 60, {"pid": 2})
    assert WorkerState.objects.get().pid == 2


def test_clock_that_went_back_does_not_hold_a_write_up() -> None:
    with time_machine.travel(NOW + 3600, tick=False):
        WorkerState.objects.update_heartbeat("one", at(0), 60)
    with time_machine.travel(NOW + 2, tick=False):
        WorkerState.objects.update_heartbeat("one", at(2), 60)
    assert WorkerState.objects.get().last_heartbeat == at(2)


def test_worker_that_was_only_seen_going_is_offline() -> None:
    with time_machine.travel(NOW, tick=False):
        worker = WorkerState.objects.update_heartbeat("one", None, 60)
        worker.refresh_from_db()
        assert worker.last_heartbeat is None
        assert worker.offline_at == at(0)
        assert not worker.is_alive()


def test_further_columns_are_saved_with_the_heartbeat() -> None:
    about = {"freq": 2.0, "sw_ver": "5.7.0", "loadavg": [0.1, 0.2, 0.3]}
    WorkerState.objects.update_heartbeat("one", at(0), 60, about)
    worker = WorkerState.objects.get(hostname="one")
    assert (worker.freq, worker.sw_ver) == (2.0, "5.7.0")
    assert worker.loadavg == [0.1, 0.2, 0.3]


def test_row_of_version_1_is_taken_on() -> None:
    """Its last_heartbeat is all it has."""
    WorkerStateFactory.create(hostname="one", last_heartbeat=at(0))
    with time_machine.travel(NOW - 3, tick=False):
        WorkerState.objects.update(last_update=timezone.now())

    with time_machine.travel(NOW, tick=False):
        WorkerState.objects.update_heartbeat("one", at(-1), 0)
        assert WorkerState.objects.get().last_heartbeat == at(0)
        WorkerState.objects.update_heartbeat("one", at(1), 0)
        assert WorkerState.objects.get().last_heartbeat == at(1)
