"""The Celery app of the project, which keeps a ledger of what its tasks did."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from celery import Celery, signals
from celery.utils.saferepr import saferepr

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.integration.project.settings")

LEDGER = Path(os.environ["PROJECT_DIR"]) / "ledger"

app = Celery("project", include=["tests.integration.project.tasks"])
app.config_from_object("django.conf:settings", namespace="CELERY")


def enter(request: Any, what: str, said: str | None = None) -> None:
    """Add a line about a task to the ledger, in one write for each."""
    line = {"id": request.id, "what": what, "retries": request.retries, "said": said}
    descriptor = os.open(LEDGER, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(descriptor, json.dumps(line).encode() + b"\n")
    finally:
        os.close(descriptor)


@signals.task_prerun.connect
def started(task: Any, **_: Any) -> None:
    """Enter that an attempt begins."""
    enter(task.request, "started")


@signals.task_success.connect
def succeeded(sender: Any, result: Any, **_: Any) -> None:
    """Enter what the task returned, as Celery writes it."""
    enter(sender.request, "succeeded", saferepr(result))


@signals.task_failure.connect
def failed(sender: Any, exception: BaseException, **_: Any) -> None:
    """Enter what the task failed with; a rejected one is no longer known here."""
    if sender.request.id:
        enter(sender.request, "failed", repr(exception))


@signals.task_retry.connect
def retried(request: Any, reason: Any, **_: Any) -> None:
    """Enter why the task is to be tried again."""
    enter(request, "retried", repr(reason.exc))


@signals.task_revoked.connect
def revoked(request: Any, expired: bool, **_: Any) -> None:
    """Enter why the task was not run."""
    enter(request, "revoked", "expired" if expired else "revoked")
