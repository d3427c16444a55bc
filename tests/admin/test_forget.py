"""Workers that are gone are forgotten."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.admin.models import DELETION, LogEntry
from django.test import Client

from django_celery_monitor.admin import worker_actions
from django_celery_monitor.models import TaskState, WorkerState
from tests.admin.conftest import (
    WORKERS,
    Heard,
    StaffClient,
    confirm,
    post_action,
    told,
)
from tests.factories import TaskStateFactory, WorkerStateFactory

pytestmark = pytest.mark.django_db

BUSY = "These workers have too many tasks to be forgotten:"
ONLINE = "These workers are online and cannot be forgotten:"


@pytest.fixture
def keeper(staff: StaffClient) -> Client:
    """Return the client of somebody who may see and delete workers."""
    return staff("view_workerstate", "delete_workerstate")


def test_those_offline_are_forgotten_and_their_tasks_stay(
    keeper: Client, heard: Heard
) -> None:
    gone = WorkerStateFactory.create(last_heartbeat=None)
    task = TaskStateFactory.create(worker=gone)
    living = WorkerStateFactory.create()

    page = post_action(keeper, WORKERS, "forget_nodes", gone, living)
    html = page.content.decode()
    assert told(page) == [ONLINE]
    assert "<h2>1 worker</h2>" in html
    assert WorkerState.objects.count() == 2
    response = confirm(keeper, WORKERS, page)

    assert told(response) == ["1 worker was forgotten."]
    assert list(WorkerState.objects.all()) == [living]
    assert TaskState.objects.get() == task
    entry = LogEntry.objects.get()
    assert (entry.action_flag, entry.object_repr) == (DELETION, gone.hostname)
    assert heard() == []


def test_those_alive_are_refused(keeper: Client) -> None:
    living = WorkerStateFactory.create()
    gone = WorkerStateFactory.create(last_heartbeat=None)
    assert told(
        keeper.post(
            WORKERS,
            {
                "action": "forget_nodes",
                "_selected_action": living.pk,
                "confirmed": "yes",
            },
            follow=True,
        )
    ) == [ONLINE]
    # One that comes back before it is confirmed is kept as well.
    page = post_action(keeper, WORKERS, "forget_nodes", gone)
    WorkerState.objects.update(last_heartbeat=living.last_heartbeat)
    assert told(confirm(keeper, WORKERS, page)) == [ONLINE]
    assert WorkerState.objects.count() == 2
    assert not LogEntry.objects.exists()


def test_it_takes_the_permission_to_delete(operator: Client) -> None:
    gone = WorkerStateFactory.create(last_heartbeat=None)
    data = {"action": "forget_nodes", "_selected_action": gone.pk, "confirmed": "yes"}
    operator.post(WORKERS, data)
    assert WorkerState.objects.exists()
    html = operator.get(WORKERS).content.decode()
    assert 'value="forget_nodes"' not in html


@pytest.mark.parametrize("at_a_time", [1, 100])
def test_those_with_many_tasks_stay_in_every_way(
    keeper: Client, monkeypatch: pytest.MonkeyPatch, at_a_time: int
) -> None:
    monkeypatch.setattr(worker_actions, "AT_A_TIME", at_a_time)
    monkeypatch.setattr(worker_actions, "MOST_TASKS", 2)
    busy, gone = WorkerStateFactory.create_batch(2, last_heartbeat=None)
    TaskStateFactory.create_batch(3, worker=busy)
    page = keeper.post(f"{WORKERS}{busy.pk}/delete/", {"post": "yes"})
    assert f"{busy.hostname}, which has too many tasks" in page.content.decode()
    post_action(keeper, WORKERS, "delete_selected", busy, gone, post="yes")
    assert WorkerState.objects.count() == 2
    # Another one is forgotten all the same.
    page = post_action(keeper, WORKERS, "forget_nodes", busy, gone)
    assert told(page) == [BUSY]
    assert told(confirm(keeper, WORKERS, page)) == ["1 worker was forgotten."]
    assert list(WorkerState.objects.all()) == [busy]
    assert told(act_alone(keeper, busy)) == [BUSY]


def act_alone(client: Client, node: WorkerState) -> Any:
    """Forget one worker; return the page that comes next."""
    data = {"action": "forget_nodes", "_selected_action": node.pk}
    return client.post(WORKERS, data, follow=True)
