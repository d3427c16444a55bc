"""Who may use the actions."""

from __future__ import annotations

import pytest
from django.contrib.admin.models import LogEntry
from django.test import Client

from tests.admin.conftest import (
    ALL_ACTIONS,
    ENTERED,
    TASK_ACTIONS,
    TASKS,
    WORKER_ACTIONS,
    WORKERS,
    Heard,
    StaffClient,
    row_for,
)
from tests.factories import WorkerStateFactory

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize(("url", "action"), ALL_ACTIONS)
@pytest.mark.parametrize(
    "codenames",
    [
        (),
        ("view_taskstate", "view_workerstate"),
        # Each permission is for one list alone, and takes seeing it for granted.
        ("view_taskstate", "control_workers"),
        ("view_workerstate", "control_tasks"),
        ("control_tasks", "control_workers"),
        ("change_taskstate", "change_workerstate", "run_tasks"),
    ],
)
def test_forged_posts_do_nothing(
    staff: StaffClient, heard: Heard, url: str, action: str, codenames: tuple[str]
) -> None:
    client = staff(*codenames)
    row = row_for(url)
    fields = {"confirmed": "yes", **ENTERED}

    for index in ({"index": "0"}, {}):
        data = {"action": action, "_selected_action": row.pk, **fields, **index}
        response = client.post(url, data, follow=True)
        assert action not in response.content.decode()

    assert heard() == []
    assert not LogEntry.objects.exists()


def test_a_visitor_is_asked_to_log_in(client: Client, heard: Heard) -> None:
    worker = WorkerStateFactory.create()
    data = {
        "action": "shutdown_nodes",
        "_selected_action": worker.pk,
        "confirmed": "yes",
    }
    response = client.post(WORKERS, data)
    assert response.status_code == 302
    assert response["Location"].startswith("/admin/login/")
    assert heard() == []


@pytest.mark.parametrize(
    ("url", "codename", "others"),
    [
        (TASKS, "taskstate", {"control_tasks": TASK_ACTIONS}),
        (WORKERS, "workerstate", {"control_workers": WORKER_ACTIONS}),
    ],
)
def test_the_list_offers_what_is_permitted(
    staff: StaffClient, url: str, codename: str, others: dict[str, tuple[str, ...]]
) -> None:
    row_for(url)
    view = f"view_{codename}"
    for permission, expected in {"": (), **others}.items():
        codenames = [view, permission] if permission else [view]
        html = staff(*codenames).get(url).content.decode()
        for action in (*TASK_ACTIONS, *WORKER_ACTIONS, "delete_selected"):
            assert (f'value="{action}"' in html) is (action in expected)
    assert 'value="delete_selected"' in (
        staff(view, f"delete_{codename}").get(url).content.decode()
    )
