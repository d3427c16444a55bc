"""The export of the list of tasks."""

from __future__ import annotations

import csv
import html
import io
import json
import re
import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from datetime import timezone as dt_timezone
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.conf import settings
from django.http import HttpRequest
from django.test import AsyncClient, Client, override_settings
from django.utils import timezone, translation
from pytest_django import DjangoAssertNumQueries

from django_celery_monitor.admin import bounds, export
from django_celery_monitor.models import TaskState
from django_celery_monitor.utils import correct_awareness
from tests.admin.conftest import TASKS, StaffClient
from tests.celery import app
from tests.factories import TaskStateFactory, UserFactory

START = correct_awareness(datetime(2026, 3, 2, 10, 0, tzinfo=dt_timezone.utc))
EXPORT = f"{TASKS}export/"

pytestmark = pytest.mark.django_db


def create(number: int, first: int = 0, **columns: Any) -> None:
    """Create tasks, two at a time, each pair a second after the one before."""
    TaskState.objects.bulk_create(
        TaskStateFactory.build(
            task_id=f"id-{n:04}",
            worker=None,
            **{"tstamp": START + timedelta(seconds=n // 2), **columns},
        )
        for n in range(first, first + number)
    )


def text(client: Client, query: str) -> str:
    response: Any = client.get(f"{EXPORT}?{query}")
    assert response.status_code == 200
    assert response.streaming
    return b"".join(response.streaming_content).decode()


def table(client: Client, query: str = "") -> tuple[list[dict[str, str]], list[str]]:
    """Return the rows of a CSV and the notes after them."""
    lines = list(csv.reader(io.StringIO(text(client, f"format=csv&{query}"))))
    rows = [dict(zip(lines[0], line, strict=False)) for line in lines[1:]]
    return [row for row in rows if len(row) > 1], [
        line[0] for line in lines[1:] if len(line) == 1
    ]


def ids(client: Client, query: str = "") -> list[int]:
    rows, _notes = table(client, query)
    return [int(row["task_id"][3:]) for row in rows]


@pytest.fixture
def _at_most_ten() -> Iterator[None]:
    app.conf.monitor_max_exported = 10
    yield
    del app.conf["monitor_max_exported"]


def test_a_task_in_both_formats(operator: Client) -> None:
    task = TaskStateFactory.create(
        name="shop.é", args='(1,\n"x")', runtime=0.5, tstamp=START, retries=2
    )
    assert task.worker
    (row,), notes = table(operator)
    assert list(row) == list(export.FIELDS)
    assert row["task_id"] == task.task_id
    assert row["name"] == "shop.é"
    assert row["args"] == '(1,\n"x")'
    assert row["worker"] == task.worker.hostname
    assert row["tstamp"].startswith("2026-03-02 10:00:00")
    assert (row["runtime"], row["retries"], row["queue"]) == ("0.5", "2", "")
    assert notes == []

    found = json.loads(text(operator, "format=json"))
    assert found["notes"] == []
    (row,) = found["tasks"]
    assert list(row) == list(export.FIELDS)
    assert row["args"] == '(1,\n"x")'
    assert row["worker"] == task.worker.hostname
    assert (row["runtime"], row["retries"], row["queue"]) == (0.5, 2, None)


def test_nothing_is_an_empty_export(operator: Client) -> None:
    assert table(operator) == ([], [])
    assert json.loads(text(operator, "format=json")) == {"tasks": [], "notes": []}


def test_every_column_that_a_page_shows_is_exported() -> None:
    columns = {field.name for field in TaskState._meta.fields}
    internal = {name for name in columns if name.endswith("_us")}
    internal |= {"id", "hidden", "route_retries", "updated_at", "attempts"}
    assert set(export.FIELDS) == columns - internal


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("=1+1", "'=1+1"),
        ("+1", "'+1"),
        ("-1", "'-1"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("\t=1", "'\t'=1"),
        ("\r=1", "'\r'=1"),
        ("  =1", "'  =1"),
        ("\uff1d1", "'\uff1d1"),
        ("(=1)", "(=1)"),
        ("'=1'", "'=1'"),
        ('";=1', "\";'=1"),
        ("x;=1+1|cmd", "x;'=1+1|cmd"),
        ("x\n @sum", "x\n '@sum"),
        ('x;" ;;= y;-|+', "x;\" ;;'= y;'-|'+"),
    ],
)
def test_no_text_is_a_formula(operator: Client, value: str, expected: str) -> None:
    columns = ("name", "args", "kwargs", "result", "exception", "traceback", "queue")
    TaskStateFactory.create(**dict.fromkeys(columns, value), runtime=1.0)
    raw = text(operator, "format=csv")
    (row,) = csv.DictReader(io.StringIO(raw, newline=""))
    assert {row[column] for column in columns} == {expected}
    # What is a number stays one.
    TaskState.objects.update(runtime=-1.0)
    (row,), _notes = table(operator)
    assert row["runtime"] == "-1.0"
    # JSON is what it is.
    (found,) = json.loads(text(operator, "format=json"))["tasks"]
    assert found["args"] == value


def test_time_grows_with_the_length_of_a_text() -> None:
    """A text of nothing but beginnings of cells is read once."""

    def seconds(length: int) -> float:
        began = time.perf_counter()
        export.harmless("\n" * length)
        return time.perf_counter() - began

    short, long = (min(seconds(n) for _ in range(3)) for n in (4_000, 64_000))
    assert long < 64 * short


@pytest.mark.usefixtures("_at_most_ten")
def test_it_is_in_the_time_zone_and_the_language_of_the_request(
    operator: Client,
) -> None:
    create(11)
    with override_settings(MIDDLEWARE=[*settings.MIDDLEWARE, f"{__name__}.tokyo"]):
        rows, notes = table(operator)
    seen = {datetime.fromisoformat(row["tstamp"]).utcoffset() for row in rows}
    assert seen == ({timedelta(hours=9)} if settings.USE_TZ else {None})
    assert notes == ["Nach 10 Tasks abgeschnitten: Es passen noch mehr."]


def tokyo(get_response: Any) -> Any:
    """Answer requests in Japan's time and in German, and be gone afterwards."""

    def answer(request: HttpRequest) -> Any:
        with timezone.override("Asia/Tokyo"), translation.override("de"):
            return get_response(request)

    return answer


@pytest.mark.parametrize("number", [0, 1, 9, 10, 11, 25])
def test_all_are_exported_once_and_the_newest_first(
    operator: Client, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    monkeypatch.setattr(export, "CHUNK", 5)
    monkeypatch.setattr(bounds, "LISTED", 8)
    create(number)
    tasks = TaskState.objects.order_by("-tstamp", "-pk")
    expected = [int(task.task_id[3:]) for task in tasks]
    assert ids(operator) == ids(operator, "o=7&p=2&all=") == expected


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("state__in=FAILURE,RETRY", [25, 24, 23, 22, 21, 20]),
        ("state__exact=RETRY", [25, 24, 23]),
        ("q=state:RETRY+OR+name:rare", [25, 24, 23, 22, 21, 20]),
        ("name=rare", [22, 21, 20]),
        ("q=id-0007", [7]),
        ("to=2026-03-02T10:00:01", [3, 2, 1, 0]),
    ],
)
def test_the_filters_of_the_list_hold(
    operator: Client, monkeypatch: pytest.MonkeyPatch, query: str, expected: list[int]
) -> None:
    monkeypatch.setattr(export, "CHUNK", 2)
    create(20)
    create(3, first=20, state="FAILURE", name="rare")
    create(3, first=23, state="RETRY")
    create(1, first=90, state="RETRY", hidden=True)
    assert ids(operator, query) == expected


