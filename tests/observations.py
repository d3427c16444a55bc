"""What the tests observe of an event: as a camera does, with two words masked."""

from __future__ import annotations

from typing import Any

from django_celery_monitor.observation import Observer
from django_celery_monitor.sanitize import Sanitizer

Columns = dict[str, Any]
Event = dict[str, Any]

MAX_TEXT = 10_000
US = 1_000_000


def observer(max_text: int = MAX_TEXT) -> Observer:
    return Observer(Sanitizer(["password", "token"], max_text))


def observe(event: Event) -> Columns:
    """Return what ``event`` says of its task."""
    return observer().task(event)[1]
