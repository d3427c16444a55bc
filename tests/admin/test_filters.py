"""The filters beside the list of tasks."""

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

from django_celery_monitor.admin import TaskMonitor, bounds, newest
from django_celery_monitor.models import TaskState
from django_celery_monitor.utils import correct_awareness
from tests.admin.conftest import TASKS
from tests.celery import app
from tests.factories import TaskStateFactory, WorkerStateFactory

NOW = datetime(2026, 3, 2, 10, 0, tzinfo=timezone.utc)

pytestmark = pytest.mark.django_db


def ago(**delta: float) -> datetime:
    """Return a time before NOW as the database has it."""
    return correct_awareness(NOW - timedelta(**delta))


def get(client: Client, query: str = "") -> str:
    response = client.get(f"{TASKS}{query}")
    assert response.status_code == 200, response
    return response.content.decode()


def names(client: Client, query: str) -> list[str]:
    """Return the names of the tasks of a list, in their order."""
    return re.findall(r'<th class="field-name".*?>([\w.]+)</a>', get(client, query))


def choices(page: str, title: str) -> dict[str, tuple[str, bool]]:
    """Return the links of a filter by what they say, and whether each is chosen."""
    begin = page.index(f'data-filter-title="{title}"')
    found = re.findall(
        r'<li( class="selected")?>\s*<a href="([^"]*)">\s*(.*?)\s*</a>',
        page[begin : page.index("</details>", begin)],
        re.DOTALL,
    )
    return {
        re.sub(r"<[^>]*>", "", text): (html.unescape(link), bool(selected))
        for selected, link, text in found
    }


def create(number: int, **columns: Any) -> None:
    """Create tasks, each a second after the one before."""
    TaskState.objects.bulk_create(
        TaskStateFactory.build(
            worker=None, **{"tstamp": ago(hours=5) + timedelta(seconds=n), **columns}
        )
        for n in range(number)
    )


# States


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("?state__in=FAILURE,RETRY", ["retry", "failure"]),
        ("?state__in=FAILURE", ["failure"]),
        ("?state__in=FAILURE,FAILURE,,", ["failure"]),
        ("?state__in=", ["custom", "retry", "failure", "success"]),
        ("?state__in=NONE,OTHER", []),
        ("?state__in=PROGRESS,SUCCESS", ["custom", "success"]),
        ("?state__exact=FAILURE", ["failure"]),
        ("?state=FAILURE", ["failure"]),
        ("?state__in=RETRY&state__exact=FAILURE", ["failure"]),
        ("?state__exact=FAILURE&state__in=RETRY", ["failure"]),
        ("?state__in=FAILURE,RETRY&name=retry", ["retry"]),
        ("?state__in=FAILURE,RETRY&q=name:fail", ["failure"]),
        ("?state__in=FAILURE,RETRY&q=state:RETRY", ["retry"]),
        ("?state__in=FAILURE,RETRY&o=7", ["failure", "retry"]),
        ("?state__in=FAILURE,RETRY&since=1h", []),
        (f"?state__in={','.join(map(str, range(99)))}", []),
    ],
)
def test_several_states_at_once(
    operator: Client, query: str, expected: list[str]
) -> None:
    for state, hours in {"SUCCESS": 9, "FAILURE": 8, "RETRY": 7}.items():
        create(1, state=state, name=state.lower(), tstamp=ago(hours=hours))
    create(1, state="PROGRESS", name="custom", tstamp=ago(hours=6))
    with time_machine.travel(NOW, tick=False):
        assert names(operator, query) == expected


def test_choosing_a_state_adds_it_or_takes_it_away(operator: Client) -> None:
    create(1, state="FAILURE")
    one = choices(get(operator), "state")
    assert one["All"] == ("?", True)
    assert one["FAILURE 1"] == ("?state__exact=FAILURE", False)
    two = choices(get(operator, one["FAILURE 1"][0]), "state")
    assert two["FAILURE 1"] == ("?", True)
    query, _selected = two["RETRY 0"]
    assert query == f"?state__in={quote('FAILURE,RETRY', safe='')}"
    three = choices(get(operator, query), "state")
    assert three["FAILURE 1"] == ("?state__exact=RETRY", True)
    assert three["All"] == ("?", False)


