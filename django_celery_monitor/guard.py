"""What an event must be before anything is done with it."""

from __future__ import annotations

import reprlib
import time
from typing import Any

from celery.events.state import Task, Worker

#: Characters that the type of an event may have.
MAX_TYPE_LENGTH = 255

#: Seconds since the epoch: the year 10000, which no datetime can hold.
MAX_TIMESTAMP = 253_402_300_800

#: A logical clock counts events. One that is ahead of this was never counted, and
#: would be ahead in the whole cluster for ever, as every message carries the clock.
MAX_CLOCK = 2**53

#: Names that Celery's State uses itself: it sets each field of an event as an
#: attribute of the task or worker, and a field "event" would take a method's place.
RESERVED = {*dir(Task), *dir(Worker)} - {
    *getattr(Task, "_fields", ()),
    *getattr(Worker, "_fields", ()),
} | {"children", "cluster_state", "heartbeats", "parent", "root", "state", "worker"}

#: Fields of a task that the State looks up by their value: text, or absent.
KEYS = ("name", "parent_id", "root_id")

#: The fields that a sample shows; others may hold what no log is to have.
SHOWN = ("type", "uuid", "hostname", "timestamp", "clock")

#: Characters that a sample has at most.
MAX_SAMPLE = 300


class Poison(ValueError):  # noqa: N818 -- it is what it is
    """What arrived is no event that anything can be done with."""


def fit(body: Any, now: float) -> tuple[dict[str, Any], bool]:
    """Return an event that no step chokes on, and whether it had to be made fit.

    ``now`` is the time of receipt in seconds since the epoch. An event without a
    usable time happened then, one without a usable logical clock gets that of this
    process later, a field that would break Celery's State is left out. Raises Poison
    for what cannot be an event: it is no mapping, it has no usable type, it is about
    a task or worker and does not name it.
    """
    if not isinstance(body, dict):
        raise Poison("not a mapping")
    type_ = body.get("type")
    if not isinstance(type_, str) or not 0 < len(type_) <= MAX_TYPE_LENGTH:
        raise Poison("no usable type")
    made_fit = False
    if type_.startswith("task-"):
        body, made_fit = _fit_fields(body, ("hostname", "uuid"))
    elif type_.startswith("worker-"):
        body, made_fit = _fit_fields(body, ("hostname",))
    if not is_number(body.get("timestamp"), MAX_TIMESTAMP):
        body["timestamp"] = now
        made_fit = True
    clock = body.get("clock", 0)
    if not is_number(clock, MAX_CLOCK) or isinstance(clock, float):
        del body["clock"]
        made_fit = True
    return body, made_fit


def _fit_fields(
    body: dict[str, Any], needed: tuple[str, ...]
) -> tuple[dict[str, Any], bool]:
    """Make what is about a task or worker fit for the objects of Celery's State."""
    for field in needed:
        value = body.get(field)
        if not isinstance(value, str) or not value:
            raise Poison(f"no usable {field}")
    made_fit = False
    if not RESERVED.isdisjoint(body):
        body = {key: body[key] for key in body if key not in RESERVED}
        made_fit = True
    for field in KEYS:
        value = body.get(field)
        if value is not None and not isinstance(value, str):
            del body[field]
            made_fit = True
    return body, made_fit


def is_number(value: Any, limit: float) -> bool:
    """Return whether ``value`` is a number, not negative and below ``limit``."""
    # A bool is an int to Python, and NaN is never below anything.
    kind = type(value)
    return (kind is float or kind is int) and 0 <= value < limit


def sample(body: Any) -> str:
    """Return what a log line may show of a body: printable ASCII, never long.

    Of a mapping these are the fields that say which event it is, and the names of
    all others.
    """
    short = reprlib.Repr()
    short.maxlevel, short.maxstring, short.maxother = 2, 80, 80
    try:
        if isinstance(body, dict):
            known = {key: body[key] for key in SHOWN if key in body}
            others = [key for key in body if key not in known]
            text = f"{short.repr(known)} and {short.repr(others)}"
        else:
            text = short.repr(body)
        return printable(text)
    except Exception:  # noqa: BLE001 -- a repr may raise anything
        return f"a {type(body).__name__}"


def printable(text: str) -> str:
    """Return ``text`` in one line of ASCII, cut to what a sample may have."""
    return ascii(text[:MAX_SAMPLE])[1:-1][:MAX_SAMPLE]


class Samples:
    """Says how much of what is logged again and again may be logged now."""

    def __init__(self, most: int = 3, seconds: float = 60) -> None:
        self.most = most
        self.seconds = seconds
        self.left_out = 0
        self._begin = -seconds
        self._said = 0

    def due(self) -> bool:
        """Return whether to log one more; count it as left out otherwise."""
        now = time.monotonic()
        if now - self._begin >= self.seconds:
            self._begin, self._said = now, 0
        if self._said < self.most:
            self._said += 1
            return True
        self.left_out += 1
        return False

    def take_left_out(self) -> int:
        """Return how many were left out since this was last asked."""
        left_out, self.left_out = self.left_out, 0
        return left_out
