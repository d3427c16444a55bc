"""What events say about a task or a worker: the order of observations, their merge.

An observation is a mapping of columns to values. Merging it into a row is the one
rule that decides what the row says, whoever saw what first.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from enum import IntEnum
from typing import Any

from celery import states

#: Attributes of a task in Celery's State that hold when an event of it happened.
EVENT_STATES = {
    "sent": states.PENDING,
    "received": states.RECEIVED,
    "started": states.STARTED,
    "retried": states.RETRY,
    "rejected": states.REJECTED,
    "revoked": states.REVOKED,
    "failed": states.FAILURE,
    "succeeded": states.SUCCESS,
}

#: What the winning event says, always together: no column of it outlives its event.
OUTCOME = (
    "state",
    "tstamp",
    "tstamp_us",
    "finished_at",
    "worker_id",
    "result",
    "exception",
    "traceback",
    "runtime",
)
#: What the message of the task says: the newest attempt's, where it says anything.
CALL = (
    "name",
    "args",
    "kwargs",
    "eta",
    "expires",
    "queue",
    "exchange",
    "routing_key",
    "root_id",
    "parent_id",
)
#: How many retries ``attempts`` keeps, and how many characters of each text.
MAX_ATTEMPTS = 10
MAX_ATTEMPT_TEXT = 4000

#: The result of a task that was ended while it ran, as result backends store it.
TERMINATED = "TaskRevokedError('terminated')"


class Phase(IntEnum):
    """How far a task has come; a later phase is never left for an earlier one."""

    SENT = 0
    IN_FLIGHT = 1
    #: Finished without having run: another copy of the task may still run.
    NOT_RUN = 2
    FINISHED = 3


def phase(columns: Mapping[str, Any]) -> Phase:
    """Return the phase of a row or an observation."""
    state = columns["state"]
    if state in {states.SUCCESS, states.FAILURE}:
        return Phase.FINISHED
    if state == states.REVOKED:
        terminated = columns.get("result") == TERMINATED
        return Phase.FINISHED if terminated else Phase.NOT_RUN
    if state == states.REJECTED and columns.get("finished_at") is not None:
        return Phase.NOT_RUN
    return Phase.SENT if state == states.PENDING else Phase.IN_FLIGHT


def rank(columns: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return what orders rows and observations: the greater one says the outcome.

    Later phase first, then later time, then Celery's precedence, then the values
    and the worker, so that no two different outcomes are equal.
    """
    return (
        phase(columns),
        columns["tstamp_us"],
        # Celery's precedence counts downwards.
        -states.precedence(columns["state"]),
        columns.get("result") or "",
        columns.get("traceback") or "",
        columns.get("runtime") or 0.0,
        columns.get("worker_id") or 0,
    )


def merge_task(stored: Mapping[str, Any], seen: Mapping[str, Any]) -> dict[str, Any]:
    """Return the columns of ``stored`` that change now that ``seen`` is known.

    ``stored`` has every column, ``seen`` those that were observed; both have
    ``state`` and ``tstamp_us``.
    """
    merged = dict(stored)
    if rank(seen) > rank(stored):
        merged.update((column, seen.get(column)) for column in OUTCOME)
    retries = seen.get("retries") or 0
    for column in CALL:
        value = seen.get(column)
        if value is not None and (
            stored[column] is None or retries > stored["retries"]
        ):
            merged[column] = value
    merged["retries"] = max(stored["retries"], retries)
    for column, choose in (("sent_at", min), ("received_at", max), ("started_at", max)):
        known = [m[column] for m in (stored, seen) if m.get(column) is not None]
        merged[column] = choose(known, default=None)
    merged["attempts"] = merge_attempts(stored["attempts"], seen.get("attempts"))
    return {
        column: value for column, value in merged.items() if value != stored[column]
    }


