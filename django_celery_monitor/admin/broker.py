"""The way to the workers: a connection to the broker on which nobody waits long."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from copy import copy
from functools import partial
from typing import TYPE_CHECKING, Any

from kombu.exceptions import OperationalError

from django_celery_monitor import conf

if TYPE_CHECKING:
    from celery.app.control import Control
    from kombu import Connection

#: Seconds that the broker has for each of its answers.
TIMEOUT = 4

#: Options that bound the wait for an answer, by the type of the driver. The others
#: have none, and some pass what they do not know on to something that refuses it.
TIMEOUT_OPTIONS = {
    "amqp": ("read_timeout", "write_timeout"),
    "redis": ("socket_timeout", "socket_connect_timeout"),
}


class BrokerError(Exception):
    """The broker cannot be reached, or took no command; says why, without password."""


@contextmanager
def connect() -> Iterator[tuple[Control, Connection]]:
    """Give the control of the project's Celery app, and a connection to call it with.

    Whoever waits for the page should learn that the broker is away: so there are
    no retries but one for each alternative broker. The connection is new, and not
    the pool's, where a command can vanish in one that the broker has closed.

    Raises BrokerError for whatever goes wrong with the broker inside the block.
    """
    app = conf.get_app()
    with app.connection_for_write(connect_timeout=TIMEOUT) as connection:
        options = TIMEOUT_OPTIONS.get(connection.transport.driver_type, ())
        connection.transport_options = {
            **(connection.transport_options or {}),
            **dict.fromkeys(options, TIMEOUT),
        }
        # Without an argument for it, kombu would publish again and again for ever.
        vars(connection)["ensure"] = partial(connection.ensure, max_retries=0)
        control: Any = copy(app.control)
        control.mailbox = control.mailbox(connection)
        control.mailbox.producer_pool = None
        try:
            connection.ensure_connection(
                max_retries=len(connection.alt),
                interval_start=0,
                interval_step=0,
                timeout=TIMEOUT,
            )
            yield control, connection
        except errors(connection) as exc:
            raise BrokerError(without_password(str(exc), connection.password)) from exc


def errors(connection: Connection) -> tuple[type[BaseException], ...]:
    """Return what can go wrong with the broker."""
    return (
        OperationalError,
        OSError,
        *connection.connection_errors,
        *connection.channel_errors,
    )


def without_password(text: str, password: Any) -> str:
    """Return ``text`` with a password in it, if there is one, made unreadable."""
    if isinstance(password, str) and password:
        return text.replace(password, "**")
    return text
