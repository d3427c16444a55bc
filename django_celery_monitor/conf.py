"""The settings: their names, defaults and validation, read from the Celery app."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from datetime import timedelta
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, cast

from celery.app import app_or_default
from django.apps import apps
from django.core.exceptions import ImproperlyConfigured

if TYPE_CHECKING:
    from celery import Celery

    from .apps import CeleryMonitorConfig

#: Name of each setting and what it is when the project does not set it.
DEFAULTS: dict[str, timedelta | None] = {
    "monitor_task_success_expires": timedelta(days=1),
    "monitor_task_error_expires": timedelta(days=3),
    "monitor_task_pending_expires": timedelta(days=5),
}

#: The names that version 1 read, and the names that stand for them.
DEPRECATED = {
    "monitors_expire_success": "monitor_task_success_expires",
    "monitors_expire_error": "monitor_task_error_expires",
    "monitors_expire_pending": "monitor_task_pending_expires",
}

_UNSET = object()


def get_app() -> Celery:
    """Return the project's Celery app.

    That is the current app, or in a thread that has none the one that was current
    when Django started: Celery keeps the current app per thread, a web server
    answers in threads of its own, and there Celery falls back on an app that
    talks to a default broker on localhost.
    """
    app = app_or_default()
    if is_fallback(app):
        config = cast("CeleryMonitorConfig", apps.get_app_config("celery_monitor"))
        return config.celery_app or app
    return app


def is_fallback(app: Celery) -> bool:
    """Return whether ``app`` is what Celery makes up where there is no app.

    With a broker of its own, set by a ``celeryconfig`` module or the environment,
    it is as good as any other.
    """
    made_up = app.main == "default" and not getattr(app, "set_as_current", True)
    return made_up and app.conf.broker_url is None


def expires(name: str, app: Celery | None = None) -> timedelta | None:
    """Return how long the setting called ``name`` keeps a row, None for ever.

    ``app`` is the Celery app to read, the project's by default. Raises
    ImproperlyConfigured, naming the setting, when the value is no duration.
    """
    conf = (app or get_app()).conf
    value = conf.get(name, _UNSET)
    if value is not _UNSET:
        return to_timedelta(value, name)
    for old, new in DEPRECATED.items():
        value = conf.get(old, _UNSET)
        if new == name and value is not _UNSET:
            warnings.warn(
                f"The Celery setting {old} is deprecated, use {name}.",
                DeprecationWarning,
                stacklevel=2,
            )
            return to_timedelta(value, old)
    return DEFAULTS[name]


def to_timedelta(value: Any, name: str) -> timedelta | None:
    """Return a duration given as a timedelta or in seconds; None stays None.

    Raises ImproperlyConfigured, which says ``name``, for every other value.
    """
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        try:
            value = timedelta(seconds=value)
        except (OverflowError, ValueError) as exc:
            msg = f"{name}: {value!r} seconds is more than a duration can hold."
            raise ImproperlyConfigured(msg) from exc
    if value is None:
        return None
    if not isinstance(value, timedelta):
        msg = f"{name} must be a timedelta, a number of seconds or None, not {value!r}."
        raise ImproperlyConfigured(msg)
    if value < timedelta(0):
        msg = f"{name} must not be negative, it is {value!r}."
        raise ImproperlyConfigured(msg)
    return value


def deprecated_names(app: Celery | None = None) -> Iterator[tuple[str, str]]:
    """Yield each deprecated setting in use and the name that replaces it."""
    conf = (app or get_app()).conf
    for old, new in DEPRECATED.items():
        if conf.get(old, _UNSET) is not _UNSET:
            yield old, new


def unknown_names(app: Celery | None = None) -> Iterator[tuple[str, str | None]]:
    """Yield each ``monitor_*`` setting that nothing reads, and the nearest known one.

    The first name is spelt as in the configuration, the second as in
    ``DEFAULTS``; it is None where no known name is near.
    """
    conf = (app or get_app()).conf
    keys = sorted(set(conf))
    # The namespace is known once the configuration has been read.
    prefix = conf.prefix or ""
    known = {*DEFAULTS, *DEPRECATED}
    known |= {f"{prefix}{name}".upper() for name in known if prefix}
    for key in keys:
        name = key.lower().removeprefix(prefix.lower())
        if key in known or not name.startswith(("monitor_", "monitors_")):
            continue
        # An upper-case name without the namespace may belong to anybody.
        if key.islower() or name in known or (prefix and key.startswith(prefix)):
            near = get_close_matches(name, DEFAULTS, n=1)
            yield key, near[0] if near else None
