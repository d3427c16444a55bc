"""A receiver for the tests: of an app of its own, on a broker in memory."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from celery import Celery

from django_celery_monitor.counters import Counters
from django_celery_monitor.receiver import Receiver


def make_app(**conf: Any) -> Celery:
    app = Celery("receiver", broker="memory://", set_as_current=False)
    app.conf.update(conf)
    return app


def make_receiver(
    app: Celery | None = None, handler: Callable[[Any], object] | None = None
) -> Receiver:
    app = app or make_app()
    handlers = {"*": handler} if handler else None
    receiver = Receiver(app.connection_for_read(), handlers=handlers, app=app)
    receiver.counters = Counters()
    return receiver


def deliver(receiver: Receiver, body: Any) -> None:
    """Have the receiver take a message."""
    receiver._receive(body, SimpleNamespace(delivery_tag="tag"))
