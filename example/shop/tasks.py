"""The shop's tasks: each shows one thing that can happen to a task in Celery.

Celery beat calls them over and over, as ``CELERY_BEAT_SCHEDULE`` in the settings says.
"""

import time
from typing import Any

from celery import Task, chain, chord, current_app, group, shared_task

from django_celery_monitor.tracking import FromModel, task_tracker
from shop.models import Order


@task_tracker.register(Order)
@shared_task
def send_receipt(order: int) -> str:
    """Succeed: what a task returns becomes its result."""
    return f"Receipt for order {order} sent"


class CardDeclinedError(Exception):
    """The bank said no."""


@task_tracker.register(Order)
@shared_task
def charge_card(order: int) -> None:
    """Fail: the exception and its traceback are kept with the task."""
    raise CardDeclinedError(f"The card for order {order} was declined")


@shared_task
def build_report(seconds: float) -> str:
    """Take long: STARTED until it is done, while others wait in its queue."""
    time.sleep(seconds)
    return f"Report built in {seconds} seconds"


@shared_task(bind=True, max_retries=3)
def sync_stock(self: "Task[Any, Any]", warehouse: str) -> str:
    """Retry and recover: two attempts fail, the third succeeds.

    With no countdown the next attempt goes to the end of the queue at once; the
    task is in RETRY until a worker takes it from there.
    """
    time.sleep(1)
    if self.request.retries < 2:
        raise self.retry(exc=ConnectionError(f"{warehouse} is offline"), countdown=0)
    return f"{warehouse} is in step"


@shared_task
def sync_warehouses() -> None:
    """Group: three tasks that run independently of each other."""
    group(sync_stock.s(warehouse) for warehouse in ("Lyon", "Osaka", "Quito")).delay()


@task_tracker.register(Order)
@shared_task
def fulfil_order(order: int) -> None:
    """Chain: each task starts when the one before it is done, with its result."""
    chain(pick.s(order), pack.s(), ship.s()).delay()


@task_tracker.register(Order, hidden=True)
@shared_task
def pick(order: int) -> str:
    """Hand the goods to the next task in the chain."""
    return f"goods of order {order}"


@shared_task
def pack(goods: str) -> str:
    """Hand a parcel to the next task in the chain."""
    return f"parcel with {goods}"


@shared_task
def ship(parcel: str) -> str:
    """End the chain."""
    return f"Shipped: {parcel}"


@shared_task
def count_visits() -> None:
    """Chord: a group, and one task that starts when all of the group are done."""
    chord((count_page_visits.s(page) for page in ("home", "cart", "faq")), add.s())()


@shared_task
def count_page_visits(page: str) -> int:
    """Count for one page: one of the chord's group."""
    return 100 * len(page)


@shared_task
def add(numbers: list[int]) -> int:
    """Add up the results of the group: the chord's body."""
    return sum(numbers)


@shared_task
def remind_customer(email: str) -> str:
    """Run later: a worker has it at once, with an ETA, and keeps it until then."""
    return f"Reminder sent to {email}"


@task_tracker.register(
    Order,
    launch_kwargs={"order": FromModel("pk"), "email": FromModel("customer.email")},
)
@shared_task
def ask_for_review(order: int, email: str = "", seconds: float = 3) -> str:
    """Track: the page of the order has it, and launches it with what the order says."""
    time.sleep(seconds)
    return f"Asked {email or 'the customer'} for a review of order {order}"


@shared_task
def offer_discount(percent: int) -> str:
    """Expire: it is still waiting at the time when it must not run any more."""
    return f"{percent} % off"


@task_tracker.register(Order)
@shared_task
def cancel_order(order: int) -> None:
    """Revoke: the workers are told to drop a task that has not run yet."""
    shipping = ship.apply_async((f"parcel of order {order}",), countdown=10)
    current_app.control.revoke(shipping.id)
