"""The button on the page of an object, whatever its ``ModelAdmin``."""

from __future__ import annotations

import re
from html import unescape
from typing import Any
from urllib.parse import unquote

import pytest
from django.contrib import admin
from django.db.models import Model
from django.test import Client

from django_celery_monitor.tracking.admin import button
from tests.admin.conftest import StaffClient
from tests.admin.tracking.addresses import page, tracker
from tests.admin.tracking.conftest import SEE
from tests.admin.tracking.sites import SITES
from tests.factories import OrderFactory, ParcelFactory, WarehouseFactory
from tests.tracked.models import Customer, Order, UrgentOrder

pytestmark = [pytest.mark.django_db, pytest.mark.urls("tests.admin.tracking.sites")]

TEXT = "Task Tracker</a>"


def html_of(client: Client, url: str) -> str:
    """Return a page."""
    response = client.get(url)
    assert response.status_code == 200
    return str(response.content.decode())


@pytest.mark.parametrize(
    "make",
    [
        OrderFactory.create,
        ParcelFactory.create,
        lambda: WarehouseFactory.create(code="A/b_c ?&'\"<é>"),
        lambda: WarehouseFactory.create(code="1/task-tracker/launch"),
    ],
)
def test_it_leads_to_the_tasks_of_the_object(superuser: Client, make: Any) -> None:
    obj: Model = make()
    html = html_of(superuser, page(obj))
    (link,) = re.findall(r'<a href="(.*?)" class="celery-monitor-tracker">', html)
    assert unquote(unescape(link)) == tracker(obj)
    response = superuser.get(unescape(link))
    assert response.context["original"] == obj


@pytest.mark.parametrize(
    "site", sorted(SITES.keys() - {"no_urls", "restricted", "objects"})
)
def test_every_page_has_it_once(superuser: Client, site: str) -> None:
    order = OrderFactory.create()
    html = html_of(superuser, page(order, site=site))
    assert html.count(tracker(order, site)) == html.count(TEXT) == 1
    assert superuser.get(tracker(order, site)).status_code == 200


def test_it_stands_where_there_is_a_place_for_it(superuser: Client) -> None:
    order = OrderFactory.create()
    html = html_of(superuser, page(order, site="more_tools"))
    tools = html.partition('<ul class="object-tools">')[2].partition("</ul>")[0]
    assert "Print" in tools
    assert "History" in tools
    assert TEXT in tools
    html = html_of(superuser, page(order, site="bare"))
    assert '<div class="wide" id="content-main"><ul class="object-tools"><li>' in html
    html = html_of(superuser, page(order, site="form_alone"))
    assert '</a></li></ul><form method="post" id="order_form">' in html


def test_a_page_with_errors_has_it(superuser: Client) -> None:
    order = OrderFactory.create()
    response = superuser.post(page(order), {"account_id": "none"})
    assert b"errornote" in response.content
    assert TEXT in response.content.decode()


def test_a_page_without_an_object_has_none(superuser: Client) -> None:
    order = OrderFactory.create()
    for url in (
        "/admin/tracked/order/add/",
        f"{page(order)}?_popup=1",
        page(order, "history"),
        page(order, "delete"),
        "/admin/tracked/order/",
        page(Customer.objects.create(email="ada@example.com")),
        page(order, site="no_urls"),
    ):
        assert TEXT not in html_of(superuser, url)


def test_saving_as_new_has_none(
    superuser: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(admin.site.get_model_admin(Order), "save_as", True)
    order = OrderFactory.create()
    response = superuser.post(page(order), {"_saveasnew": "1", "account_id": "none"})
    assert response.status_code == 200
    assert TEXT not in response.content.decode()


def test_other_models_are_left_alone(superuser: Client) -> None:
    customer = Customer.objects.create(email="ada@example.com")
    response = superuser.get(page(customer))
    assert isinstance(response.template_name, list)  # type: ignore[attr-defined]
    assert "tracker_parent" not in response.context
    names = {url.name for url in admin.site.get_model_admin(Customer).get_urls()}
    assert not [name for name in names if name and "tracker" in name]
    assert superuser.get(tracker(customer)).status_code in {302, 404}


def test_a_proxy_has_what_is_its_own_and_what_it_stands_for(superuser: Client) -> None:
    order = UrgentOrder.objects.get(pk=OrderFactory.create().pk)
    assert TEXT in html_of(superuser, page(order, site="plain"))
    html = html_of(superuser, tracker(order, "plain"))
    assert "tests.tracked.tasks.hurry" in html
    assert "tests.tracked.tasks.process_payment" in html
    html = html_of(superuser, tracker(Order.objects.get(), "plain"))
    assert "tests.tracked.tasks.hurry" not in html


@pytest.mark.parametrize("missing", SEE)
def test_whoever_may_not_see_the_tasks_sees_none(
    staff: StaffClient, missing: str
) -> None:
    order = OrderFactory.create()
    rights = {*SEE, "change_order"} - {missing}
    # Who may change may see as well, as ever in the admin.
    if missing == "view_order":
        rights -= {"change_order"}
    client = staff(*rights)
    response = client.get(page(order))
    assert response.status_code == (200 if missing == "view_taskstate" else 403)
    assert TEXT not in response.content.decode()
    assert client.get(tracker(order)).status_code == 403


def test_it_is_put_there_once(superuser: Client) -> None:
    before = admin.ModelAdmin.get_urls, admin.ModelAdmin.changeform_view
    button.install()
    assert (admin.ModelAdmin.get_urls, admin.ModelAdmin.changeform_view) == before
    names = [url.name for url in admin.site.get_model_admin(Order).get_urls()]
    assert names.count("tracked_order_task_tracker") == 1
