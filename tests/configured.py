"""The names of the settings, and an app that is configured by Django."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from celery import Celery

from django_celery_monitor import conf

NAMES = list(conf.SETTINGS)
DURATIONS = [name for name in NAMES if name.endswith("_expires")]
OLDER = list(conf.DEPRECATED)


def django_app(**settings: Any) -> Celery:
    """Return an app that reads the upper-case names of Django's settings."""
    app = Celery("conf", set_as_current=False)
    upper = {name.upper(): value for name, value in settings.items()}
    app.config_from_object(SimpleNamespace(**upper), namespace="CELERY")
    return app
