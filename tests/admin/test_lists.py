"""What the lists and pages of tasks and workers show."""

from __future__ import annotations

import html
import re
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
import time_machine
from django.test import Client

from django_celery_monitor.utils import correct_awareness
from tests.admin.conftest import TASKS, WORKERS
from tests.factories import TaskStateFactory, WorkerStateFactory

NOW = datetime(2026, 3, 2, 10, 0, tzinfo=timezone.utc)

pytestmark = pytest.mark.django_db


def ago(**delta: float) -> datetime:
    """Return a time before NOW as the database has it."""
    return correct_awareness(NOW - timedelta(**delta))


def cells(client: Client, url: str) -> dict[str, str]:
    """Return the cells of the only row of a list, by the name of the column."""
    page = client.get(url).content.decode()
    found = re.findall(r'<t[dh] class="field-(\w+)[^"]*">(.*?)</t[dh]>', page, re.S)
    return {column: re.sub(r"\s+", " ", cell).strip() for column, cell in found}


def fields(client: Client, url: str) -> dict[str, str]:
    """Return what a page shows of a row, by the name of the field."""
    page = client.get(url).content.decode()
    found = re.findall(
        r'<div class="form-row field-(\w+)">.*?'
        r'<div class="readonly">(.*?)</div>\s+</div>',
        page,
        re.S,
    )
    return {name: value.strip() for name, value in found}


@time_machine.travel(NOW, tick=False)
def test_the_list_of_tasks(operator: Client) -> None:
    task = TaskStateFactory.create(
        task_id="0b5f7e53-7b2a-4b1c-9f66-3a3c2b0d5a11",
        name="proj.add",
        state="RETRY",
        args="(1, 2)",
        kwargs="{'to': 'ada'}",
        queue="slow",
        sent_at=ago(minutes=3, seconds=5),
        started_at=ago(minutes=3, seconds=2.5),
        runtime=1.23456,
        retries=3,
        tstamp=ago(minutes=3),
        worker__hostname="celery@one",
    )
    shown = cells(operator, TASKS)
    assert list(shown) == [
        "colored_state",
        "name",
        "task_id",
        "args",
        "queue",
        "worker",
        "tstamp",
        "wait",
        "runtime",
        "retries",
    ]
    assert shown["colored_state"] == (
        '<span class="celery-monitor-state celery-monitor-orange">RETRY</span>'
    )
    assert f'<a href="{TASKS}{task.pk}/change/' in shown["name"]
    assert ">proj.add</a>" in shown["name"]
    assert f'title="{task.task_id}"' in shown["task_id"]
    assert ">0b5f7e53…<" in shown["task_id"]
    assert ">(1, 2) {&#x27;to&#x27;: &#x27;ada&#x27;}<" in shown["args"]
    assert shown["queue"] == "slow"
    assert shown["worker"] == "celery@one"
    time = re.fullmatch(
        r'<time datetime="2026-03-02T09:57:00(?:\+00:00)?"'
        r' title="(2026-03-02 09:57:00(?:\+00:00)?)">3 minutes ago</time>'
        r'<span class="visually-hidden"> \(\1\)</span>',
        shown["tstamp"],
    )
    assert time, shown["tstamp"]
    assert shown["wait"] == "2.500 s"
    assert shown["runtime"] == "1.235 s"
    assert shown["retries"] == "3"


def test_a_task_of_which_little_is_known(operator: Client) -> None:
    task = TaskStateFactory.create(name=None, worker=None, state="PROGRESS")
    shown = cells(operator, TASKS)
    assert ">unknown</a>" in shown["name"]
    unknown = ("args", "queue", "worker", "wait", "runtime")
    assert {shown[name] for name in unknown} == {"-"}
    assert "celery-monitor-gray" in shown["colored_state"]
    on_page = fields(operator, f"{TASKS}{task.pk}/change/")
    known = {"retries", "tstamp"}
    assert {value for name, value in on_page.items() if name not in known} == {"-"}


