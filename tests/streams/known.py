"""The recorded streams and what is the same for whatever looks at them."""

from __future__ import annotations

from typing import Any

from tests.streams.derive import names, read

Event = dict[str, Any]
Columns = dict[str, Any]

STREAMS = {name: read(name) for name in names()}
TASKS = [name for name, stream in STREAMS.items() if stream["outcome"]]
WORKERS = [name for name in STREAMS if name not in TASKS]
#: Streams whose hosts have the same time.
IN_TIME = [name for name in TASKS if not name.endswith(("_ahead", "_behind"))]

PHASE_TIMES = ("sent_at", "received_at", "started_at")
TIMES = (*PHASE_TIMES, "finished_at")


def says(columns: Columns, row: Columns) -> None:
    """Assert that ``columns``, their times in microseconds, say all of ``row``."""
    assert {name: columns[name] for name in row} == row
