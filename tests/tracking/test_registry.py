"""Registering: what is kept of it, in which order, and what is refused."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from celery import Celery, Task, shared_task
from django.contrib.contenttypes.models import ContentType
from django.core.exceptions import ImproperlyConfigured
from django.db import models

from django_celery_monitor import conf
from django_celery_monitor.tracking import FromModel, task_tracker
from django_celery_monitor.tracking.registry import TaskTracker
from tests.tracked import tasks
from tests.tracked.models import Customer, Gift, Order, Parcel, UrgentOrder, Warehouse

PAYMENT = "tests.tracked.tasks.process_payment"


def pay(order_id: int) -> None:
    """Take the key of an order."""


def test_task_is_returned_unchanged() -> None:
    tracker, app = TaskTracker(), Celery("mine", set_as_current=False)
    task = app.task(name="mine.pay", shared=False)(pay)
    assert tracker.register(Order)(task) is task


@pytest.mark.parametrize("task", [tasks.process_payment, tasks.ship])
def test_shared_tasks_and_those_of_an_app_are_found_by_their_names(task: Any) -> None:
    (registration,) = task_tracker.registrations(task.name)
    assert registration.task_name == task.name
    assert registration.model is Order
    assert not registration.hidden


def test_task_that_is_not_registered_has_no_registrations() -> None:
    assert task_tracker.registrations(tasks.untracked.name) == ()
    assert task_tracker.registrations("never.heard.of") == ()


def test_one_task_is_registered_for_several_models() -> None:
    found = task_tracker.registrations(tasks.store.name)
    assert [(r.model, r.role) for r in found] == [
        (Parcel, "parcel_id"),
        (Warehouse, "warehouse"),
    ]


def test_registrations_of_a_model_come_in_the_order_of_registering() -> None:
    names = [
        r.task_name.rpartition(".")[2] for r in task_tracker.registrations_for(Order)
    ]
    assert names == ["process_payment", "ship", "fulfill", "remind", "clean_up"]


def test_proxy_has_the_registrations_of_its_model_and_its_own() -> None:
    names = [r.task_name for r in task_tracker.registrations_for(UrgentOrder)]
    assert PAYMENT in names
    assert tasks.hurry.name in names


def test_child_with_a_table_of_its_own_has_none_of_its_parent() -> None:
    assert task_tracker.registrations_for(Gift) == ()


def test_model_without_tasks_has_no_registrations() -> None:
    assert task_tracker.registrations_for(Customer) == ()


def test_models_are_those_that_tasks_are_registered_for() -> None:
    assert set(task_tracker.models()) == {Order, Parcel, Warehouse, UrgentOrder}


def test_hidden_is_kept() -> None:
    (registration,) = task_tracker.registrations(tasks.clean_up.name)
    assert registration.hidden


def test_launch_arguments_are_kept_and_absent_ones_are_none() -> None:
    (fulfill,) = task_tracker.registrations(tasks.fulfill.name)
    assert fulfill.launch_args == (FromModel("account_id"), FromModel("reference"))
    assert fulfill.launch_kwargs is None
    (remind,) = task_tracker.registrations(tasks.remind.name)
    assert remind.launch_args is None
    assert remind.launch_kwargs == {"email": FromModel("customer.email")}


def test_task_registered_later_is_found() -> None:
    tracker, app = TaskTracker(), Celery("mine", set_as_current=False)
    register = tracker.register(Order)
    first = register(app.task(name="first", shared=False)(pay))
    assert tracker.registrations("first")[0].task is first
    register(app.task(name="second", shared=False)(pay))
    assert tracker.registrations("second")


def test_task_of_a_class_is_registered() -> None:
    base: Any = Task  # which is generic for type checkers alone

    class Pay(base):  # type: ignore[misc]
        name = "class.pay"

        def run(self, order_id: int) -> None:
            pass

    tracker = TaskTracker()
    tracker.register(Order)(Celery("mine", set_as_current=False).register_task(Pay()))
    (registration,) = tracker.registrations("class.pay")
    assert registration.object_id((42,), {}) == 42


def test_registering_sets_up_no_app() -> None:
    app: Any = Celery("mine", set_as_current=False)
    TaskTracker().register(Order)(app.task(name="lazy", shared=False)(pay))
    assert not app.configured
    assert not app.finalized


def test_task_is_that_of_the_projects_app(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a thread that has no app a shared task is that of one that Celery makes up."""
    (registration,) = task_tracker.registrations(PAYMENT)
    assert registration.task.app.main == "tests"
    app = Celery("project", set_as_current=False)
    monkeypatch.setattr(conf, "get_app", lambda: app)
    assert registration.task.app is app


