"""Tasks that can be run again, and the form for it."""

from __future__ import annotations

import re
from html import unescape
from typing import Any

from django_celery_monitor.models import TaskState
from tests.admin.conftest import TASKS
from tests.factories import TaskStateFactory


def create(**fields: Any) -> TaskState:
    """Return a task that failed, called with arguments that are known in full."""
    call = {"args": "(2, 'two')", "kwargs": "{'key': None}", "queue": "slow"}
    made: TaskState = TaskStateFactory.create(**{"state": "FAILURE", **call, **fields})
    return made


def run_url(task: TaskState) -> str:
    """Return the address of the form."""
    return f"{TASKS}{task.pk}/run/"


def entered(html: str) -> dict[str, str]:
    """Return what the form shows for editing."""
    fields = dict(
        re.findall(r'<textarea name="(\w+)"[^>]*>\n?(.*?)</textarea>', html, re.DOTALL)
    )
    fields["queue"] = "".join(re.findall(r'name="queue" value="([^"]*)"', html))
    return {name: unescape(text) for name, text in fields.items()}
