"""The tasks that are tracked, and one that is not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from celery import Task, shared_task

from django_celery_monitor.tracking import FromModel, task_tracker
from tests.celery import app

from .models import Order, Parcel, UrgentOrder, Warehouse

if TYPE_CHECKING:
    BaseTask = Task[Any, Any]
else:
    BaseTask = Task


class Slowly(BaseTask):
    """A task that says itself where it goes."""

    def apply_async(self, *args: Any, **options: Any) -> Any:
        """Send it to its queue."""
        return super().apply_async(*args, **{"queue": "slow", **options})


@task_tracker.register(Order)
@shared_task
def process_payment(order_id: int, amount: int = 0) -> str:
    """Succeed."""
    return f"paid {amount} for {order_id}"


@task_tracker.register(Order)
@app.task(bind=True, max_retries=3)
def ship(self: Any, order_id: int, failures: int = 0) -> str:
    """Succeed, or retry."""
    if self.request.retries < failures:
        raise self.retry(exc=ConnectionError("no courier"), countdown=0)
    return f"shipped {order_id}"


@task_tracker.register(
    Order,
    id_query=("account_id", "reference"),
    launch_args=(FromModel("account_id"), FromModel("reference")),
)
@shared_task(base=Slowly)
def fulfill(account_id: int, reference: str) -> None:
    """Find the order by two of its fields."""


@task_tracker.register(
    Order,
    id_query={"customer__email": "email"},
    launch_kwargs={"email": FromModel("customer.email")},
)
@shared_task
def remind(email: str) -> None:
    """Find the order by its customer."""


@task_tracker.register(Warehouse, id_query="warehouse")
@task_tracker.register(Parcel)
@shared_task
def store(parcel_id: str, warehouse: str) -> None:
    """Be about two objects."""


@task_tracker.register(UrgentOrder)
@shared_task
def hurry(order_id: int) -> None:
    """Be offered for the proxy alone."""


@task_tracker.register(Order, hidden=True)
@shared_task
def clean_up(order_id: int) -> None:
    """Be tracked, and not offered."""


@shared_task
def untracked(order_id: int) -> None:
    """Be none of the tracker's."""


@shared_task
def notify(**about: Any) -> None:
    """Take whatever comes by name."""
