"""The page of an object's tasks: what it shows, filters and asks the database."""

from __future__ import annotations

import re
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries

from django_celery_monitor.models import TaskState
from django_celery_monitor.tracking.admin import history, rows
from tests.admin.conftest import StaffClient
from tests.admin.tracking.addresses import TASKS, page, revoke, tracker
from tests.admin.tracking.conftest import LAUNCH, SEE
from tests.admin.tracking.sites import SITES
from tests.celery import app
from tests.factories import (
    OrderFactory,
    ParcelFactory,
    TaskObjectLinkFactory,
    TaskStateFactory,
    WarehouseFactory,
)
from tests.tracked.models import Order

pytestmark = [pytest.mark.django_db, pytest.mark.urls("tests.admin.tracking.sites")]


@pytest.fixture
def order() -> Order:
    """Return an order."""
    return OrderFactory.create()


def link(order: Any, **about: Any) -> TaskState:
    """Return a new task of ``order``."""
    return TaskObjectLinkFactory.create(content_object=order, **about).task


def html_of(client: Client, url: str) -> str:
    """Return a page."""
    response = client.get(url)
    assert response.status_code == 200
    return str(response.content.decode())


def ids(client: Client, url: str) -> list[str]:
    """Return the ids of the tasks on a page, from top to bottom."""
    pattern = r'<code class="celery-monitor-fixedwidth" title="([^"]*)">'
    return re.findall(pattern, html_of(client, url))


def choices(client: Client, url: str) -> dict[str, dict[str, int]]:
    """Return what there is to choose on a page, and of how many tasks."""
    shown = client.get(url).context["choices"]
    return {str(title): {c.text: c.number for c in values} for title, values in shown}


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


# Filters and pages


def test_filters_and_their_numbers(viewer: Client, order: Order) -> None:
    ship, pay = f"{TASKS}.ship", f"{TASKS}.process_payment"
    beat = link(order, task__name=ship, source="beat", source_name="nightly")
    web = link(order, task__name=ship, task__state="FAILURE",
               source="request", source_name="/a/", username="ada")  # fmt: skip
    other = link(order, task__name=pay)
    assert choices(viewer, tracker(order)) == {
        "Name": {"All": 3, pay: 1, ship: 2},
        "State": {"All": 3, "FAILURE": 1, "SUCCESS": 2},
        "Sent by": {"All": 3, "Celery beat": 1, "Request": 1, "unknown": 1},
        "User": {"All": 3, "ada": 1, "unknown": 2},
    }
    for query, expected in (
        ({"name": ship}, [web, beat]),
        ({"name": ship, "state": "SUCCESS"}, [beat]),
        ({"source": "request"}, [web]),
        ({"source": "unknown"}, [other]),
        ({"user": "ada"}, [web]),
        ({"user": "unknown"}, [other, beat]),
        ({"sender": "nightly"}, [beat]),
        ({"sender": "nightly", "state": "FAILURE"}, []),
        ({"state": "NONE"}, []),
        ({"state": ""}, [other, web, beat]),
    ):
        url = tracker(order, **query)
        assert ids(viewer, url) == [task.task_id for task in expected], query
        assert viewer.get(url).context["count"] == len(expected)
    found = choices(viewer, tracker(order, state="FAILURE", sender="/a/"))
    assert found["State"] == {"All": 1, "FAILURE": 1}
    assert found["Name of the sender"] == {"All": 0, "/a/": 1}
    assert choices(viewer, tracker(order, name="none"))["Name"] == {
        "All": 3, pay: 1, ship: 2, "none": 0,
    }  # fmt: skip


def test_what_is_chosen_is_shown_however_rare_it_is(
    viewer: Client, order: Order, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history, "MOST_CHOICES", 1)
    for name in ("often", "often", "rare"):
        link(order, task__name=name)
    assert choices(viewer, tracker(order))["Name"] == {"All": 3, "often": 2}
    found = choices(viewer, tracker(order, name="rare"))["Name"]
    assert found == {"All": 3, "often": 2, "rare": 1}


def test_whoever_is_called_unknown_is_found_there(viewer: Client, order: Order) -> None:
    for username in ("unknown", None, "ada"):
        link(order, username=username)
    url = tracker(order, user="unknown")
    assert len(ids(viewer, url)) == 2
    assert choices(viewer, url)["User"]["unknown"] == 2


def test_what_all_tasks_have_in_common_is_no_choice(
    viewer: Client, order: Order
) -> None:
    for _ in range(2):
        link(order)
    assert choices(viewer, tracker(order)) == {}


def test_links_keep_the_other_parameters(viewer: Client, order: Order) -> None:
    for state in ("SUCCESS", "FAILURE"):
        link(order, task__state=state, source_name="/a?b=1&c/")
    html = html_of(viewer, tracker(order, state="SUCCESS", page_size=5, page=1))
    assert '<a href="?page_size=5&amp;state=FAILURE">' in html
    assert '<a href="?page_size=5">All' in html
    assert "&amp;sender=%2Fa%3Fb%3D1%26c%2F" in html


