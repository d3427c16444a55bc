"""The column of the last task's state, and the inline of recent tasks."""

from __future__ import annotations

import re
from typing import Any

import pytest
from django.test import Client
from pytest_django import DjangoAssertNumQueries

from django_celery_monitor.models import TaskState
from django_celery_monitor.tracking.admin import inline, latest
from django_celery_monitor.tracking.models import TaskObjectLink
from tests.admin.conftest import StaffClient
from tests.admin.tracking.addresses import page, tracker
from tests.admin.tracking.sites import SITES
from tests.factories import OrderFactory, TaskObjectLinkFactory, WarehouseFactory
from tests.tracked.models import Customer, Order

pytestmark = [pytest.mark.django_db, pytest.mark.urls("tests.admin.tracking.sites")]

LIST = "/inlines/tracked/order/"


def link(order: Any, state: str = "SUCCESS", **about: Any) -> TaskState:
    """Return a new task of ``order``."""
    return TaskObjectLinkFactory.create(
        content_object=order, task__state=state, **about
    ).task


def states(client: Client) -> list[str]:
    """Return the column of the list, from top to bottom."""
    html = client.get(LIST).content.decode()
    cells = re.findall(r'<td class="field-last_task_state">(.*?)</td>', html)
    return [re.sub("<.*?>", "", cell) for cell in cells]


def test_the_last_task_of_each(superuser: Client) -> None:
    first, second, _third = (OrderFactory.create() for _ in range(3))
    link(first, "STARTED")
    link(second, "FAILURE")
    link(first, "SUCCESS")
    link(WarehouseFactory.create(), "REVOKED")
    assert states(superuser) == ["-", "FAILURE", "SUCCESS"]


def test_more_than_the_database_takes_at_once(
    superuser: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(latest, "AT_ONCE", 2)
    for state in ("STARTED", "FAILURE", "SUCCESS", "RETRY", "REVOKED"):
        link(OrderFactory.create(), state)
    assert states(superuser)[::-1] == [
        "STARTED", "FAILURE", "SUCCESS", "RETRY", "REVOKED",
    ]  # fmt: skip


def test_one_query_for_the_column(
    superuser: Client, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    for number in (1, 5, 20):
        for _ in range(number):
            order = OrderFactory.create()
            for _ in range(3):
                link(order)
        superuser.get(LIST)
        # Session, user, two to count, the orders, hidden tasks, the states.
        with django_assert_num_queries(7) as queries:
            superuser.get(LIST)
        asked = [q for q in queries if "celery_monitor_tracking" in q["sql"]]
        assert len(asked) == 1


def test_the_list_can_be_edited(superuser: Client) -> None:
    order = OrderFactory.create(reference="old")
    link(order)
    form = {
        "form-TOTAL_FORMS": "1",
        "form-INITIAL_FORMS": "1",
        "form-0-id": str(order.pk),
        "form-0-reference": "new",
        "_save": "Save",
    }
    assert superuser.post(LIST, form).status_code == 302
    assert Order.objects.get().reference == "new"
    assert states(superuser) == ["SUCCESS"]


def test_no_list_no_query(superuser: Client) -> None:
    assert states(superuser) == []


def test_whoever_may_not_see_tasks_sees_no_states(staff: StaffClient) -> None:
    link(OrderFactory.create())
    assert states(staff("view_order")) == ["-"]
    assert states(staff("view_order", "view_taskstate")) == ["SUCCESS"]


def test_whoever_may_not_see_an_object_sees_no_state(
    superuser: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine, other = (OrderFactory.create(reference=of) for of in ("mine", "other"))
    link(mine, "SUCCESS")
    link(other, "FAILURE")
    monkeypatch.setattr(
        SITES["inlines"].get_model_admin(Order),
        "has_view_permission",
        lambda request, obj=None: obj is None or obj.reference == "mine",
    )
    assert states(superuser) == ["-", "SUCCESS"]


def test_hidden_tasks_are_not_the_last(superuser: Client) -> None:
    order = OrderFactory.create()
    link(order, "FAILURE")
    link(order, "SUCCESS", task__hidden=True)
    assert states(superuser) == ["FAILURE"]


# The inline


def recent(client: Client, obj: Any) -> list[str]:
    """Return the ids of the tasks on the page of ``obj``."""
    html = client.get(page(obj, site="inlines")).content.decode()
    return re.findall(r'<code class="celery-monitor-fixedwidth" title="([^"]*)"', html)


@pytest.mark.parametrize("make", [OrderFactory.create, WarehouseFactory.create])
def test_the_newest_tasks_are_on_the_page(
    superuser: Client, make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inline, "MOST", 3)
    obj = make()
    tasks = [link(obj) for _ in range(5)][::-1]
    link(make())
    assert recent(superuser, obj) == [task.task_id for task in tasks[:3]]
    html = superuser.get(page(obj, site="inlines")).content.decode()
    assert f'"/inlines/celery_monitor/taskstate/{tasks[0].pk}/change/"' in html
    assert "Recent tasks" in html


def test_an_object_without_tasks_says_so(superuser: Client) -> None:
    html = superuser.get(page(OrderFactory.create(), site="inlines")).content.decode()
    assert "No task was recorded yet." in html
    html = superuser.get("/inlines/tracked/order/add/").content.decode()
    assert "No task was recorded yet." in html


def test_the_object_is_saved_whatever_came_meanwhile(superuser: Client) -> None:
    order = OrderFactory.create(reference="old")
    link(order)
    html = superuser.get(page(order, site="inlines")).content.decode()
    pattern = r'<input type="hidden" name="(celery[^"]*)" value="([^"]*)"'
    form = dict(re.findall(pattern, html))
    assert form
    new = link(order)
    customer = Customer.objects.create(email="ada@example.com").pk
    form |= {"account_id": "1", "reference": "new", "customer": str(customer)}
    # What a forger adds to it changes nothing.
    prefix = next(iter(form)).rpartition("-")[0]
    form |= {f"{prefix}-TOTAL_FORMS": "1", f"{prefix}-0-role": "forged"}
    response = superuser.post(page(order, site="inlines"), form)
    assert response.status_code == 302
    assert Order.objects.get().reference == "new"
    assert TaskObjectLink.objects.count() == 2
    assert not TaskObjectLink.objects.filter(role="forged").exists()
    form |= {"account_id": "none"}
    response = superuser.post(page(order, site="inlines"), form)
    assert new.task_id in response.content.decode()


def test_the_inline_asks_once(
    superuser: Client, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    order = OrderFactory.create()
    superuser.get(page(order, site="inlines"))
    for number in (1, 8, 8):
        for _ in range(number):
            link(order)
        # Session, user, order, customers, hidden tasks, the tasks.
        with django_assert_num_queries(6):
            superuser.get(page(order, site="inlines"))


def test_whoever_may_not_see_tasks_sees_no_inline(staff: StaffClient) -> None:
    order = OrderFactory.create()
    link(order)
    html = staff("change_order").get(page(order, site="inlines")).content.decode()
    assert "Recent tasks" not in html
    assert tracker(order, "inlines") not in html
    client = staff("change_order", "view_taskstate")
    html = client.get(page(order, site="inlines")).content.decode()
    assert "Recent tasks" in html


def test_a_site_without_tasks_links_to_none(
    superuser: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    order = OrderFactory.create()
    task = link(order)
    plain = SITES["plain"].get_model_admin(Order)
    monkeypatch.setattr(plain, "inlines", [inline.RecentTasksInline])
    html = superuser.get(page(order, site="plain")).content.decode()
    assert task.task_id in html
    assert "celery_monitor/taskstate" not in html
