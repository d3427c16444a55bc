"""The receiver: what it takes of an event, what it skips, how it connects and ends."""

from __future__ import annotations

import json
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest
import time_machine
from celery import Celery
from celery.utils.time import utcoffset
from django.core.exceptions import ImproperlyConfigured
from django.test import override_settings
from hypothesis import given
from hypothesis import strategies as st
from kombu import Connection

from django_celery_monitor import guard
from django_celery_monitor.counters import Counters
from django_celery_monitor.receiver import Receiver
from tests.events import NOW, received, task_event, worker_event

#: What no event is; each must be skipped alone.
POISON: list[Any] = [
    *(None, 0, 1.5, True, "task-started", [], {}, [[]]),
    {"type": None},
    {"type": 7, "uuid": "id-1", "hostname": "celery@one"},
    {"type": ""},
    {"type": "x" * 256},
    {**task_event("task-started"), "type": ["task-started"]},
    {**task_event("task-started"), "uuid": None},
    {**task_event("task-started"), "uuid": 7},
    {**task_event("task-started"), "uuid": {"a": 1}},
    {**task_event("task-started"), "hostname": None},
    {**worker_event(), "hostname": ["celery@one"]},
    {"type": "task-started"},
    {"type": "worker-heartbeat"},
]

UNTIMELY: list[Any] = [
    *(None, "soon", 1e20, -1.0, True, math.nan, math.inf, 10**400, 253_402_300_800, [])
]
UNCOUNTED: list[Any] = [None, "1", 1.5, -1, 10**30, True, {}]

#: Fields that no event has like that; the event itself is of use.
UNFIT: list[dict[str, Any]] = [
    *({"timestamp": value} for value in UNTIMELY),
    *({"clock": value} for value in UNCOUNTED),
    *({name: "x"} for name in ("event", "state", "worker", "info", "__class__")),
    *({name: 7} for name in ("alive", "heartbeats", "children", "__dict__")),
    *({name: {"a": 1}} for name in ("name", "parent_id", "root_id")),
]


def make_app(**conf: Any) -> Celery:
    app = Celery("receiver", broker="memory://", set_as_current=False)
    app.conf.update(conf)
    return app


@pytest.fixture
def app() -> Celery:
    return make_app()


def make_receiver(
    app: Celery | None = None, handler: Callable[[Any], object] | None = None
) -> Receiver:
    app = app or make_app()
    handlers = {"*": handler} if handler else None
    receiver = Receiver(app.connection_for_read(), handlers=handlers, app=app)
    receiver.counters = Counters()
    return receiver


@pytest.fixture
def receiver(app: Celery) -> Receiver:
    return make_receiver(app)


def deliver(receiver: Receiver, body: Any) -> None:
    """Have the receiver take a message."""
    receiver._receive(body, SimpleNamespace(delivery_tag="tag"))


@pytest.fixture(autouse=True)
def _nobody_is_consuming(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("django_celery_monitor.reconnecting.TICK", 0.05)


# The time of an event


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
    assert receiver.counters.made_fit == 0


def test_event_without_a_time_happens_when_it_is_received(receiver: Receiver) -> None:
    body = task_event("task-started")
    del body["timestamp"]
    with time_machine.travel(NOW, tick=False):
        _, event = receiver.event_from_message(body)
    assert event["timestamp"] == NOW
    assert receiver.counters.made_fit == 1


# What is skipped and what is made fit


@pytest.mark.parametrize("body", POISON, ids=lambda body: repr(body)[:40])
def test_poison_costs_itself_alone(app: Celery, body: Any) -> None:
    seen: list[Any] = []
    receiver = make_receiver(app, seen.append)
    clock = receiver.clock.value
    deliver(receiver, [body])
    assert seen == []
    assert receiver.clock.value == clock
    assert (receiver.counters.received, receiver.counters.poison) == (1, 1)

    deliver(receiver, [task_event("task-started"), body, worker_event()])

    assert [event["type"] for event in seen] == ["task-started", "worker-heartbeat"]
    assert (receiver.counters.received, receiver.counters.poison) == (4, 2)


@pytest.mark.parametrize("fields", UNFIT, ids=repr)
@pytest.mark.parametrize("make", [received, worker_event])
def test_unfit_field_does_not_cost_the_event(
    app: Celery, make: Callable[..., dict[str, Any]], fields: dict[str, Any]
) -> None:
    state = app.events.State()
    receiver = make_receiver(app, state.event)
    deliver(receiver, {**make(), **fields})
    deliver(receiver, make())
    assert receiver.counters.poison == 0
    assert receiver.counters.made_fit == 1
    assert state.event_count == 2
    assert 0 < receiver.clock.value < 10


def test_handler_that_raises_costs_one_event() -> None:
    seen: list[Any] = []

    def handler(event: dict[str, Any]) -> None:
        seen.append(event["uuid"])
        if event["uuid"] == "bad":
            raise RecursionError

    receiver = make_receiver(handler=handler)
    deliver(receiver, [task_event("task-started", uuid) for uuid in ("bad", "good")])
    assert seen == ["bad", "good"]
    assert receiver.counters.poison == 1


@pytest.mark.parametrize("end", [KeyboardInterrupt, SystemExit])
def test_what_is_to_end_the_process_does(end: type[BaseException]) -> None:
    def handler(event: object) -> None:
        raise end

    with pytest.raises(end):
        deliver(make_receiver(handler=handler), worker_event())


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from([*guard.RESERVED, "x"]), inner, max_size=2)
    ),
    max_leaves=8,
)
fields = st.sampled_from(
    sorted({*task_event("task-sent"), *worker_event(), *guard.KEYS, "event", "self"})
)
types = st.sampled_from(["task-sent", "task-failed", "task-x", "worker-offline", "x"])
likely_events = st.builds(
    lambda body, some: {**body, **some},
    st.dictionaries(fields | st.text(max_size=5), json_values, max_size=8),
    st.fixed_dictionaries(
        {"type": types},
        optional={
            "uuid": st.just("id-1"),
            "hostname": st.just("celery@one"),
            "timestamp": st.floats(),
            "clock": st.integers(),
        },
    ),
)


