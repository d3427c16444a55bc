"""What the page of an object's tasks shows."""

from __future__ import annotations

import re
from typing import Any

from django.test import Client

from django_celery_monitor.models import TaskState
from tests.factories import TaskObjectLinkFactory


def link(order: Any, **about: Any) -> TaskState:
    """Return a new task of ``order``."""
    return TaskObjectLinkFactory.create(content_object=order, **about).task


def html_of(client: Client, url: str) -> str:
    """Return a page."""
    response = client.get(url)
    assert response.status_code == 200
    return str(response.content.decode())


def ids(client: Client, url: str) -> list[str]:
    """Return the ids of the tasks on a page, from top to bottom."""
    pattern = r'<code class="celery-monitor-fixedwidth" title="([^"]*)">'
    return re.findall(pattern, html_of(client, url))
