"""Many rows at once: what is written, what is left alone, who wins a tie."""

from __future__ import annotations

import pytest
import time_machine
from django.db import DatabaseError
from django.test.utils import CaptureQueriesContext

from django_celery_monitor.models import TaskState, WorkerState
from tests.events import NOW
from tests.factories import TaskStateFactory, WorkerStateFactory
from tests.rows import at, seen_many, writes

pytestmark = pytest.mark.django_db


def test_many_tasks_are_saved_together() -> None:
    worker = WorkerStateFactory.create()
    written = TaskState.objects.join_many(
        seen_many(3, worker=worker.hostname), {worker.hostname: worker.pk}
    )
    assert (written.created, written.changed) == (["id-0", "id-1", "id-2"], [])
    assert len(written) == 3
    for task in TaskState.objects.all():
        assert (task.state, task.worker, task.tstamp) == ("STARTED", worker, at(0))
        assert (task.retries, task.hidden) == (0, False)

    seen = {**seen_many(4), "id-1": seen_many(2, state="SUCCESS")["id-1"]}
    written = TaskState.objects.join_many(seen, {})
    assert (written.created, written.changed) == (["id-3"], ["id-1"])


def test_no_tasks_are_saved_at_once() -> None:
    assert len(TaskState.objects.join_many({}, {})) == 0


def test_many_tasks_that_say_nothing_new_are_not_written(
    queries: CaptureQueriesContext,
) -> None:
    TaskState.objects.join_many(seen_many(20, state="SUCCESS"), {})
    with queries:
        written = TaskState.objects.join_many(seen_many(20), {})
    assert writes(queries) == []
    assert not written.created
    assert not written.changed


def test_worker_without_a_row_is_none_and_no_change(
    queries: CaptureQueriesContext,
) -> None:
    seen = seen_many(2, worker="unknown")
    TaskState.objects.join_many(seen, {})
    assert not TaskState.objects.exclude(worker=None).exists()
    with queries:
        assert len(TaskState.objects.join_many(seen, {})) == 0
    assert writes(queries) == []


@pytest.mark.parametrize(
    ("hostname", "expected"), [("b", "b"), ("z", "z"), (None, "m")]
)
def test_hostname_decides_between_equals_whoever_is_in_the_batch(
    hostname: str | None, expected: str
) -> None:
    """The worker of the row may be none of this batch's."""
    ids = {h: WorkerStateFactory.create(hostname=h).pk for h in "bmz"}
    TaskState.objects.join_many(seen_many(1, worker="m"), ids)
    workers = {hostname: ids[hostname]} if hostname else {}
    TaskState.objects.join_many(seen_many(1, worker=hostname), workers)
    worker = TaskState.objects.get().worker
    assert worker is not None
    assert worker.hostname == max("m", expected)


def test_outcome_without_a_worker_takes_the_worker_away() -> None:
    ids = {"m": WorkerStateFactory.create(hostname="m").pk}
    TaskState.objects.join_many(seen_many(1, worker="m"), ids)
    TaskState.objects.join_many(seen_many(1, state="SUCCESS", worker=None), {})
    assert TaskState.objects.get().worker is None


def test_rows_of_version_1_are_taken_on_together() -> None:
    for number in range(2):
        TaskStateFactory.create(
            task_id=f"id-{number}", state="STARTED", tstamp=at(number), tstamp_us=None
        )
    later = int((NOW + 1) * 1_000_000)
    seen = seen_many(2, state="RETRY", tstamp=at(0.5), tstamp_us=later - 500_000)
    TaskState.objects.join_many(seen, {})
    rows = dict(TaskState.objects.values_list("task_id", "state"))
    assert rows == {"id-0": "RETRY", "id-1": "STARTED"}
    assert set(TaskState.objects.values_list("name", flat=True)) == {"proj.tasks.add"}


def test_refused_row_is_an_error_and_nothing_is_written() -> None:
    seen = seen_many(20)
    seen["id-7"]["state"] = None
    with pytest.raises(DatabaseError):
        TaskState.objects.join_many(seen, {})
    assert not TaskState.objects.exists()


def test_many_workers_are_saved_together() -> None:
    us = int(NOW * 1_000_000)
    seen = {
        f"h{number}": {
            "last_heartbeat": at(0),
            "last_heartbeat_us": us,
            "told_us": us,
            "first_seen": at(0),
            "pid": number,
            "loadavg": [0.5],
            "update_freq": 62,
        }
        for number in range(20)
    }
    with time_machine.travel(NOW, tick=False):
        assert len(WorkerState.objects.join_many(seen).created) == 20
        assert len(WorkerState.objects.join_many(seen)) == 0
    seen["h3"] = {**seen["h3"], "last_heartbeat": at(9), "last_heartbeat_us": us + 9**7}
    with time_machine.travel(NOW + 5, tick=False):
        assert WorkerState.objects.join_many(seen).changed == ["h3"]
    rows = WorkerState.objects.order_by("pid")
    assert [row.pid for row in rows] == list(range(20))
    assert {row.last_update for row in rows} == {at(0), at(5)}
