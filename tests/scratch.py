"""Databases that one test has to itself, on the server that the run is told to use."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import pytest
from django.core.management import call_command
from django.db import OperationalError, connections
from django.db.backends.base.base import BaseDatabaseWrapper

from tests.databases import database

#: What to parametrize a test with that runs on SQLite and on the server.
EVERYWHERE = (
    "sqlite",
    pytest.param("server", marks=pytest.mark.services("DATABASE_URL")),
)


MYSQL_DEADLOCK = 1213


@dataclass(frozen=True)
class Scratch:
    """A database: its alias in this process, its URL for others."""

    kind: str
    alias: str
    url: str

    @property
    def connection(self) -> BaseDatabaseWrapper:
        """This thread's connection to the database."""
        return connections[self.alias]

    @property
    def vendor(self) -> str:
        """What Django calls the kind of database."""
        return self.connection.vendor

    def migrate(self, migration: str | None = None) -> None:
        """Migrate the monitor's tables, as far as ``migration`` if given."""
        target = ["celery_monitor", *([migration] if migration else [])]
        call_command("migrate", *target, database=self.alias, verbosity=0)

    def migrate_tracker(self) -> None:
        """Migrate all the monitor's tables, those of the task tracker too."""
        target = "celery_monitor_tracking"
        call_command("migrate", target, database=self.alias, verbosity=0)

    def execute(self, statement: str) -> list[tuple[object, ...]]:
        """Run ``statement``, without parameters; return the rows it finds."""
        with self.connection.cursor() as cursor:
            cursor.execute(statement)
            return list(cursor.fetchall()) if cursor.description else []


@contextmanager
def scratch(kind: str, folder: Path) -> Iterator[Scratch]:
    """Create an empty database and drop it at the end.

    ``kind`` is ``"sqlite"``, a file in ``folder``, or ``"server"``, a database beside
    the one that ``DATABASE_URL`` names.
    """
    name = f"monitor_{uuid.uuid4().hex[:12]}"
    if kind == "sqlite":
        url = f"sqlite:///{folder / name}.sqlite3"
    else:
        url = urlunsplit(urlsplit(os.environ["DATABASE_URL"])._replace(path=f"/{name}"))
    # Django fills in the defaults of a set of databases that has the default one.
    configured = connections.configure_settings({"default": {}, name: database(url)})
    connections.settings[name] = configured[name]
    made = Scratch(kind, name, url)
    if kind != "sqlite":
        charset = " CHARACTER SET utf8mb4" if made.vendor == "mysql" else ""
        with made.connection._nodb_cursor() as cursor:
            cursor.execute(f"CREATE DATABASE {name}{charset}")
    try:
        yield made
    finally:
        made.connection.close()
        if kind != "sqlite":
            force = " WITH (FORCE)" if made.vendor == "postgresql" else ""
            with made.connection._nodb_cursor() as cursor:
                cursor.execute(f"DROP DATABASE {name}{force}")
        del connections[name], connections.settings[name]


def until_done(call: Callable[[], Any], attempts: int = 10) -> None:
    """Make ``call``, again where it is the victim of a deadlock on MySQL.

    A purge and a writer of the very row it deletes lock two indexes in opposite
    orders, and one has to give way: the camera's next shot or cleanup repeats it.
    """
    try:
        call()
    except OperationalError as error:
        if error.args[0] != MYSQL_DEADLOCK or attempts == 1:
            raise
        until_done(call, attempts - 1)
