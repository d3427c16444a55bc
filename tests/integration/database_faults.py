"""Faults of databases: connections that end, locks, tables that go."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from django.db import OperationalError
from django.db.models import Model

from tests.outages import kill_connection
from tests.scratch import Scratch

TASKS = "celery_monitor_taskstate"


class Router:
    """Routes the models of the monitor to a database of a test."""

    alias = "default"

    def db_for_read(self, model: type[Model], **hints: Any) -> str | None:
        """Return the alias that a model is read from; None: no opinion."""
        return self.alias if model._meta.app_label == "celery_monitor" else None

    db_for_write = db_for_read


class KilledAfter:
    """Has the connection killed after a statement has been executed.

    Wraps each statement that is executed; number 0 is the first. On SQLite, which
    has no connection to kill, the statement fails after it has been executed.
    """

    def __init__(self, database: Scratch, number: int | None) -> None:
        self.database = database
        self.number = number
        self.executed = 0

    def __call__(self, execute: Callable[..., Any], sql: str, *arguments: Any) -> Any:
        """Execute a statement."""
        result = execute(sql, *arguments)
        self.executed += 1
        if self.executed - 1 == self.number:
            if self.database.vendor == "sqlite":
                raise OperationalError("disk I/O error")
            kill_connection(self.database.connection)
        return result


def kill_connections(database: Scratch) -> int:
    """End every connection to the database but this one; return how many."""
    if database.vendor == "postgresql":
        killed = database.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        return len(killed)
    others = database.execute(
        "SELECT id FROM information_schema.processlist"
        " WHERE db = DATABASE() AND id <> CONNECTION_ID()"
    )
    for (number,) in others:
        # It may have ended by itself.
        with suppress(OperationalError):
            database.execute(f"KILL {number}")
    return len(others)


LOCK = {
    "postgresql": ("BEGIN", f"LOCK TABLE {TASKS} IN ACCESS EXCLUSIVE MODE"),
    "mysql": (f"LOCK TABLES {TASKS} WRITE",),
    "sqlite": ("BEGIN IMMEDIATE",),
}
UNLOCK = {"postgresql": "COMMIT", "mysql": "UNLOCK TABLES", "sqlite": "COMMIT"}


@contextmanager
def locked(database: Scratch) -> Iterator[None]:
    """Keep everybody else from the table of tasks, on SQLite from writing at all."""
    for statement in LOCK[database.vendor]:
        database.execute(statement)
    try:
        yield
    finally:
        database.execute(UNLOCK[database.vendor])


def waits_for_lock(database: Scratch) -> bool:
    """Return whether a connection to a server waits for a lock on a table."""
    if database.vendor == "postgresql":
        waiting = (
            # pg_stat_activity would stay the same within a transaction.
            "SELECT 1 FROM pg_locks JOIN pg_database ON database = pg_database.oid"
            " WHERE datname = current_database() AND NOT granted"
        )
    else:
        waiting = (
            "SELECT 1 FROM information_schema.processlist"
            " WHERE db = DATABASE() AND state LIKE 'Waiting for table%'"
        )
    return bool(database.execute(waiting))


@contextmanager
def renamed(database: Scratch) -> Iterator[None]:
    """Take the table of tasks away for a while."""
    database.execute(f"ALTER TABLE {TASKS} RENAME TO away")
    try:
        yield
    finally:
        database.execute(f"ALTER TABLE away RENAME TO {TASKS}")
