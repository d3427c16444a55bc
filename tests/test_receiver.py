"""The receiver: the time of an event."""

from __future__ import annotations

import pytest
import time_machine
from celery import Celery
from celery.utils.time import utcoffset
from django.test import override_settings

from django_celery_monitor.receiver import Receiver
from tests.events import NOW, received, task_event


@pytest.fixture
def receiver() -> Receiver:
    app = Celery("receiver", broker="memory://", set_as_current=False)
    return Receiver(app.connection_for_read(), app=app)


@pytest.mark.parametrize("zone", ["UTC", "America/New_York", "Asia/Kolkata"])
@time_machine.travel(NOW + 1, tick=False)
def test_time_zones_of_worker_and_camera_do_not_shift_an_event(
    receiver: Receiver, zone: str
) -> None:
    with override_settings(TIME_ZONE=zone):
        body = {**received(at=NOW), "utcoffset": utcoffset() + 3}
        type_, event = receiver.event_from_message(body)
    assert type_ == "task-received"
    assert event["timestamp"] == NOW
    assert event["local_received"] == NOW + 1


def test_clock_that_is_ahead_is_the_time_of_receipt(receiver: Receiver) -> None:
    with time_machine.travel(NOW, tick=False):
        _, event = receiver.event_from_message(received(at=NOW + 3600))
    assert event["timestamp"] == NOW


@pytest.mark.parametrize("timestamp", [None, "soon"])
def test_event_without_a_usable_time_is_passed_on(
    receiver: Receiver, timestamp: object
) -> None:
    body = {**task_event("task-started"), "timestamp": timestamp}
    _, event = receiver.event_from_message(body)
    assert event["timestamp"] == timestamp
