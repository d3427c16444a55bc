"""Receives events in a process, and writes what it does a line each.

Arguments: the URL of the broker, a name for exchange and queue, the name of a durable
queue or "-", and how many of the first events count as committed: -1 for all, "stop"
for all once the receiver has ended. Ends like a camera on SIGINT and SIGTERM.
"""

from __future__ import annotations

import logging
import signal
import sys
from typing import Any

from celery import Celery

from django_celery_monitor.counters import Counters
from django_celery_monitor.receiver import Receiver


class Outbox:
    """What the events are put in: each has a generation of its own."""

    def __init__(self, keep: str) -> None:
        self.generation = 1
        self.keep = keep

    @property
    def committed(self) -> int:
        """As many as the command line says."""
        if self.keep == "stop":
            return 0
        return self.generation if self.keep == "-1" else int(self.keep)

    def add(self, event: dict[str, Any]) -> None:
        """Say which event this is."""
        print("event", event.get("uuid") or event["type"], flush=True)  # noqa: T201
        self.generation += 1


def on_signal(signum: int, frame: object) -> None:
    """End."""
    if Receiver.consuming is None:
        raise SystemExit(0)
    Receiver.consuming.should_stop = True


def main(url: str, name: str, durable: str, keep: str) -> None:
    """Receive until a signal comes."""
    logging.basicConfig(level="INFO", stream=sys.stdout)
    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, on_signal)
    app = Celery("receive", broker=url)
    app.conf.update(
        event_exchange=name,
        control_exchange=f"{name}.control",
        event_queue_prefix=name,
        monitor_durable_queue=None if durable == "-" else durable,
    )
    outbox = Outbox(keep)
    attributes = {"outbox": outbox, "counters": Counters(), "heartbeat": 4}
    own: Any = type("Own", (Receiver,), {**attributes, "stale_after": 3})
    app.events.receiver_cls = own
    connection = app.connection_for_read()
    receiver = app.events.Receiver(connection, handlers={"*": outbox.add})
    try:
        receiver.capture(limit=None)
    finally:
        if keep == "stop":
            outbox.keep = "-1"
        receiver.close()
        connection.close()
        print(receiver.counters, flush=True)  # noqa: T201


if __name__ == "__main__":
    main(*sys.argv[1:])
