"""What every benchmark shares: Django on a database of its own, and events."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")

import django

django.setup()

from tests.scratch import Scratch, scratch  # noqa: E402 -- needs Django set up

#: Seconds that the events of one task are apart.
STEP = 0.001


@contextmanager
def database() -> Iterator[Scratch]:
    """Make the database of the monitor for one measurement, and drop it afterwards.

    It is on the server that ``DATABASE_URL`` names, or else an SQLite file.
    """
    kind = kind_of_database()
    with tempfile.TemporaryDirectory() as folder, scratch(kind, Path(folder)) as made:
        made.migrate_tracker()
        yield made


def kind_of_database() -> str:
    """Return what ``scratch`` calls the database that ``DATABASE_URL`` names."""
    url = os.environ.get("DATABASE_URL", "sqlite")
    return "sqlite" if url.startswith("sqlite") else "server"


def events(tasks: int, first: int = 0) -> Iterator[list[dict[str, Any]]]:
    """Yield the events of each of some tasks that succeed, as workers send them."""
    start = time.time() - tasks * STEP
    for number in range(first, first + tasks):
        uuid = f"{number:08x}-5c2e-4f0a-9d1e-0123456789ab"
        worker = f"worker{number % 4}@host{number % 4}"
        at = start + (number - first) * STEP
        call = {
            "name": f"shop.tasks.task_{number % 40}",
            "args": f"({number}, 'ada@example.com')",
            "kwargs": "{'express': True}",
            "root_id": uuid,
            "parent_id": None,
            "retries": 0,
            "eta": None,
            "expires": None,
        }
        route = {"queue": "celery", "exchange": "", "routing_key": "celery"}
        happened: tuple[tuple[str, str, dict[str, Any]], ...] = (
            ("task-sent", "gen1@web", {**call, **route}),
            ("task-received", worker, call),
            ("task-started", worker, {}),
            ("task-succeeded", worker, {"result": "'done'", "runtime": 0.25}),
        )
        yield [
            {
                "type": type_,
                "uuid": uuid,
                "hostname": hostname,
                "timestamp": at + STEP * index / 10,
                "utcoffset": 0,
                "pid": 4711,
                "clock": number + index,
                **fields,
            }
            for index, (type_, hostname, fields) in enumerate(happened)
        ]


def rate(rows: int, run: Callable[[], Any]) -> float:
    """Return how many of ``rows`` a second ``run`` does."""
    began = time.perf_counter()
    run()
    return rows / (time.perf_counter() - began)
