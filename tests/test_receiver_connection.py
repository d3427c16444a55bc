"""The receiver over a connection: how it consumes, reconnects, waits and ends."""

from __future__ import annotations

import json
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest
from celery import Celery

from django_celery_monitor.counters import Counters
from django_celery_monitor.receiver import Receiver
from tests.events import task_event, worker_event
from tests.receivers import make_app, make_receiver


@pytest.fixture
def app() -> Celery:
    return make_app()


@pytest.fixture(autouse=True)
def _nobody_is_consuming(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("django_celery_monitor.reconnecting.TICK", 0.05)


@dataclass
class Capture:
    """A receiver that captures in a thread."""

    app: Celery
    receiver: Receiver
    thread: threading.Thread
    seen: list[Any]

    def publish(self, body: bytes | str, **properties: Any) -> None:
        """Publish a message as it is."""
        options = {"content_type": "application/json", "content_encoding": "utf-8"}
        with self.app.connection_for_write() as connection:
            connection.Producer().publish(
                body,
                exchange=self.receiver.exchange,
                routing_key="worker.heartbeat",
                **{**options, **properties},
            )

    def wait_for(self, uuid: str) -> None:
        """Return when the event about a task has been taken."""
        self.publish(json.dumps(task_event("task-started", uuid)))
        until(lambda: uuid in [event.get("uuid") for event in self.seen])

    def stop(self) -> None:
        """End the thread."""
        self.receiver.should_stop = True
        self.thread.join(10)
        assert not self.thread.is_alive()


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


MakeCapture = Callable[..., Capture]


@pytest.fixture
def make_capture(app: Celery) -> Iterator[MakeCapture]:
    made: list[Capture] = []
    # The broker in memory is one for all.
    app.conf.event_exchange = f"events{time.monotonic_ns()}"
    app.conf.control_exchange = f"control{time.monotonic_ns()}"
    app.conf.broker_transport_options = {"polling_interval": 0.01}

    def make(base: type[Receiver] = Receiver) -> Capture:
        seen: list[Any] = []
        client = app.connection_for_read()
        receiver = base(client, handlers={"*": seen.append}, app=app)
        receiver.counters = Counters()
        receiver.first_wait = 0.01
        thread = threading.Thread(
            target=lambda: list(receiver.consume(safety_interval=0.05))
        )
        made.append(Capture(app, receiver, thread, seen))
        thread.start()
        until(lambda: Receiver.consuming is receiver)
        return made[-1]

    yield make
    for capture in made:
        capture.stop()


def test_events_come_through(make_capture: MakeCapture) -> None:
    capture = make_capture()
    capture.wait_for("first")
    capture.stop()
    assert capture.receiver.counters == Counters(received=1)


@pytest.mark.parametrize(
    ("body", "properties"),
    [
        ("{", {}),
        (b"\xff\xfe", {}),
        ("[" * 100_000, {}),
        ("{}", {"content_type": "application/x-python-serialize"}),
        ("{}", {"content_type": "no such"}),
        (b"{}", {"content_encoding": "no such"}),
        ("{}", {"headers": {"compression": "application/x-gzip"}}),
        ("{}", {"headers": {"compression": "no such"}}),
    ],
    ids=repr,
)
def test_message_that_cannot_be_decoded_is_skipped(
    make_capture: MakeCapture, body: bytes | str, properties: dict[str, Any]
) -> None:
    capture = make_capture()
    capture.publish(body, **properties)
    capture.wait_for("after")
    assert [event["uuid"] for event in capture.seen] == ["after"]
    assert capture.receiver.counters == Counters(received=2, poison=1)


def test_message_that_the_transport_cannot_open_is_skipped(
    make_capture: MakeCapture,
) -> None:
    capture = make_capture()
    with capture.app.connection_for_write() as connection:
        channel: Any = connection.default_channel
        payloads: list[Any] = [{}, [], {"body": "", "properties": {}}, {"body": "{}"}]
        for payload in payloads:
            channel._put(capture.receiver.queue.name, payload)
    capture.wait_for("after")
    assert capture.receiver.counters == Counters(received=5, poison=4)


class Breaking(Receiver):
    """A receiver whose connection breaks when that is due."""

    due = False

    def on_iteration(self) -> None:
        """Break."""
        if self.due:
            self.due = False
            raise AttributeError("no longer there")


def test_connection_that_breaks_is_made_again(
    make_capture: MakeCapture, caplog: pytest.LogCaptureFixture
) -> None:
    capture = make_capture(Breaking)
    assert isinstance(capture.receiver, Breaking)
    capture.wait_for("first")
    before = capture.receiver.connection
    capture.receiver.due = True
    until(lambda: capture.receiver.counters.reconnects)
    until(lambda: Receiver.consuming is capture.receiver)
    capture.wait_for("second")
    assert capture.receiver.connection is not before
    lines = [line for line in caplog.messages if "No connection" in line]
    assert len(lines) == 1
    assert "no longer there" in lines[0]


class Silent(Receiver):
    """A receiver that soon has enough of silence."""

    stale_after = 0.1


def test_connection_that_falls_silent_is_made_again_once(
    make_capture: MakeCapture,
) -> None:
    capture = make_capture(Silent)
    time.sleep(0.3)
    assert capture.receiver.counters.reconnects == 0  # nothing had come
    capture.wait_for("first")
    until(lambda: capture.receiver.counters.reconnects == 1)
    time.sleep(0.3)
    assert capture.receiver.counters.reconnects == 1
    until(lambda: Receiver.consuming is capture.receiver)
    capture.wait_for("second")


class Owing(Silent):
    """A receiver that has more to acknowledge than its queue hands out."""

    def is_owing(self) -> bool:
        return True


def test_connection_is_silent_while_something_is_to_be_acknowledged(
    make_capture: MakeCapture,
) -> None:
    capture = make_capture(Owing)
    capture.wait_for("first")
    time.sleep(0.3)
    assert capture.receiver.counters.reconnects == 0


class Unreachable(Receiver):
    """A receiver whose broker is away."""

    tries = 0

    def create_connection(self) -> Any:
        """Refuse to connect."""
        self.tries += 1
        raise ConnectionRefusedError("nobody there")


def make_unreachable(app: Celery, first_wait: float) -> Unreachable:
    receiver = Unreachable(app.connection_for_read(), app=app)
    receiver.counters = Counters()
    receiver.first_wait = first_wait
    return receiver


def test_absent_broker_is_tried_ever_less_often(
    app: Celery, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    receiver = make_unreachable(app, 1)
    now = 0.0

    def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds
        assert Receiver.consuming is None
        receiver.should_stop = receiver.tries == 9

    clock = SimpleNamespace(monotonic=lambda: now, sleep=sleep)
    monkeypatch.setattr("django_celery_monitor.reconnecting.time", clock)
    receiver.capture(limit=None)
    lines = [line for line in caplog.messages if "trying again in" in line]
    waits = [float(line.split("again in ")[1].split()[0]) for line in lines]
    assert receiver.counters.reconnects == len(waits) == 9
    assert all(1.0 <= wait <= 30 for wait in waits)
    assert waits[:5] == sorted(waits[:5])
    assert waits[-3:] == [30, 30, 30]


def test_waiting_ends_when_told_to(app: Celery) -> None:
    receiver = make_unreachable(app, 3600)
    thread = threading.Thread(target=receiver.capture)
    thread.start()
    until(lambda: receiver.tries)
    receiver.should_stop = True
    thread.join(5)
    assert not thread.is_alive()


def test_waiting_may_be_interrupted_by_a_signal(app: Celery) -> None:
    def handler(signum: int, frame: object) -> None:
        assert Receiver.consuming is None
        raise SystemExit(0)

    receiver = make_unreachable(app, 3600)
    before = signal.signal(signal.SIGALRM, handler)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.2)
        with pytest.raises(SystemExit):
            receiver.capture(limit=None)
    finally:
        signal.signal(signal.SIGALRM, before)
    # What follows is the last shot.
    assert Receiver.consuming is receiver


def test_mistake_before_the_first_connection_is_raised(app: Celery) -> None:
    class Mistaken(Receiver):
        def create_connection(self) -> Any:
            raise TypeError("a mistake")

    with pytest.raises(TypeError, match="a mistake"):
        Mistaken(app.connection_for_read(), app=app).capture(limit=None)


def test_limit_and_timeout(app: Celery) -> None:
    receiver = make_receiver(app)
    with pytest.raises(TimeoutError):
        list(receiver.consume(timeout=0.1, safety_interval=0.05))
    with app.connection_for_read() as connection:
        queue = receiver.queue.bind(connection.default_channel)
        queue.declare()
        producer = connection.Producer(exchange=receiver.exchange, routing_key="x")
        for _ in range(3):
            producer.publish(worker_event())
        receiver.capture(limit=2)
    assert receiver.counters.received == 2
