"""The Celery app whose workers are recorded; the broker is ``CELERY_BROKER_URL``."""

from __future__ import annotations

import time
from typing import Any

from celery import Celery, Task
from celery.exceptions import Reject

app = Celery("proj", set_as_current=False)
app.conf.update(
    broker_connection_retry_on_startup=True,
    # A worker holds one message only, so that every other one waits in its queue.
    worker_prefetch_multiplier=1,
    task_send_sent_event=True,
    worker_send_task_events=True,
)


def came_back(task: Task[Any, Any]) -> bool:
    """Return whether the broker has delivered the message before."""
    return bool((task.request.delivery_info or {}).get("redelivered"))


@app.task(name="proj.add")
def add(x: int, y: int) -> int:
    """Succeed."""
    return x + y


@app.task(name="proj.fail")
def fail(text: str) -> None:
    """Fail."""
    raise ValueError(text)


@app.task(name="proj.sleep")
def sleep(seconds: float) -> None:
    """Take that long."""
    time.sleep(seconds)


@app.task(name="proj.wander", bind=True, max_retries=2)
def wander(self: Task[Any, Any], queues: list[str]) -> str:
    """Fail and go on in the next of ``queues``; succeed where there is none."""
    if not queues:
        return "arrived"
    try:
        raise ConnectionError(f"attempt {self.request.retries}")
    except ConnectionError as error:
        where, *rest = queues
        raise self.retry(args=(rest,), exc=error, countdown=0.2, queue=where) from error


@app.task(name="proj.reject", bind=True, acks_late=True)
def reject(self: Task[Any, Any], requeue: bool) -> str:
    """Reject the message; succeed where it comes back."""
    if came_back(self):
        return "taken"
    raise Reject("not now", requeue=requeue)


@app.task(name="proj.survive", bind=True, acks_late=True)
def survive(self: Task[Any, Any]) -> str:
    """Wait to be killed; succeed where the message comes back."""
    if not came_back(self):
        time.sleep(600)
    return "survived"


@app.task(name="proj.report", bind=True)
def report(self: Task[Any, Any]) -> str:
    """Tell of the work while it is done."""
    for percent in (50, 90):
        self.send_event("task-progress", percent=percent)
        time.sleep(0.1)
    return "reported"
