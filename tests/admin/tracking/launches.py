"""The form that launches a task: what it shows, refuses and leaves in the history."""

from __future__ import annotations

import re
from html import unescape
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.contenttypes.models import ContentType
from django.test import Client

from django_celery_monitor.tracking import task_tracker
from django_celery_monitor.tracking.registry import Registration
from tests.admin.tracking.addresses import TASKS
from tests.celery import app
from tests.tracked.models import Order


def shown(client: Client, url: str) -> dict[str, str]:
    """Return what the form shows for editing."""
    html = client.get(url).content.decode()
    pattern = r'<textarea name="(\w+)"[^>]*>\n?(.*?)</textarea>'
    return {n: unescape(text) for n, text in re.findall(pattern, html, re.DOTALL)}


def errors(response: Any) -> list[str]:
    """Return what is wrong with a form."""
    assert response.status_code == 200
    found = response.context["form"].errors.values()
    return [str(error) for each in found for error in each]


def register(monkeypatch: pytest.MonkeyPatch, task: str, **options: Any) -> None:
    """Register a task for orders, in place of all others."""
    made = Registration(app.tasks[f"{TASKS}.{task}"], Order, **options)
    monkeypatch.setattr(task_tracker, "_registrations", [made])


def history_of(obj: Any) -> list[str]:
    """Return the entries in the history of ``obj``."""
    kind = ContentType.objects.get_for_model(obj, for_concrete_model=False)
    entries = LogEntry.objects.filter(content_type=kind, object_id=str(obj.pk))
    return [entry.get_change_message() for entry in entries]
