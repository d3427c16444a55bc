"""An order, and users who may do all that there is to do with its tasks."""

from __future__ import annotations

import pytest
from django.test import Client

from tests.admin.conftest import StaffClient
from tests.factories import OrderFactory
from tests.tracked.models import Customer, Order

#: What it takes to see, to launch and to revoke.
SEE = ("view_order", "view_taskstate")
LAUNCH = (*SEE, "change_order", "run_tasks")
REVOKE = (*SEE, "change_order", "control_tasks")


@pytest.fixture
def viewer(staff: StaffClient) -> Client:
    """Return the client of somebody who may see the tasks of orders, and no more."""
    return staff(*SEE)


@pytest.fixture
def launcher(staff: StaffClient) -> Client:
    """Return the client of somebody who may launch tasks for orders."""
    return staff(*LAUNCH)


@pytest.fixture
def revoker(staff: StaffClient) -> Client:
    """Return the client of somebody who may revoke the tasks of orders."""
    return staff(*REVOKE)


@pytest.fixture
def order(db: None) -> Order:
    """Return an order of somebody."""
    customer = Customer.objects.create(email="ada@example.com")
    return OrderFactory.create(customer=customer, account_id=7, reference="R'7")
