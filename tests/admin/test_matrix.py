"""Every action against every permission: what forged requests do."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission
from django.test import Client

from tests.admin.conftest import (
    ENTERED,
    TASK_ACTIONS,
    TASKS,
    WORKER_ACTIONS,
    WORKERS,
    Heard,
)
from tests.factories import TaskStateFactory, UserFactory, WorkerStateFactory

pytestmark = pytest.mark.django_db

#: The permission that each action takes, besides that to view the rows.
NEEDED = {
    **dict.fromkeys(TASK_ACTIONS, "control_tasks"),
    "run_tasks_again": "run_tasks",
    "run": "run_tasks",
    **dict.fromkeys(WORKER_ACTIONS, "control_workers"),
    "forget_nodes": "delete_workerstate",
}
OF_WORKERS = {*WORKER_ACTIONS, "forget_nodes"}
SINGLE = (
    *("view_taskstate", "view_workerstate", "control_tasks", "control_workers"),
    *("run_tasks", "delete_taskstate", "delete_workerstate", "change_taskstate"),
)
VIEW = ("view_taskstate", "view_workerstate")
USERS: dict[str, dict[str, Any]] = {
    "superuser": {"is_staff": True, "is_superuser": True},
    "no rights": {"is_staff": True},
    "not staff": {"codenames": SINGLE},
    "view only": {"is_staff": True, "codenames": VIEW},
    **{f"{one} alone": {"is_staff": True, "codenames": (one,)} for one in SINGLE},
    **{
        f"view and {one}": {"is_staff": True, "codenames": (*VIEW, one)}
        for one in SINGLE
        if one not in VIEW
    },
}


@pytest.mark.parametrize("user", USERS)
def test_only_those_with_the_permission_act(user: str, heard: Heard) -> None:
    rights = dict(USERS[user])
    codenames = rights.pop("codenames", ())
    member = UserFactory.create(**rights)
    member.user_permissions.set(Permission.objects.filter(codename__in=codenames))
    client = Client()
    client.force_login(member)
    acted = set()
    for action in NEEDED:
        if act(client, action):
            acted.add(action)
        else:
            assert heard() == []
        heard()
        LogEntry.objects.all().delete()

    may_act = rights.get("is_staff") and set(VIEW) <= set(codenames)
    if user == "superuser":
        assert acted == set(NEEDED)
    else:
        assert acted == {
            action
            for action, needed in NEEDED.items()
            if may_act and needed in codenames
        }


def act(client: Client, action: str) -> bool:
    """Post what confirms an action; return whether it left an entry in a history."""
    call = {"args": "()", "kwargs": "{}"}
    row: Any
    if action in OF_WORKERS:
        row = WorkerStateFactory.create(
            **({"last_heartbeat": None} if action == "forget_nodes" else {})
        )
    else:
        row = TaskStateFactory.create(**call)
    url = WORKERS if action in OF_WORKERS else TASKS
    if action == "run":
        client.post(f"{TASKS}{row.pk}/run/", {**call, "queue": "tests.matrix"})
    else:
        chosen = {"action": action, "_selected_action": row.pk, "index": "0"}
        client.post(url, {**chosen, "confirmed": "yes", **ENTERED})
    return LogEntry.objects.exists()
