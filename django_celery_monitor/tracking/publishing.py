"""Records that a tracked task was sent, by whoever has sent it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from celery import signals

from . import provenance
from .recording import observe, observer, record, represent
from .registry import task_tracker


def connect() -> None:
    """Listen for what is sent in this process."""
    signals.after_task_publish.connect(
        on_publish, weak=False, dispatch_uid="celery_monitor_tracking.publish"
    )


def on_publish(
    sender: str,
    body: Any,
    headers: Mapping[str, Any] | None = None,
    exchange: Any = None,
    routing_key: str | None = None,
    **_: Any,
) -> None:
    """Record a tracked task that was sent, but none that is sent again by itself."""
    if not task_tracker.registrations(sender):
        return
    now = time.time()
    headers = headers or {}
    # The first version of Celery's protocol has it all in the body.
    if isinstance(body, Mapping):
        message, call = body, (body["args"], body["kwargs"])
    else:
        message, call = headers, (body[0], body[1])
    retries = message.get("retries") or 0
    if retries:
        return
    # The default exchange takes the name of the queue for the key.
    exchange = getattr(exchange, "name", exchange)
    event = {
        "type": "task-sent",
        "uuid": str(message["id"]),
        "name": sender,
        "args": message.get("argsrepr") or represent(call[0]),
        "kwargs": message.get("kwargsrepr") or represent(call[1]),
        "retries": retries,
        "eta": message.get("eta"),
        "expires": message.get("expires"),
        "root_id": message.get("root_id"),
        "parent_id": message.get("parent_id"),
        "queue": routing_key if exchange == "" else None,
        "exchange": exchange,
        "routing_key": routing_key,
        "timestamp": now,
        "local_received": now,
    }
    sent_by = provenance.of_message(headers, observer().fit)
    record(observe(sender, event, call, sent_by))
