"""An event as an observation: what its values say in the columns of a row."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timezone
from functools import reduce
from typing import Any, Literal

from celery import states
from celery.utils.time import maybe_iso8601

from .merge import MAX_ATTEMPTS, join_task
from .sanitize import Sanitizer
from .utils import correct_awareness, from_microseconds

Event = Mapping[str, Any]

#: What Celery calls the state of a task after an event of each type; any other type
#: is a state of the project's own.
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

#: A load average is no more than this.
MAX_LOAD = 1_000_000.0

#: Characters that are kept of each text of an attempt.
MAX_ATTEMPT_TEXT = 4000


class Observer:
    """Turns events into observations, whose values every database takes.

    ``sanitizer`` makes values fit and masks secrets. ``to_datetime`` makes a
    datetime, as Django stores it, of microseconds since the epoch.
    """

    def __init__(
        self,
        sanitizer: Sanitizer,
        to_datetime: Callable[[int], datetime] = from_microseconds,
    ) -> None:
        self.fit = sanitizer
        self.to_datetime = to_datetime

    def task(self, event: Event) -> tuple[str, dict[str, Any]]:
        """Return the id of a task and what ``event`` says of it.

        The event has a text ``uuid``, ``type`` and ``timestamp`` at least.
        """
        subject = event["type"].partition("-")[2]
        state = EVENT_STATES.get(subject)
        if state is None:
            state = self.fit.identifier(subject.upper(), 64)
        us = self.microseconds(event)
        when = self.to_datetime(us)
        seen = {"state": state, "tstamp": when, "tstamp_us": us}
        if subject != "sent":
            # The client that sends a task is no worker.
            seen["worker"] = self.hostname(event)
        said = self._SAID.get(subject)
        if said is not None:
            said(self, event, seen)
        return self.fit.identifier(event["uuid"]), seen

    def worker(self, event: Event) -> tuple[str, dict[str, Any]]:
        """Return the hostname of a worker and what ``event`` says of it."""
        us = self.microseconds(event)
        when = self.to_datetime(us)
        seen: dict[str, Any] = {"first_seen": when}
        if event["type"] == "worker-offline":
            seen.update(offline_at=when, offline_at_us=us)
        else:
            seen.update(last_heartbeat=when, last_heartbeat_us=us)
        if event.get("pid") is not None:
            seen.update(self._about(event), told_us=us)
        return self.hostname(event) or "", seen

    def hostname(self, event: Event) -> str | None:
        """Return the hostname that an event comes from, None if it tells none."""
        hostname = event.get("hostname")
        return self.fit.identifier(hostname) if isinstance(hostname, str) else None

    def microseconds(self, event: Event) -> int:
        """Return when an event happened, in whole microseconds since the epoch.

        That is never later than it was received: a clock that is ahead would win
        against everything that follows.
        """
        received = event.get("local_received") or time.time()
        timestamp = event.get("timestamp")
        if (
            not isinstance(timestamp, (int, float))
            or isinstance(timestamp, bool)
            or not 0 <= timestamp <= received
        ):
            late = isinstance(timestamp, (int, float)) and timestamp > received
            if not late:
                self.fit.made_fit += 1
            timestamp = received
        return round(timestamp * 1_000_000)

    # What an event says beyond its type, by type

    def _call(self, event: Event, seen: dict[str, Any]) -> None:
        name = event.get("name")
        if not isinstance(name, str) or not name:
            return
        seen["name"] = self.fit.identifier(name)
        for column in ("args", "kwargs"):
            if (value := event.get(column)) is not None:
                seen[column] = self._text(value)
        for column in ("eta", "expires"):
            if (value := event.get(column)) is not None:
                seen[column] = self._time(value)
        if retries := event.get("retries"):
            seen["retries"] = self.fit.integer(retries) or 0
        if isinstance(root := event.get("root_id"), str):
            seen["root_id"] = self.fit.identifier(root)
        parent = event.get("parent_id")
        # Of every retry Celery says that it is its own parent.
        if isinstance(parent, str) and parent != event["uuid"]:
            seen["parent_id"] = self.fit.identifier(parent)

    def _sent(self, event: Event, seen: dict[str, Any]) -> None:
        self._call(event, seen)
        self._happened("sent", seen)
        seen["route_retries"] = seen.get("retries", 0)
        for column in ("queue", "exchange", "routing_key"):
            if isinstance(value := event.get(column), str):
                seen[column] = self.fit.identifier(value)

    def _received(self, event: Event, seen: dict[str, Any]) -> None:
        self._call(event, seen)
        self._happened("received", seen)

    def _started(self, event: Event, seen: dict[str, Any]) -> None:
        # Celery's own event has no more than the id; the tracker's tells the call.
        self._call(event, seen)
        self._happened("started", seen)

    def _succeeded(self, event: Event, seen: dict[str, Any]) -> None:
        seen["finished_at"] = seen["tstamp"]
        if (result := event.get("result")) is not None:
            seen["result"] = self._text(result)
        seen["runtime"] = self.fit.number(event.get("runtime"))

    def _error(self, event: Event, seen: dict[str, Any]) -> None:
        if (error := event.get("exception")) is not None:
            text = self._text(error)
            seen["result"], seen["exception"] = text, exception_type(text)
        if (traceback := event.get("traceback")) is not None:
            seen["traceback"] = self._text(traceback, keep="end")

    def _failed(self, event: Event, seen: dict[str, Any]) -> None:
        self._error(event, seen)
        seen["finished_at"] = seen["tstamp"]

    def _retried(self, event: Event, seen: dict[str, Any]) -> None:
        self._error(event, seen)
        attempt = {
            "timestamp": seen["tstamp_us"],
            "exception": (seen.get("result") or "")[:MAX_ATTEMPT_TEXT],
            "traceback": (seen.get("traceback") or "")[-MAX_ATTEMPT_TEXT:],
        }
        # Only the tracker knows which attempt it was.
        if (retries := self.fit.integer(event.get("attempt"))) is not None:
            attempt["retries"] = retries
        seen["attempts"] = [attempt]

    def _revoked(self, event: Event, seen: dict[str, Any]) -> None:
        self._call(event, seen)
        reasons = ("terminated", "expired")
        reason = next((r for r in reasons if event.get(r)), "revoked")
        seen["result"] = f"TaskRevokedError({reason!r})"
        seen["exception"] = "TaskRevokedError"
        seen["finished_at"] = seen["tstamp"]

    def _rejected(self, event: Event, seen: dict[str, Any]) -> None:
        if not event.get("requeue"):
            seen["finished_at"] = seen["tstamp"]

    _SAID = {  # noqa: RUF012 -- never changed
        "sent": _sent,
        "received": _received,
        "started": _started,
        "succeeded": _succeeded,
        "failed": _failed,
        "retried": _retried,
        "revoked": _revoked,
        "rejected": _rejected,
    }

    # Values

    def _happened(self, what: str, seen: dict[str, Any]) -> None:
        seen[f"{what}_at"] = seen["tstamp"]
        if seen["tstamp"].tzinfo is None:
            # A naive local time may be two instants.
            seen[f"{what}_us"] = seen["tstamp_us"]

    def _text(self, value: Any, keep: Literal["start", "end"] = "start") -> str:
        return self.fit.text(value if isinstance(value, str) else repr(value), keep)

    def _time(self, value: Any) -> datetime | None:
        try:
            parsed = maybe_iso8601(value)
            if parsed is not None and parsed.tzinfo is None:
                parsed = parsed.replace(tzinfo=timezone.utc)
            found = correct_awareness(parsed)
            if found is not None and 1 < found.year < 9999:
                return found
        except (AttributeError, OverflowError, TypeError, ValueError):
            pass
        self.fit.made_fit += 1
        return None

    def _about(self, event: Event) -> dict[str, Any]:
        fit = self.fit
        about: dict[str, Any] = {
            "pid": fit.integer(event["pid"], 0, 2**63 - 1),
            "freq": fit.number(event.get("freq")),
            "active": fit.integer(event.get("active")),
            "processed": fit.integer(event.get("processed"), 0, 2**63 - 1),
        }
        load = event.get("loadavg")
        if isinstance(load, (list, tuple)) and len(load) <= MAX_ATTEMPTS:
            numbers = [fit.number(value) for value in load]
            # PostgreSQL's JSON has no floats: a huge one would come back as another.
            about["loadavg"] = [
                min(max(n, 0.0), MAX_LOAD) for n in numbers if n is not None
            ]
        for column in ("sw_ident", "sw_ver", "sw_sys"):
            if isinstance(value := event.get(column), str):
                about[column] = fit.identifier(value)
        return about


def exception_type(text: str | None) -> str | None:
    """Return the type that the ``repr`` of an exception begins with."""
    found = re.match(r"[^\W\d][\w.]*", text or "")
    return found[0][:255] if found else None


def events_of(task: Any) -> Iterator[dict[str, Any]]:
    """Yield the events that a task of a ``celery.events.state.State`` tells of."""
    about = {
        name: value for name, value in vars(task).items() if not name.startswith("_")
    }
    worker = getattr(task.worker, "hostname", None)
    common = {
        **about,
        "hostname": worker,
        "local_received": getattr(task, "local_received", None) or time.time(),
    }
    told = False
    for subject, state in EVENT_STATES.items():
        if (timestamp := getattr(task, subject, None)) is not None:
            told = told or state == task.state
            if subject == "retried" and task.failed is not None:
                continue  # its exception is the failure's
            yield {**common, "type": f"task-{subject}", "timestamp": timestamp}
    if not told:
        state = task.state or states.PENDING
        type_ = f"task-{state.lower()}"
        yield {**common, "type": type_, "timestamp": task.timestamp}


def from_task(observer: Observer, task: Any) -> dict[str, Any]:
    """Return all that a task of a ``celery.events.state.State`` says.

    The State keeps the last event of each type alone; the camera sees them all.
    """
    seen = [observer.task(event)[1] for event in events_of(task)]
    return reduce(join_task, seen)
