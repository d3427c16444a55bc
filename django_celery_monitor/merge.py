"""The one rule that decides what a row says, whoever saw what first.

An observation is a mapping of columns to values; a column that it does not have is
one that it does not speak of, and equal to None. The join of two observations is
commutative, associative and idempotent, so that observations may come late, twice,
in any order, through several cameras and in several shots. A stored row is an
observation too: it alone says what is needed to join it with the next one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import IntEnum
from typing import Any

from celery import states

Columns = Mapping[str, Any]

#: What the winning event says, always together: no column of it outlives its event.
#: The worker is its hostname; in a row that is saved alone, its primary key.
OUTCOME = (
    *("state", "tstamp", "tstamp_us", "finished_at", "worker"),
    *("result", "exception", "traceback", "runtime"),
)
#: What decides between two outcomes of the same state and time.
TIE_BREAK = ("result", "traceback", "runtime", "worker", "exception", "finished_at")
#: What the message of the task says: the newest attempt's, always together.
CALL = ("name", "args", "kwargs", "eta", "expires")
#: What the client says of the way of the message: the newest attempt's, together.
ROUTE = ("queue", "exchange", "routing_key", "route_retries")
#: What does not change between attempts.
LINEAGE = ("root_id", "parent_id")

#: The times of an attempt, the exact instant of each, and which of two counts.
TIMES: tuple[tuple[str, str, Any], ...] = (
    ("sent_at", "sent_us", min),
    ("received_at", "received_us", max),
    ("started_at", "started_us", max),
)

#: Every column that events decide.
TASK = (
    *(*OUTCOME, *CALL, *ROUTE, *LINEAGE),
    *("retries", "attempts", "sent_at", "received_at", "started_at"),
    *("sent_us", "received_us", "started_us"),
)

#: How many retries ``attempts`` keeps.
MAX_ATTEMPTS = 10

#: The result of a task that was ended while it ran, as result backends store it.
TERMINATED = "TaskRevokedError('terminated')"


class Phase(IntEnum):
    """How far a task has come; a later phase is never left for an earlier one."""

    SENT = 0
    IN_FLIGHT = 1
    #: Finished without having run: another copy of the task may still run.
    NOT_RUN = 2
    FINISHED = 3


_PHASES = {
    states.PENDING: Phase.SENT,
    states.SUCCESS: Phase.FINISHED,
    states.FAILURE: Phase.FINISHED,
}


def phase(columns: Columns) -> Phase:
    """Return the phase of a row or an observation."""
    state = columns["state"]
    if (known := _PHASES.get(state)) is not None:
        return known
    if state == states.REVOKED:
        terminated = columns.get("result") == TERMINATED
        return Phase.FINISHED if terminated else Phase.NOT_RUN
    if state == states.REJECTED and columns.get("finished_at") is not None:
        return Phase.NOT_RUN
    return Phase.IN_FLIGHT


def rank(columns: Columns) -> tuple[Any, ...]:
    """Return what orders rows and observations: the greater one says the outcome.

    Later phase first, then later time, then Celery's precedence, which counts
    downwards, then the name of the state.
    """
    state = columns["state"]
    return (phase(columns), columns["tstamp_us"], -states.precedence(state), state)


def _wins(one: Columns, other: Columns) -> bool:
    """Return whether ``one`` says the outcome; no two different ones are equal."""
    # What nearly always decides is looked at first: this is done for every event.
    phases = phase(one), phase(other)
    if phases[0] is not phases[1]:
        return phases[0] > phases[1]
    if one["tstamp_us"] != other["tstamp_us"]:
        return bool(one["tstamp_us"] > other["tstamp_us"])
    of_one, of_other = rank(one), rank(other)
    if of_one != of_other:
        return of_one > of_other
    return _values(one, TIE_BREAK) >= _values(other, TIE_BREAK)


def join_task(one: Columns, other: Columns) -> dict[str, Any]:
    """Return what is known of a task when both observations are."""
    won, lost = (one, other) if _wins(one, other) else (other, one)
    joined = dict(won)
    _take_group(joined, lost, CALL, "retries", "name")
    _take_group(joined, lost, ROUTE, "route_retries", "route_retries")
    for column in LINEAGE:
        _take(joined, lost, column, max)
    if retries := lost.get("retries"):
        joined["retries"] = max(retries, joined.get("retries") or 0)
    for column, exact, choose in TIMES:
        if lost.get(column) is not None:
            _take_time(joined, lost, column, exact, choose)
    if lost.get("attempts"):
        joined["attempts"] = newest_attempts(
            [*lost["attempts"], *(joined.get("attempts") or ())]
        )
    return joined


def _take(joined: dict[str, Any], lost: Columns, column: str, choose: Any) -> None:
    value = lost.get(column)
    if value is not None:
        known = joined.get(column)
        joined[column] = value if known is None else choose(known, value)


def _take_time(
    joined: dict[str, Any], lost: Columns, column: str, exact: str, choose: Any
) -> None:
    """Choose between two times by the exact instants where both have them."""
    value = lost[column]
    known, instants = joined.get(column), (joined.get(exact), lost.get(exact))
    if known is not None:
        compared = (known, value) if None in instants else instants
        if choose(compared) == compared[0]:
            return
    joined[column] = value
    if instants[1] is not None:
        joined[exact] = instants[1]


def _take_group(
    joined: dict[str, Any],
    lost: Columns,
    columns: tuple[str, ...],
    attempt: str,
    told: str,
) -> None:
    """Take columns that belong together from ``lost`` where it has the newer ones.

    ``attempt`` is the column that counts attempts; ``told`` has a value in every
    observation that speaks of the group at all.
    """
    if lost.get(told) is None:
        if joined.get(told) is None:
            # Columns of a caller's own, who knows a part of the group alone.
            for column in columns:
                if (value := lost.get(column)) is not None:
                    joined[column] = max(value, joined.get(column) or value)
        return
    if joined.get(told) is not None:
        newer = (lost.get(attempt) or 0) - (joined.get(attempt) or 0)
        if newer < 0:
            return
        if newer == 0 and _values(joined, columns) >= _values(lost, columns):
            return
    for column in columns:
        joined[column] = lost.get(column)


def _values(observation: Columns, columns: tuple[str, ...]) -> list[tuple[bool, Any]]:
    found = [observation.get(column) for column in columns]
    return [(value is not None, value) for value in found]


def newest_attempts(attempts: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the newest of some attempts, oldest first, each of them once.

    Those with ``retries``, which the tracker saw in the worker itself, take the place
    of all that events told: these are the same attempts, a moment later.
    """
    attempts = list(attempts)
    tracked = [attempt for attempt in attempts if "retries" in attempt]
    by_value = {
        (
            *(attempt["timestamp"], attempt["exception"], attempt["traceback"]),
            attempt.get("retries"),
        ): attempt
        for attempt in tracked or attempts
    }
    return [by_value[key] for key in sorted(by_value)[-MAX_ATTEMPTS:]]


