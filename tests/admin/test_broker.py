"""What happens to actions when the broker is away."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.test import Client
from kombu.transport import memory

from django_celery_monitor.admin import broker
from tests.admin.conftest import ALL_ACTIONS, ENTERED, TASKS, WORKERS, act, row_for
from tests.celery import app
from tests.factories import TaskStateFactory, WorkerStateFactory

FAILED = "The workers were not told, the message broker failed: "

pytestmark = pytest.mark.django_db


@pytest.fixture
def silent_port() -> Iterator[int]:
    """Return a port that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.fixture
def closed_port() -> int:
    """Return a port where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
    return port


@pytest.mark.parametrize(("url", "action"), ALL_ACTIONS)
def test_an_error_and_no_trace_when_the_broker_is_away(
    operator: Client,
    monkeypatch: pytest.MonkeyPatch,
    closed_port: int,
    url: str,
    action: str,
) -> None:
    monkeypatch.setenv(
        "CELERY_BROKER_WRITE_URL", f"amqp://user:hush@127.0.0.1:{closed_port}//"
    )
    row = row_for(url)
    started = time.monotonic()
    [message] = act(operator, url, action, row, **ENTERED)
    assert time.monotonic() - started < 5
    assert message.startswith(FAILED)
    assert "Connection refused" in message
    assert not LogEntry.objects.exists()


@pytest.mark.parametrize("scheme", ["amqp", "redis"])
@pytest.mark.parametrize("silent", [True, False])
def test_nobody_waits_long(
    monkeypatch: pytest.MonkeyPatch,
    silent_port: int,
    closed_port: int,
    scheme: str,
    silent: bool,
) -> None:
    pytest.importorskip(scheme)
    monkeypatch.setattr(broker, "TIMEOUT", 0.3)
    port = silent_port if silent else closed_port
    monkeypatch.setenv("CELERY_BROKER_WRITE_URL", f"{scheme}://127.0.0.1:{port}//")
    started = time.monotonic()
    with pytest.raises(broker.BrokerError), broker.connect():
        pytest.fail("connected to nothing")
    assert time.monotonic() - started < 3


def test_a_command_that_fails_on_its_way_is_not_repeated(
    operator: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries = []

    def put(*args: object, **kwargs: object) -> None:
        tries.append(args)
        raise ConnectionResetError("gone")

    monkeypatch.setattr(memory.Channel, "_put_fanout", put)
    monkeypatch.setattr(memory.Transport, "connection_errors", (OSError,))
    # A queue to put it in, without which nothing is put anywhere.
    with app.connection_for_write() as connection:
        mailbox = app.control.mailbox  # type: ignore[attr-defined]
        mailbox.get_queue("tests")(connection.default_channel).declare()
        [message] = act(operator, TASKS, "kill_tasks", TaskStateFactory.create())
    assert message == f"{FAILED}gone"
    assert len(tries) == 1
    assert not LogEntry.objects.exists()


@pytest.mark.parametrize("url", ["memory://:hush@localhost", "memory://localhost"])
def test_no_password_is_shown(
    operator: Client, monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    def refuse(transport: object) -> None:
        raise PermissionError("hush is not the password")

    monkeypatch.setenv("CELERY_BROKER_WRITE_URL", url)
    monkeypatch.setattr(memory.Transport, "establish_connection", refuse)
    [message] = act(operator, WORKERS, "shutdown_nodes", WorkerStateFactory.create())
    secret = "**" if ":hush@" in url else "hush"
    assert message == f"{FAILED}{secret} is not the password"


@pytest.mark.services("AMQP_URL")
def test_the_second_broker_is_tried(
    operator: Client, monkeypatch: pytest.MonkeyPatch, closed_port: int
) -> None:
    monkeypatch.setenv(
        "CELERY_BROKER_WRITE_URL",
        f"amqp://127.0.0.1:{closed_port}//;{os.environ['AMQP_URL']}",
    )
    messages = act(operator, TASKS, "revoke_tasks", TaskStateFactory.create())
    assert messages == [
        "The workers were told to revoke 1 task. No worker has answered."
    ]


@pytest.mark.parametrize(
    "variable",
    [
        pytest.param(name, marks=pytest.mark.services(name))
        for name in ("AMQP_URL", "REDIS_URL")
    ],
)
def test_workers_hear_of_it_through_a_real_broker(
    operator: Client, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.setenv("CELERY_BROKER_WRITE_URL", os.environ[variable])
    worker = WorkerStateFactory.create()
    heard: list[dict[str, Any]] = []
    with app.connection_for_write() as connection:
        mailbox = app.control.mailbox  # type: ignore[attr-defined]
        queue = mailbox.get_queue("tests")(connection.default_channel)
        with connection.Consumer(
            queue,
            callbacks=[lambda body, message: heard.append(body)],
            no_ack=True,
            accept=["json"],
        ):
            # Redis knows of a subscriber only when it listens.
            with suppress(TimeoutError):
                connection.drain_events(timeout=0.2)
            act(operator, WORKERS, "enable_events", worker)
            connection.drain_events(timeout=5)
    assert [each["destination"] for each in heard] == [[worker.hostname]]
    assert [each["method"] for each in heard] == ["enable_events"]
