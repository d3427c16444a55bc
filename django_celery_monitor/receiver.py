"""The receiver that ``celery events`` consumes events with."""

from __future__ import annotations

from typing import Any, ClassVar

from celery.events import EventReceiver


class Receiver(EventReceiver):
    """Celery's receiver, but for what it does to the time of an event.

    The timestamp of an event is absolute. Celery shifts it by the difference
    between the worker's time zone and this process's, which Django sets. A clock
    that is ahead would win against everything that follows, so no event happens
    later than it is received.
    """

    #: The receiver that this process consumes events with; None: none yet.
    consuming: ClassVar[Receiver | None] = None

    def on_consume_ready(self, *args: Any, **kwargs: Any) -> None:
        """Tell whom to stop from now on: from here on ``should_stop`` is looked at."""
        Receiver.consuming = self
        super().on_consume_ready(*args, **kwargs)

    def event_from_message(
        self,
        body: Any,
        localize: bool = False,  # noqa: FBT001, FBT002 -- Celery's signature
        *args: Any,
        **kwargs: Any,
    ) -> tuple[str, dict[str, Any]]:
        """Return the type of the event and the event."""
        type_, event = super().event_from_message(body, localize, *args, **kwargs)
        timestamp = event.get("timestamp")
        if isinstance(timestamp, (int, float)):
            event["timestamp"] = min(timestamp, event["local_received"])
        return type_, event
