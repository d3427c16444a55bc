"""The columns of the list of tasks."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from datetime import timezone as dt_timezone
from typing import Any

import pytest
from django.contrib import admin
from django.db import connection
from django.test import Client, RequestFactory
from django.test.utils import CaptureQueriesContext, override_settings
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries

from django_celery_monitor import conf
from django_celery_monitor.admin import TaskMonitor, columns
from django_celery_monitor.models import TaskState
from django_celery_monitor.utils import fromtimestamp
from tests.admin.conftest import TASKS, StaffClient
from tests.celery import app
from tests.factories import TaskStateFactory, UserFactory

pytestmark = pytest.mark.django_db

Choose = Callable[..., None]


@pytest.fixture
def choose() -> Iterator[Choose]:
    """Return a function that sets the columns of the list."""

    def set_columns(*names: str) -> None:
        app.conf.monitor_list_columns = names

    yield set_columns
    app.conf.pop("monitor_list_columns", None)


def cells(client: Client, query: str = "") -> dict[str, str]:
    page = client.get(TASKS + query).content.decode()
    found = re.findall(r'<t[dh] class="field-(\w+)[^"]*">(.*?)</t[dh]>', page, re.S)
    return {column: re.sub(r"\s+", " ", cell).strip() for column, cell in found}


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["time", "name"], ["tstamp", "name"]),
        (["id"], ["task_id"]),
        (["args", "retries", "state"], ["args", "retries", "colored_state"]),
    ],
)
def test_which_columns_is_a_setting(
    operator: Client, choose: Choose, names: list[str], expected: list[str]
) -> None:
    task = TaskStateFactory.create(args="(1,)")
    choose(*names)
    shown = cells(operator)
    assert list(shown) == expected
    # Some column leads to the page of the task.
    assert sum(f"{TASKS}{task.pk}/change/" in cell for cell in shown.values()) == 1


@pytest.mark.parametrize("name", conf.LIST_COLUMNS)
def test_any_column_alone_reads_what_it_shows_in_one_query(
    operator: Client,
    choose: Choose,
    django_assert_num_queries: DjangoAssertNumQueries,
    name: str,
) -> None:
    choose(name)
    TaskStateFactory.create_batch(12, sent_at=timezone.now(), started_at=timezone.now())
    operator.get(TASKS)
    with django_assert_num_queries(13):
        assert len(cells(operator)) == 1


def test_long_texts_are_not_read(operator: Client) -> None:
    TaskStateFactory.create(args="x" * 9_000, result="y", traceback="z")
    with CaptureQueriesContext(connection) as captured:
        shown = cells(operator)["args"]
    assert f">{'x' * 31}…<" in shown
    (query,) = (q["sql"] for q in captured if "begin_args" in q["sql"])
    for column in ("result", "traceback", "attempts"):
        assert f"{column}" not in query


@pytest.mark.parametrize(
    ("args", "kwargs", "expected"),
    [
        ("(1, 2)", "{'a': 1}", "(1, 2) {&#x27;a&#x27;: 1}"),
        ("()", "{'a': 1}", "{&#x27;a&#x27;: 1}"),
        ("[]", "{}", None),
        ("", None, None),
        ("<script>", "&amp;", "&lt;script&gt; &amp;amp;"),
        ("é" * 33, None, "é" * 31 + "…"),
    ],
)
def test_arguments_in_short(
    operator: Client, args: str, kwargs: str | None, expected: str | None
) -> None:
    TaskStateFactory.create(args=args, kwargs=kwargs)
    shown = cells(operator)["args"]
    code = f'<code class="celery-monitor-fixedwidth">{expected}</code>'
    assert shown == ("-" if expected is None else code)


def test_a_long_id_is_cut_and_is_in_the_title(operator: Client) -> None:
    TaskStateFactory.create(task_id='"><b>' * 4)
    escaped = "&quot;&gt;&lt;b&gt;"
    shown = cells(operator)["task_id"]
    assert f'title="{escaped * 4}"' in shown
    assert f">{escaped}&quot;&gt;&lt;…<" in shown
    TaskState.objects.update(task_id="job-12345")
    assert ">job-12345<" in cells(operator)["task_id"]


@pytest.mark.parametrize(
    ("seconds", "expected"), [(1.5, "1.500 s"), (-2, "0.000 s"), (None, "-")]
)
def test_the_wait(operator: Client, seconds: float | None, expected: str) -> None:
    sent = timezone.now()
    started = None if seconds is None else sent + timedelta(seconds=seconds)
    TaskStateFactory.create(sent_at=sent, started_at=started)
    assert cells(operator)["wait"] == expected


@pytest.mark.usefixtures("db")
def test_the_wait_in_the_hour_that_daylight_saving_repeats() -> None:
    with override_settings(USE_TZ=False, TIME_ZONE="Europe/Berlin"):
        sent, started = (
            int(datetime(2026, 10, 25, *time, tzinfo=dt_timezone.utc).timestamp())
            for time in ((0, 30), (1, 40))
        )
        task = TaskStateFactory.build(
            worker=None,
            sent_at=fromtimestamp(sent),
            sent_us=sent * 1_000_000,
            started_at=fromtimestamp(started),
            started_us=started * 1_000_000,
        )
        assert columns.wait(task) == "4200.000 s"


class OwnColumns(TaskMonitor):
    """A list with columns of the project's own."""

    list_display = ("task_id", "result", "traceback")
    list_filter = ("state", "queue")


def test_columns_of_a_subclass_are_its_own(
    choose: Choose,
    staff: StaffClient,
    django_assert_num_queries: DjangoAssertNumQueries,
) -> None:
    choose("name")
    TaskStateFactory.create_batch(5, result="'done'", state="FAILURE")
    request: Any = RequestFactory().get("/?state__exact=FAILURE")
    request.user = UserFactory.create(is_staff=True, is_superuser=True)
    monitor = OwnColumns(TaskState, admin.site)
    assert list(monitor.get_list_display(request)) == ["task_id", "result", "traceback"]
    tasks = monitor.get_changelist_instance(request)
    with django_assert_num_queries(1):
        assert [task.result for task in tasks.result_list] == ["'done'"] * 5