@time_machine.travel(NOW, tick=False)
def test_the_page_of_a_task(operator: Client) -> None:
    task = TaskStateFactory.create(
        state="FAILURE",
        tstamp=ago(hours=2),
        eta=correct_awareness(NOW + timedelta(days=1)),
        result="KeyError('a <b>')",
        exception="KeyError",
        traceback="Traceback:\n  File <b>",
        args="(1,)",
        kwargs="{'a': 1}",
        runtime=0.5,
        attempts=[
            {
                "timestamp": int(NOW.timestamp() - 60) * 1_000_000,
                "exception": "OSError()",
                "traceback": "Traceback: <i>",
            }
        ],
    )
    shown = fields(operator, f"{TASKS}{task.pk}/change/")
    pre = '<pre class="celery-monitor-text" id="celery-monitor-{}">{}</pre>'
    for name, text in (
        ("result", html.escape("KeyError('a <b>')")),
        ("traceback", "Traceback:\n  File &lt;b&gt;"),
        ("args", "(1,)"),
        ("kwargs", "{&#x27;a&#x27;: 1}"),
    ):
        assert pre.format(name, text) in shown[name]
    assert shown["exception"] == "KeyError"
    assert "2026-03-02 08:00:00" in shown["tstamp"]
    assert shown["tstamp"].endswith("(2 hours ago)")
    assert shown["eta"].endswith("(tomorrow at 10:00)")
    assert shown["runtime"] == "0.500 s"
    worker = task.worker
    assert worker
    assert f'<a href="{WORKERS}{worker.pk}/change/">{worker}</a>' in shown["worker"]
    assert "(1 minute ago)" in shown["attempts"]
    assert "<strong>OSError</strong>" in shown["attempts"]
    assert pre.format("exception-1", "OSError()") in shown["attempts"]
    traceback = pre.format("traceback-1", "Traceback: &lt;i&gt;")
    assert traceback in shown["attempts"].partition("<details>")[2]


@pytest.mark.parametrize("zone", ["Pacific/Kiritimati", "Pacific/Pago_Pago"])
def test_times_at_the_ends_of_the_calendar(
    operator: Client, settings: Any, zone: str
) -> None:
    settings.TIME_ZONE = zone
    task = TaskStateFactory.create(
        sent_at=correct_awareness(datetime(1, 1, 3, tzinfo=timezone.utc)),
        eta=correct_awareness(datetime(9999, 12, 29, tzinfo=timezone.utc)),
    )
    shown = fields(operator, f"{TASKS}{task.pk}/change/")
    assert "0001-01-0" in shown["sent_at"]
    assert "9999-12-" in shown["eta"]


@time_machine.travel(NOW, tick=False)
def test_the_list_and_the_page_of_a_worker(operator: Client) -> None:
    worker = WorkerStateFactory.create(
        hostname="celery@one",
        last_heartbeat=ago(seconds=5),
        freq=2.0,
        active=2,
        processed=1234,
        loadavg=[0.5, 0.25, 0.1],
        pid=4711,
        sw_ident="py-celery",
        sw_ver="5.7.0",
    )
    shown = cells(operator, WORKERS)
    assert list(shown) == [
        "node_state",
        "hostname",
        "last_heartbeat",
        "offline_since",
        "active",
        "processed",
        "loadavg",
        "pid",
        "sw_ver",
    ]
    assert shown["node_state"] == (
        '<span class="celery-monitor-state celery-monitor-green">ONLINE</span>'
    )
    assert ">5 seconds ago</time>" in shown["last_heartbeat"]
    assert shown["loadavg"] == "0.5, 0.25, 0.1"
    on_page = fields(operator, f"{WORKERS}{worker.pk}/change/")
    assert on_page["node_state"] == shown["node_state"]
    assert on_page["last_heartbeat"].endswith("(5 seconds ago)")
    assert on_page["offline_at"] == "-"
    assert on_page["sw_ident"] == "py-celery"


