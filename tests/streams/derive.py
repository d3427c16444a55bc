"""Derives streams from the recorded ones, where a recording would need a clock moved.

    python -m tests.streams.derive

Each derived file says from which stream it comes and how.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from tests.streams.expected import Event, expected_row, expected_worker

FOLDER = Path(__file__).parent
#: When clocks in Berlin go back from three to two.
CLOCKS_GO_BACK = datetime(2026, 10, 25, 1, tzinfo=timezone.utc).timestamp()

Change = Callable[[list[Event]], list[Event]]


def write(name: str, stream: dict[str, Any]) -> None:
    """Write a stream as a file that people can read."""
    text = json.dumps(stream, indent=2, ensure_ascii=False)
    (FOLDER / f"{name}.json").write_text(f"{text}\n", encoding="utf-8")


def read(name: str) -> dict[str, Any]:
    """Return a stream."""
    stream: dict[str, Any] = json.loads((FOLDER / f"{name}.json").read_text("utf-8"))
    return stream


def names() -> list[str]:
    """Return the names of all streams."""
    return sorted(path.stem for path in FOLDER.glob("*.json"))


def shift(hosts: str, seconds: float) -> Change:
    """Return what moves the clock of the hosts whose names begin with ``hosts``.

    The camera's clock stays, and with it the time at which each event arrived.
    """

    def change(events: list[Event]) -> list[Event]:
        return [
            {**event, "timestamp": event["timestamp"] + seconds}
            if event["hostname"].startswith(hosts)
            else event
            for event in events
        ]

    return change


def late(events: list[Event]) -> list[Event]:
    """Leave out what says the name of the task."""
    return [event for event in events if "name" not in event]


def at_night(events: list[Event]) -> list[Event]:
    """Move all clocks to where the second attempt has begun as clocks go back.

    Minutes lie between the attempts, so that in local time the later ones come
    first: 02:50, 02:10 and 02:40 for one after the other.
    """
    attempts = [event for event in events if event["type"] == "task-received"]
    begins = [CLOCKS_GO_BACK + minutes * 60 for minutes in (-10, 10, 40)]
    moved = []
    for event in events:
        attempt = event.get("retries")
        if attempt is None:
            # A worker says that it retries after the next one has the message.
            attempt = max(
                begun["retries"]
                for begun in attempts
                if begun["hostname"] == event["hostname"]
                and begun["timestamp"] <= event["timestamp"]
            )
        by = begins[attempt] - attempts[attempt]["timestamp"]
        times = {name: event[name] + by for name in ("timestamp", "local_received")}
        moved.append({**event, **times})
    return sorted(moved, key=lambda event: float(event["timestamp"]))


DERIVED: dict[str, tuple[str, Change, str]] = {
    "nameless": ("success", late, "The camera started after the task was received."),
    "client_30_s_ahead": ("success", shift("gen", 30), "The client is 30 s ahead."),
    "client_30_s_behind": ("success", shift("gen", -30), "The client is 30 s behind."),
    "worker_30_s_ahead": ("success", shift("one@", 30), "The worker is 30 s ahead."),
    "worker_30_s_behind": ("success", shift("one@", -30), "The worker is 30 s behind."),
    "first_worker_30_s_ahead": (
        *("redelivered", shift("one@", 30)),
        "The worker that was killed is 30 s ahead of the other one.",
    ),
    "first_worker_30_s_behind": (
        *("redelivered", shift("one@", -30)),
        "The worker that was killed is 30 s behind the other one.",
    ),
    "other_worker_30_s_ahead": (
        *("retries", shift("two@", 30)),
        "The worker of the second attempt is 30 s ahead of the other one.",
    ),
    "other_worker_30_s_behind": (
        *("retries", shift("two@", -30)),
        "The worker of the second attempt is 30 s behind the other one.",
    ),
    "clocks_go_back": (
        *("retries", at_night),
        "Clocks go back an hour in Berlin between the first attempt and the second.",
    ),
}


def with_row(stream: dict[str, Any]) -> dict[str, Any]:
    """Return the stream with what its row says."""
    if stream["outcome"] is None:
        row = expected_worker(stream["events"])
    else:
        row = expected_row(stream["events"], stream["outcome"], stream["columns"])
    return {**stream, "row": row}


def derived(name: str) -> dict[str, Any]:
    """Return a derived stream, as it follows from the recorded one."""
    source, change, about = DERIVED[name]
    stream = read(source)
    changed = {
        "about": f"{stream['about']} {about}",
        "recorded with": f"{stream['recorded with']}; derived from {source}",
        "events": change(stream["events"]),
    }
    return with_row({**stream, **changed})


def derive() -> None:
    """Write the derived streams, and the rows of all of them."""
    for name in DERIVED:
        write(name, derived(name))
    for name in names():
        write(name, with_row(read(name)))


if __name__ == "__main__":
    derive()
