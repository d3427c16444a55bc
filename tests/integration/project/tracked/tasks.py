"""The tasks of orders: each ends, or does not end, in a way of its own."""

from __future__ import annotations

import os
import signal
import time
from typing import Any

from celery import Task
from django.contrib.contenttypes.models import ContentType

from django_celery_monitor.tracking import task_tracker
from tests.integration.project.celery import app
from tests.integration.project.tasks import wait_for_file

from .models import Order


@task_tracker.register(Order)
@app.task
def pay(order_id: int) -> str:
    """Succeed."""
    return f"paid {order_id}"


@task_tracker.register(Order)
@app.task
def fail(order_id: int) -> None:
    """Fail."""
    raise ValueError(f"cannot pay {order_id}")


@task_tracker.register(Order)
@app.task(bind=True, max_retries=2)
def flaky(self: Task[Any, Any], order_id: int) -> str:
    """Fail twice, then succeed."""
    if self.request.retries < 2:
        error = ConnectionError(f"attempt {self.request.retries}")
        raise self.retry(exc=error, countdown=0)
    return "recovered"


@task_tracker.register(Order)
@app.task
def wait(order_id: int, file: str) -> None:
    """Go on until somebody makes ``file``."""
    wait_for_file(file)


@task_tracker.register(Order)
@app.task(time_limit=1)
def hang(order_id: int) -> None:
    """Take longer than is allowed."""
    time.sleep(60)


@task_tracker.register(Order)
@app.task
def die(order_id: int) -> None:
    """End the process that runs it."""
    os.kill(os.getpid(), signal.SIGKILL)


@app.task
def nothing() -> None:
    """Succeed, and be about nothing."""


@app.task
def look() -> bool:
    """Ask the database for something, and be about nothing."""
    return ContentType.objects.exists()


@app.task
def pay_all(count: int) -> None:
    """Send others."""
    for order_id in range(count):
        pay.delay(order_id)
