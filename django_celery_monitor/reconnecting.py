"""Consuming from a broker that may be away, restart or freeze."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from typing import Any, ClassVar

from amqp.exceptions import PreconditionFailed
from celery.events import EventReceiver
from celery.utils.log import get_logger
from django.core.exceptions import ImproperlyConfigured
from kombu import Consumer
from kombu.exceptions import OperationalError
from kombu.transport import virtual

from . import guard
from .counters import Counters

logger = get_logger(__name__)

#: Seconds between two looks at the clock and at what there is to acknowledge.
TICK = 1.0

#: Messages in a row that the transport chokes on before it is taken for broken.
MAX_BROKEN = 100


class Reconnecting(EventReceiver):
    """A receiver that no failure of the broker ends, and that ends when told to."""

    #: The receiver that holds events now: to end, set its ``should_stop``. None:
    #: it is connecting, holds nothing, and may be interrupted by an exception.
    consuming: ClassVar[Reconnecting | None] = None

    counters: Counters
    #: The name of the durable queue; None: what is not consumed is lost.
    durable_name: str | None = None

    #: Seconds without an event after which a connection that had some is renewed:
    #: a worker sends one every two seconds.
    stale_after: float = 60.0
    #: Seconds between the heartbeats of an AMQP connection, which ends without two.
    #: At least 4: py-amqp does not stop to wait while the broker's come in.
    heartbeat: float = 10.0
    #: Seconds that one call to the broker may take.
    call_timeout: float = 5.0
    #: Seconds to wait before the first new attempt to connect, and at most.
    first_wait: float = 1.0
    longest_wait: float = 30.0

    _client: Any
    _link: Any = None
    _consumers: tuple[Any, ...] = ()
    _attempts = _broken = 0
    _ticked = _heard = 0.0
    _worked = False

    @property
    def connection(self) -> Any:
        """The connection that is in use, or that those in use are copies of."""
        return self._link or self._client

    def heard(self) -> None:
        """Note that something has arrived: the connection works."""
        self._heard = time.monotonic()
        self._attempts = self._broken = 0

    def unreadable(self, exc: Exception) -> None:
        """Hear of a message that the transport cannot even open."""

    def acknowledge(self) -> None:
        """Acknowledge what is saved; may raise the errors of the connection."""

    def is_owing(self) -> bool:
        """Return whether the broker may wait for something to be acknowledged."""
        return False

    def forget(self) -> None:
        """Forget what is to be acknowledged: it comes again, by other numbers."""

    def consume(  # type: ignore[override]  # the stubs have no generator
        self,
        limit: int | None = None,
        timeout: float | None = None,
        safety_interval: float = TICK,
        **kwargs: Any,
    ) -> Iterator[None]:
        """Consume events, over as many connections as it takes; yield after each.

        Ends after ``limit`` messages or when ``should_stop`` is set. Raises
        TimeoutError when there was nothing for ``timeout`` seconds and
        ImproperlyConfigured when the durable queue exists with other arguments.
        """
        errors = self._errors()
        idle = 0.0
        limit = limit or None
        Reconnecting.consuming = None
        try:
            while not self.should_stop and limit != 0:
                try:
                    if self._link is None:
                        self._open(**kwargs)
                    came = self._turn(safety_interval)
                except ImproperlyConfigured:
                    raise
                except Exception as exc:
                    # A connection that breaks raises all sorts of things, also
                    # AttributeError; before there ever was one, they are mistakes.
                    if not (self._worked or isinstance(exc, errors)):
                        raise
                    self._lost(exc)
                    continue
                if came:
                    idle, limit = 0.0, limit - 1 if limit else None
                    yield
                    continue
                idle += safety_interval
                if timeout and idle >= timeout:
                    raise TimeoutError("timed out")
        finally:
            # From here on the last events are saved: that is not to be interrupted.
            Reconnecting.consuming = self
            self._end()

    def _errors(self) -> tuple[type[Exception], ...]:
        client = self._client
        own = (OSError, OperationalError)
        return (*client.connection_errors, *client.channel_errors, *own)

    def create_connection(self) -> Any:
        """Return a connection, not yet made, on which no call lasts for ever."""
        options = dict(self._client.transport_options or {})
        if self._client.transport.driver_type == "redis":
            options = {
                "socket_timeout": self.call_timeout,
                "socket_connect_timeout": self.call_timeout,
                "socket_keepalive": True,
                "health_check_interval": 10,
                **options,
            }
        return self._client.clone(heartbeat=self.heartbeat, transport_options=options)

    def _open(self, wakeup: bool = True) -> None:  # noqa: FBT001, FBT002 -- Celery's
        """Connect and begin to consume."""
        self._link = link = self.create_connection()
        # One attempt for each server that is named, without a pause.
        link.ensure_connection(None, max(len(link.alt), 1), 0, 0, 0)
        sock = getattr(link.connection, "sock", None)
        if sock is not None:
            sock.settimeout(self.call_timeout)
        channel = link.default_channel
        make: Any = partial(Consumer, channel, on_decode_error=self.on_decode_error)
        try:
            self._consumers = tuple(self.get_consumers(make, channel))
        except PreconditionFailed as exc:
            if self.durable_name is None or f"'{self.durable_name}'" not in str(exc):
                raise
            msg = (
                f"monitor_durable_queue: the queue {self.durable_name!r} exists with "
                "other arguments than monitor_durable_queue_type, _ttl and "
                f"_max_length say; delete it or name another one: {exc}"
            )
            raise ImproperlyConfigured(msg) from exc
        self._heard, self._ticked, self._worked = 0.0, time.monotonic(), True
        Reconnecting.consuming = self
        for consumer in self._consumers:
            consumer.consume()
        self.on_connection_revived()
        logger.info("Connected to %s", link.as_uri())
        self.on_consume_ready(link, channel, list(self._consumers), wakeup=wakeup)

    def _turn(self, seconds: float) -> bool:
        """Wait for a message for some seconds; return whether there was one."""
        link, now = self._link, time.monotonic()
        self.on_iteration()
        # Also while messages come in: the broker wants to hear something.
        if now - self._ticked >= TICK:
            self._ticked = now
            link.heartbeat_check()
        try:
            link.drain_events(timeout=seconds)
        except TimeoutError as exc:
            if exc.errno is not None:  # the connection's own, not that of the wait
                raise
            quiet = self._heard and time.monotonic() - self._heard > self.stale_after
            if quiet and not self.is_owing():
                msg = f"nothing has arrived for {self.stale_after:.0f} seconds"
                raise ConnectionError(msg) from exc
            return False
        except Exception as exc:
            # A transport in Python has taken the message from the broker by then. On
            # Redis, kombu counts a KeyError among the errors of a connection.
            known = isinstance(exc, self._errors()) and not isinstance(exc, KeyError)
            native = not isinstance(link.transport, virtual.Transport)
            self._broken += 1
            if known or native or self._broken > MAX_BROKEN:
                raise
            self.unreadable(exc)
        return True

    def _lost(self, exc: Exception) -> None:
        """Say that there is no connection, and wait for the next attempt."""
        Reconnecting.consuming = None  # every callback has returned
        self._disconnect(gracefully=False)
        if self.should_stop:
            return
        self.counters.reconnects += 1
        # Cameras that lost one broker are not to come back all at once.
        spread = 1 + random.random() / 2  # noqa: S311 -- no secret
        wait = self.first_wait * 2 ** min(self._attempts, 10) * spread
        wait = min(wait, self.longest_wait)
        self._attempts += 1
        logger.warning(
            "No connection to the broker %s, trying again in %.1f s: %s: %s",
            self._client.as_uri(),
            wait,
            type(exc).__name__,
            guard.printable(str(exc)),
        )
        end = time.monotonic() + wait
        while not self.should_stop:
            left = end - time.monotonic()
            if left <= 0:
                break
            time.sleep(min(left, 0.5))

    # Ending

    def _end(self) -> None:
        """Stop consuming; a durable queue's connection stays for ``close()``."""
        if self._link is None:
            return
        try:
            for consumer in self._consumers:
                consumer.cancel()
        except Exception as exc:  # noqa: BLE001 -- the connection ends all the same
            logger.info("The broker did not answer at the end: %r", exc)
            self._disconnect(gracefully=False)
        else:
            if self.durable_name is None:
                self._disconnect(gracefully=True)

    def close(self) -> None:
        """Acknowledge what is committed, and disconnect.

        To be called in the thread of ``capture()``, after it has returned and
        the last events are saved. What is not acknowledged comes again. Does
        nothing when there is no connection.
        """
        try:
            self.acknowledge()
        except self._errors() as exc:
            logger.warning("Cannot acknowledge, events will come again: %r", exc)
            self._disconnect(gracefully=False)
        self._disconnect(gracefully=True)

    def _disconnect(self, *, gracefully: bool) -> None:
        link, self._link, self._consumers = self._link, None, ()
        self.forget()
        if link is None:
            return
        with suppress(Exception):
            # A broker that is frozen would not answer to a farewell.
            link.release() if gracefully else link.collect(self.call_timeout)
