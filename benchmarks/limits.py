"""What a database can do by itself: its bulk load and its bulk upsert.

Both take the very values that the camera has saved, into a like table with the same
indexes and the same foreign key. Neither looks at what is there, and nothing is merged.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from django.db import connections, transaction

from benchmarks.setup import rate
from django_celery_monitor.bulk import Table
from django_celery_monitor.models import TaskState, WorkerState

Rows = Sequence[Sequence[Any]]

#: What LOAD DATA takes for the end of a value, a row or an escape.
ESCAPES = str.maketrans({"\\": r"\\", "\t": r"\t", "\n": r"\n"})


class Limits:
    """The limits of one database, for the rows of tasks that the camera saves."""

    def __init__(self, using: str) -> None:
        self.using = using
        self.connection = connections[using]
        self.fields = Table(TaskState, using).fields
        self.names = ", ".join(field.column for field in self.fields)
        self.places = ", ".join(["%s"] * len(self.fields))
        self.load = {
            "postgresql": self._copy,
            "mysql": self._load_data,
            "sqlite": self._execute_many,
        }[self.connection.vendor]

    def rows(self) -> Rows:
        """Return what is in the table of tasks, as the driver takes it."""
        stored = TaskState.objects.using(self.using).order_by("pk")
        rows = list(stored.values_list(*[field.attname for field in self.fields]))
        return list(Table(TaskState, self.using)._prepared(self.fields, rows))

    def insert(self, rows: Rows) -> float:
        """Return how many ``rows`` a second are loaded into an empty table."""
        with self.connection.cursor() as cursor:
            self._create("loaded", cursor)
            found = self._timed(rows, lambda: self.load(cursor, "loaded", rows))
            _check(cursor, "loaded", rows)
            cursor.execute("DROP TABLE loaded")
            return found

    def upsert(self, before: Rows, after: Rows) -> float:
        """Return how many rows a second replace those with the same keys."""
        with self.connection.cursor() as cursor:
            self._create("upserted", cursor)
            self._timed(before, lambda: self.load(cursor, "upserted", before))
            found = self._timed(after, lambda: self._upsert(cursor, after))
            _check(cursor, "upserted", after)
            cursor.execute("DROP TABLE upserted")
            return found

    def _timed(self, rows: Rows, load: Callable[[], Any]) -> float:
        def run() -> None:
            with transaction.atomic(using=self.using):
                load()

        return rate(len(rows), run)

    def _create(self, table: str, cursor: Any) -> None:
        source = TaskState._meta.db_table
        if self.connection.vendor == "sqlite":
            cursor.execute(
                "SELECT sql FROM sqlite_master WHERE tbl_name = %s AND sql IS NOT NULL"
                " ORDER BY type DESC",
                [source],
            )
            for (sql,) in cursor.fetchall():
                like = sql.replace(source, table)
                cursor.execute(like.replace('INDEX "', f'INDEX "{table}_'))
            return
        if self.connection.vendor == "postgresql":
            cursor.execute(f"CREATE TABLE {table} (LIKE {source} INCLUDING ALL)")
        else:
            cursor.execute(f"CREATE TABLE {table} LIKE {source}")
        # The one thing that a like table does not have by itself.
        worker = WorkerState._meta.db_table
        deferred = self.connection.ops.deferrable_sql()
        cursor.execute(
            f"ALTER TABLE {table} ADD FOREIGN KEY (worker_id)"
            f" REFERENCES {worker} (id) {deferred}"
        )

    def _upsert(self, cursor: Any, rows: Rows) -> None:
        suffix = self._suffix()
        if self.connection.vendor == "sqlite":
            self._execute_many(cursor, "upserted", rows, suffix)
            return
        source = TaskState._meta.db_table
        cursor.execute(
            f"CREATE TEMPORARY TABLE staged AS SELECT * FROM {source} LIMIT 0"
        )
        self.load(cursor, "staged", rows)
        cursor.execute(
            f"INSERT INTO upserted ({self.names}) SELECT {self.names} FROM staged"
            f" WHERE true {suffix}"
        )
        cursor.execute("DROP TABLE staged")

    def _suffix(self) -> str:
        columns = [f.column for f in self.fields if f.column != "id"]
        if self.connection.vendor == "mysql":
            sets = ", ".join(f"{name} = VALUES({name})" for name in columns)
            return f"ON DUPLICATE KEY UPDATE {sets}"
        sets = ", ".join(f"{name} = excluded.{name}" for name in columns)
        return f"ON CONFLICT (id) DO UPDATE SET {sets}"

    def _copy(self, cursor: Any, into: str, rows: Rows) -> None:
        with cursor.copy(f"COPY {into} ({self.names}) FROM STDIN") as copy:
            for row in rows:
                copy.write_row(row)

    def _load_data(self, cursor: Any, into: str, rows: Rows) -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "rows"
            with path.open("w", newline="", encoding="utf-8") as file:
                for row in rows:
                    file.write("\t".join(map(_text, row)) + "\n")
            cursor.execute(
                f"LOAD DATA LOCAL INFILE '{path}' INTO TABLE {into}"
                f" CHARACTER SET utf8mb4 ({self.names})"
            )

    def _execute_many(
        self, cursor: Any, into: str, rows: Rows, suffix: str = ""
    ) -> None:
        cursor.executemany(
            f"INSERT INTO {into} ({self.names}) VALUES ({self.places}) {suffix}", rows
        )


def _text(value: Any) -> str:
    if value is None:
        return r"\N"
    if isinstance(value, str):
        return value.translate(ESCAPES)
    return str(int(value) if isinstance(value, bool) else value)


def _check(cursor: Any, table: str, rows: Rows) -> None:
    # A bulk load may skip what it cannot take, and be all the faster.
    cursor.execute(f"SELECT COUNT(*) FROM {table}")
    if (found := cursor.fetchone()[0]) != len(rows):
        raise RuntimeError(f"{found} of {len(rows)} rows were loaded into {table}.")