def merge_worker(stored: Mapping[str, Any], seen: Mapping[str, Any]) -> dict[str, Any]:
    """Return the columns of a worker that change now that ``seen`` is known.

    Each of ``last_heartbeat`` and ``offline_at`` only moves forward; everything
    else follows the newest heartbeat.
    """
    times = ("last_heartbeat", "last_heartbeat_us", "offline_at", "offline_at_us")
    changes = {}
    for column in ("last_heartbeat", "offline_at"):
        exact = f"{column}_us"
        if seen.get(exact) is not None and seen[exact] > (stored[exact] or 0):
            changes.update({column: seen[column], exact: seen[exact]})
    if "last_heartbeat" in changes:
        changes.update(
            (column, value)
            for column, value in seen.items()
            if column not in times and value is not None and value != stored[column]
        )
    return changes


def merge_attempts(
    stored: list[dict[str, Any]] | None, seen: list[dict[str, Any]] | None
) -> list[dict[str, Any]] | None:
    """Return the newest attempts of both, oldest first, each of them once."""
    if not seen:
        return stored
    by_time = {attempt["timestamp"]: attempt for attempt in [*(stored or ()), *seen]}
    return [by_time[us] for us in sorted(by_time)[-MAX_ATTEMPTS:]]


def from_task(task: Any) -> dict[str, Any]:
    """Return what a task of a ``celery.events.state.State`` says, as an observation.

    Times are whole microseconds since the epoch, but ``eta`` and ``expires`` are as
    the event had them. The worker is left to the caller.
    """
    received = getattr(task, "local_received", None)
    times = {
        name: microseconds(timestamp, received)
        for name in EVENT_STATES
        if (timestamp := getattr(task, name, None)) is not None
    }
    seen = [outcome(task, EVENT_STATES[name], us) for name, us in times.items()]
    if task.state not in [columns["state"] for columns in seen]:
        timestamp = task.timestamp or received or time.time()
        time_us = microseconds(timestamp, received)
        seen.append(outcome(task, task.state, time_us))
    latest = max(seen, key=rank)
    call = {column: getattr(task, column, None) for column in CALL}
    if call["parent_id"] == task.uuid:  # what Celery says of every retry
        call["parent_id"] = None
    return {
        **latest,
        **call,
        "retries": task.retries or 0,
        **{f"{name}_at": times.get(name) for name in ("sent", "received", "started")},
        "attempts": attempts(task, times.get("retried")),
    }


def outcome(task: Any, state: str, time_us: int) -> dict[str, Any]:
    """Return the outcome that ``task`` has if ``state`` is its latest one."""
    error = task.exception if state in {states.FAILURE, states.RETRY} else None
    columns: dict[str, Any] = {
        "state": state,
        "tstamp_us": time_us,
        "result": error,
        "exception": exception_type(error),
        "traceback": task.traceback if error is not None else None,
        "runtime": None,
        "finished_at": None,
    }
    if state == states.SUCCESS:
        columns.update(result=task.result, runtime=task.runtime)
    elif state == states.REVOKED:
        reasons = ("terminated", "expired")
        reason = next((r for r in reasons if getattr(task, r, False)), "revoked")
        columns.update(
            result=f"TaskRevokedError({reason!r})", exception="TaskRevokedError"
        )
    requeued = state == states.REJECTED and getattr(task, "requeue", False)
    if state in {*states.READY_STATES, states.REJECTED} and not requeued:
        columns["finished_at"] = time_us
    return columns


def attempts(task: Any, retried_us: int | None) -> list[dict[str, Any]] | None:
    """Return what the last retry of ``task`` said, unless a failure has replaced it."""
    if retried_us is None or task.failed is not None:
        return None
    return [
        {
            "timestamp": retried_us,
            "exception": (task.exception or "")[:MAX_ATTEMPT_TEXT],
            "traceback": (task.traceback or "")[-MAX_ATTEMPT_TEXT:],
        }
    ]


def exception_type(text: str | None) -> str | None:
    """Return the type that the ``repr`` of an exception begins with."""
    found = re.match(r"[^\W\d][\w.]*", text or "")
    return found[0][:255] if found else None


def microseconds(timestamp: float, received: float | None = None) -> int:
    """Return seconds since the epoch in whole microseconds.

    A time in the future becomes ``received``, when an event came in: a clock that
    is ahead would win against everything that follows.
    """
    if received is not None and timestamp > time.time():
        timestamp = min(timestamp, received)
    return round(timestamp * 1_000_000)
