"""Signals and events say the same of a task: in any order they end in the same row."""

from __future__ import annotations

from functools import reduce
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from django_celery_monitor.counters import Counters
from django_celery_monitor.merge import TASK, join_task
from django_celery_monitor.models import TaskState, WorkerState
from django_celery_monitor.outbox import Batch
from django_celery_monitor.saver import Saver
from django_celery_monitor.tracking import writing
from django_celery_monitor.tracking.models import TaskObjectLink
from django_celery_monitor.tracking.recording import observe, observer
from django_celery_monitor.tracking.writing import Observed, write
from tests.events import NOW, received, sent, task_event
from tests.tracked import tasks

NAME = tasks.process_payment.name
CALL: dict[str, Any] = {"name": NAME, "args": "(7,)", "kwargs": "{}"}
ERROR: dict[str, Any] = {"exception": "OSError('a')", "traceback": "Traceback: a"}


def signalled() -> list[Observed]:
    """Return what the tracker sees of a task that is retried once."""
    call: Any = ((7,), {})
    told = [
        (sent(at=NOW, **CALL), call),
        (task_event("task-started", at=NOW + 1, **CALL), call),
        (task_event("task-retried", at=NOW + 2, attempt=0, **ERROR), None),
        (task_event("task-started", at=NOW + 4, retries=1, **CALL), call),
        (task_event("task-succeeded", at=NOW + 5, result="'b'", runtime=0.5), None),
    ]
    return [observe(NAME, event, call) for event, call in told]


def events() -> list[dict[str, Any]]:
    """Return what a camera receives of the same task, all of it a little later."""
    late = 0.001
    return [
        sent(at=NOW + late, **CALL),
        received(at=NOW + late, **CALL),
        task_event("task-started", at=NOW + 1 + late),
        task_event("task-retried", at=NOW + 2 + late, **ERROR),
        sent(at=NOW + 2 + late, retries=1, **CALL),
        received(at=NOW + 3, retries=1, **CALL),
        task_event("task-started", at=NOW + 4 + late),
        task_event("task-succeeded", at=NOW + 5 + late, result="'b'", runtime=0.5),
    ]


def said(columns: dict[str, Any]) -> dict[str, Any]:
    """Return what columns say that events decide."""
    said = {name: columns.get(name) for name in TASK}
    return {**said, "retries": said["retries"] or 0}


def row() -> dict[str, Any]:
    """Return the one row of a task, with the hostname of its worker."""
    stored = TaskState.objects.select_related("worker").get()
    hostname = stored.worker and stored.worker.hostname
    return said({**stored.columns(), "worker": hostname})


@pytest.mark.django_db
@given(random=st.randoms(use_true_random=False))
@settings(max_examples=40)
def test_any_order_and_repetition(random: Random) -> None:
    for model in (TaskObjectLink, TaskState, WorkerState):
        model._default_manager.all().delete()
    writing._worker_ids.clear()
    cameras = [Saver(Counters(), 60, 1) for _ in range(2)]
    told: list[Any] = [*signalled(), *events(), *events()]
    told += random.sample(told, 5)
    random.shuffle(told)

    for one in told:
        if isinstance(one, Observed):
            write(one)
        else:
            batch = Batch()
            batch.see_task(*observer().task(one))
            random.choice(cameras).save(batch)

    seen = [one.seen for one in signalled()]
    seen += [observer().task(event)[1] for event in events()]
    expected = said(reduce(join_task, seen))
    assert row() == expected
    assert [attempt["retries"] for attempt in expected["attempts"]] == [0]
    assert TaskObjectLink.objects.count() == 1


@pytest.mark.django_db
@given(random=st.randoms(use_true_random=False))
@settings(max_examples=20)
def test_signals_alone_tell_it_all(random: Random) -> None:
    for model in (TaskObjectLink, TaskState, WorkerState):
        model._default_manager.all().delete()
    writing._worker_ids.clear()
    told = signalled()
    random.shuffle(told)
    for one in told:
        write(one)
    stored = row()
    assert (stored["state"], stored["retries"]) == ("SUCCESS", 1)
    assert (stored["result"], stored["runtime"]) == ("'b'", 0.5)
    assert stored["worker"] == "celery@one"
    assert stored["sent_at"] is not None
    assert stored["started_at"] is not None
    assert len(stored["attempts"]) == 1