def test_pages(viewer: Client, order: Order) -> None:
    tasks = [link(order).task_id for _ in range(25)][::-1]
    assert ids(viewer, tracker(order)) == tasks[:10]
    assert ids(viewer, tracker(order, page=3)) == tasks[20:]
    assert ids(viewer, tracker(order, page=99)) == tasks[20:]
    assert ids(viewer, tracker(order, page="x")) == tasks[:10]
    assert ids(viewer, tracker(order, page=-1)) == tasks[20:]
    html = html_of(viewer, tracker(order, page=2, page_size=4))
    assert '<span class="this-page" aria-current="page">2</span>' in html
    assert '<a href="?page_size=4&amp;page=3">3</a>' in html
    assert "25 tasks" in html
    link_less = html_of(viewer, tracker(order, page_size=50))
    assert 'class="this-page"' not in link_less


@pytest.mark.parametrize(
    ("asked", "number"),
    [("3", 3), ("7", 6), ("0", 1), ("-3", 2), ("x", 2), ("", 2), ("9" * 99, 2),
     ("³", 2)],
)  # fmt: skip
def test_sizes_of_pages(viewer: Client, order: Order, asked: str, number: int) -> None:
    for _ in range(9):
        link(order)
    app.conf.monitor_tracker_page_size = 2
    app.conf.monitor_tracker_max_page_size = 6
    try:
        assert len(ids(viewer, tracker(order, page_size=asked))) == number
    finally:
        del app.conf["monitor_tracker_page_size"]
        del app.conf["monitor_tracker_max_page_size"]


def test_old_tasks_are_not_looked_at(
    viewer: Client, order: Order, monkeypatch: pytest.MonkeyPatch
) -> None:
    tasks = [link(order).task_id for _ in range(5)][::-1]
    assert "more than 10,000" not in html_of(viewer, tracker(order))
    monkeypatch.setattr(history, "LOOKED_AT", 5)
    assert viewer.get(tracker(order)).context["is_cut"] is False
    monkeypatch.setattr(history, "LOOKED_AT", 4)
    response = viewer.get(tracker(order))
    assert "more than 10,000" in response.content.decode()
    assert response.context["count"] == 4
    assert ids(viewer, tracker(order)) == tasks[:4]


@pytest.mark.parametrize("name", ["name", "state", "source", "user", "sender", "page"])
@pytest.mark.parametrize(
    "value", ["\0", "'", "<b>", "x" * 5000, "%", "\ud800", "\uff11"]
)
def test_odd_parameters(viewer: Client, order: Order, name: str, value: str) -> None:
    link(order)
    response = viewer.get(tracker(order), {name: value.encode("utf-8", "replace")})
    assert response.status_code == 200
    assert "<b>" not in response.content.decode()


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


# How it refreshes itself


def tag_of(client: Client, url: str) -> str:
    """Return the ETag that a page gives to the script."""
    response = client.get(url)
    assert 'data-interval="5' in response.content.decode()
    return str(response.headers["ETag"])


def ask(client: Client, url: str, tag: str) -> int:
    """Return the status of the answer to the script, which has the page."""
    headers = {"If-None-Match": tag, "X-Celery-Monitor-Live": "1"}
    return int(client.get(url, headers=headers).status_code)


def test_nothing_has_changed(
    viewer: Client, order: Order, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    link(order, task__state="STARTED")
    tag = tag_of(viewer, tracker(order))
    link(OrderFactory.create())
    with django_assert_num_queries(8):
        assert ask(viewer, tracker(order), tag) == 304


def test_something_has_changed(viewer: Client, order: Order) -> None:
    url = tracker(order)
    task = link(order, task__state="STARTED")
    tags = [tag_of(viewer, url)]
    link(order)
    tags.append(tag_of(viewer, url))
    TaskState.objects.filter(pk=task.pk).update(
        state="SUCCESS", updated_at=timezone.now()
    )
    tags.append(tag_of(viewer, url))
    task.refresh_from_db()
    task.result = "1"
    task.save()
    tags.append(tag_of(viewer, url))
    TaskState.objects.filter(pk=task.pk).delete()
    tags.append(tag_of(viewer, url))
    assert len(set(tags)) == 5
    assert ask(viewer, url, tags[-1]) == 304
    assert ask(viewer, url, tags[0]) == 200


def test_only_those_who_may_see_learn_whether_anything_changed(
    viewer: Client, staff: StaffClient, order: Order
) -> None:
    tag = tag_of(viewer, tracker(order))
    for right in SEE:
        assert ask(staff(right), tracker(order), tag) == 403


@pytest.mark.parametrize(("setting", "interval"), [(7, "7.0"), (1, "5"), (0, None)])
def test_the_interval(
    viewer: Client, order: Order, setting: int, interval: str | None
) -> None:
    app.conf.monitor_refresh_interval = setting
    try:
        html = html_of(viewer, tracker(order))
    finally:
        del app.conf["monitor_refresh_interval"]
    found = re.search(r'data-interval="([^"]*)"', html)
    assert (found and found[1]) == interval


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
