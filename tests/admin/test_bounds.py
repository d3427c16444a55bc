"""What the list of tasks looks at is bounded, and it says so."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from typing import Any
from urllib.parse import quote

import pytest
import time_machine
from django.test import Client

from django_celery_monitor.admin import TaskMonitor, bounds, newest, paths
from django_celery_monitor.models import TaskState
from django_celery_monitor.utils import correct_awareness
from tests.admin.conftest import TASKS, Heard, confirm, post_action
from tests.celery import app
from tests.factories import TaskStateFactory, WorkerStateFactory

#: What the ids of all tasks begin with.
ID = "task-number-"

START = correct_awareness(datetime(2026, 3, 2, 10, 0, tzinfo=timezone.utc))

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have as few as 20 tasks be many, and 10 a page."""
    monkeypatch.setattr(TaskMonitor, "list_per_page", 10)
    monkeypatch.setattr(bounds, "LISTED", 20)
    monkeypatch.setattr(bounds, "LOOKED_AT", 20)


def create(number: int, first: int = 0, **columns: Any) -> None:
    """Create tasks, each a second after the one before."""
    TaskState.objects.bulk_create(
        TaskStateFactory.build(
            task_id=f"task-number-{n:04}",
            **{
                "tstamp": START + timedelta(seconds=n),
                "worker": None,
                "name": "job",
                **columns,
            },
        )
        for n in range(first, first + number)
    )


def listed(client: Client, query: str = "") -> list[int]:
    """Return the numbers of the tasks of a list, in their order."""
    first = get(client, query)
    numbers = set(re.findall(r'href="(\?[^"]*\bp=\d+[^"]*)"', first))
    others = [get(client, html.unescape(number)) for number in sorted(numbers)]
    found = re.findall(r'title="task-number-(\d{4})"', "".join([first, *others]))
    return [int(number) for number in found]


def get(client: Client, query: str = "") -> str:
    response = client.get(f"{TASKS}{query}")
    assert response.status_code == 200, response
    return response.content.decode()


def link(page: str, text: str) -> str | None:
    found = re.search(rf'<a href="([^"]*)">{text}</a>', page)
    return html.unescape(found[1]) if found else None


def test_older_tasks_are_a_link_away(operator: Client) -> None:
    create(45)
    seen: list[int] = []
    query: str | None = ""
    while query is not None:
        page = get(operator, query)
        seen += listed(operator, query)
        query = link(page, "Older tasks")
        assert ("More than 20 tasks match" in page) == (query is not None)
    # The last of each list is the first of the next one.
    assert sorted(set(seen), reverse=True) == list(range(44, -1, -1))
    assert len(seen) == 47


@pytest.mark.parametrize("number", [1, 19, 20])
def test_as_many_as_are_listed_are_all(operator: Client, number: int) -> None:
    create(number)
    page = get(operator)
    assert len(listed(operator)) == number
    assert "More than" not in page
    assert "were looked at" not in page


def test_tasks_of_one_moment_are_all_listed(operator: Client) -> None:
    create(20, first=1)
    create(5, first=100, tstamp=START)
    page = get(operator)
    older = link(page, "Older tasks")
    assert older
    assert set(listed(operator) + listed(operator, older)) == {
        *range(1, 21),
        *range(100, 105),
    }


@pytest.mark.parametrize(
    "query",
    [
        "state__exact=FAILURE",
        "name=rare",
        "name__isnull=True",
        "worker__id__exact={worker}",
        "tstamp__lt={day}",
        "state__exact=FAILURE&tstamp__lt={day}",
    ],
)
def test_what_an_index_finds_is_found_however_old(operator: Client, query: str) -> None:
    worker = WorkerStateFactory.create()
    name = None if "isnull" in query else "rare"
    create(1, state="FAILURE", name=name, worker=worker)
    create(60, first=1, tstamp=START + timedelta(days=2))
    day = quote(str(START + timedelta(days=1)))
    query = f"?{query.format(worker=worker.pk, day=day)}"
    assert listed(operator, query) == [0]
    assert "were looked at" not in get(operator, query)


