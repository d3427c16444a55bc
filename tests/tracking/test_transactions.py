"""Sending tracked tasks within transactions of the project's."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from django.db import DataError, IntegrityError, connection, connections, transaction
from django.db.transaction import TransactionManagementError
from django.http import HttpRequest, HttpResponse
from django.test import Client, override_settings
from django.test.utils import CaptureQueriesContext
from django.urls import path
from pytest_django import DjangoCaptureOnCommitCallbacks

from django_celery_monitor.models import TaskState
from django_celery_monitor.tracking.backlog import Backlog
from django_celery_monitor.tracking.models import TaskObjectLink
from django_celery_monitor.tracking.recording import backlog
from tests.outages import Outage
from tests.tracked import tasks
from tests.tracked.models import Order
from tests.tracking.written import links_of, row_of, send

pytestmark = pytest.mark.usefixtures("known_content_types")

committed = pytest.mark.django_db(transaction=True)


@committed
def test_nothing_is_written_before_the_commit() -> None:
    with transaction.atomic():
        with CaptureQueriesContext(connection) as captured:
            task_id = send(tasks.process_payment, 7)
        assert not captured.captured_queries
    assert row_of(task_id) is not None


@committed
def test_object_that_is_made_in_the_same_transaction_is_found() -> None:
    with transaction.atomic():
        order = Order.objects.create(account_id=3, reference="r")
        task_id = send(tasks.fulfill, 3, "r")
    assert links_of(task_id) == {("order", str(order.pk), "account_id, reference")}


@committed
def test_what_is_rolled_back_is_left_to_the_worker() -> None:
    with transaction.atomic():
        task_id = send(tasks.process_payment, 7)
        transaction.set_rollback(True)
    assert row_of(task_id) is None


@committed
def test_broken_transaction_stays_as_it_is() -> None:
    order = Order.objects.create()
    with transaction.atomic():
        other = Order.objects.create()
        with pytest.raises(IntegrityError), transaction.atomic(savepoint=False):
            Order.objects.create(pk=order.pk)
        assert connection.needs_rollback
        send(tasks.process_payment, 7)
        assert connection.needs_rollback
        with pytest.raises(TransactionManagementError):
            Order.objects.count()
    assert not Order.objects.filter(pk=other.pk)


@committed
def test_failing_write_leaves_the_transaction_committed() -> None:
    with Outage(lambda _, sql, __: "celery_monitor" in sql), transaction.atomic():
        order = Order.objects.create()
        task_id = send(tasks.process_payment, order.pk)
    assert Order.objects.filter(pk=order.pk)
    assert row_of(task_id) is None
    backlog.flush(20)


@committed
def test_database_that_has_failed_is_left_to_the_thread(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Backlog, "failing", True)
    with CaptureQueriesContext(connection) as captured:
        task_id = send(tasks.process_payment, 7)
    assert not captured.captured_queries
    backlog.flush(20)
    assert row_of(task_id) is not None


@committed
def test_nobody_waits_for_a_place_in_a_pool_of_connections(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    waiting: list[str] = []
    monkeypatch.setattr(backlog, "add", lambda seen: waiting.append(seen.task_id))
    with monkeypatch.context() as patch:
        patch.setitem(connection.settings_dict["OPTIONS"], "pool", value=True)
        patch.setattr(connections["default"], "connection", None)
        task_id = send(tasks.process_payment, 7)
        assert connection.connection is None
    assert waiting == [task_id]


@committed
def test_transaction_that_was_begun_by_hand_is_not_written_in() -> None:
    transaction.set_autocommit(False)
    try:
        with CaptureQueriesContext(connection) as captured:
            task_id = send(tasks.process_payment, 7)
        assert not captured.captured_queries
        transaction.rollback()
    finally:
        transaction.set_autocommit(True)
    backlog.flush(20)
    assert row_of(task_id) is not None


@pytest.mark.django_db
def test_in_a_test_of_the_projects_own(
    django_capture_on_commit_callbacks: DjangoCaptureOnCommitCallbacks,
) -> None:
    with django_capture_on_commit_callbacks(execute=True):
        task_id = send(tasks.process_payment, 7)
        assert row_of(task_id) is None
    assert row_of(task_id) is not None


@pytest.mark.django_db
def test_failing_write_in_a_test_of_the_projects_own(
    django_capture_on_commit_callbacks: DjangoCaptureOnCommitCallbacks,
) -> None:
    with (
        Outage(lambda _, sql, __: "celery_monitor_taskstate" in sql),
        django_capture_on_commit_callbacks(execute=True),
    ):
        send(tasks.process_payment, 7)
    assert Order.objects.count() == 0
    assert not TaskObjectLink.objects.exists()


@pytest.fixture
def _tasks_elsewhere() -> Iterator[None]:
    """Have the tasks in a database of their own."""
    with override_settings(DATABASE_ROUTERS=["tests.routers.MonitorRouter"]):
        yield


@pytest.mark.django_db(transaction=True, databases=["default", "other"])
@pytest.mark.usefixtures("_tasks_elsewhere")
def test_transaction_in_another_database_is_not_waited_for() -> None:
    with transaction.atomic():
        order = Order.objects.create(account_id=3, reference="r")
        task_id = send(tasks.fulfill, 3, "r")
        assert row_of(task_id) is not None
        assert TaskObjectLink.objects.get().object_id == str(order.pk)


@pytest.mark.django_db(transaction=True, databases=["default", "other"])
@pytest.mark.usefixtures("_tasks_elsewhere")
def test_lookup_in_a_broken_transaction_of_another_database() -> None:
    with transaction.atomic():
        transaction.set_rollback(True)
        task_id = send(tasks.fulfill, 3, "r")
        assert connection.needs_rollback
    assert row_of(task_id) is not None
    assert not TaskObjectLink.objects.exists()


@pytest.mark.django_db(transaction=True, databases=["default", "other"])
@pytest.mark.usefixtures("_tasks_elsewhere")
def test_lookup_that_fails_breaks_no_transaction_of_another_database() -> None:
    with transaction.atomic():
        order = Order.objects.create()
        with Outage(lambda _, sql, __: "account_id" in sql, error=DataError):
            send(tasks.fulfill, 3, "r")
        assert Order.objects.count() == 1
    assert Order.objects.filter(pk=order.pk)


def view(request: HttpRequest) -> HttpResponse:
    """Send a task, and say whether it has a row by then."""
    task_id = send(tasks.process_payment, 7)
    assert connection.in_atomic_block == ("atomic" in request.GET)
    if "fail" in request.GET:
        raise ValueError
    return HttpResponse(task_id)


urlpatterns = [path("send/", view)]


@committed
@override_settings(ROOT_URLCONF=__name__)
def test_atomic_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(connection.settings_dict, "ATOMIC_REQUESTS", value=True)
    client = Client(raise_request_exception=False)
    task_id = client.get("/send/?atomic").content.decode()
    assert row_of(task_id) is not None
    assert client.get("/send/?atomic&fail").status_code == 500
    assert TaskState.objects.count() == 1
