"""The receiver that ``celery events`` consumes events with."""

from __future__ import annotations

import json
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

from celery.utils.log import get_logger
from django.core.exceptions import ImproperlyConfigured
from kombu import Connection, Queue

from . import conf, guard
from .counters import Counters
from .reconnecting import Reconnecting
from .sanitize import fit_identifier

logger = get_logger(__name__)

#: The type of nearly every message, and what kombu marks values of other types with.
JSON, TYPED = "application/json", '"__type__"'


class Generations(Protocol):
    """What a durable queue has to know of the outbox: what is committed."""

    @property
    def generation(self) -> int:
        """The number that events added now belong to."""

    @property
    def committed(self) -> int:
        """The number up to which everything is in the database."""


class Receiver(Reconnecting):
    """Celery's receiver, which no event and no failure of the broker ends.

    ``capture()`` connects, and connects again, until ``should_stop`` is set. Each
    event is checked, and an exception costs the one event that it comes from. With
    the setting ``monitor_durable_queue`` messages are acknowledged once what they
    say is committed; call ``close()`` after the last commit.
    """

    #: Where what arrives is counted; a camera has one of its own.
    counters: Counters = Counters()
    #: Whether the events are for a State, which orders them by their logical clocks.
    for_state = True
    #: Tells what is committed; without one, everything that was handled is.
    outbox: Generations | None = None

    # What Celery's receiver has, unknown to its stubs.
    accept: Any
    exchange: Any
    routing_key: str
    clock: Any

    def __init__(self, channel: Any, *args: Any, **kwargs: Any) -> None:
        # Celery would take a connection's channel, and so wait for the broker here.
        own = isinstance(channel, Connection)
        self._client: Any = channel if own else channel.connection.client
        super().__init__(None, *args, **kwargs)
        self._samples = guard.Samples()
        self._pending: deque[tuple[int, int]] = deque()
        self.durable_name: str | None = conf.get("monitor_durable_queue", self.app)
        if self.durable_name is not None:
            self.queue = self._durable_queue(self.durable_name)

    def _durable_queue(self, name: str) -> Queue:
        if self._client.transport.driver_type != "amqp":
            msg = (
                "monitor_durable_queue needs RabbitMQ, the broker's transport is "
                f"{self._client.transport.driver_type!r}."
            )
            raise ImproperlyConfigured(msg)
        ttl = conf.get("monitor_durable_queue_ttl", self.app)
        return Queue(
            name,
            exchange=self.exchange,
            routing_key=self.routing_key,
            durable=True,
            exclusive=False,
            auto_delete=False,
            queue_arguments={
                "x-queue-type": conf.get("monitor_durable_queue_type", self.app),
                "x-message-ttl": int(ttl * 1000),
                "x-max-length": conf.get("monitor_durable_queue_max_length", self.app),
            },
        )

    def get_consumers(
        self,
        Consumer: Callable[..., Any],  # noqa: N803 -- kombu's name
        channel: Any,
    ) -> list[Any]:
        """Return the one consumer of the queue of events."""
        options: dict[str, Any] = {"no_ack": True}
        if self.durable_name is not None:
            prefetch = conf.get("monitor_durable_prefetch", self.app)
            options = {"no_ack": False, "prefetch_count": prefetch}
        options |= {"queues": [self.queue], "accept": self.accept}
        return [Consumer(on_message=self._on_message, **options)]

    def on_consume_ready(
        self, connection: Any, channel: Any, consumers: Any, *args: Any, **kwargs: Any
    ) -> None:
        """Ask the workers for a heartbeat."""
        # RabbitMQ may cease to read from a connection that has published, and so
        # not take acknowledgements from it.
        if self.durable_name is None:
            super().on_consume_ready(connection, channel, consumers, *args, **kwargs)

    # Events

    def _on_message(self, message: Any) -> None:
        """Take a message as it came."""
        try:
            body = decode(message)
        except Exception as exc:  # noqa: BLE001 -- as kombu does
            self.on_decode_error(message, exc)
        else:
            self._receive(body, message)

    def _receive(self, body: Any, message: Any) -> None:
        """Take a message, which is an event or a list of them."""
        for event in body if isinstance(body, list) else (body,):
            self.counters.received += 1
            try:
                self.process(*self.event_from_message(event))
            except Exception as exc:  # noqa: BLE001 -- whatever it is
                self._reject(event, exc)
        self._took(message)

    def event_from_message(
        self,
        body: Any,
        localize: bool = False,  # noqa: FBT001, FBT002 -- Celery's signature
        *args: Any,
        **kwargs: Any,
    ) -> tuple[str, dict[str, Any]]:
        """Return the type of the event and the event, made fit as ``guard.fit`` says.

        The timestamp of an event is absolute. Celery shifts it by the difference
        between the worker's time zone and this process's, which Django sets. A
        clock that is ahead would win against everything that follows, so no event
        happens later than it is received. Raises guard.Poison.
        """
        now = time.time()
        event, made_fit = guard.fit(body, now)
        if made_fit:
            self.counters.made_fit += 1
        if event["timestamp"] > now:
            event["timestamp"] = now
        if self.for_state:
            self._fit_hostname(event)
            return super().event_from_message(event, localize, *args, **kwargs)
        event["local_received"] = now
        return event["type"], event

    def _fit_hostname(self, event: dict[str, Any]) -> None:
        """Make the hostname fit for the State, which logs it as it is."""
        hostname = event.get("hostname")
        if not isinstance(hostname, str):
            return
        shown = hostname if hostname.isprintable() else repr(hostname)[1:-1]
        event["hostname"] = fit = fit_identifier(shown)
        self.counters.made_fit += fit != hostname

    def on_decode_error(self, message: Any, exc: Exception) -> None:
        """Skip a message that cannot be decoded."""
        self.counters.received += 1
        about = ("content_type", "content_encoding", "body")
        self._reject([getattr(message, name, None) for name in about], exc)
        self._took(message)

    def unreadable(self, exc: Exception) -> None:
        """Skip a message that the transport cannot even open."""
        self.counters.received += 1
        self._reject("a message", exc)

    def _reject(self, body: Any, exc: Exception) -> None:
        self.counters.poison += 1
        if self._samples.due():
            logger.warning(
                "Skipped what is no usable event (%d more since the last such line): "
                "%s: %s",
                self._samples.take_left_out(),
                # The words of others may hold what no log is to have.
                exc if isinstance(exc, guard.Poison) else type(exc).__name__,
                guard.sample(body),
            )

    # Acknowledging

    def _took(self, message: Any) -> None:
        """Remember that a message has been handled."""
        self.heard()
        tag = getattr(message, "delivery_tag", None)
        if self.durable_name is None or tag is None:
            return
        # Read after the events were added: never an earlier one than theirs.
        generation = 0 if self.outbox is None else self.outbox.generation
        if self._pending and self._pending[-1][0] == generation:
            self._pending.pop()
        self._pending.append((generation, tag))

    def on_iteration(self) -> None:
        """Acknowledge, in the thread whose the channel is."""
        if self._pending:
            self.acknowledge()

    def is_owing(self) -> bool:
        """Return whether the broker may wait for something to be acknowledged."""
        return bool(self._pending)

    def forget(self) -> None:
        """Forget what is to be acknowledged: it comes again, by other numbers."""
        self._pending.clear()

    def acknowledge(self) -> None:
        """Acknowledge the messages that are committed, in the receiver's thread.

        Raises the errors of the connection.
        """
        committed = 0 if self.outbox is None else self.outbox.committed
        tag = None
        while self._pending and self._pending[0][0] <= committed:
            tag = self._pending.popleft()[1]
        if tag is not None:
            self._link.default_channel.basic_ack(tag, multiple=True)


def decode(message: Any) -> Any:
    """Return the body of a message; raises what kombu raises.

    What says nothing of types, as no event does, is read without kombu's look at
    every mapping and its decoder made for each message, which take longer than that.
    """
    body = message.body
    if message.content_type == JSON and JSON in (message.accept or ()):
        text = str(body, "utf-8") if isinstance(body, (bytes, memoryview)) else body
        if isinstance(text, str) and text and TYPED not in text:
            return json.loads(text)
    return message.decode()
