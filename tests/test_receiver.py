"""The receiver: how it is made, and what the time of an event is."""

from __future__ import annotations

from typing import Any

import pytest
import time_machine
from celery.utils.time import utcoffset
from django.test import override_settings
from kombu import Connection

from django_celery_monitor.receiver import Receiver
from tests.events import NOW, received, task_event
from tests.receivers import make_app, make_receiver

# The time of an event


@pytest.mark.parametrize("zone", ["UTC", "America/New_York", "Asia/Kolkata"])
@time_machine.travel(NOW + 1, tick=False)
def test_time_zones_of_worker_and_camera_do_not_shift_an_event(zone: str) -> None:
    receiver = make_receiver()
    with override_settings(TIME_ZONE=zone):
        body = {**received(at=NOW), "utcoffset": utcoffset() + 3}
        type_, event = receiver.event_from_message(body)
    assert type_ == "task-received"
    assert event["timestamp"] == NOW
    assert event["local_received"] == NOW + 1


def test_clock_that_is_ahead_is_the_time_of_receipt() -> None:
    receiver = make_receiver()
    with time_machine.travel(NOW, tick=False):
        _, event = receiver.event_from_message(received(at=NOW + 3600))
    assert event["timestamp"] == NOW
    assert receiver.counters.made_fit == 0


def test_event_without_a_time_happens_when_it_is_received() -> None:
    receiver = make_receiver()
    body = task_event("task-started")
    del body["timestamp"]
    with time_machine.travel(NOW, tick=False):
        _, event = receiver.event_from_message(body)
    assert event["timestamp"] == NOW
    assert receiver.counters.made_fit == 1


# How it is made


def test_constructing_does_not_wait_for_the_broker() -> None:
    client = Connection("amqp://127.0.0.1:1//")
    receiver = Receiver(client, app=make_app())
    assert not client.connected
    assert receiver.connection is client


def test_channel_will_do() -> None:
    app = make_app()
    with app.connection_for_read() as connection:
        assert Receiver(connection.default_channel, app=app).connection is connection


@pytest.mark.parametrize(
    ("url", "options"),
    [
        ("memory://", {}),
        ("amqp://", {}),
        pytest.param(
            "redis://",
            {
                "socket_timeout": 2,
                "socket_connect_timeout": 5,
                "socket_keepalive": True,
                "health_check_interval": 10,
            },
            # Its driver comes with it.
            marks=pytest.mark.services("REDIS_URL"),
        ),
    ],
)
def test_no_call_lasts_for_ever(url: str, options: dict[str, Any]) -> None:
    given = {"socket_timeout": 2} if options else {}
    client = Connection(url, transport_options=given)
    connection = Receiver(client, app=make_app()).create_connection()
    assert connection.transport_options == options
    assert connection.heartbeat == 10
    assert client.transport_options == given
