"""The page of an object's tasks: what it shows, filters and asks the database."""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries

from django_celery_monitor.models import TaskState
from django_celery_monitor.tracking.admin import rows
from tests.admin.conftest import StaffClient
from tests.admin.tracking.addresses import TASKS, page, revoke, tracker
from tests.admin.tracking.conftest import LAUNCH
from tests.admin.tracking.pages import html_of, ids, link
from tests.admin.tracking.sites import SITES
from tests.factories import (
    OrderFactory,
    ParcelFactory,
    TaskStateFactory,
    WarehouseFactory,
)
from tests.tracked.models import Order

pytestmark = [pytest.mark.django_db, pytest.mark.urls("tests.admin.tracking.sites")]


# What it shows


@pytest.mark.parametrize(
    "make", [OrderFactory.create, ParcelFactory.create, WarehouseFactory.create]
)
def test_the_tasks_of_the_object_newest_first(viewer: Client, make: Any) -> None:
    # Whoever may see all models: the permissions have tests of their own.
    viewer = superuser_of(viewer)
    obj, other = make(), make()
    mine = [link(obj).task_id for _ in range(3)]
    link(other)
    TaskStateFactory.create()
    assert ids(viewer, tracker(obj)) == mine[::-1]


def superuser_of(client: Client) -> Client:
    """Return the client of a user who has become a superuser."""
    from django.contrib.auth.models import User

    User.objects.filter(pk=client.session["_auth_user_id"]).update(is_superuser=True)
    return client


def test_what_is_shown_of_a_task(viewer: Client, order: Order) -> None:
    now = timezone.now()
    task = link(
        order,
        task__name=f"{TASKS}.ship",
        task__sent_at=now - timedelta(minutes=7),
        task__tstamp=now - timedelta(minutes=3),
        task__runtime=1.25,
        task__retries=2,
        task__result="'<b>done'",
        source="request",
        source_name="/orders/<i>/",
        username="ada",
    )
    html = html_of(viewer, tracker(order))
    row = html.partition("<tbody>")[2].partition("</tbody>")[0]
    for text in (
        '<span class="celery-monitor-state celery-monitor-green">SUCCESS</span>',
        "2 retries",
        "tests.<wbr>tracked.<wbr>tasks.<wbr>ship",
        f'data-copy="{task.task_id}"',
        ">7 minutes ago<",
        ">3 minutes ago<",
        "1.250 s",
        "&#x27;&lt;b&gt;done&#x27;",
        "Request",
        "/<wbr>orders/<wbr>&lt;i&gt;/<wbr>",
        "by ada",
    ):
        assert text in row
    assert "Revoke" not in row


def test_errors_and_long_results_are_folded(viewer: Client, order: Order) -> None:
    link(order, task__state="FAILURE", task__result="KeyError('x')",
         task__traceback="Traceback\n  line\nKeyError: x\n")  # fmt: skip
    link(order, task__result="[" + "1, " * 40 + "1]")
    html = html_of(viewer, tracker(order))
    assert html.count("<details>") == 2
    assert "<summary><code>KeyError(&#x27;x&#x27;)</code>" in html
    assert "KeyError: x\n</pre>" in html


def test_texts_are_read_as_far_as_they_are_shown(
    viewer: Client, order: Order, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rows, "RESULT", 200)
    monkeypatch.setattr(rows, "TRACEBACK", 50)
    link(order, task__result="r" * 199 + "XYZ")
    link(order, task__state="FAILURE", task__traceback="AB" + "t" * 49 + "C")
    html = html_of(viewer, tracker(order))
    assert f"{'r' * 199}X…" in html
    # Not the two letters alone: a token may have them.
    assert "rrXY" not in html
    assert f"…{'t' * 49}C" in html
    assert "ABtt" not in html


def test_a_task_of_two_roles_says_which(
    superuser: Client, order: Order, monkeypatch: pytest.MonkeyPatch
) -> None:
    warehouse = WarehouseFactory.create()
    link(warehouse, task__name=f"{TASKS}.store", role="warehouse")
    assert "(warehouse)" not in html_of(superuser, tracker(warehouse))
    from django_celery_monitor.tracking.registry import Registration, task_tracker

    (known,) = task_tracker.registrations_for(type(warehouse))
    again = Registration(known.registered, known.model, "parcel_id")
    both = [*task_tracker._registrations, again]
    monkeypatch.setattr(task_tracker, "_registrations", both)
    html = html_of(superuser, tracker(warehouse))
    assert "(warehouse)</span>" in html
    assert "tests.tracked.tasks.store (parcel_id)</a>" in html


