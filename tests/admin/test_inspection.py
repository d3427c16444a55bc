"""The page that asks a worker."""

from __future__ import annotations

import time
from typing import Any

import pytest
from django.test import Client
from pytest_django import DjangoAssertNumQueries

from django_celery_monitor.admin import inspection
from django_celery_monitor.models import WorkerState
from tests.admin.conftest import WORKERS, Heard, StaffClient, Workers
from tests.factories import TaskStateFactory, WorkerStateFactory

pytestmark = pytest.mark.django_db

TASK = {
    "id": "the id",
    "name": "proj.add",
    "args": [{"password": "hush"}, "<script>"],
    "kwargs": {"token": "hush"},
    "worker_pid": 77,
}
ANSWERS: dict[str, Any] = {
    "ping": {"ok": "pong"},
    "stats": {
        "pid": 4711,
        "pool": {"max-concurrency": 3, "processes": [1, 2, 3]},
        "broker": {"userid": "the user", "password": "hush"},
        "total": {"proj.add": 12345},
    },
    "active": [TASK],
    "reserved": [{**TASK, "id": "reserved id"}],
    "scheduled": [
        {"eta": "2026-03-02T10:00", "request": {**TASK, "id": "scheduled id"}}
    ],
    "active_queues": [
        {"name": "fast", "exchange": {"name": "over"}, "routing_key": "there"}
    ],
    "registered": ["proj.add [rate_limit=10/m]"],
    "conf": {
        "CELERY_BROKER_URL": "redis://:hush@localhost",
        "task_default_queue": "fast",
        "SENTRY_DSN": "a secret of another name",
        "monitor_max_selected": 5,
    },
}


@pytest.fixture
def worker() -> WorkerState:
    """Return a worker to ask."""
    made: WorkerState = WorkerStateFactory.create(hostname="a")
    return made


def inspect_url(worker: WorkerState) -> str:
    """Return the address of the page."""
    return f"{WORKERS}{worker.pk}/inspect/"


def test_all_that_the_worker_answers(
    superuser: Client, workers: Workers, worker: WorkerState
) -> None:
    row = TaskStateFactory.create(task_id="reserved id", args="(as stored)")
    workers.start("a", **ANSWERS)
    workers.start("b", ping={"ok": "not asked"})

    response = superuser.get(inspect_url(worker))

    html = response.content.decode()
    assert "no-store" in response["Cache-Control"]
    assert {hostname for hostname, _, _ in workers.heard} == {"a"}
    assert "errornote" not in html
    for text in (
        *("4711", "12345", "the user", "the id", "scheduled id", "2026-03-02T10:00"),
        *("<td>fast</td><td>over</td><td>there</td>", "proj.add [rate_limit=10/m]"),
        *("CELERY_BROKER_URL", "task_default_queue", "monitor_max_selected"),
        *("&lt;script&gt;", "(as stored)"),
        f'<a href="../../../taskstate/{row.pk}/change/">reserved id</a>',
    ):
        assert text in html
    for secret in ("hush", "<script>", "SENTRY_DSN"):
        assert secret not in html.replace("<script src=", "")


def test_the_page_of_a_worker_leads_there(
    staff: StaffClient, worker: WorkerState, heard: Heard
) -> None:
    client = staff("view_workerstate")
    html = client.get(f"{WORKERS}{worker.pk}/change/").content.decode()
    assert '<a class="button" href="../inspect/">Ask the worker</a>' in html
    client.get(WORKERS)
    assert heard() == []


def test_who_may_see_what(
    staff: StaffClient, client: Client, workers: Workers, worker: WorkerState
) -> None:
    workers.start("a", **ANSWERS)
    url = inspect_url(worker)
    assert client.get(url).status_code == 302
    assert staff("control_workers", "view_taskstate").get(url).status_code == 403
    assert workers.heard == []

    html = staff("view_workerstate").get(url).content.decode()
    assert "the id" in html
    for text in ("Arguments", "&lt;script&gt;", "the user", "CELERY_BROKER_URL"):
        assert text not in html
    assert "conf" not in {command for _, command, _ in workers.heard}
    html = staff("view_workerstate", "view_taskstate").get(url).content.decode()
    assert "&lt;script&gt;" in html
    assert "CELERY_BROKER_URL" not in html
    html = staff("view_workerstate", "control_workers").get(url).content.decode()
    assert "CELERY_BROKER_URL" in html
    assert "&lt;script&gt;" not in html


def test_a_worker_that_does_not_answer(
    superuser: Client, worker: WorkerState, heard: Heard
) -> None:
    html = superuser.get(inspect_url(worker)).content.decode()
    assert "The worker did not answer in time. It is offline" in html
    assert [each["method"] for each in heard()] == ["ping"]


def test_a_worker_that_answers_in_part(
    superuser: Client,
    workers: Workers,
    worker: WorkerState,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(inspection, "PATIENCE", 0.5)
    workers.start("a", ping={"ok": "pong"}, active=[], registered={"error": "<no>"})
    started = time.monotonic()
    html = superuser.get(inspect_url(worker)).content.decode()
    assert time.monotonic() - started < 10
    assert "registered: &lt;no&gt;" in html
    assert "None." in html


def test_a_worker_whose_answers_cannot_be_read(
    superuser: Client, workers: Workers, worker: WorkerState
) -> None:
    workers.serializer = "pickle"
    workers.start("a", **ANSWERS)
    html = superuser.get(inspect_url(worker)).content.decode()
    assert "stats: Refusing to deserialize" in html


def test_the_broker_is_away(
    superuser: Client, worker: WorkerState, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CELERY_BROKER_WRITE_URL", "amqp://user:hush@127.0.0.1:1//")
    html = superuser.get(inspect_url(worker)).content.decode()
    assert "The worker was not asked, the message broker failed:" in html
    assert "hush" not in html


def nested(depth: int) -> Any:
    """Return a list in a list and so on."""
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    "answer",
    [
        *(None, 5, "text", [], {}, [[]], [None], {"ok": []}, [{"request": 5}]),
        [{"id": {"a": []}, "name": 5, "args": {}, "eta": [], "exchange": 7}] * 300,
        {"pool": 5, "total": [], "pid": {"x": "<script>"}},
        {"total": {f"name{n}": n for n in range(1_000)}, "big": "x" * 200_000},
        ["x" * 10_000] * 1_000,
        pytest.param(nested(200), id="nested"),
    ],
)
def test_any_answer_is_shown_escaped_and_bounded(
    superuser: Client,
    workers: Workers,
    worker: WorkerState,
    answer: Any,
    django_assert_max_num_queries: DjangoAssertNumQueries,
) -> None:
    workers.start("a", **dict.fromkeys(ANSWERS, answer))
    with django_assert_max_num_queries(6):
        response = superuser.get(inspect_url(worker))
    html = response.content.decode()
    assert response.status_code == 200
    assert "<script>" not in html
    assert len(html) < 300_000


@pytest.mark.parametrize("key", ["999999", "x", "_2F"])
def test_no_page_for_what_is_not_there(
    superuser: Client, key: str, heard: Heard
) -> None:
    assert superuser.get(f"{WORKERS}{key}/inspect/").status_code == 302
    assert heard() == []
