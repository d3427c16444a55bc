"""What the rows of the streams say, read off their events in the true order.

This is a second, much simpler account of what ``observation`` has to find out in any
order: here the true order is known.
"""

from __future__ import annotations

from typing import Any

Event = dict[str, Any]

#: The columns that each attempt's message says anew.
CALL = (
    *("name", "args", "kwargs", "root_id", "parent_id"),
    *("queue", "exchange", "routing_key"),
)


def microseconds(event: Event) -> int:
    """Return when an event happened, in microseconds since the epoch.

    No event happened later than it arrived.
    """
    seconds: float = min(event["timestamp"], event["local_received"])
    return round(seconds * 1_000_000)


def of_type(events: list[Event], type_: str) -> list[Event]:
    """Return the events of a type, in order."""
    return [event for event in events if event["type"] == type_]


def expected_row(
    events: list[Event], outcome: str, columns: dict[str, Any]
) -> dict[str, Any]:
    """Return the columns of a task's row.

    ``outcome`` is the type of the event that says how the task ended; ``columns``
    are those that its story tells.
    """
    last = of_type(events, outcome)[-1]
    row: dict[str, Any] = {
        "retries": max(event.get("retries", 0) for event in events),
        "worker": last["hostname"],
        "traceback": last.get("traceback"),
        "runtime": last.get("runtime"),
        "tstamp_us": microseconds(last),
        "finished_at": microseconds(last),
        "attempts": sorted(map(microseconds, of_type(events, "task-retried"))),
    }
    for type_, choose in (("sent", min), ("received", max), ("started", max)):
        times = [microseconds(event) for event in of_type(events, f"task-{type_}")]
        row[f"{type_}_at"] = choose(times, default=None)
    newest = [event for event in events if event.get("retries") == row["retries"]]
    for column in CALL:
        values = {event[column] for event in newest if column in event}
        # A retry calls itself its parent.
        values -= {last["uuid"]} if column == "parent_id" else set()
        # Two messages of one attempt may say different things: that is left open.
        if len(values) < 2:
            row[column] = next(iter(values), None)
    if outcome == "task-succeeded":
        row["exception"] = None
    return {**row, **columns}


def expected_worker(events: list[Event]) -> dict[str, Any]:
    """Return the columns of a worker's row."""
    beats = [event for event in events if event["type"] != "worker-offline"]
    offline = of_type(events, "worker-offline")
    return {
        "hostname": events[0]["hostname"],
        "last_heartbeat_us": microseconds(beats[-1]),
        "offline_at_us": microseconds(offline[-1]) if offline else None,
        **{
            key: events[-1][key]
            for key in (
                *("pid", "freq", "active", "processed", "loadavg"),
                *("sw_ident", "sw_ver", "sw_sys"),
            )
        },
    }
