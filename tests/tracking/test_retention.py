"""Links go with their tasks, and some time after tasks that nobody ever saw."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import time_machine
from celery import states
from django.test.utils import CaptureQueriesContext

from django_celery_monitor.models import TaskState
from django_celery_monitor.retention import Purged, Retention
from django_celery_monitor.tracking import task_tracker
from django_celery_monitor.tracking.models import TaskObjectLink
from tests.expired import HOUR, HOURLY, NEW, NOW, OLD, PENDING, SUCCESS, Clock, at, kept
from tests.factories import OrderFactory, TaskObjectLinkFactory, TaskStateFactory

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _stopped() -> Iterator[None]:
    with time_machine.travel(NOW, tick=False):
        yield


def linked() -> set[str]:
    """Return the ids of the tasks that have links."""
    return {link.task_id for link in TaskObjectLink.objects.all()}


def orphan(created_at: Any) -> TaskObjectLink:
    """Create a link of a task without a row."""
    made: TaskObjectLink = TaskObjectLink.objects.create(
        task_id=f"unseen {created_at}",
        content_object=OrderFactory.create(),
        created_at=created_at,
    )
    return made


def test_links_go_with_the_tasks_that_expire() -> None:
    order = OrderFactory.create()
    for _ in range(3):
        TaskObjectLinkFactory.create(content_object=order, task__tstamp=OLD)
    stays = TaskObjectLinkFactory.create(content_object=order, task__tstamp=NEW)
    TaskStateFactory.create(tstamp=OLD)
    assert Retention(HOURLY).run() == Purged(tasks=4, workers=0, done=True)
    assert kept() == linked() == {stays.task_id}
    assert list(task_tracker.tasks_for(order)) == [stays.task]


def test_each_link_of_a_task_goes() -> None:
    link = TaskObjectLinkFactory.create(task__tstamp=OLD)
    TaskObjectLinkFactory.create(
        task=link.task, content_object=link.content_object, role="x"
    )
    TaskObjectLinkFactory.create(task=link.task)
    Retention(HOURLY).run()
    assert linked() == set()


def test_links_go_with_tasks_that_are_marked() -> None:
    TaskObjectLinkFactory.create(task__hidden=True, task__tstamp=NEW)
    assert Retention(HOURLY).run().tasks == 1
    assert linked() == set()


@pytest.mark.usefixtures("small_batches", "deletion_clock")
def test_links_go_in_the_batches_of_their_tasks(
    queries: CaptureQueriesContext,
) -> None:
    for second in range(10):
        TaskObjectLinkFactory.create(task__tstamp=at(-4000 - second))
    with queries:
        assert Retention(HOURLY).run().tasks == 10
    assert linked() == set()
    deletes = [q["sql"] for q in queries if q["sql"].startswith("DELETE")]
    tables = [
        "link" if "taskobjectlink" in sql.split("WHERE")[0] else "task"
        for sql in deletes
    ]
    assert tables == ["link", "task"] * (len(tables) // 2)
    assert len(tables) >= 8


def test_task_that_was_written_since_keeps_its_links(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    link = TaskObjectLinkFactory.create(task__tstamp=OLD)
    find = Retention._find

    def write_first(self: Retention, *args: Any) -> Any:
        batch = find(self, *args)
        TaskState.objects.filter(pk=link.task.pk).update(tstamp=NEW)
        return batch

    monkeypatch.setattr(Retention, "_find", write_first)
    assert Retention(HOURLY).run().tasks == 0
    assert linked() == {link.task_id}


# Links of tasks without a row


def test_link_of_a_task_that_nobody_saw_goes_after_the_longest_expiry() -> None:
    orphan(at(-7201))
    young = orphan(at(-7199))
    expiry = ((SUCCESS, HOUR), (states.EXCEPTION_STATES, 7200), (PENDING, None))
    assert Retention(expiry).run() == Purged(tasks=0, workers=0, done=True)
    assert linked() == {young.task_id}


def test_links_without_tasks_stay_where_everything_is_kept() -> None:
    link = orphan(at(-(10**8)))
    Retention(((SUCCESS, None), (PENDING, None))).run()
    assert linked() == {link.task_id}


@pytest.mark.usefixtures("small_batches")
def test_links_of_tasks_that_are_kept_stay_whatever_their_age(
    deletion_clock: Clock,
) -> None:
    stay = {
        TaskObjectLinkFactory.create(
            created_at=at(-9000), task__state="FAILURE", task__tstamp=OLD
        ).task_id
        for _ in range(7)
    }
    go = [orphan(at(-9000 + second)) for second in range(8)]
    young = orphan(NEW)
    Retention(((SUCCESS, HOUR), (states.EXCEPTION_STATES, None))).run()
    assert len(go) == 8
    assert linked() == {*stay, young.task_id}
    # What stays is not locked either.
    assert sum(deletion_clock.sizes) == 8


def test_task_that_comes_just_before_keeps_its_link(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    link = orphan(at(-9000))
    batches = Retention._link_batches

    def come_first(self: Retention) -> Any:
        for batch in batches(self):
            TaskStateFactory.create(task_id=link.task_id, tstamp=NEW)
            yield batch

    monkeypatch.setattr(Retention, "_link_batches", come_first)
    Retention(HOURLY).run()
    assert linked() == {link.task_id}


@pytest.mark.usefixtures("small_batches", "deletion_clock")
def test_links_are_left_to_the_next_run_when_time_is_over() -> None:
    for second in range(7):
        orphan(at(-9000 + second))
    calls = iter([False, False, False, False, False, True])
    assert not Retention(HOURLY).run(stop=lambda: next(calls, True)).done
    assert linked()
    assert Retention(HOURLY).run().done
    assert not linked()


# Other ways to delete


def test_links_go_with_a_task() -> None:
    link, other = TaskObjectLinkFactory.create(), TaskObjectLinkFactory.create()
    link.task.delete()
    assert kept() == linked() == {other.task_id}


def test_links_go_with_the_tasks_of_a_query() -> None:
    stays = TaskObjectLinkFactory.create(task__state="FAILURE")
    TaskObjectLinkFactory.create_batch(3)
    total, each = TaskState.objects.filter(state="SUCCESS").delete()
    assert (total, each) == (3, {"celery_monitor.TaskState": 3})
    assert kept() == linked() == {stays.task_id}


def test_links_go_with_the_tasks_of_an_object() -> None:
    order, other = OrderFactory.create(), TaskObjectLinkFactory.create()
    TaskObjectLinkFactory.create_batch(2, content_object=order)
    task_tracker.tasks_for(order).delete()
    assert kept() == linked() == {other.task_id}


def test_links_go_with_what_is_purged() -> None:
    stays = TaskObjectLinkFactory.create()
    TaskObjectLinkFactory.create_batch(2, task__hidden=True)
    assert TaskState.objects.purge() == 2
    assert kept() == linked() == {stays.task_id}


def test_tasks_are_deleted_without_being_loaded(queries: CaptureQueriesContext) -> None:
    TaskObjectLinkFactory.create_batch(5)
    with queries:
        TaskState.objects.all().delete()
    sql = [q["sql"].split()[0] for q in queries if "SAVEPOINT" not in q["sql"]]
    assert [word for word in sql if word in {"SELECT", "DELETE"}] == [
        "SELECT",
        "DELETE",
        "DELETE",
    ]


def test_manager_has_no_method_that_deletes_everything() -> None:
    assert not hasattr(TaskState.objects, "delete")
    assert TaskState.objects.all().delete.alters_data  # type: ignore[attr-defined]
