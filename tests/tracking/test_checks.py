"""What is registered wrongly is said by a check that names task, model and field."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import pytest
from celery import Celery
from django.core import checks
from django.test import override_settings

from django_celery_monitor.models import TaskState
from django_celery_monitor.tracking import FromModel, task_tracker
from django_celery_monitor.tracking.checks import (
    check_databases,
    check_installed,
    check_registrations,
)
from django_celery_monitor.tracking.registry import TaskTracker
from tests.tracked.models import Order, Warehouse


def found(function: Any, *registered: dict[str, Any]) -> list[checks.CheckMessage]:
    """Return what is said of ``function``, a task that is registered so."""
    tracker, app = TaskTracker(), Celery("mine", set_as_current=False)
    tracker.discover = lambda: None  # type: ignore[method-assign]
    function.__name__ = "pay"  # Celery has no tasks without a name.
    task = app.task(name="shop.pay", shared=False)(function)
    for options in registered:
        tracker.register(Order, **options)(task)
    return check_registrations(tracker=tracker)


def ids(messages: list[checks.CheckMessage]) -> list[str]:
    """Return the ids of messages without what they all begin with."""
    return [str(message.id).rpartition(".")[2] for message in messages]


def pay(order_id: int, amount: int = 0) -> None:
    """Take arguments."""


def test_project_that_is_right_gets_no_message() -> None:
    assert check_registrations() == []
    assert check_installed() == []
    assert check_databases() == []


def test_checks_are_registered() -> None:
    registered: list[Any] = checks.registry.registry.get_checks()
    names = {check.__name__ for check in registered}
    assert {"check_installed", "check_registrations", "check_databases"} <= names


def test_tasks_that_are_registered_need_the_app() -> None:
    task_tracker.discover()
    installed = ["django.contrib.contenttypes", "django_celery_monitor"]
    with override_settings(INSTALLED_APPS=installed):
        (message,) = check_installed()
    assert message.id == "celery_monitor_tracking.E001"
    assert "django_celery_monitor.tracking" in str(message.hint)


def test_app_that_is_not_installed_is_said_by_manage_check() -> None:
    program = """
import django
from django.conf import settings
settings.configure(INSTALLED_APPS=[
    "django.contrib.auth", "django.contrib.contenttypes", "django_celery_monitor"
], DEFAULT_AUTO_FIELD="django.db.models.BigAutoField")
django.setup()
from celery import Celery
from django.contrib.auth.models import User
from django.core.management import call_command
from django_celery_monitor.tracking import task_tracker
task_tracker.register(User)(Celery().task(name="mail")(lambda user: None))
call_command("check")
"""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("DJANGO")}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        env=environment,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert "celery_monitor_tracking.E001" in done.stderr


def test_tasks_that_cannot_be_imported() -> None:
    tracker = TaskTracker()
    tracker.discover = lambda: None  # type: ignore[method-assign]
    tracker.failures["shop.tasks"] = ZeroDivisionError("division by zero")
    (message,) = check_registrations(tracker=tracker)
    assert message.id == "celery_monitor_tracking.E002"
    assert message.msg == (
        "shop.tasks cannot be imported: ZeroDivisionError: division by zero."
    )


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"id_query": "order"}, "the task has no parameter 'order', which id_query"),
        (
            {"id_query": {"pk": "key"}},
            "the task has no parameter 'key', which id_query",
        ),
        ({"id_query": ("account_id",)}, "the task has no parameter 'account_id'"),
        ({"launch_args": (1, 2, 3)}, "do not fit: too many positional arguments"),
        ({"launch_kwargs": {"tip": 1}}, "do not fit: got an unexpected keyword"),
    ],
)
def test_parameters_that_the_task_lacks(options: dict[str, Any], said: str) -> None:
    (message,) = found(pay, options)
    assert message.id == "celery_monitor_tracking.E003"
    assert message.msg.startswith("shop.pay, registered for tracked.Order: ")
    assert said in message.msg
    assert "(order_id: 'int', amount: 'int' = 0)" in str(message.hint)


def test_parameters_that_the_task_collects_are_none_that_it_lacks() -> None:
    assert found(lambda **kwargs: None, {"id_query": "order"}) == []
    assert found(lambda *args: None, {}) == []


def test_task_without_arguments_by_position() -> None:
    (message,) = found(lambda *, order_id: None, {})
    assert message.id == "celery_monitor_tracking.E003"
    assert "takes no argument by position" in message.msg


@pytest.mark.parametrize("lookup", ["ordr", "customer__mail", "reference__like"])
def test_fields_that_the_model_lacks(lookup: str) -> None:
    (message,) = found(pay, {"id_query": {lookup: "order_id"}})
    assert message.id == "celery_monitor_tracking.E004"
    assert f"shop.pay, registered for tracked.Order: id_query names {lookup!r}" in (
        message.msg
    )


@pytest.mark.parametrize(
    "lookup", ["pk", "reference__iexact", "customer", "customer__email", "tasks__role"]
)
def test_lookups_that_the_model_has(lookup: str) -> None:
    assert found(pay, {"id_query": {lookup: "order_id"}}) == []


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("ordr", "tracked.Order has no 'ordr'"),
        ("customer.mail", "tracked.Customer has no 'mail'"),
    ],
)
@pytest.mark.parametrize("name", ["launch_args", "launch_kwargs"])
def test_paths_that_do_not_exist(name: str, path: str, said: str) -> None:
    value: Any = (FromModel(path),)
    if name == "launch_kwargs":
        value = {"amount": FromModel(path)}
    (message,) = found(pay, {name: value})
    assert message.id == "celery_monitor_tracking.E005"
    assert f"FromModel({path!r}): {said}" in message.msg


@pytest.mark.parametrize(
    "path", ["pk", "reference", "customer.email", "customer_id", "get_absolute_url.x"]
)
def test_paths_that_exist_or_may(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Order, "get_absolute_url", lambda self: "/", raising=False)
    assert found(pay, {"launch_args": (FromModel(path),)}) == []


def test_same_task_is_not_registered_twice_in_the_same_way() -> None:
    (message,) = found(pay, {}, {"id_query": "order_id"})
    assert message.id == "celery_monitor_tracking.E006"
    assert "registered twice, by 'order_id'" in message.msg
    assert ids(found(pay, {}, {}, {})) == ["E006"]
    assert found(pay, {}, {"id_query": "amount"}) == []


def test_router_that_separates_links_from_tasks() -> None:
    class Router:
        def db_for_write(self, model: Any, **hints: Any) -> str | None:
            return "other" if model is TaskState else None

    with override_settings(DATABASE_ROUTERS=[Router()]):
        messages = check_databases()
    assert ids(messages)[0] == "E007"


def test_router_that_keeps_links_with_tasks() -> None:
    with override_settings(DATABASE_ROUTERS=["tests.routers.MonitorRouter"]):
        messages = check_databases()
    assert set(ids(messages)) == {"W001"}


def test_relation_to_links_in_another_database() -> None:
    class Router:
        def db_for_read(self, model: Any, **hints: Any) -> str | None:
            return "other" if model is Warehouse else None

        db_for_write = db_for_read

    with override_settings(DATABASE_ROUTERS=[Router()]):
        messages = check_databases()
    assert ids(messages) == ["W001", "W001"]
    assert [message.obj for message in messages] == [Warehouse, Warehouse]
    assert "The relation tasks leads to" in messages[0].msg
