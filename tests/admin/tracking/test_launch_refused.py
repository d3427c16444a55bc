"""Tasks that cannot be launched, and what is said then."""

from __future__ import annotations

from typing import Any

import pytest
from celery import Task
from celery.result import AsyncResult
from django.contrib.admin.models import LogEntry
from django.contrib.messages import ERROR
from django.db import DatabaseError
from django.test import Client
from kombu.transport import memory

from django_celery_monitor.tracking import FromModel
from django_celery_monitor.tracking.registry import Registration
from tests.admin.conftest import Messages, told
from tests.admin.tracking.addresses import TASKS, launch, tracker
from tests.admin.tracking.launches import errors, history_of, register, shown
from tests.celery import app
from tests.factories import (
    OrderFactory,
    TaskStateFactory,
)
from tests.tracked.models import Order

pytestmark = [pytest.mark.django_db, pytest.mark.urls("tests.admin.tracking.sites")]


def test_a_path_that_leads_nowhere(
    launcher: Client, order: Order, monkeypatch: pytest.MonkeyPatch
) -> None:
    register(monkeypatch, "ship", launch_args=(FromModel("nothing.there"),))
    response = launcher.get(launch(order, "ship"), follow=True)
    assert response.redirect_chain == [(tracker(order), 302)]
    (said,) = told(response)
    assert said.startswith("The task cannot be launched: 'Order' object has no")


def test_what_cannot_be_looked_up(
    launcher: Client, order: Order, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: Any) -> Any:
        raise DatabaseError("gone")

    monkeypatch.setattr(Registration, "object_id", fail)
    url = launch(order, "ship")
    assert errors(launcher.post(url, shown(launcher, url))) == ["gone"]


def test_a_task_that_is_not_sent_since_another_waits(
    launcher: Client, order: Order, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting = TaskStateFactory.create(state="PENDING")
    result: Any = AsyncResult(waiting.task_id, app=app)
    monkeypatch.setattr(Task, "apply_async", lambda *args, **options: result)
    url = launch(order, "ship")
    launcher.post(url, shown(launcher, url))
    (entry,) = history_of(order)
    assert entry == f"Launched {TASKS}.ship as {waiting.task_id}."


def test_what_cannot_be_sent_is_said(
    launcher: Client, sent: Messages, order: Order, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Order, "other", object(), raising=False)
    given = (FromModel("pk"), FromModel("other"))
    register(monkeypatch, "process_payment", launch_args=given)
    url = launch(order, "process_payment")
    response = launcher.post(url, shown(launcher, url))
    assert response.status_code == 200
    (message,) = response.context["messages"]
    assert message.level == ERROR
    assert str(message).startswith("The task was not launched. EncodeError")
    assert sent("celery") == []
    assert not LogEntry.objects.exists()


def test_the_broker_fails(
    launcher: Client, order: Order, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: Any, **kwargs: Any) -> Any:
        raise ConnectionResetError("gone")

    monkeypatch.setattr(memory.Channel, "_put", fail)
    monkeypatch.setattr(memory.Transport, "connection_errors", (OSError,))
    url = launch(order, "ship")
    response = launcher.post(url, shown(launcher, url))
    assert told(response) == [
        "The task was not launched. The message broker failed: gone."
    ]
    assert not LogEntry.objects.exists()


@pytest.mark.parametrize(
    ("task", "role"),
    [
        ("clean_up", "order_id"),
        ("untracked", "order_id"),
        ("hurry", "order_id"),
        ("store", "parcel_id"),
        ("ship", "other"),
        ("ship", ""),
        ("none", "order_id"),
        ("\0", "\0"),
    ],
)
def test_nothing_else_can_be_launched(
    superuser: Client, sent: Messages, order: Order, task: str, role: str
) -> None:
    url = launch(order, task, role)
    form = {"args": f"[{order.pk}]", "kwargs": "{}"}
    assert superuser.get(url).status_code == 404
    assert superuser.post(url, form).status_code == 404
    assert sent("celery") == []


def test_nothing_is_launched_for_what_is_not_there(superuser: Client) -> None:
    order = OrderFactory.create()
    url = launch(order, "ship")
    assert superuser.get(launch(order, "ship", site="restricted")).status_code == 404
    order.delete()
    assert superuser.get(url).status_code == 404
    assert superuser.post(url, {"args": "[1]", "kwargs": "{}"}).status_code == 404
