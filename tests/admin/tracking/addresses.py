"""Where the pages of an object are."""

from __future__ import annotations

from urllib.parse import urlencode

from django.contrib.admin.utils import quote
from django.db.models import Model

#: Where the tasks are that are registered.
TASKS = "tests.tracked.tasks"


def page(obj: Model, name: str = "change", site: str = "admin") -> str:
    """Return the address of a page of ``obj``."""
    return f"/{site}/tracked/{obj._meta.model_name}/{quote(obj.pk)}/{name}/"


def tracker(obj: Model, site: str = "admin", **query: object) -> str:
    """Return the address of the tasks of ``obj``."""
    return f"{page(obj, 'task-tracker', site)}{f'?{urlencode(query)}' if query else ''}"


def launch(obj: Model, task: str, role: str = "order_id", site: str = "admin") -> str:
    """Return the address of the form that launches a task for ``obj``."""
    query = urlencode({"task": f"{TASKS}.{task}", "role": role})
    return f"{page(obj, 'task-tracker/launch', site)}?{query}"


def revoke(obj: Model, task_id: str, site: str = "admin") -> str:
    """Return the address of the page that revokes a task of ``obj``."""
    query = urlencode({"task": task_id})
    return f"{page(obj, 'task-tracker/revoke', site)}?{query}"