def test_a_custom_state_can_be_chosen(operator: Client) -> None:
    create(1, state="PROGRESS")
    create(2, state="<b>&</b>")
    found = choices(get(operator), "state")
    assert found["PROGRESS 1"][0] == "?state__exact=PROGRESS"
    assert "<b>&</b>" not in get(operator)
    assert "&lt;b&gt;&amp;&lt;/b&gt; 2" in found


def test_no_more_states_than_are_told_apart(
    operator: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(newest, "MOST_STATES", 5)
    for number in range(9):
        create(1, state=f"A{number}")
    found = choices(get(operator), "state")
    assert "A4 1" in found
    assert "A5 1" not in found


@pytest.fixture
def _few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TaskMonitor, "list_per_page", 10)
    monkeypatch.setattr(bounds, "LISTED", 20)
    monkeypatch.setattr(bounds, "LOOKED_AT", 20)
    monkeypatch.setattr(bounds, "COUNTED", 20)


@pytest.mark.usefixtures("_few")
def test_the_counts_beside_the_states_are_bounded(operator: Client) -> None:
    create(25, state="SUCCESS", name="a")
    create(20, state="FAILURE", name="b", tstamp=ago(days=3))
    create(1, state="RETRY", name="b", tstamp=ago(days=2))
    # By index, whatever state is chosen.
    for query in ("", "?state__exact=RETRY", "?state__in=RETRY,FAILURE", "?since=7d"):
        with time_machine.travel(NOW, tick=False):
            found = choices(get(operator, query), "state")
        assert {"SUCCESS 20+", "FAILURE 20", "RETRY 1", "REVOKED 0"} <= set(found)
    # Of one name, the newest ones.
    found = choices(get(operator, "?name=b&state__exact=FAILURE"), "state")
    assert {"FAILURE 19+", "RETRY 1+", "SUCCESS 0+"} <= set(found)
    # Of all that were looked at.
    found = choices(get(operator, "?q=queue:x"), "state")
    assert "SUCCESS 0+" in found


@pytest.mark.usefixtures("_few")
def test_several_states_are_paged_and_continued(operator: Client) -> None:
    create(30, state="FAILURE", name="b")
    create(5, state="RETRY", name="r", tstamp=ago(hours=1))
    page = get(operator, "?state__in=FAILURE,RETRY")
    assert names(operator, "?state__in=FAILURE,RETRY") == ["r"] * 5 + ["b"] * 5
    assert "More than 20 tasks match" in page
    older = re.search(r'<a href="([^"]*)">Older tasks', page)
    assert older
    query = html.unescape(older[1])
    assert len(names(operator, f"{query}&all=1")) == 16


# Times


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("?from=2026-03-02T08:00", ["c", "b"]),
        ("?to=2026-03-02T08:00:00", ["b", "a"]),
        ("?from=2026-03-02T07:30&to=2026-03-02T08:30", ["b"]),
        ("?from=2026-03-02T09:30&to=2026-03-02T07:30", []),
        ("?from=&to=", ["c", "b", "a"]),
        ("?from=yesterday&to=0001-01-01T00:00:99", ["c", "b", "a"]),
        ("?to=9999-12-31T23:59", ["c", "b", "a"]),
        ("?from=0001-01-01T00:00", ["c", "b", "a"]),
    ],
)
def test_from_one_time_to_another(
    operator: Client, query: str, expected: list[str]
) -> None:
    for name, hours in {"a": 3, "b": 2, "c": 1}.items():
        create(1, name=name, tstamp=ago(hours=hours))
    assert names(operator, query) == expected


def test_times_are_those_of_the_time_zone(operator: Client, settings: Any) -> None:
    settings.TIME_ZONE = "Pacific/Kiritimati"
    create(1, name="a", tstamp=correct_awareness(NOW))
    assert names(operator, "?from=2026-03-03T00:00&to=2026-03-03T00:00:01") == ["a"]
    for zone in ("Pacific/Kiritimati", "Pacific/Pago_Pago"):
        settings.TIME_ZONE = zone
        for time in ("0001-01-01T00:00", "9999-12-31T23:59:59"):
            get(operator, f"?from={time}")