def test_an_object_without_tasks(viewer: Client, order: Order) -> None:
    assert "No task was recorded yet." in html_of(viewer, tracker(order))
    assert "No task matches." in html_of(viewer, tracker(order, state="FAILURE"))


def test_links_without_a_row_are_not_shown(viewer: Client, order: Order) -> None:
    gone, left = link(order), link(order)
    TaskState.objects.filter(pk=gone.pk)._raw_delete("default")
    assert ids(viewer, tracker(order)) == [left.task_id]
    assert viewer.get(tracker(order)).context["count"] == 1


def test_tasks_that_are_hidden_are_not_shown(viewer: Client, order: Order) -> None:
    link(order, task__hidden=True)
    left = link(order)
    assert ids(viewer, tracker(order)) == [left.task_id]


def test_pages_of_tasks_are_linked_where_there_are_any(
    superuser: Client, order: Order
) -> None:
    task = link(order)
    path = f"celery_monitor/taskstate/{task.pk}/change/"
    assert f'href="/admin/{path}"' in html_of(superuser, tracker(order))
    assert f'href="/inlines/{path}"' in html_of(superuser, tracker(order, "inlines"))
    assert path not in html_of(superuser, tracker(order, "plain"))


def test_a_site_of_its_own_shows_its_own_tasks(superuser: Client) -> None:
    order = OrderFactory.create(account_id=1)
    mine = link(order, task__name=f"{TASKS}.ship")
    link(order, task__name=f"{TASKS}.process_payment")
    assert ids(superuser, tracker(order, "restricted")) == [mine.task_id]
    assert superuser.get(tracker(order, "restricted")).context["count"] == 1


def test_a_site_whose_pages_of_tasks_are_the_projects_own(
    superuser: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    order = OrderFactory.create()
    shown = link(order, task__name=f"{TASKS}.ship")
    link(order, task__name=f"{TASKS}.process_payment")
    ids_of = partial(ids, superuser, tracker(order, "own_tasks"))
    assert ids_of() == [shown.task_id]
    assert f"/own_tasks/celery_monitor/taskstate/{shown.pk}/" in html_of(
        superuser, tracker(order, "own_tasks")
    )
    assert tracker(order, "own_tasks") in html_of(
        superuser, page(order, site="own_tasks")
    )
    url = revoke(order, shown.task_id, "own_tasks")
    assert superuser.get(url).status_code == 200
    own = SITES["own_tasks"].get_model_admin(TaskState)
    monkeypatch.setattr(own, "has_view_permission", lambda request, obj=None: False)
    assert superuser.get(tracker(order, "own_tasks")).status_code == 403
    assert superuser.get(url).status_code == 403


# What is not there


def test_no_page_of_what_is_not_there(superuser: Client, viewer: Client) -> None:
    order = OrderFactory.create()
    link(order)
    url = tracker(order)
    order.delete()
    assert superuser.get(url).status_code == 404
    assert viewer.get(url).status_code == 404
    for key in ("x", "0", "9" * 30, "%00", "_", "_zz"):
        url = f"/admin/tracked/order/{key}/task-tracker/"
        assert superuser.get(url).status_code == 404


def test_no_page_of_what_the_admin_does_not_list(superuser: Client) -> None:
    url = tracker(OrderFactory.create(), "restricted")
    assert superuser.get(url).status_code == 404


def test_it_is_only_read(superuser: Client, order: Order) -> None:
    for method in (superuser.post, superuser.put, superuser.delete):
        assert method(tracker(order)).status_code == 405
    assert superuser.head(tracker(order)).status_code == 200


# How much it asks


def test_the_number_of_queries_does_not_grow(
    staff: StaffClient, order: Order, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    client = staff(*LAUNCH, "control_tasks")
    link(order, task__state="STARTED")
    client.get(tracker(order))
    # Session, user, two for permissions, the object, hidden tasks, the oldest link,
    # the numbers; then the tasks.
    for number in (1, 12, 12):
        with django_assert_num_queries(9):
            client.get(tracker(order, page_size=200))
        for _ in range(number):
            link(order, task__state="FAILURE", task__traceback="x", source="beat")


# What there is to launch


def test_tasks_that_can_be_launched(
    viewer: Client, launcher: Client, order: Order
) -> None:
    html = html_of(launcher, tracker(order))
    for task in ("process_payment", "ship", "fulfill", "remind"):
        assert f">{TASKS}.{task}</a>" in html
    for task in ("clean_up", "hurry", "untracked"):
        assert f"{TASKS}.{task}" not in html
    assert "task-tracker/launch/" not in html_of(viewer, tracker(order))


def test_the_page_of_the_object_is_a_link_away(viewer: Client, order: Order) -> None:
    assert f'<a href="{page(order)}">{order}</a>' in html_of(viewer, tracker(order))
