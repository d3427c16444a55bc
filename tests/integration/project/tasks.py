"""The tasks of the project: each ends, or does not end, in a way of its own."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from celery import Task
from celery.exceptions import Ignore, Reject

from tests.integration.project.celery import app, enter


@app.task
def add(x: int, y: int) -> int:
    """Succeed."""
    return x + y


@app.task
def echo(*args: Any, **kwargs: Any) -> str:
    """Succeed with the arguments as the result."""
    return f"{args} {kwargs}"


@app.task
def fail(text: str) -> None:
    """Fail."""
    raise ValueError(text)


@app.task(bind=True, max_retries=2)
def flaky(self: Task[Any, Any], recovers: bool) -> str:
    """Fail twice; then recover, or fail for good."""
    try:
        if self.request.retries < 2 or not recovers:
            raise ConnectionError(f"attempt {self.request.retries}")
    except ConnectionError as error:
        raise self.retry(exc=error, countdown=0) from error
    return "recovered"


@app.task
def wait(file: str) -> None:
    """Go on until somebody makes ``file``."""
    wait_for_file(file)


@app.task
def ignore() -> None:
    """End without a word."""
    raise Ignore


@app.task(bind=True, acks_late=True)
def reject(self: Task[Any, Any]) -> None:
    """Be rejected, of which Celery's signals do not tell."""
    enter(self.request, "rejected")
    raise Reject("not mine", requeue=False)


@app.task(bind=True)
def progress(self: Task[Any, Any], begin: str, end: str) -> None:
    """Tell of a state of its own and end, each when somebody makes a file."""
    wait_for_file(begin)
    self.send_event("task-progress", percent=50)
    wait_for_file(end)


def wait_for_file(name: str) -> None:
    """Return once the file is there; whoever waits for the task gives up first."""
    path = Path(os.environ["PROJECT_DIR"]) / name
    deadline = time.monotonic() + 60
    while not path.exists() and time.monotonic() < deadline:
        time.sleep(0.01)
