"""What the receiver skips, what it makes fit, and what it logs of it."""

from __future__ import annotations

import math
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import time_machine
from celery.events.state import State
from hypothesis import given
from hypothesis import strategies as st

from django_celery_monitor import guard
from django_celery_monitor.sanitize import fit_identifier
from tests.events import NOW, received, task_event, worker_event
from tests.receivers import deliver, make_app, make_receiver

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


# What is skipped and what is made fit


@pytest.mark.parametrize("body", POISON, ids=lambda body: repr(body)[:40])
def test_poison_costs_itself_alone(body: Any) -> None:
    seen: list[Any] = []
    receiver = make_receiver(handler=seen.append)
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
    make: Callable[..., dict[str, Any]], fields: dict[str, Any]
) -> None:
    app = make_app()
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
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    receiver = make_receiver()
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
    caplog: pytest.LogCaptureFixture,
) -> None:
    body = {
        "type": "task-received\n\x1b[2J" + "x" * 10_000,
        "kwargs": "{'password': 'hunter2'}",
        "näme\ud800": "x" * 10_000,
    }
    deliver(make_receiver(), body)
    (message,) = caplog.messages
    assert message.isascii()
    assert message.isprintable()
    assert len(message) < 500
    assert "no usable type" in message
    assert "hunter2" not in message


@pytest.mark.parametrize(
    ("hostname", "shown"),
    [
        ("celery@late\n[CRITICAL] \ud831", r"celery@late\n[CRITICAL] \ud831"),
        ("celery@löwe 😀", "celery@löwe 😀"),
        ("celery@" + "x" * 10_000, fit_identifier("celery@" + "x" * 10_000)),
    ],
    ids=["unprintable", "fit", "long"],
)
@time_machine.travel(NOW + 60, tick=False)
def test_state_logs_a_hostname_that_is_short_and_in_one_line(
    hostname: str, shown: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Celery's State says whose clock differs, once for each hostname."""
    state: Any = State()
    receiver = make_receiver(handler=state.event)
    deliver(receiver, [worker_event(hostname=hostname)])
    assert list(state.workers) == [shown]
    (line,) = caplog.messages
    assert f" from {shown} may mean" in line
    assert receiver.counters.made_fit == (hostname != shown)


def test_sample_of_what_cannot_be_shown() -> None:
    class Unspeakable:
        def __repr__(self) -> str:
            raise ValueError

    assert "Unspeakable" in guard.sample(Unspeakable())
    assert "Unspeakable" in guard.sample({Unspeakable(): 1, "type": Unspeakable()})
