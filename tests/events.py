"""Events as workers and clients send them, and a State fed with them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from celery.events.event import Event
from celery.events.state import State

#: Seconds since the epoch: 2026-03-02 10:00 UTC.
NOW = 1_772_445_600.0


def task_event(
    type_: str,
    uuid: str = "id-1",
    at: float = NOW,
    hostname: str = "celery@one",
    received: float | None = None,
    **fields: Any,
) -> dict[str, Any]:
    """Return an event that happened ``at`` seconds since the epoch.

    The camera gets it at ``received``, at once unless given.
    """
    return _event(type_, at, received, uuid=uuid, hostname=hostname, **fields)


def worker_event(
    type_: str = "worker-heartbeat",
    at: float = NOW,
    hostname: str = "celery@one",
    received: float | None = None,
    **fields: Any,
) -> dict[str, Any]:
    """Return an event of a worker that beats every two seconds."""
    about = {
        "freq": 2.0,
        "active": 1,
        "processed": 7,
        "loadavg": [0.5, 0.25, 0.1],
        "sw_ident": "py-celery",
        "sw_ver": "5.7.0",
        "sw_sys": "Linux",
    }
    return _event(type_, at, received, hostname=hostname, **{**about, **fields})


def _event(
    type_: str, at: float, received: float | None, **fields: Any
) -> dict[str, Any]:
    return Event(
        type_,
        **{
            "timestamp": at,
            "local_received": at if received is None else received,
            "utcoffset": 0,
            "pid": 4711,
            "clock": 1,
            **fields,
        },
    )


def received(**fields: Any) -> dict[str, Any]:
    """Return a task-received event with all that its message says."""
    call = {
        "name": "proj.tasks.add",
        "args": "(2, 2)",
        "kwargs": "{}",
        "root_id": "id-1",
        "parent_id": None,
        "retries": 0,
        "eta": None,
        "expires": None,
    }
    return task_event("task-received", **{**call, **fields})


def sent(**fields: Any) -> dict[str, Any]:
    """Return a task-sent event, which a client sends and not a worker."""
    route = {"queue": "celery", "exchange": "", "routing_key": "celery"}
    event = received(**{"hostname": "gen1@web", **route, **fields})
    return {**event, "type": "task-sent"}


def feed(events: Iterable[dict[str, Any]], state: Any = None) -> Any:
    """Return the State that has seen ``events``, which stay as they are."""
    state = state or State()
    for event in events:
        state.event(dict(event))
    return state