def test_discovery_leaves_an_app_with_broken_tasks_to_the_checks(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    package = tmp_path / "broken_app"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "tasks.py").write_text("1 / 0")
    monkeypatch.syspath_prepend(str(tmp_path))
    module = __import__("broken_app")
    config = SimpleNamespace(name="broken_app", module=module)
    monkeypatch.setattr(
        "django_celery_monitor.tracking.registry.apps.get_app_configs",
        lambda: [config],
    )
    tracker = TaskTracker()
    tracker.discover()
    tracker.discover()
    assert [type(exc) for exc in tracker.failures.values()] == [ZeroDivisionError]
    assert [record.getMessage() for record in caplog.records] == [
        "Cannot import broken_app.tasks"
    ]


def test_tasks_are_found_where_nothing_imports_them() -> None:
    program = f"""
import sys, django
django.setup()
from django_celery_monitor.tracking import task_tracker
assert "tests.tracked.tasks" not in sys.modules
task_tracker.discover()
assert task_tracker.registrations({PAYMENT!r})
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        env={**__import__("os").environ, "DJANGO_SETTINGS_MODULE": "tests.settings"},
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.returncode == 0, done.stderr


# FromModel


def test_from_model_follows_relations() -> None:
    order = Order(pk=1, customer=Customer(email="a@example.com"))
    assert FromModel("customer.email").resolve(order) == "a@example.com"
    assert FromModel("pk").resolve(order) == 1


def test_from_model_is_none_where_a_relation_leads_to_nothing() -> None:
    assert FromModel("customer.email").resolve(Order(pk=1)) is None


@pytest.mark.django_db
def test_from_model_is_none_where_a_related_row_is_gone() -> None:
    assert FromModel("customer.email").resolve(Order(customer_id=404)) is None


def test_from_model_needs_a_path_that_exists() -> None:
    with pytest.raises(AttributeError, match="ordr"):
        FromModel("ordr").resolve(Order(pk=1))


# What is refused


class Abstract(models.Model):
    """A model without a table."""

    class Meta:
        abstract = True
        app_label = "tracked"


@pytest.mark.parametrize("model", ["tracked.Order", object, Order.objects, None])
def test_what_is_no_model_is_refused(model: Any) -> None:
    with pytest.raises(TypeError, match=r"register\(\) takes a model"):
        TaskTracker().register(model)


def test_abstract_model_is_refused() -> None:
    with pytest.raises(ImproperlyConfigured, match="Abstract: the model is abstract"):
        TaskTracker().register(Abstract)


def test_swapped_model_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(vars(Customer._meta), "swapped", "auth.User")
    with pytest.raises(ImproperlyConfigured, match=r"Customer: auth\.User replaces it"):
        TaskTracker().register(Customer)


def test_composite_key_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    fields = list(ContentType._meta.fields[:2])
    monkeypatch.setattr(ContentType._meta, "pk_fields", fields)
    with pytest.raises(ImproperlyConfigured, match="ContentType: its primary key"):
        TaskTracker().register(ContentType)


@pytest.mark.parametrize("id_query", ["", (), {}, 1, {"pk"}, ("a", 1), {"a": None}])
def test_what_is_no_id_query_is_refused(id_query: Any) -> None:
    with pytest.raises(TypeError, match="id_query is None, the name of a parameter"):
        TaskTracker().register(Order, id_query=id_query)


def test_function_below_the_decorator_of_celery_is_refused() -> None:
    with pytest.raises(
        TypeError, match=r"register\(Order\) belongs above @shared_task"
    ):

        @shared_task
        @TaskTracker().register(Order)
        def pay(order_id: int) -> None:
            pass
