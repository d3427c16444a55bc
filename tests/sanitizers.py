"""Sanitizers with the words that are secret by default."""

from __future__ import annotations

from typing import Any

from django_celery_monitor.conf import SECRET_KEYS
from django_celery_monitor.sanitize import Sanitizer

LIMIT = 65_536


def sanitizer(limit: int = LIMIT, **kwargs: Any) -> Sanitizer:
    """Return one with the words that are secret by default."""
    return Sanitizer(SECRET_KEYS, limit, **kwargs)


def masked(text: str) -> str:
    """Return what is stored of ``text`` by default."""
    return sanitizer().text(text)
