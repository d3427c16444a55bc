"""The tasks of an object: filters, their numbers, and pages."""

from __future__ import annotations

import pytest
from django.test import Client

from django_celery_monitor.tracking.admin import history
from tests.admin.tracking.addresses import TASKS, tracker
from tests.admin.tracking.pages import html_of, ids, link
from tests.celery import app
from tests.tracked.models import Order

pytestmark = [pytest.mark.django_db, pytest.mark.urls("tests.admin.tracking.sites")]


def choices(client: Client, url: str) -> dict[str, dict[str, int]]:
    """Return what there is to choose on a page, and of how many tasks."""
    shown = client.get(url).context["choices"]
    return {str(title): {c.text: c.number for c in values} for title, values in shown}


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