def merge_task(stored: Columns, seen: Columns) -> dict[str, Any]:
    """Return the columns of a row that change now that ``seen`` is known.

    ``stored`` has every column, ``seen`` those that were observed; both have
    ``state`` and ``tstamp_us``.
    """
    joined = join_task(stored, seen)
    joined["retries"] = joined.get("retries") or 0
    return _changes(stored, joined, TASK)


def _changes(
    stored: Columns, joined: Columns, columns: Iterable[str]
) -> dict[str, Any]:
    return {
        column: value
        for column in columns
        if (value := joined.get(column)) != stored.get(column)
    }


# Workers

#: What a worker says of itself: its newest word, always together.
ABOUT = (
    *("told_us", "pid", "freq", "active", "processed", "loadavg"),
    *("sw_ident", "sw_ver", "sw_sys"),
)


#: Every column that events decide.
WORKER = (
    *("last_heartbeat", "last_heartbeat_us", "offline_at", "offline_at_us"),
    *("first_seen", *ABOUT),
)


def join_worker(one: Columns, other: Columns) -> dict[str, Any]:
    """Return what is known of a worker when both observations are.

    ``last_heartbeat``, any sign of life, and ``offline_at`` only move forward;
    what the worker says of itself follows its newest word.
    """
    joined = {**other, **one}
    for time, exact in (
        ("last_heartbeat", "last_heartbeat_us"),
        ("offline_at", "offline_at_us"),
    ):
        if _values(other, (exact,)) > _values(one, (exact,)):
            joined.update({time: other.get(time), exact: other[exact]})
        elif exact in one:
            joined.update({time: one.get(time), exact: one[exact]})
    newest = max(one, other, key=lambda worker: _values(worker, ABOUT))
    if newest.get("told_us") is not None:
        joined.update((column, newest.get(column)) for column in ABOUT)
    _take(joined, other, "first_seen", min)
    return joined


def merge_worker(stored: Columns, seen: Columns) -> dict[str, Any]:
    """Return the columns of a row that change now that ``seen`` is known."""
    changes = _changes(stored, join_worker(stored, seen), WORKER)
    if changes and "update_freq" in seen:
        changes.update(_changes(stored, seen, ["update_freq"]))
    return changes
