"""The actions that ask for a limit of time, a number of processes or a queue."""

from __future__ import annotations

import pytest
from django.contrib.admin.models import LogEntry
from django.test import Client

from django_celery_monitor.admin.forms import PoolForm, QueueForm, TimeLimitForm
from tests.admin.conftest import (
    TASKS,
    WORKERS,
    Heard,
    act,
    confirm,
    post_action,
)
from tests.factories import TaskStateFactory, WorkerStateFactory

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize(
    ("soft", "hard", "expected"),
    [
        ("10", "20", {"soft": 10.0, "hard": 20.0}),
        ("1.5", "", {"soft": 1.5, "hard": None}),
        ("", " 3 ", {"soft": None, "hard": 3.0}),
        ("", "", {"soft": None, "hard": None}),
    ],
)
def test_time_limits(soft: str, hard: str, expected: dict[str, float | None]) -> None:
    form = TimeLimitForm({"soft": soft, "hard": hard})
    assert form.is_valid()
    assert form.cleaned_data == expected


@pytest.mark.parametrize(
    ("soft", "hard"),
    [
        *(("-1", ""), ("0", ""), ("0.5", ""), ("nan", ""), ("inf", ""), ("ten", "")),
        *(("", "-1"), ("", "1e300"), ("", "0x10"), ("20", "20"), ("21", "20")),
    ],
)
def test_bad_time_limits(soft: str, hard: str) -> None:
    assert TimeLimitForm({"soft": soft, "hard": hard}).errors


@pytest.mark.parametrize("n", ["", "0", "-1", "101", "1.5", "x", "9" * 5000])
def test_bad_numbers_of_processes(n: str) -> None:
    assert list(PoolForm({"n": n}).errors) == ["n"]


@pytest.mark.parametrize("queue", ["", " ", "a\nb", "a\x7f", "q" * 256, "\x00"])
def test_bad_names_of_queues(queue: str) -> None:
    assert list(QueueForm({"queue": queue}).errors) == ["queue"]


def test_each_name_is_limited_once(operator: Client, heard: Heard) -> None:
    tasks = [TaskStateFactory.create(name=name) for name in ("b", "a", "b")]
    act(operator, TASKS, "time_limit_tasks", *tasks, soft="1.5", hard="")
    assert [(each["method"], each["arguments"]) for each in heard()] == [
        ("time_limit", {"task_name": "a", "soft": 1.5, "hard": None}),
        ("time_limit", {"task_name": "b", "soft": 1.5, "hard": None}),
    ]
    assert LogEntry.objects.count() == 3
    entry = LogEntry.objects.all()[0].get_change_message()
    assert "time limits of tasks of its name: soft 1.5 s, hard none." in entry


@pytest.mark.parametrize(
    ("url", "action", "field", "bad"),
    [
        (TASKS, "time_limit_tasks", "soft", '"><b>'),
        (WORKERS, "grow_pools", "n", '"><b>'),
        (WORKERS, "shrink_pools", "n", "-1"),
        (WORKERS, "add_consumer", "queue", '"><b>\n"'),
        (WORKERS, "cancel_consumer", "queue", ""),
    ],
)
def test_an_error_is_shown_at_the_field_and_can_be_mended(
    operator: Client, heard: Heard, url: str, action: str, field: str, bad: str
) -> None:
    factory = TaskStateFactory if url == TASKS else WorkerStateFactory
    page = post_action(operator, url, action, factory.create())
    assert f'name="{field}"' in page.content.decode()
    assert "errorlist" not in page.content.decode()

    page = confirm(operator, url, page, **{field: bad})
    html = page.content.decode()
    assert page.status_code == 200
    assert '<ul class="errorlist"' in html
    assert '"><b>' not in html
    assert heard() == []
    assert not LogEntry.objects.exists()

    confirm(operator, url, page, **{field: "1"})
    assert len(heard()) == LogEntry.objects.count() == 1
