"""Who or what sends a task: a request, a task, the schedule, a management command."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import wraps
from pathlib import Path
from typing import Any, NamedTuple

from celery import signals
from celery._state import get_current_task
from django.http import HttpRequest
from django.utils.functional import LazyObject, empty

from django_celery_monitor.sanitize import Sanitizer

from .models import Source

#: Programs whose first argument is the name of a management command.
MANAGERS = {"manage.py", "django-admin", "django-admin.py", "django-admin.exe"}

#: Commands that send no task themselves: whoever asks them over the network does.
SERVERS = {"runserver", "runserver_plus", "runsslserver", "testserver"}

#: The header with the entry's name that the scheduler of django-celery-beat sets.
ENTRY_HEADER = "periodic_task_name"

_request: ContextVar[HttpRequest | None] = ContextVar("request", default=None)
_entry: ContextVar[str | None] = ContextVar("entry", default=None)


class Provenance(NamedTuple):
    """Who or what sent a task, made fit for the columns of the same names."""

    source: str
    source_name: str | None = None
    user_id: str | None = None
    username: str | None = None


@contextmanager
def of_request(request: HttpRequest) -> Iterator[None]:
    """Have what is sent meanwhile come from ``request``."""
    token = _request.set(request)
    try:
        yield
    finally:
        _request.reset(token)


def of_message(headers: Mapping[str, Any], fit: Sanitizer) -> Provenance | None:
    """Return what sends the message that is published now; None: that is unknown."""
    task: Any = get_current_task()
    if task is not None:
        return Provenance(Source.TASK, _fit(task.name, fit))
    if (request := _request.get()) is not None:
        user_id, username = _user_of(request)
        return Provenance(
            Source.REQUEST,
            _fit(request.path, fit),
            _fit(user_id, fit),
            _fit(username, fit),
        )
    if entry := _entry.get() or headers.get(ENTRY_HEADER):
        return Provenance(Source.BEAT, _fit(entry, fit))
    if command := command_name(sys.argv):
        return Provenance(Source.COMMAND, _fit(command, fit))
    return None


def of_execution(request: Any, fit: Sanitizer) -> Provenance | None:
    """Return what the request of a task that runs tells of who sent it."""
    if entry := getattr(request, ENTRY_HEADER, None):
        return Provenance(Source.BEAT, _fit(entry, fit))
    # Of every retry Celery says that it is its own parent.
    if request.parent_id and request.parent_id != request.id:
        return Provenance(Source.TASK)
    return None


def command_name(argv: list[str]) -> str | None:
    """Return the management command that a command line starts; None: it is none."""
    if len(argv) < 2 or argv[1].startswith("-") or argv[1] in SERVERS:
        return None
    program = Path(argv[0])
    is_module = program.parts[-2:] == ("django", "__main__.py")
    return argv[1] if is_module or program.name in MANAGERS else None


def _fit(value: Any, fit: Sanitizer) -> str | None:
    return None if value is None else fit.identifier(fit.text(str(value)))


def _user_of(request: HttpRequest) -> tuple[Any, Any]:
    """Return the key and the name of the user of a request, as far as known by now.

    Whoever has not asked for the user yet is not made to: that would read the session.
    """
    user: Any = getattr(request, "user", None)
    if isinstance(user, LazyObject) and user.__dict__["_wrapped"] is empty:
        # What "await request.auser()" has found.
        user = getattr(request, "_acached_user", None)
    if not getattr(user, "is_authenticated", False):
        return None, None
    name = getattr(user, "get_username", lambda: None)
    return user.pk, name()


# The scheduler


def is_beat() -> bool:
    """Return whether this process is Celery beat, which closes no connection."""
    return _beat == os.getpid()


_beat: int | None = None


def connect() -> None:
    """Listen for Celery beat, which tells of no entry that it sends."""
    signals.beat_init.connect(
        _on_beat_init, weak=False, dispatch_uid="celery_monitor_tracking.beat"
    )


def _on_beat_init(sender: Any, **_: Any) -> None:
    global _beat
    _beat = os.getpid()
    scheduler = sender.scheduler
    send = scheduler.apply_async

    @wraps(send)
    def apply_async(entry: Any, *args: Any, **kwargs: Any) -> Any:
        token = _entry.set(getattr(entry, "name", None))
        try:
            return send(entry, *args, **kwargs)
        finally:
            _entry.reset(token)

    scheduler.apply_async = apply_async