@pytest.mark.usefixtures("_at_most_ten")
def test_an_export_that_is_cut_says_so(operator: Client) -> None:
    create(10)
    assert table(operator)[1] == []
    create(1, first=10)
    rows, notes = table(operator)
    assert [row["task_id"] for row in rows] == [f"id-{n:04}" for n in range(10, 0, -1)]
    assert notes == ["Cut after 10 tasks: more match."]
    found = json.loads(text(operator, "format=json"))
    assert len(found["tasks"]) == 10
    assert found["notes"] == notes


def test_a_bounded_look_back_says_so(
    operator: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bounds, "LOOKED_AT", 10)
    create(30, queue="slow")
    rows, (note,) = table(operator, "queue=slow")
    assert 10 <= len(rows) <= 12
    assert note.startswith("The newest 10 tasks were looked at, back to 2026-03-02 10:")
    assert len(ids(operator, "queue=slow&look=100")) == 30


def test_who_may_not_view_may_not_export(client: Client, staff: StaffClient) -> None:
    create(1)
    assert client.get(f"{EXPORT}?format=csv").status_code == 302
    for codenames in ((), ("control_tasks", "run_tasks"), ("view_workerstate",)):
        member = staff(*codenames)
        for method in (member.get, member.post):
            assert method(f"{EXPORT}?format=csv").status_code == 403
    assert ids(staff("view_taskstate")) == [0]