@pytest.mark.parametrize(("loadavg", "expected"), [(None, "-"), ("1.5", "1.5")])
def test_a_worker_that_is_gone(
    operator: Client, loadavg: object, expected: str
) -> None:
    WorkerStateFactory.create(last_heartbeat=None, loadavg=loadavg)
    shown = cells(operator, WORKERS)
    assert ">OFFLINE</span>" in shown["node_state"]
    assert shown["last_heartbeat"] == "-"
    assert shown["loadavg"] == expected


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("state__exact=FAILURE", {"failed"}),
        ("name=other", {"other"}),
        ("name__isnull=True", {"unknown"}),
        ("worker__id__exact={worker}", {"other"}),
        ("q=needle", {"failed"}),
        ("q=celery@two", {"other"}),
        ("q=id-3", {"unknown"}),
    ],
)
def test_filters_and_search(operator: Client, query: str, expected: set[str]) -> None:
    other = TaskStateFactory.create(
        name="other", tstamp=ago(hours=1), worker__hostname="celery@two"
    )
    TaskStateFactory.create(
        name="failed", state="FAILURE", kwargs="needle", tstamp=ago(days=9)
    )
    TaskStateFactory.create(name=None, task_id="id-3", tstamp=ago(hours=2))
    page = operator.get(f"{TASKS}?{query.format(worker=other.worker_id)}")
    assert page.status_code == 200
    rows = re.findall(r"field-name.*?<a[^>]*>(\w+)</a>", page.content.decode())
    assert set(rows) == expected


@pytest.mark.parametrize(
    ("title", "expected"),
    [
        ("Last 15 minutes", ["now"]),
        ("Last hour", ["now", "recent"]),
        ("Last day", ["now", "recent", "today"]),
        ("Last week", ["now", "recent", "today", "old"]),
        ("All", ["now", "recent", "today", "old", "older"]),
    ],
)
@time_machine.travel(NOW, tick=False)
def test_the_filter_of_times(operator: Client, title: str, expected: list[str]) -> None:
    TaskStateFactory.create(name="now", tstamp=ago(minutes=1))
    TaskStateFactory.create(name="recent", tstamp=ago(minutes=59))
    TaskStateFactory.create(name="today", tstamp=ago(hours=23))
    TaskStateFactory.create(name="old", tstamp=ago(days=6))
    TaskStateFactory.create(name="older", tstamp=ago(days=9))
    page = operator.get(TASKS).content.decode()
    times = page[page.index("By time") :]
    link = re.search(rf'href="(\?[^"]*)">\s*{title}', times)
    assert link
    page = operator.get(TASKS + html.unescape(link[1])).content.decode()
    assert re.findall(r"field-name.*?<a[^>]*>(\w+)</a>", page) == expected


def test_an_odd_time_is_no_filter(operator: Client) -> None:
    TaskStateFactory.create(name="there")
    for value in ("", "x", "1000y"):
        assert "there</a>" in operator.get(f"{TASKS}?since={value}").content.decode()


@pytest.mark.parametrize(
    ("runtime", "expected"),
    [
        (0.0, "0.000 s"),
        (0.00051, "0.001 s"),
        (12345.6789, "12345.679 s"),
        (1e300, "1.000e+300 s"),
    ],
)
def test_runtimes(operator: Client, runtime: float, expected: str) -> None:
    TaskStateFactory.create(runtime=runtime)
    assert cells(operator, TASKS)["runtime"] == expected


def test_the_names_to_filter_by(operator: Client) -> None:
    for name in ("known", None):
        TaskStateFactory.create(name=name)
    TaskStateFactory.create(name="expired", hidden=True)
    page = operator.get(TASKS).content.decode()
    assert "?name=known" in page
    assert re.search(r'name__isnull=True"[^>]*>\s*unknown', page)
    assert "expired" not in page


def test_the_newest_come_first(operator: Client) -> None:
    for number in (2, 1, 3):
        TaskStateFactory.create(name=f"n{number}", tstamp=ago(days=number))
        WorkerStateFactory.create(
            hostname=f"w{number}", last_heartbeat=ago(days=number)
        )
    tasks = operator.get(TASKS).content.decode()
    assert re.findall(r">(n\d)</a></th>", tasks) == ["n1", "n2", "n3"]
    workers = operator.get(f"{WORKERS}?q=w").content.decode()
    assert re.findall(r">(w\d)</a></th>", workers) == ["w1", "w2", "w3"]
