"""How long a task waited and ran, on its page."""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
import time_machine
from django.test import Client

from django_celery_monitor.utils import correct_awareness
from tests.admin.conftest import TASKS
from tests.factories import TaskStateFactory

NOW = datetime(2026, 3, 2, 10, 0, tzinfo=timezone.utc)

pytestmark = [
    pytest.mark.django_db,
    pytest.mark.usefixtures("standing_clock"),
]


@pytest.fixture
def standing_clock() -> Any:
    """Let it be ``NOW``."""
    with time_machine.travel(NOW, tick=False):
        yield


def ago(seconds: float) -> datetime:
    """Return a time before ``NOW`` as the database has it."""
    return correct_awareness(NOW - timedelta(seconds=seconds))


def task(state: str, *times: float | None, **fields: Any) -> Any:
    """Create a task whose events were so many seconds ago, in the order of a life."""
    columns = ("sent_at", "received_at", "started_at", "finished_at")
    known = {
        column: ago(time)
        for column, time in zip(columns, times, strict=False)
        if time is not None
    }
    last = max(known.values(), default=ago(10))
    return TaskStateFactory.create(
        state=state, worker=None, **{"tstamp": last, **known, **fields}
    )


def head(client: Client, row: Any) -> str:
    """Return the head of the page of a task."""
    html: str = client.get(f"{TASKS}{row.pk}/change/").content.decode()
    return html.partition('class="celery-monitor-head"')[2].partition("</section>")[0]


def phases(client: Client, row: Any) -> list[str]:
    """Return what the page says of the waits and runs of a task, without times."""
    items = re.findall(r"<li[^>]*>(.*?)</li>", head(client, row), re.S)
    texts = [" ".join(re.sub("<[^>]*>", " ", item).split()) for item in items]
    return [re.sub(r" \d{4}-\S+ \S+ to \d{4}-\S+ \S+", "", text) for text in texts]


def bar(client: Client, row: Any) -> list[tuple[str, int]]:
    """Return the parts of the bar and their widths."""
    found = re.findall(r'phase-(\w+)" x="\d+" width="(\d+)"', head(client, row))
    return [(kind, int(width)) for kind, width in found]


def test_a_task_that_is_done(operator: Client) -> None:
    row = task("SUCCESS", 20, 10, 9.5, 0.5)
    assert phases(operator, row) == [
        "Queue wait 10.000 s",
        "Worker wait 0.500 s",
        "Run 9.000 s",
    ]
    assert bar(operator, row) == [("queue", 513), ("worker", 26), ("run", 462)]
    html = head(operator, row)
    assert re.search(
        r"2026-03-02 0\d:59:59.500\S* to|to 2026-03-02 0\d:59:59.500", html
    )
    assert "<title>Run: 9.000 s</title>" in html


@pytest.mark.parametrize(
    ("state", "times", "said"),
    [
        ("PENDING", [5], ["Queue wait 5.000 s so far"]),
        (
            "RECEIVED",
            [65, 5],
            ["Queue wait 1 min 0 s", "Worker wait 5.000 s so far"],
        ),
        (
            "STARTED",
            [7400, 200, 3],
            ["Queue wait 2 h 0 min", "Worker wait 3 min 17 s", "Run 3.000 s so far"],
        ),
        (
            "PROGRESS",
            [200_000, 2, 1],
            ["Queue wait 2 d 7 h", "Worker wait 1.000 s", "Run 1.000 s so far"],
        ),
    ],
)
def test_a_task_under_way(
    operator: Client, state: str, times: list[float], said: list[str]
) -> None:
    shown = phases(operator, task(state, *times))
    assert [text.partition(", since")[0] for text in shown] == said


