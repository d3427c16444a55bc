"""The receiver in a process of its own, on real brokers that fail."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from signal import SIGKILL, SIGTERM
from typing import Any

import pytest
from kombu import Connection, Queue

from tests.events import task_event
from tests.integration.brokers import Proxy, RedisServer, proxy, redis_server
from tests.integration.processes import wait_for
from tests.integration.receiving import MakeReceiving, Receiving

pytestmark = [pytest.mark.integration]

REDIS = pytest.param("REDIS_URL", marks=pytest.mark.services("REDIS_URL"))
AMQP = pytest.param("AMQP_URL", marks=pytest.mark.services("AMQP_URL"))
brokers = pytest.mark.parametrize("variable", [REDIS, AMQP])
rabbitmq = pytest.mark.services("AMQP_URL")

#: What makes an event none.
WRONG: list[dict[str, Any]] = [
    {"uuid": None},
    {"uuid": [1]},
    {"type": 7},
    {"type": "x" * 300},
    {"hostname": {}},
]

#: Messages that are no events: body, content type, encoding.
POISON: list[tuple[Any, str, str]] = [
    *((body, "application/json", "utf-8") for body in ("", "{", "null", "[[]]", "7")),
    *(
        (json.dumps({**task_event("task-failed"), **fields}), "application/json", "")
        for fields in WRONG
    ),
    (b"\xff\xfe", "application/json", "utf-8"),
    (b"{}", "application/x-python-serialize", "binary"),
    (b"{}", "application/json", "no such"),
]


@pytest.fixture
def make_receiving(tmp_path: Path) -> Iterator[MakeReceiving]:
    with ExitStack() as stack:

        def make(url: str, direct: str | None = None) -> Receiving:
            receiving = Receiving(url, tmp_path, direct or url)
            stack.callback(receiving.end)
            return receiving

        yield make


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    """Return a Redis server of the test's own, not started."""
    with redis_server(tmp_path) as server:
        yield server


@pytest.fixture
def way() -> Iterator[Proxy]:
    """Return a way to RabbitMQ that is not open."""
    with proxy(os.environ["AMQP_URL"], 5672) as opened:
        yield opened


@brokers
def test_poison_over_the_wire(make_receiving: MakeReceiving, variable: str) -> None:
    receiving = make_receiving(os.environ[variable])
    process = receiving.start()
    receiving.connected(process)

    for body, content_type, encoding in POISON:
        receiving.publish(body, content_type, encoding)
        receiving.send("between")
    receiving.send("last")

    receiving.receives(process, "last")
    receiving.stops(process, 5)
    assert receiving.received(process) == ["between"] * len(POISON) + ["last"]
    received = 2 * len(POISON) + 1
    assert f"received={received}," in process.output()
    assert f"poison={len(POISON)}," in process.output()
    assert "reconnects=0," in process.output()


@pytest.mark.services("REDIS_URL")
def test_message_on_redis_that_is_no_message(make_receiving: MakeReceiving) -> None:
    receiving = make_receiving(os.environ["REDIS_URL"])
    process = receiving.start()
    receiving.connected(process)
    for frame in ("{}", '{"body": "{}"}', "[]", "7"):
        assert receiving.publish_frame(frame) == 1

    receiving.send("after")

    receiving.receives(process, "after")
    receiving.stops(process, 5)
    assert "received=5," in process.output()
    assert "poison=4," in process.output()
    assert "reconnects=0," in process.output()


def check_restarts(receiving: Receiving, server: RedisServer | Proxy) -> None:
    process = receiving.start()
    wait_for(lambda: "No connection to the broker" in process.output())
    assert process.popen.poll() is None
    server.start()
    receiving.connected(process)
    receiving.works(process, "first")

    server.stop()
    wait_for(lambda: process.output().count("No connection") >= 2)
    server.start()

    receiving.connected(process, 2)
    receiving.works(process, "second")
    receiving.stops(process, 5)


@pytest.mark.services("REDIS_URL")
def test_redis_is_absent_and_restarts(
    make_receiving: MakeReceiving, redis: RedisServer
) -> None:
    check_restarts(make_receiving(redis.url), redis)


@rabbitmq
def test_rabbitmq_is_absent_and_restarts(
    make_receiving: MakeReceiving, way: Proxy
) -> None:
    check_restarts(make_receiving(way.url, os.environ["AMQP_URL"]), way)


def check_frozen(receiving: Receiving, server: RedisServer | Proxy) -> None:
    server.start()
    process = receiving.start()
    receiving.connected(process)
    receiving.works(process, "first")

    server.freeze()
    wait_for(lambda: "No connection" in process.output())
    server.thaw()

    receiving.connected(process, 2)
    receiving.works(process, "second")
    receiving.stops(process, 5)


@pytest.mark.services("REDIS_URL")
def test_redis_is_frozen(make_receiving: MakeReceiving, redis: RedisServer) -> None:
    check_frozen(make_receiving(redis.url), redis)