def test_the_form_of_times_keeps_the_other_filters(operator: Client) -> None:
    page = get(operator, "?state__in=FAILURE,RETRY&since=1h&q=%22&p=1&from=x%22%3E")
    form = page[page.index('<form method="get" class="celery-monitor-times">') :]
    form = form[: form.index("</form>")]
    assert 'name="state__in" value="FAILURE,RETRY"' in form
    assert 'name="q" value="&quot;"' in form
    assert 'name="from" value="x&quot;&gt;"' in form
    assert 'name="since"' not in form
    assert 'name="p"' not in form
    # A span takes the place of the times.
    found = choices(get(operator, "?from=2026-03-02T08:00&name=a"), "time")
    assert found["Last hour"] == ("?name=a&since=1h", False)
    assert found["All"] == ("?name=a", False)


# Runtime, retries, queue


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("?runtime_over=1s", ["hour", "eleven"]),
        ("?runtime_over=10s", ["hour", "eleven"]),
        ("?runtime_over=1m", ["hour"]),
        ("?runtime_over=10m", ["hour"]),
        ("?runtime_over=x", ["none", "hour", "eleven", "quick"]),
        ("?retried=yes", ["quick"]),
        ("?retried=no", ["none", "hour", "eleven", "quick"]),
        ("?queue=slow", ["eleven"]),
        ("?queue__isnull=True", ["none", "hour", "quick"]),
        ("?queue=slow&runtime_over=1s&retried=yes", []),
    ],
)
def test_other_filters(operator: Client, query: str, expected: list[str]) -> None:
    create(1, name="quick", runtime=1.0, retries=2, tstamp=ago(hours=4))
    create(1, name="eleven", runtime=11.0, queue="slow", tstamp=ago(hours=3))
    create(1, name="hour", runtime=3600.0, tstamp=ago(hours=2))
    create(1, name="none", runtime=None, tstamp=ago(hours=1))
    assert names(operator, query) == expected


def test_queues_and_workers_to_choose_from(operator: Client) -> None:
    create(1, queue="slow")
    create(1, queue=None)
    WorkerStateFactory.create(hostname="w1", last_heartbeat=None)
    worker = WorkerStateFactory.create(hostname="w2")
    page = get(operator)
    assert list(choices(page, "queue")) == ["All", "slow", "unknown"]
    assert set(choices(page, "worker")) == {"All", "w1", "w2", "-"}
    assert choices(get(operator, f"?worker__id__exact={worker.pk}"), "worker")["w2"][1]


# Stuck


@pytest.fixture
def _after_ten_minutes() -> Iterator[None]:
    app.conf.monitor_stuck_after = timedelta(minutes=10)
    yield
    del app.conf["monitor_stuck_after"]


LONG, SHORT = {"hours": 2}, {"minutes": 20}