@pytest.mark.parametrize(
    ("times", "said"),
    [
        (
            [None, 10, 9, 1],
            ["Worker wait 1.000 s", "Run 8.000 s", "No event told when it was sent."],
        ),
        (
            [12, None, 9, 1],
            [
                "Sent to started 3.000 s",
                "Run 8.000 s",
                "No event told when it was received.",
            ],
        ),
        (
            [12, None, None, 1],
            [
                "Sent to end 11.000 s",
                "No event told when it was received.",
                "No event told when it started.",
            ],
        ),
        (
            [12, 10, None, 1],
            [
                "Queue wait 2.000 s",
                "Received to end 9.000 s",
                "No event told when it started.",
            ],
        ),
    ],
)
def test_times_that_are_missing(
    operator: Client, times: list[float | None], said: list[str]
) -> None:
    assert phases(operator, task("FAILURE", *times)) == said


def test_a_row_of_version_1(operator: Client) -> None:
    """It has the time of its state alone."""
    missing = [
        "No event told when it was sent.",
        "No event told when it was received.",
    ]
    row = task("STARTED", tstamp=ago(2))
    shown = phases(operator, row)
    assert shown[0].startswith("Run 2.000 s so far")
    assert shown[1:] == missing
    assert phases(operator, task("SUCCESS")) == [
        *missing,
        "No event told when it started.",
    ]
    # When a state of the project's own began says nothing of waiting and running.
    assert phases(operator, task("PROGRESS")) == []


def test_clocks_that_disagree(operator: Client) -> None:
    row = task("SUCCESS", 9.8, 10, 9, 8)
    assert phases(operator, row) == [
        "Queue wait -0.200 s (the clocks of two machines disagree)",
        "Worker wait 1.000 s",
        "Run 1.000 s",
    ]
    assert bar(operator, row) == [("worker", 500), ("run", 500)]
    row = task("SUCCESS", 1, 500, 500, 500)
    assert phases(operator, row)[0].startswith("Queue wait -8 min 19 s")
    assert "<rect" not in head(operator, row)


def test_the_shortest_phase_can_be_seen(operator: Client) -> None:
    row = task("SUCCESS", 100_000, 10, 9.999, 9.998)
    assert [kind for kind, width in bar(operator, row) if width >= 5] == [
        "queue",
        "worker",
        "run",
    ]


def test_a_task_that_is_tried_again(operator: Client) -> None:
    row = task("RETRY", 20, 19, 18, tstamp=ago(15), retries=1, eta=ago(-5))
    shown = phases(operator, row)
    # The first attempt: its message tells of no retry, that of the next one does.
    assert shown[:3] == ["Queue wait 1.000 s", "Worker wait 1.000 s", "Run 3.000 s"]
    assert shown[3].startswith("Wait for the next attempt 15.000 s so far")
    assert "not before its ETA, 2026-03-02" in shown[3]

    # The next one is received: when it started is still that of the first.
    row = task("RECEIVED", 20, 4, 18, tstamp=ago(4), retries=1)
    shown = phases(operator, row)
    assert shown[0] == "Queue wait 16.000 s (with all earlier attempts)"
    assert shown[1].startswith("Worker wait 4.000 s so far")
    assert len(shown) == 2

    row = task("SUCCESS", 20, 4, 3, 1, retries=1)
    assert phases(operator, row) == [
        "Queue wait 16.000 s (with all earlier attempts)",
        "Worker wait 1.000 s",
        "Run 2.000 s",
    ]


def test_a_task_that_waits_for_its_time(operator: Client) -> None:
    row = task("SUCCESS", 20, 19, 9, 8, eta=ago(10))
    shown = phases(operator, row)[1]
    assert shown.startswith("Worker wait 10.000 s (not before its ETA, 2026-03-02")


def test_an_hour_that_comes_twice(operator: Client, settings: Any) -> None:
    """Without time zones in the database, half past two is two times that night."""
    settings.USE_TZ = False
    settings.TIME_ZONE = "Europe/Berlin"
    first = datetime(2025, 10, 26, 0, 30, tzinfo=timezone.utc)
    second = first + timedelta(hours=1)
    naive = correct_awareness(first)
    assert naive == correct_awareness(second)
    row = TaskStateFactory.create(
        worker=None,
        sent_at=naive,
        sent_us=int(first.timestamp()) * 1_000_000,
        tstamp=naive,
        tstamp_us=int(second.timestamp()) * 1_000_000,
        finished_at=naive,
    )
    assert phases(operator, row)[0] == "Sent to end 1 h 0 min"