@rabbitmq
def test_rabbitmq_is_frozen(make_receiving: MakeReceiving, way: Proxy) -> None:
    check_frozen(make_receiving(way.url, os.environ["AMQP_URL"]), way)


def check_stops(receiving: Receiving, server: RedisServer | Proxy) -> None:
    server.start()
    process = receiving.start()
    receiving.connected(process)
    receiving.works(process, "first")
    server.freeze()
    receiving.stops(process, 15)


@pytest.mark.services("REDIS_URL")
def test_a_signal_while_redis_is_frozen(
    make_receiving: MakeReceiving, redis: RedisServer
) -> None:
    check_stops(make_receiving(redis.url), redis)


@rabbitmq
def test_a_signal_while_rabbitmq_is_frozen(
    make_receiving: MakeReceiving, way: Proxy
) -> None:
    check_stops(make_receiving(way.url, os.environ["AMQP_URL"]), way)


@pytest.mark.services("REDIS_URL")
def test_a_signal_while_there_is_no_broker(
    make_receiving: MakeReceiving, redis: RedisServer
) -> None:
    receiving = make_receiving(redis.url)
    process = receiving.start()
    wait_for(lambda: "No connection" in process.output())
    receiving.stops(process, 3)


# The durable queue


@rabbitmq
@pytest.mark.parametrize("ends", ["by itself", "killed"])
def test_what_is_not_committed_comes_again(
    make_receiving: MakeReceiving, ends: str
) -> None:
    receiving = make_receiving(os.environ["AMQP_URL"])
    durable = f"{receiving.name}.durable"
    first = receiving.start(durable, keep="2")
    receiving.connected(first)
    sent = [f"id-{number}" for number in range(5)]
    receiving.send(*sent)
    receiving.receives(first, *sent)
    time.sleep(1.5)  # what is acknowledged is so within a second
    first.signal(SIGKILL if ends == "killed" else SIGTERM)
    first.wait()
    receiving.send("meanwhile")

    second = receiving.start(durable)

    receiving.receives(second, "meanwhile")
    # An event is the next generation's when its message is taken.
    assert receiving.received(second) == [*sent[1:], "meanwhile"]
    receiving.stops(second, 5)
    third = receiving.start(durable)
    receiving.connected(third)
    receiving.send("last")
    receiving.receives(third, "last")
    assert receiving.received(third) == ["last"]


@rabbitmq
def test_what_is_committed_at_the_end_does_not_come_again(
    make_receiving: MakeReceiving,
) -> None:
    receiving = make_receiving(os.environ["AMQP_URL"])
    durable = f"{receiving.name}.durable"
    first = receiving.start(durable, keep="stop")
    receiving.connected(first)
    receiving.publish("{", "application/json", "utf-8")
    receiving.send("id-1", "id-2")
    receiving.receives(first, "id-1", "id-2")
    receiving.stops(first, 5)
    second = receiving.start(durable)
    receiving.connected(second)
    receiving.send("last")
    receiving.receives(second, "last")
    assert receiving.received(second) == ["last"]


@rabbitmq
def test_durable_queue_over_a_restart(
    make_receiving: MakeReceiving, way: Proxy
) -> None:
    receiving = make_receiving(way.url, os.environ["AMQP_URL"])
    way.start()
    process = receiving.start(f"{receiving.name}.durable", keep="stop")
    receiving.connected(process)
    receiving.send("first")
    receiving.receives(process, "first")

    way.stop()
    receiving.send("meanwhile")
    way.start()

    receiving.receives(process, "meanwhile")
    # The tag that the first connection had is not acknowledged on the second.
    assert receiving.received(process)[:2] == ["first", "first"]
    receiving.stops(process, 5)


@rabbitmq
def test_several_share_a_durable_queue(make_receiving: MakeReceiving) -> None:
    receiving = make_receiving(os.environ["AMQP_URL"])
    both = [receiving.start(f"{receiving.name}.durable") for _ in range(2)]
    for process in both:
        receiving.connected(process)
    sent = [f"id-{number}" for number in range(10)]
    receiving.send(*sent)
    wait_for(lambda: len([i for p in both for i in receiving.received(p)]) == 10)
    assert sorted(i for p in both for i in receiving.received(p)) == sent
    assert all(receiving.received(process) for process in both)


@rabbitmq
def test_durable_queue_with_other_arguments(make_receiving: MakeReceiving) -> None:
    receiving = make_receiving(os.environ["AMQP_URL"])
    durable = f"{receiving.name}.durable"
    with Connection(receiving.direct) as connection:
        arguments = {"x-message-ttl": 1}
        queue = Queue(durable, receiving.exchange(), queue_arguments=arguments)
        queue(connection.default_channel).declare()
    process = receiving.start(durable)
    assert process.wait() != 0
    assert "ImproperlyConfigured: monitor_durable_queue" in process.output()
    assert process.output().count("No connection") == 0