@pytest.mark.parametrize(
    "query",
    ["", "format=", "format=xls", "format=csv&q=nam:x", "format=csv&worker=x"],
)
def test_what_cannot_be_exported_is_refused(operator: Client, query: str) -> None:
    response = operator.get(f"{EXPORT}?{query}")
    assert response.status_code == 400
    assert response["Content-Type"] == "text/plain; charset=utf-8"
    assert response.content


@pytest.mark.filterwarnings("ignore")
def test_other_tables_are_not_reached(operator: Client) -> None:
    response = operator.get(f"{EXPORT}?format=csv&worker__taskstate__args__contains=x")
    assert response.status_code == 400


def test_the_list_links_to_its_export(operator: Client) -> None:
    create(3, state="FAILURE")
    create(3, first=3)
    page = operator.get(f"{TASKS}?state__exact=FAILURE&o=7&p=1").content.decode()
    for name in ("CSV", "JSON"):
        link = re.search(rf'<a href="([^"]*)"[^>]*>\s*Export {name}', page)
        assert link
        url = html.unescape(link[1])
        assert url == f"{EXPORT}?format={name.lower()}&state__exact=FAILURE"
        response: Any = operator.get(url)
        assert b"".join(response.streaming_content).count(b"id-000") == 3
        assert response["Content-Disposition"] == (
            f'attachment; filename="tasks.{name.lower()}"'
        )


def test_memory_stays_flat_and_queries_few(
    operator: Client,
    monkeypatch: pytest.MonkeyPatch,
    django_assert_max_num_queries: DjangoAssertNumQueries,
) -> None:
    monkeypatch.setattr(export, "CHUNK", 10)
    create(100)
    with django_assert_max_num_queries(40):
        assert len(ids(operator)) == 100


def test_no_query_grows_with_the_export(
    operator: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    # SQLite takes expressions of 1,000 levels at most.
    monkeypatch.setattr(export, "CHUNK", 1)
    create(1_100)
    assert len(text(operator, "format=csv").splitlines()) == 1_101


def test_it_is_sent_piece_by_piece_under_asgi(
    async_client: AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "CHUNK", 2)
    create(5)
    user = UserFactory.create(is_staff=True, is_superuser=True)

    async def ask() -> list[bytes]:
        await async_client.aforce_login(user)
        response: Any = await async_client.get(f"{EXPORT}?format=csv")
        assert response.is_async
        return [piece async for piece in response]

    pieces = async_to_sync(ask)()
    assert len(pieces) == 3
    assert len(b"".join(pieces).splitlines()) == 6
