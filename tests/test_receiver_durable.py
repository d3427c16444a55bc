"""The receiver on a durable queue: what it acknowledges."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from kombu import Connection

from django_celery_monitor.counters import Counters
from django_celery_monitor.receiver import Receiver
from tests.events import worker_event
from tests.receivers import make_app, make_receiver


def test_durable_queue_needs_rabbitmq() -> None:
    app = make_app(monitor_durable_queue="events")
    with pytest.raises(ImproperlyConfigured, match="monitor_durable_queue"):
        make_receiver(app)


def make_durable(**conf: Any) -> Receiver:
    app = make_app(monitor_durable_queue="events", **conf)
    receiver = Receiver(Connection("amqp://"), app=app)
    receiver.counters = Counters()
    return receiver


def test_durable_queue_outlives_its_consumer() -> None:
    queue: Any = make_durable(
        monitor_durable_queue_type="quorum",
        monitor_durable_queue_ttl=60,
        monitor_durable_queue_max_length=1000,
    ).queue
    assert queue.name == "events"
    assert queue.durable
    assert not queue.exclusive
    assert not queue.auto_delete
    assert queue.expires is None
    assert queue.queue_arguments == {
        "x-queue-type": "quorum",
        "x-message-ttl": 60_000,
        "x-max-length": 1000,
    }


def test_durable_consumer_acknowledges() -> None:
    receiver = make_durable(monitor_durable_prefetch=65_535)
    made: list[dict[str, Any]] = []
    receiver.get_consumers(lambda **options: made.append(options), None)
    assert made[0]["no_ack"] is False
    assert made[0]["prefetch_count"] == 65_535


@dataclass
class FakeOutbox:
    generation: int = 1
    committed: int = 0

    def __len__(self) -> int:
        """Return that nothing waits, as it is at times."""
        return 0


def test_what_is_committed_is_acknowledged() -> None:
    receiver = make_durable()
    acks: list[int] = []
    channel = SimpleNamespace(basic_ack=lambda tag, multiple: acks.append(tag))
    receiver._link = SimpleNamespace(default_channel=channel)
    receiver.outbox = outbox = FakeOutbox()

    def take(*tags: int) -> None:
        for tag in tags:
            receiver._receive(worker_event(), SimpleNamespace(delivery_tag=tag))

    take(1, 2)
    receiver.on_decode_error(SimpleNamespace(delivery_tag=3), ValueError())
    receiver.on_iteration()
    assert acks == []
    assert receiver.is_owing()
    outbox.generation = 2
    take(4)
    outbox.committed = 1
    receiver.on_iteration()
    assert acks == [3]
    outbox.generation = 5
    take(5)
    receiver.on_iteration()
    assert acks == [3]
    outbox.committed = 5
    receiver.acknowledge()
    assert acks == [3, 5]
    assert not receiver.is_owing()
    receiver.acknowledge()
    assert acks == [3, 5]