@pytest.mark.parametrize(
    "query",
    ["q=needle", "queue=slow", "retries=3", "state__exact=SUCCESS&queue=slow"],
)
def test_all_else_is_looked_for_among_the_newest(operator: Client, query: str) -> None:
    rare = {"name": "rare", "kwargs": "needle", "queue": "slow", "retries": 3}
    create(60)
    create(1, first=100, tstamp=START + timedelta(seconds=1), **rare)
    create(1, first=200, tstamp=START + timedelta(hours=1), **rare)
    page = get(operator, f"?{query}")
    assert listed(operator, f"?{query}") == [200]
    assert "The newest 20 tasks were looked at, back to" in page

    further = link(page, "Look further")
    assert further
    assert listed(operator, further) == [200, 100]
    # There are no more than these.
    assert "were looked at" not in get(operator, further)


@pytest.mark.parametrize(("since", "cut"), [("1h", True), ("15m", False)])
def test_a_look_back_needs_not_go_beyond_the_time_that_is_chosen(
    operator: Client,
    since: str,
    cut: bool,
) -> None:
    create(40)
    create(15, first=1500)
    now = datetime(2026, 3, 2, 10, tzinfo=timezone.utc) + timedelta(seconds=2200)
    with time_machine.travel(now, tick=False):
        page = get(operator, f"?queue=slow&since={since}")
    assert ("were looked at" in page) == cut


def test_a_look_back_begins_where_the_times_end(operator: Client) -> None:
    create(60, name="old", queue="slow")
    create(60, first=100)
    before = f"tstamp__lt={quote(str(START + timedelta(seconds=60)))}"
    assert listed(operator, "?queue=slow") == []
    found = listed(operator, f"?queue=slow&{before}")
    assert found[0] == 59
    assert len(found) >= 20
    assert "were looked at" in get(operator, f"?queue=slow&{before}")


@pytest.mark.parametrize("number", ["x", "-5", "1", "99999999999999999999", ""])
def test_an_odd_number_to_look_at_is_bounded(operator: Client, number: str) -> None:
    create(30, queue="slow")
    assert len(listed(operator, f"?queue=slow&look={number}")) >= 20


@pytest.mark.parametrize("text", [f"{ID}0007", f"{ID}000", f" {ID}0007 "])
def test_an_id_or_its_beginning_is_found_however_old(
    operator: Client, text: str
) -> None:
    create(1, first=7)
    create(60, first=100, tstamp=START + timedelta(days=1))
    page = get(operator, f"?q={text}")
    assert listed(operator, f"?q={text}") == [7]
    assert "were looked at" not in page
    # What was searched for stays in its field.
    assert f'value="{text.strip()}"' in page


@pytest.mark.parametrize("text", ["ask-", "task 7", "%", "_ask", "tas"])
def test_what_begins_no_id_is_looked_for_in_texts(operator: Client, text: str) -> None:
    create(60)
    page = get(operator, f"?q={text}")
    assert "were looked at" in page


def test_other_filters_hold_for_an_id_too(operator: Client) -> None:
    create(2)
    assert listed(operator, "?q=task-number-0001&state__exact=FAILURE") == []


def test_only_what_an_index_has_in_order_can_be_sorted_by(operator: Client) -> None:
    create(3)
    page = get(operator)
    assert len(re.findall(r'<th scope="col" class="[^"]*sortable', page)) == 1
    assert listed(operator, "?o=7") == [0, 1, 2]
    # The oldest first leads to no older ones.
    create(30, first=10)
    assert link(get(operator, "?o=7"), "Older tasks") is None


def test_names_are_those_of_the_newest_tasks(operator: Client) -> None:
    create(1, name="ancient")
    create(30, first=10, name="recent")
    page = get(operator)
    assert "?name=recent" in page
    assert "ancient" not in page
    # The one that is chosen is there to be seen as chosen.
    assert re.search(
        r"<li class=\"selected\">\s*<a[^>]*>\s*ancient", get(operator, "?name=ancient")
    )


