"""The settings: their names, defaults and validation, read from the Celery app."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, cast

from celery.app import app_or_default
from django.apps import apps
from django.core.exceptions import ImproperlyConfigured
from django.utils.module_loading import import_string

if TYPE_CHECKING:
    from celery import Celery

    from .apps import CeleryMonitorConfig

#: The names that version 1 read, and the names that stand for them.
DEPRECATED = {
    "monitors_expire_success": "monitor_task_success_expires",
    "monitors_expire_error": "monitor_task_error_expires",
    "monitors_expire_pending": "monitor_task_pending_expires",
}

#: Words in the name of a key whose value is a secret.
SECRET_KEYS = (
    *("password", "passwd", "passphrase", "secret", "token"),
    *("api_key", "apikey", "access_key", "private_key"),
    *("authorization", "credential", "cookie", "session_id"),
    *("card", "cvv", "cvc"),
)

#: Columns that the list of tasks can have.
LIST_COLUMNS = (
    *("state", "name", "id", "args", "queue", "worker"),
    *("time", "wait", "runtime", "retries"),
)

#: Messages that RabbitMQ may hand over at most.
MAX_PREFETCH = 65_535

_UNSET = object()


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


def to_seconds(value: Any, name: str) -> float:
    """Return a duration in seconds, given as one or as a timedelta.

    Raises ImproperlyConfigured, which says ``name``, for every other value.
    """
    duration = to_timedelta(value, name)
    if duration is None:
        msg = f"{name} must be a timedelta or a number of seconds, not None."
        raise ImproperlyConfigured(msg)
    return duration.total_seconds()


def to_lifetime(value: Any, name: str) -> float:
    """Return a duration in seconds that is more than nothing.

    Raises ImproperlyConfigured, which says ``name``, for every other value.
    """
    seconds = to_seconds(value, name)
    if not seconds:
        msg = f"{name} must be more than 0."
        raise ImproperlyConfigured(msg)
    return seconds


def to_interval(value: Any, name: str) -> float:
    """Return a duration in seconds that is 0 or at least a second.

    Raises ImproperlyConfigured, which says ``name``, for every other value.
    """
    seconds = to_seconds(value, name)
    if 0 < seconds < 1:
        msg = f"{name} must be 0 or at least 1 second, not {value!r}."
        raise ImproperlyConfigured(msg)
    return seconds


def to_count(value: Any, name: str) -> int:
    """Return a positive whole number.

    Raises ImproperlyConfigured, which says ``name``, for every other value.
    """
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        msg = f"{name} must be a positive whole number, not {value!r}."
        raise ImproperlyConfigured(msg)
    return value


def to_prefetch(value: Any, name: str) -> int:
    """Return a positive whole number that AMQP has 16 bits for.

    Raises ImproperlyConfigured, which says ``name``, for every other value.
    """
    if to_count(value, name) > MAX_PREFETCH:
        msg = f"{name} must be at most {MAX_PREFETCH}, not {value!r}."
        raise ImproperlyConfigured(msg)
    return int(value)


def to_names(value: Any, name: str) -> tuple[str, ...]:
    """Return a collection of texts as a tuple.

    Raises ImproperlyConfigured, which says ``name``, for every other value.
    """
    if isinstance(value, (list, tuple, set, frozenset)) and all(
        isinstance(item, str) and item for item in value
    ):
        return tuple(value)
    msg = f"{name} must be a list of names, not {value!r}."
    raise ImproperlyConfigured(msg)


def to_columns(value: Any, name: str) -> tuple[str, ...]:
    """Return some of ``LIST_COLUMNS``, each once, in an order.

    Raises ImproperlyConfigured, which says ``name``, for every other value.
    """
    is_ordered = isinstance(value, (list, tuple))
    if is_ordered and value and all(column in LIST_COLUMNS for column in value):
        columns = tuple(value)
        if len(set(columns)) == len(columns):
            return columns
    known = ", ".join(LIST_COLUMNS)
    msg = f"{name} must be a list of some of {known}, each once, not {value!r}."
    raise ImproperlyConfigured(msg)


def to_callable(value: Any, name: str) -> Callable[..., Any] | None:
    """Return what a dotted path names, or a callable itself; None stays None.

    Raises ImproperlyConfigured, which says ``name``, for every other value.
    """
    if value is None or callable(value):
        return cast("Callable[..., Any] | None", value)
    try:
        found = import_string(value)
    except (AttributeError, ImportError, TypeError) as exc:
        msg = f"{name}: cannot import {value!r}: {exc}."
        raise ImproperlyConfigured(msg) from exc
    if not callable(found):
        msg = f"{name}: {value!r} cannot be called."
        raise ImproperlyConfigured(msg)
    return cast("Callable[..., Any]", found)


def to_queue_name(value: Any, name: str) -> str | None:
    """Return the name of a queue; None stays None.

    Raises ImproperlyConfigured, which says ``name``, for every other value.
    """
    if value is None or (isinstance(value, str) and 0 < len(value.encode()) <= 255):
        return value
    msg = f"{name} must be the name of a queue or None, not {value!r}."
    raise ImproperlyConfigured(msg)


def to_queue_type(value: Any, name: str) -> str:
    """Return ``"classic"`` or ``"quorum"``.

    Raises ImproperlyConfigured, which says ``name``, for every other value.
    """
    if value not in {"classic", "quorum"}:
        msg = f'{name} must be "classic" or "quorum", not {value!r}.'
        raise ImproperlyConfigured(msg)
    return str(value)


@dataclass(frozen=True)
class Setting:
    """What a setting is where the project does not set it, and how it is read."""

    default: Any
    read: Callable[[Any, str], Any]


#: Every setting. Those that end in ``_expires`` are a timedelta or None (for ever).
SETTINGS = {
    "monitor_task_success_expires": Setting(timedelta(days=1), to_timedelta),
    "monitor_task_error_expires": Setting(timedelta(days=3), to_timedelta),
    "monitor_task_pending_expires": Setting(timedelta(days=5), to_timedelta),
    # How long after it was last heard of a worker without tasks is forgotten.
    "monitor_worker_expires": Setting(timedelta(days=30), to_timedelta),
    # The bounds of what is seen and not yet committed: tasks, bytes.
    "monitor_outbox_max_tasks": Setting(200_000, to_count),
    "monitor_outbox_max_bytes": Setting(256 * 1024 * 1024, to_count),
    # Seconds that the last shot may take.
    "monitor_flush_timeout": Setting(30.0, to_seconds),
    # Characters that are kept of each text of a task.
    "monitor_max_text_length": Setting(65_536, to_count),
    # Names of keys whose values are masked: these in place of the default ones ...
    "monitor_secret_keys": Setting(SECRET_KEYS, to_names),
    # ... these in addition to them ...
    "monitor_extra_secret_keys": Setting((), to_names),
    # ... or a callable (text) -> text in place of it all.
    "monitor_mask": Setting(None, to_callable),
    # RabbitMQ: the name of a durable queue to read from; None: a queue for the run.
    "monitor_durable_queue": Setting(None, to_queue_name),
    "monitor_durable_queue_type": Setting("classic", to_queue_type),
    # Seconds that an event stays in the durable queue, and how many events.
    "monitor_durable_queue_ttl": Setting(86_400.0, to_lifetime),
    "monitor_durable_queue_max_length": Setting(1_000_000, to_count),
    # Rows that an action of the admin may have when it is for all that match.
    "monitor_max_selected": Setting(1_000, to_count),
    # Seconds between two refreshes of a page of the admin; 0: pages stay as they are.
    "monitor_refresh_interval": Setting(3.0, to_interval),
    # Seconds after which a task that is in flight counts as stuck.
    "monitor_stuck_after": Setting(3_600.0, to_lifetime),
    # The columns of the list of tasks.
    "monitor_list_columns": Setting(LIST_COLUMNS, to_columns),
    # Tasks on a page of the task tracker, and how many an address may ask for.
    "monitor_tracker_page_size": Setting(10, to_count),
    "monitor_tracker_max_page_size": Setting(200, to_count),
    # Tasks that an export of the list may have.
    "monitor_max_exported": Setting(100_000, to_count),
    # Events that the broker hands over before the first of them is committed.
    "monitor_durable_prefetch": Setting(5_000, to_prefetch),
}


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


def get(name: str, app: Celery | None = None) -> Any:
    """Return the value of the setting called ``name``, as ``SETTINGS`` says.

    ``app`` is the Celery app to read, the project's by default. Raises
    ImproperlyConfigured, naming the setting, when the value cannot be used.
    """
    conf = (app or get_app()).conf
    setting = SETTINGS[name]
    value = conf.get(name, _UNSET)
    if value is not _UNSET:
        return setting.read(value, name)
    for old, new in DEPRECATED.items():
        value = conf.get(old, _UNSET)
        if new == name and value is not _UNSET:
            warnings.warn(
                f"The Celery setting {old} is deprecated, use {name}.",
                DeprecationWarning,
                stacklevel=2,
            )
            return setting.read(value, old)
    return setting.default


def deprecated_names(app: Celery | None = None) -> Iterator[tuple[str, str]]:
    """Yield each deprecated setting in use and the name that replaces it."""
    conf = (app or get_app()).conf
    for old, new in DEPRECATED.items():
        if conf.get(old, _UNSET) is not _UNSET:
            yield old, new


def unknown_names(app: Celery | None = None) -> Iterator[tuple[str, str | None]]:
    """Yield each ``monitor_*`` setting that nothing reads, and the nearest known one.

    The first name is spelt as in the configuration, the second as in
    ``SETTINGS``; it is None where no known name is near.
    """
    conf = (app or get_app()).conf
    keys = sorted(set(conf))
    # The namespace is known once the configuration has been read.
    prefix = conf.prefix or ""
    known = {*SETTINGS, *DEPRECATED}
    known |= {f"{prefix}{name}".upper() for name in known if prefix}
    for key in keys:
        name = key.lower().removeprefix(prefix.lower())
        if key in known or not name.startswith(("monitor_", "monitors_")):
            continue
        # An upper-case name without the namespace may belong to anybody.
        if key.islower() or name in known or (prefix and key.startswith(prefix)):
            near = get_close_matches(name, SETTINGS, n=1, cutoff=0.75)
            yield key, near[0] if near else None
