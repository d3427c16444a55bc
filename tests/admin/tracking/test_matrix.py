"""Every page of the tracker against every right: what forged requests do."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission, User
from django.test import Client

from tests.admin.conftest import Heard, Messages
from tests.admin.tracking.addresses import launch, page, revoke, tracker
from tests.factories import OrderFactory, TaskObjectLinkFactory, UserFactory
from tests.tracked.models import Order

pytestmark = [pytest.mark.django_db, pytest.mark.urls("tests.admin.tracking.sites")]

SEE = {"view_order", "view_taskstate"}
CHANGE = {"change_order", "view_taskstate"}
ALL = (
    *("view_order", "change_order", "add_order", "delete_order"),
    *("view_taskstate", "change_taskstate", "run_tasks", "control_tasks"),
)
#: What each of them takes; whoever may change something may see it as well.
NEEDED = {
    "button": [SEE, CHANGE],
    "see": [SEE, CHANGE],
    "launch": [CHANGE | {"run_tasks"}],
    "revoke": [CHANGE | {"control_tasks"}],
}
USERS: dict[str, dict[str, Any]] = {
    "superuser": {"is_staff": True, "is_superuser": True},
    "not staff": {"codenames": ALL},
    "no rights": {"is_staff": True},
    "all": {"is_staff": True, "codenames": ALL},
    "see": {"is_staff": True, "codenames": SEE},
    "inactive": {"is_staff": True, "is_active": False, "codenames": ALL},
    **{f"{one} alone": {"is_staff": True, "codenames": (one,)} for one in ALL},
    **{
        f"all but {one}": {
            "is_staff": True,
            "codenames": tuple(
                each for each in ALL if each not in {one, "change_taskstate"}
            ),
        }
        for one in ALL
    },
}


@pytest.fixture
def task_ids() -> dict[int, str]:
    """Return the ids of tasks that run, by the keys of their orders."""
    links = [TaskObjectLinkFactory.create(task__state="STARTED") for _ in range(2)]
    return {int(link.object_id): link.task.task_id for link in links}


@pytest.mark.parametrize("user", USERS)
def test_only_those_with_the_rights(
    user: str, task_ids: dict[int, str], heard: Heard, sent: Messages
) -> None:
    rights = dict(USERS[user])
    codenames = set(rights.pop("codenames", ()))
    member = UserFactory.create(**rights)
    member.user_permissions.set(Permission.objects.filter(codename__in=codenames))
    client = Client()
    client.force_login(member)
    order = Order.objects.latest("pk")
    done = {
        name
        for name in NEEDED
        if act(name, client, order, task_ids[order.pk], heard, sent)
    }
    if "change_taskstate" in codenames:
        codenames.add("view_taskstate")
    may = rights.get("is_staff") and rights.get("is_active", True)
    assert done == {
        name
        for name, needed in NEEDED.items()
        if user == "superuser" or (may and any(each <= codenames for each in needed))
    }


def act(
    name: str,
    client: Client,
    order: Order,
    task_id: str,
    heard: Heard,
    sent: Messages,
    site: str = "admin",
) -> bool:
    """Do what a forger does; return whether it was done, and left an entry."""
    LogEntry.objects.all().delete()
    if name == "button":
        html = client.get(page(order, site=site)).content.decode()
        return tracker(order, site) in html
    if name == "see":
        html = client.get(tracker(order, site)).content.decode()
        return task_id in html
    if name == "launch":
        url, data = launch(order, "ship", site=site), {"args": f"[{order.pk}]"}
        data["kwargs"] = "{}"
    else:
        url, data = revoke(order, task_id, site), {"command": "terminate"}
    status = client.get(url).status_code
    client.post(url, data)
    done = bool(heard() if name == "revoke" else sent("celery"))
    assert LogEntry.objects.filter(object_id=str(order.pk)).exists() is done
    assert (status == 200) is done
    return done


@pytest.mark.parametrize(
    ("rights", "expected"),
    [
        ("", set()),
        ("{user}:view", {"button", "see"}),
        ("{user}:change", set()),
        ("{user}:view {user}:change", set(NEEDED)),
        ("other:view other:change", set()),
    ],
)
def test_rights_for_each_object(
    task_ids: dict[int, str],
    heard: Heard,
    sent: Messages,
    rights: str,
    expected: set[str],
) -> None:
    mine, other = Order.objects.order_by("pk")
    member = UserFactory.create(is_staff=True)
    tasks = ("view_taskstate", "run_tasks", "control_tasks")
    member.user_permissions.set(Permission.objects.filter(codename__in=tasks))
    mine.reference = rights.format(user=member.username)
    mine.save()
    client = Client()
    client.force_login(member)

    def done(order: Order, task_id: str) -> set[str]:
        return {
            name
            for name in NEEDED
            if act(name, client, order, task_id, heard, sent, "objects")
        }

    assert done(mine, task_ids[mine.pk]) == expected
    assert done(other, task_ids[other.pk]) == set()
    # What is somebody else's is not read or revoked by way of what is one's own.
    assert "revoke" not in done(mine, task_ids[other.pk])
    assert client.get(tracker(other, "objects")).status_code == 403
    other.delete()
    assert client.get(tracker(other, "objects")).status_code == 403


def test_nobody_gets_by_without_logging_in(client: Client) -> None:
    order = OrderFactory.create()
    task = TaskObjectLinkFactory.create(content_object=order).task
    for url in (
        tracker(order),
        launch(order, "ship"),
        revoke(order, task.task_id),
    ):
        for response in (client.get(url), client.post(url)):
            assert response.status_code == 302
            assert response.headers["Location"].startswith("/admin/login/")
    assert not User.objects.exists()
