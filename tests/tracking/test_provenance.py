"""Who or what sent a tracked task."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from celery.beat import ScheduleEntry, Scheduler
from celery.schedules import schedule
from django.contrib.auth.models import AnonymousUser
from django.db import connection
from django.http import HttpRequest, HttpResponse
from django.test import AsyncClient, Client, RequestFactory, override_settings
from django.test.utils import CaptureQueriesContext
from django.urls import path

from django_celery_monitor.tracking import provenance
from django_celery_monitor.tracking.models import TaskObjectLink
from django_celery_monitor.tracking.provenance import command_name, of_request
from django_celery_monitor.tracking.recording import backlog
from tests.celery import app
from tests.factories import UserFactory
from tests.tracked import tasks
from tests.tracking.test_worker import execute

committed = pytest.mark.django_db(transaction=True)

Sender = tuple[str | None, str | None, str | None, str | None]


def sender() -> Sender:
    """Return what the one link says of who sent its task."""
    link = TaskObjectLink.objects.get()
    return link.source, link.source_name, link.user_id, link.username


@committed
def test_unknown() -> None:
    tasks.process_payment.delay(7)
    assert sender() == (None, None, None, None)


# Requests


def view(request: HttpRequest) -> HttpResponse:
    """Send a task, for a user that was asked for if the query says so."""
    if "user" in request.GET:
        assert request.user.is_authenticated
    tasks.process_payment.delay(7)
    return HttpResponse()


async def asynchronous(request: HttpRequest) -> HttpResponse:
    """Send a task on the event loop."""
    if "user" in request.GET:
        await request.auser()
    tasks.process_payment.delay(7)
    return HttpResponse()


urlpatterns = [path("send/", view), path("asynchronous/", asynchronous)]

MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django_celery_monitor.tracking.middleware.ProvenanceMiddleware",
]
served = override_settings(ROOT_URLCONF=__name__, MIDDLEWARE=MIDDLEWARE)


@committed
@served
def test_request_and_its_user() -> None:
    user = UserFactory.create()
    client = Client()
    client.force_login(user)
    client.get("/send/?user&secret=x")
    assert sender() == ("request", "/send/", str(user.pk), user.username)


@committed
@served
def test_request_whose_user_nobody_has_asked_for() -> None:
    client = Client()
    client.force_login(UserFactory.create())
    with CaptureQueriesContext(connection) as captured:
        response = client.get("/send/")
    assert not [q for q in captured.captured_queries if "auth_user" in q["sql"]]
    assert not response.has_header("Vary")
    assert sender() == ("request", "/send/", None, None)


@committed
@served
def test_request_on_an_event_loop() -> None:
    user = UserFactory.create()
    client = AsyncClient()
    client.force_login(user)

    async def main() -> None:
        await client.get("/asynchronous/?user")
        await client.get("/asynchronous/")

    # What is synchronous runs in this thread, with its connection.
    async_to_sync(main)()
    backlog.flush(20)
    known = {"source": "request", "source_name": "/asynchronous/"}
    assert list(
        TaskObjectLink.objects.order_by("pk").values(*known, "user_id", "username")
    ) == [
        {**known, "user_id": str(user.pk), "username": user.username},
        {**known, "user_id": None, "username": None},
    ]


@committed
@pytest.mark.parametrize("user", [AnonymousUser(), None, "nobody"])
def test_request_without_a_user(user: Any, rf: RequestFactory) -> None:
    request = rf.get("/a/")
    request.user = user
    with of_request(request):
        tasks.process_payment.delay(7)
    assert sender() == ("request", "/a/", None, None)


@committed
def test_user_of_a_projects_own(rf: RequestFactory) -> None:
    request: Any = rf.get("/a/")
    request.user = SimpleNamespace(is_authenticated=True, pk="a" * 300)
    with of_request(request):
        tasks.process_payment.delay(7)
    _, _, user_id, username = sender()
    assert user_id is not None
    assert (len(user_id), username) == (255, None)


@committed
def test_path_is_masked_and_fits(rf: RequestFactory) -> None:
    with of_request(rf.get("/" + "a" * 300 + "/token=hunter2")):
        tasks.process_payment.delay(7)
    with of_request(rf.get("/a/token=hunter2")):
        tasks.process_payment.delay(7)
    names = TaskObjectLink.objects.order_by("pk").values_list("source_name", flat=True)
    assert [len(name or "") for name in names] == [255, len("/a/token=********")]


@committed
def test_request_ends(rf: RequestFactory) -> None:
    with of_request(rf.get("/a/")):
        pass
    tasks.process_payment.delay(7)
    assert sender() == (None, None, None, None)


# Tasks


@committed
def test_parent(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(order_id: int) -> None:
        tasks.process_payment.delay(order_id)

    monkeypatch.setattr(app.tasks[tasks.untracked.name], "run", run)
    execute(tasks.untracked, 7)
    assert sender() == ("task", tasks.untracked.name, None, None)


@committed
def test_parent_of_a_task_whose_sending_was_not_recorded() -> None:
    execute(tasks.process_payment, 7, parent_id="parent")
    assert sender() == ("task", None, None, None)


@committed
def test_retry_is_not_its_own_parent() -> None:
    execute(tasks.process_payment, 7, parent_id="id-1", retries=1)
    assert sender() == (None, None, None, None)


@committed
def test_whoever_sends_knows_better_than_the_worker(rf: RequestFactory) -> None:
    """The task starts before the transaction that sends it is written."""
    execute(tasks.process_payment, 7, parent_id="parent")
    with of_request(rf.get("/a/")):
        tasks.process_payment.apply_async((7,), task_id="id-1")
    assert sender() == ("request", "/a/", None, None)
    execute(tasks.process_payment, 7, parent_id="parent")
    assert sender() == ("request", "/a/", None, None)


# Celery beat


@pytest.fixture
def _not_beat(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provenance, "_beat", None)


@committed
@pytest.mark.usefixtures("_not_beat")
def test_entry_of_the_schedule() -> None:
    scheduler = Scheduler(app, lazy=True)
    provenance._on_beat_init(SimpleNamespace(scheduler=scheduler))
    entry = ScheduleEntry(
        "every night",
        tasks.process_payment.name,
        schedule=schedule(60),
        args=(7,),
        app=app,
    )
    scheduler.apply_entry(entry)
    assert sender() == ("beat", "every night", None, None)
    tasks.process_payment.delay(8)
    assert TaskObjectLink.objects.filter(source=None).count() == 1


@committed
@pytest.mark.usefixtures("_not_beat")
def test_beat_keeps_no_connection_of_the_trackers() -> None:
    provenance._on_beat_init(SimpleNamespace(scheduler=Scheduler(app, lazy=True)))
    connection.close()
    tasks.process_payment.delay(7)
    assert connection.connection is None or connection.vendor == "sqlite"


@committed
def test_entry_of_another_scheduler() -> None:
    headers = {"periodic_task_name": "every night"}
    tasks.process_payment.apply_async((7,), headers=headers)
    assert sender() == ("beat", "every night", None, None)


@committed
def test_entry_that_the_worker_is_told() -> None:
    execute(tasks.process_payment, 7, periodic_task_name="every night")
    assert sender() == ("beat", "every night", None, None)


# Commands


@committed
def test_management_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["/srv/manage.py", "import_orders", "--all"])
    tasks.process_payment.delay(7)
    assert sender() == ("command", "import_orders", None, None)


@pytest.mark.parametrize(
    ("argv", "name"),
    [
        (["manage.py", "shell"], "shell"),
        (["/venv/bin/django-admin", "shell"], "shell"),
        (["/venv/lib/django/__main__.py", "shell"], "shell"),
        (["manage.py"], None),
        (["manage.py", "--help"], None),
        (["manage.py", "runserver"], None),
        (["/venv/bin/celery", "worker"], None),
        (["/srv/__main__.py", "shell"], None),
        ([""], None),
    ],
)
def test_command_line(argv: list[str], name: str | None) -> None:
    assert command_name(argv) == name