@given(st.lists(json_values | likely_events | st.lists(likely_events, max_size=3)))
def test_whatever_comes_an_event_after_it_is_taken(bodies: list[Any]) -> None:
    app = make_app()
    state = app.events.State()
    seen: list[Any] = []

    def handler(event: Any) -> None:
        seen.append(dict(event))
        state.event(event)

    receiver = make_receiver(app, handler)
    for body in bodies:
        deliver(receiver, body)
    poison = receiver.counters.poison
    for event in seen:
        assert 0 < len(event["type"]) <= 255
        assert 0 <= event["timestamp"] <= event["local_received"]
        assert isinstance(event["clock"], int)
        if event["type"].startswith("task-"):
            assert event["uuid"]
            assert isinstance(event["uuid"], str)
        if event["type"].startswith(("task-", "worker-")):
            assert isinstance(event["hostname"], str)
            assert guard.RESERVED.isdisjoint(event)

    deliver(receiver, [received(), worker_event()])

    assert receiver.counters.poison == poison
    assert state.tasks["id-1"].worker.hostname == "celery@one"
    assert receiver.counters.received == len(seen) + poison


# What is logged


def test_few_samples_are_logged_and_the_others_counted(
    receiver: Receiver,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 0.0
    clock = SimpleNamespace(monotonic=lambda: now)
    monkeypatch.setattr("django_celery_monitor.guard.time", clock)
    deliver(receiver, [None] * 100)
    assert len(caplog.messages) == 3
    now = 61.0
    deliver(receiver, [None])
    assert len(caplog.messages) == 4
    assert "97 more" in caplog.messages[-1]
    assert receiver.counters.poison == 101


def test_sample_is_short_printable_and_tells_no_secret(
    receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    body = {
        "type": "task-received\n\x1b[2J" + "x" * 10_000,
        "kwargs": "{'password': 'hunter2'}",
        "näme\ud800": "x" * 10_000,
    }
    deliver(receiver, body)
    (message,) = caplog.messages
    assert message.isascii()
    assert message.isprintable()
    assert len(message) < 500
    assert "no usable type" in message
    assert "hunter2" not in message


def test_sample_of_what_cannot_be_shown() -> None:
    class Unspeakable:
        def __repr__(self) -> str:
            raise ValueError

    assert "Unspeakable" in guard.sample(Unspeakable())
    assert "Unspeakable" in guard.sample({Unspeakable(): 1, "type": Unspeakable()})


# Over a connection


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


def test_constructing_does_not_wait_for_the_broker() -> None:
    client = Connection("amqp://127.0.0.1:1//")
    receiver = Receiver(client, app=make_app())
    assert not client.connected
    assert receiver.connection is client


def test_channel_will_do(app: Celery) -> None:
    with app.connection_for_read() as connection:
        assert Receiver(connection.default_channel, app=app).connection is connection


@pytest.mark.parametrize(
    ("url", "options"),
    [
        ("memory://", {}),
        ("amqp://", {}),
        (
            "redis://",
            {
                "socket_timeout": 2,
                "socket_connect_timeout": 5,
                "socket_keepalive": True,
                "health_check_interval": 10,
            },
        ),
    ],
)
def test_no_call_lasts_for_ever(url: str, options: dict[str, Any]) -> None:
    if url == "redis://":
        pytest.importorskip("redis")
    given = {"socket_timeout": 2} if options else {}
    client = Connection(url, transport_options=given)
    connection = Receiver(client, app=make_app()).create_connection()
    assert connection.transport_options == options
    assert connection.heartbeat == 10
    assert client.transport_options == given


# The durable queue


def test_durable_queue_needs_rabbitmq(app: Celery) -> None:
    app.conf.monitor_durable_queue = "events"
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
    receiver.acknowledge()
    assert acks == [3, 5]
