"""System checks: what is wrong with a project, found before it costs a row."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

from django.conf import settings
from django.core import checks
from django.core.exceptions import ImproperlyConfigured
from django.db import connections, router

from . import conf


def check_settings(**kwargs: Any) -> list[checks.CheckMessage]:
    """Check the names and values of the ``monitor_*`` settings."""
    messages = [message for name in conf.SETTINGS for message in check_setting(name)]
    for old, new in conf.deprecated_names():
        messages.append(
            checks.Warning(
                f"The Celery setting {old} is deprecated.",
                hint=f"Call it {new}.",
                id="celery_monitor.W001",
            )
        )
    for name, near in conf.unknown_names():
        known = ", ".join(conf.SETTINGS)
        messages.append(
            checks.Warning(
                f"Nothing reads the Celery setting {name}.",
                hint=f"Did you mean {near}?" if near else f"Known are {known}.",
                id="celery_monitor.W002",
            )
        )
    return messages


def check_setting(name: str) -> list[checks.CheckMessage]:
    """Check that the value of the setting called ``name`` can be used."""
    try:
        with warnings.catch_warnings():
            # W001 says it.
            warnings.simplefilter("ignore", DeprecationWarning)
            conf.get(name)
    except ImproperlyConfigured as exc:
        hint = "The page on configuration says what it takes."
        if name.endswith("_expires"):
            hint = "Give a datetime.timedelta, or None to keep rows for ever."
        return [checks.Error(str(exc), hint=hint, id="celery_monitor.E001")]
    return []


def check_app(**kwargs: Any) -> list[checks.CheckMessage]:
    """Check that a process with an admin knows the project's Celery app."""
    has_admin = "django.contrib.admin" in settings.INSTALLED_APPS
    if not has_admin or not conf.is_fallback(conf.get_app()):
        return []
    return [
        checks.Warning(
            "No Celery app is configured in this process: what the admin asks"
            " workers to do would go to a default broker on localhost.",
            hint="Import your Celery app in the __init__.py of your project.",
            id="celery_monitor.W003",
        )
    ]


def check_sqlite(
    *, databases: Sequence[str] | None = None, **kwargs: Any
) -> list[checks.CheckMessage]:
    """Check that a camera and a web server can share an SQLite database.

    Without write-ahead logging readers and writers exclude each other, and a
    transaction that reads before it writes fails at once when another one writes.
    """
    from .models import TaskState

    alias = router.db_for_write(TaskState)
    connection = connections[alias]
    if alias not in (databases or ()) or connection.vendor != "sqlite":
        return []
    with connection.cursor() as cursor:
        cursor.execute("PRAGMA journal_mode")
        (journal_mode,) = cursor.fetchone()
    if journal_mode == "memory":  # and so is the database: nobody shares it
        return []
    messages: list[checks.CheckMessage] = []
    if journal_mode != "wal":
        messages.append(
            checks.Warning(
                f"The SQLite database {alias!r} is not in WAL mode.",
                hint='Set "init_command": "PRAGMA journal_mode=WAL;" in its OPTIONS.',
                id="celery_monitor.W004",
            )
        )
    mode = connection.settings_dict["OPTIONS"].get("transaction_mode") or ""
    if mode.upper() != "IMMEDIATE":
        messages.append(
            checks.Warning(
                f"Transactions on the SQLite database {alias!r} are not immediate.",
                hint='Set "transaction_mode": "IMMEDIATE" in its OPTIONS.',
                id="celery_monitor.W005",
            )
        )
    return messages


def check_events(**kwargs: Any) -> list[checks.CheckMessage]:
    """Check that workers and clients are configured to send events."""
    app = conf.get_app()
    messages: list[checks.CheckMessage] = []
    if not app.conf.worker_send_task_events:
        messages.append(
            checks.Warning(
                "The setting worker_send_task_events is off: unless every worker is"
                " started with -E, the camera sees no task.",
                hint="Set it to True, or silence this check and start workers with -E.",
                id="celery_monitor.W006",
            )
        )
    if not app.conf.task_send_sent_event:
        messages.append(
            checks.Warning(
                "The setting task_send_sent_event is off: tasks have no queue and no"
                " time of being sent, and none is listed before a worker has it.",
                hint="Set it to True.",
                id="celery_monitor.W007",
            )
        )
    return messages
