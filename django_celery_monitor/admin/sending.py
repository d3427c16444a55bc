"""Sends tasks: anew, or as the project itself would."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from celery.utils import uuid
from django.utils.translation import gettext

from django_celery_monitor import conf
from django_celery_monitor.models import TaskState
from django_celery_monitor.sanitize import Sanitizer

from . import broker

if TYPE_CHECKING:
    from celery import Task
    from kombu import Connection


@dataclass
class Sent:
    """What became of tasks that were to be sent anew."""

    #: The ids of the new tasks.
    ids: dict[TaskState, str] = field(default_factory=dict)
    #: Why the others were not sent, where that was not the broker.
    errors: dict[TaskState, str] = field(default_factory=dict)
    #: Why the broker took no more.
    broker_error: str = ""


def send(
    calls: Mapping[TaskState, tuple[Any, Any]], queues: Mapping[TaskState, str | None]
) -> Sent:
    """Send these arguments to tasks like these; each becomes the parent of its own.

    The queue of a task may be None or empty: then the project's routes decide.
    """
    sent = Sent()
    try:
        with broker.connect() as (_control, connection):
            for task, (args, kwargs) in calls.items():
                _send(connection, task, args, kwargs, queues.get(task), sent)
    except broker.BrokerError as exc:
        sent.broker_error = str(exc)
    return sent


def _send(
    connection: Connection,
    task: TaskState,
    args: Any,
    kwargs: Any,
    queue: str | None,
    sent: Sent,
) -> None:
    """Send one task, and note what became of it."""
    options: Any = {"queue": queue} if queue else {}
    task_id = uuid()
    try:
        conf.get_app().send_task(
            task.name or "",
            args,
            kwargs,
            task_id=task_id,
            connection=connection,
            # Whoever waits for the page learns of it at once; nothing is sent twice.
            retry=False,
            parent_id=task.task_id,
            root_id=task.root_id or task.task_id,
            **options,
        )
    except broker.errors(connection):
        raise
    except Exception as exc:  # noqa: BLE001 -- of a serializer, a router, a backend
        sent.errors[task] = told(exc)
    else:
        sent.ids[task] = task_id


def told(error: Exception) -> str:
    """Return what an error says, which may quote the arguments: secrets are masked."""
    return Sanitizer.from_settings().text(f"{type(error).__name__}: {error}")


class NotSentError(Exception):
    """A task was not sent; says why."""


def launch(task: Task[Any, Any], args: Any, kwargs: Any) -> str:
    """Send a task by its own ``apply_async``; return the id.

    It is that of another task where ``apply_async`` says that this is in its place.
    Raises NotSentError.
    """
    task_id = uuid()
    try:
        if task.app.conf.task_always_eager:
            result = task.apply_async(args, kwargs, task_id=task_id)
        else:
            with broker.connect() as (_control, connection):
                # Whoever waits for the page learns of it at once.
                own: Any = {"connection": connection, "retry": False}
                result = task.apply_async(args, kwargs, task_id=task_id, **own)
    except broker.BrokerError as exc:
        text = gettext("The message broker failed: %(error)s.")
        raise NotSentError(text % {"error": exc}) from exc
    except Exception as exc:  # of a serializer, a router, a backend, the task itself
        raise NotSentError(told(exc)) from exc
    return getattr(result, "id", None) or task_id
