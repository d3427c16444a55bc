"""A database that version 1.1.2 created and filled, and what it holds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from django_celery_monitor.utils import correct_awareness
from tests.scratch import Scratch

WORKERS = "celery_monitor_workerstate"
TASKS = "celery_monitor_taskstate"

WORKER_COLUMNS = ("id", "hostname", "last_heartbeat", "last_update")
TASK_COLUMNS = (
    "id",
    "state",
    "task_id",
    "name",
    "tstamp",
    "args",
    "kwargs",
    "eta",
    "expires",
    "result",
    "traceback",
    "runtime",
    "retries",
    "hidden",
    "worker_id",
)

LAST_INT = 2**31 - 1
WORKER_ROWS: list[tuple[Any, ...]] = [
    (1, "celery@alpha", "2019-03-31 01:30:00.123456", "2019-03-31 01:30:01.000001"),
    (2, "celery@бета-ü", None, "2019-10-27 00:59:59.999999"),
    (
        LAST_INT,
        "w" * 255,
        "2019-10-27 01:00:00.000000",
        "2019-10-27 01:00:00.000000",
    ),
]
TASK_ROWS: list[tuple[Any, ...]] = [
    (
        1,
        "SUCCESS",
        "b0a1f5c2-6f0e-4a53-8a0b-0d8a7b0c6d11",
        "shop.tasks.add",
        "2019-03-31 01:30:00.123456",
        "(2, 2)",
        "{}",
        None,
        None,
        "4",
        None,
        0.1 + 0.2,
        0,
        False,
        1,
    ),
    (
        2,
        "FAILURE",
        "t" * 36,
        "n" * 200,
        "2019-10-27 00:30:00.000000",
        "('Grüße', '日本語 \\ 100 % ''quoted'' <b>')",
        "{'emoji': '🦊', 'null': None}",
        "2019-10-27 01:30:00.654321",
        "2019-10-28 01:30:00.000000",
        "ValueError('ü')",
        'Traceback (most recent call last):\n  File "a\\b.py"\r\n\tü\n' * 100,
        None,
        3,
        True,
        LAST_INT,
    ),
    (
        LAST_INT - 1,
        "RECEIVED",
        "",
        None,
        "1970-01-01 00:00:01.000000",
        None,
        None,
        None,
        None,
        None,
        None,
        None,
        LAST_INT,
        False,
        None,
    ),
    (
        LAST_INT,
        "PROGRESS",
        "ключ",
        "",
        "2037-12-31 23:59:59.999999",
        "",
        "",
        None,
        None,
        "",
        "",
        0.0,
        0,
        False,
        2,
    ),
]


def utc(text: str) -> datetime:
    """Return a time of UTC as the models want it, aware or not."""
    return correct_awareness(datetime.fromisoformat(f"{text}+00:00"))


def script(vendor: str) -> str:
    """Return the statements, one a line, that version 1.1.2 ran."""
    file = Path(__file__).parent / "upgrade" / f"{vendor}.sql"
    return file.read_text(encoding="utf-8")


def load_old(
    database: Scratch, statements: str, tasks: Sequence[tuple[Any, ...]] = TASK_ROWS
) -> None:
    """Create the tables of version 1.1.2 in ``database`` and fill them."""
    with database.connection.cursor() as cursor:
        for statement in statements.splitlines():
            if not statement.startswith("--"):
                cursor.execute(statement)
        for table, columns, rows in (
            (WORKERS, WORKER_COLUMNS, WORKER_ROWS),
            (TASKS, TASK_COLUMNS, tasks),
        ):
            places = ", ".join(["%s"] * len(columns))
            insert = f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({places})"  # noqa: S608
            cursor.executemany(insert, rows)
        if database.vendor == "postgresql":  # its sequences ignore ids that are given
            cursor.execute(
                f"SELECT setval('{WORKERS}_id_seq', {LAST_INT}),"
                f" setval('{TASKS}_id_seq', {LAST_INT})"
            )


def rows(database: Scratch) -> list[list[tuple[object, ...]]]:
    """Return what the tables hold in the columns that version 1.1.2 had."""
    return [
        database.execute(f"SELECT {', '.join(columns)} FROM {table} ORDER BY id")  # noqa: S608
        for table, columns in ((WORKERS, WORKER_COLUMNS), (TASKS, TASK_COLUMNS))
    ]


def schema(database: Scratch) -> dict[str, Any]:
    """Return columns and constraints of both tables, whatever order and names."""
    introspection = database.connection.introspection
    found: dict[str, Any] = {}
    with database.connection.cursor() as cursor:
        for table in (WORKERS, TASKS):
            found[table] = {
                column.name: (
                    introspection.get_field_type(column.type_code, column),
                    column.null_ok,
                    column.internal_size,
                )
                for column in introspection.get_table_description(cursor, table)
            }
            constraints = introspection.get_constraints(cursor, table)
            found[f"{table} constraints"] = Counter(
                (
                    tuple(spec["columns"]),
                    tuple(spec.get("orders") or ()),
                    *(spec[kind] for kind in ("primary_key", "unique", "index")),
                    spec["foreign_key"],
                    spec["check"],
                )
                for spec in constraints.values()
            )
    return found