@pytest.mark.parametrize(
    ("columns", "is_stuck"),
    [
        ({"state": "STARTED", "tstamp": LONG}, True),
        ({"state": "STARTED", "tstamp": SHORT}, False),
        ({"state": "PROGRESS", "tstamp": LONG}, True),
        ({"state": "RETRY", "tstamp": LONG}, True),
        ({"state": "PENDING", "tstamp": LONG}, True),
        ({"state": "REJECTED", "tstamp": LONG}, True),
        # What has ended.
        ({"state": "SUCCESS", "tstamp": LONG}, False),
        ({"state": "FAILURE", "tstamp": LONG}, False),
        ({"state": "REVOKED", "tstamp": LONG}, False),
        ({"state": "IGNORED", "tstamp": LONG}, False),
        ({"state": "REJECTED", "tstamp": LONG, "finished_at": LONG}, False),
        # What waits for its time, and what does no longer.
        ({"state": "RECEIVED", "tstamp": LONG, "eta": {"hours": -1}}, False),
        ({"state": "RECEIVED", "tstamp": LONG, "eta": SHORT}, False),
        ({"state": "RECEIVED", "tstamp": LONG, "eta": LONG}, True),
        # The broker may have dropped it without a word; a worker would tell.
        ({"state": "PENDING", "tstamp": LONG, "expires": SHORT}, False),
        ({"state": "PENDING", "tstamp": LONG, "expires": {"hours": -1}}, True),
        ({"state": "STARTED", "tstamp": LONG, "expires": SHORT}, True),
        # On a worker that is gone.
        ({"state": "STARTED", "tstamp": SHORT, "gone": True}, True),
        ({"state": "RECEIVED", "tstamp": SHORT, "gone": True}, True),
        ({"state": "RETRY", "tstamp": SHORT, "gone": True}, False),
        ({"state": "SUCCESS", "tstamp": SHORT, "gone": True}, False),
        (
            {"state": "RECEIVED", "tstamp": SHORT, "eta": {"hours": -1}, "gone": True},
            False,
        ),
    ],
)
@time_machine.travel(NOW, tick=False)
def test_what_is_stuck(
    operator: Client, columns: dict[str, Any], is_stuck: bool
) -> None:
    last = ago(days=1) if columns.pop("gone", False) else ago(seconds=1)
    worker = WorkerStateFactory.create(last_heartbeat=last)
    times = {k: ago(**v) for k, v in columns.items() if isinstance(v, dict)}
    TaskStateFactory.create(**{**columns, **times, "name": "it", "worker": worker})
    assert names(operator, "?stuck=yes") == ["it"] * is_stuck
    assert names(operator, "?stuck=no") == ["it"]


@pytest.mark.usefixtures("_after_ten_minutes")
@time_machine.travel(NOW, tick=False)
def test_how_long_is_too_long_is_a_setting(operator: Client) -> None:
    create(1, state="STARTED", name="it", tstamp=ago(minutes=11))
    create(1, state="STARTED", name="other", tstamp=ago(minutes=9))
    assert names(operator, "?stuck=yes") == ["it"]


@pytest.mark.usefixtures("_few")
@time_machine.travel(NOW, tick=False)
def test_what_is_stuck_is_found_however_old(operator: Client) -> None:
    create(1, state="STARTED", name="stuck", tstamp=ago(days=9))
    create(1, state="PROGRESS", name="odd", tstamp=ago(days=8))
    create(60, state="SUCCESS")
    page = get(operator, "?stuck=yes")
    assert names(operator, "?stuck=yes") == ["odd", "stuck"]
    assert "were looked at" not in page
    assert {"STARTED 1", "PROGRESS 1"} <= set(choices(page, "state"))
    assert names(operator, "?stuck=yes&state__exact=STARTED") == ["stuck"]


@pytest.mark.usefixtures("_few")
def test_a_combination_is_looked_for_where_the_look_reaches_furthest(
    operator: Client,
) -> None:
    create(5, state="FAILURE", name="x", queue="slow", tstamp=ago(days=9))
    create(60, state="SUCCESS", name="x", queue="slow")
    assert names(operator, "?state__exact=FAILURE&queue=slow") == ["x"] * 5
    assert names(operator, "?name=x&queue=slow&q=state:FAILURE") == ["x"] * 5
    page = get(operator, "?name=x&queue=slow")
    assert "The newest 20 tasks were looked at, back to" in page


def test_garbage_in_every_filter_is_no_error(operator: Client) -> None:
    TaskStateFactory.create()
    parameters = ["state__in", "state__exact", "since", "from", "to", "stuck", "queue"]
    parameters += ["retried", "runtime_over", "look", "name", "name__isnull", "p", "o"]
    for name in parameters:
        for value in (
            "",
            "x",
            "'",
            "-1",
            "9" * 400,
            "%F0%9F%92%A9",
            "<b>",
            ",,",
            "1,2",
        ):
            response = operator.get(f"{TASKS}?{name}={value}")
            assert response.status_code in {200, 302}, (name, value)