# All that match


@pytest.fixture
def _at_most_ten() -> Iterator[None]:
    app.conf.monitor_max_selected = 10
    yield
    del app.conf["monitor_max_selected"]


@pytest.mark.usefixtures("_at_most_ten")
@pytest.mark.parametrize("confirmed", [{}, {"confirmed": "yes"}])
@pytest.mark.parametrize("action", ["revoke_tasks", "kill_tasks", "delete_selected"])
def test_too_many_that_match_are_refused(
    superuser: Client, action: str, confirmed: dict[str, str]
) -> None:
    create(11)
    first = TaskState.objects.first()
    post_action(superuser, TASKS, action, first, select_across="1", **confirmed)
    assert "more than 10 rows match" in get(superuser)
    assert TaskState.objects.count() == 11


@pytest.mark.usefixtures("_at_most_ten")
def test_as_many_as_may_be_are_asked_for(superuser: Client) -> None:
    create(10)
    first = TaskState.objects.first()
    page = post_action(superuser, TASKS, "kill_tasks", first, select_across="1")
    assert page.content.decode().count('class="celery-monitor-state ') == 10


def test_what_is_selected_stays_so_while_it_is_confirmed(
    superuser: Client, heard: Heard
) -> None:
    create(6, queue="slow")
    rows = list(TaskState.objects.all())
    page = post_action(superuser, f"{TASKS}?queue=slow", "revoke_tasks", *rows)
    create(30, first=6)
    confirm(superuser, f"{TASKS}?queue=slow", page)
    (command,) = heard()
    assert len(command["arguments"]["task_id"]) == 6


def test_a_long_look_reads_no_more_than_is_listed(
    superuser: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    def few_keys(*_: Any) -> Any:
        raise AssertionError("all that match were read")

    monkeypatch.setattr(newest, "few_keys", few_keys)
    create(60, queue="slow")
    assert "More than 20 tasks match" in get(superuser, "?queue=slow&look=1000")


def test_tasks_that_come_between_two_queries_break_no_page(
    superuser: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    create(20)
    counts = newest.counts

    def late(*arguments: Any) -> Any:
        create(1, first=1000 + TaskState.objects.count())
        return counts(*arguments)

    monkeypatch.setattr(newest, "counts", late)
    assert "task-number-" in get(superuser, "?p=2")


def test_of_a_parameter_that_comes_twice_both_count(superuser: Client) -> None:
    create(3, name="a")
    create(3, first=3, name="b")
    create(3, first=6, name="c")
    assert listed(superuser, "?name=a&name=b") == [5, 4, 3, 2, 1, 0]


def test_a_worker_that_is_gone_has_no_tasks(superuser: Client) -> None:
    create(5)
    for query in ("?worker__id__exact=99", "?worker__id__exact=99&retries=0"):
        assert listed(superuser, query) == []
        url = f"{TASKS}{query}"
        response = post_action(superuser, url, "kill_tasks", select_across="1")
        assert response.status_code == 302


@pytest.mark.parametrize("value", ["x", "1" * 30, "-1", "1.5"])
def test_a_worker_that_can_be_none_is_refused(superuser: Client, value: str) -> None:
    response = superuser.get(f"{TASKS}?worker__id__exact={value}")
    assert response.headers["Location"] == f"{TASKS}?e=1"


def test_links_keep_every_filter(superuser: Client) -> None:
    create(30, parent_id="above")
    links = get(superuser, "?parent_id=above").split("celery-monitor-note")[1]
    assert "parent_id=above" in links


def test_an_id_that_begins_too_many_is_a_word(
    superuser: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paths, "MOST_IDS", 10)
    create(30)
    assert listed(superuser, "?q=task-number") == list(range(29, 9, -1))


def test_oldest_first_says_that_there_are_more(superuser: Client) -> None:
    create(30)
    assert "these are the oldest" in get(superuser, "?o=7")
