"""Writes many rows in one statement, by the fastest way of each database."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timezone
from typing import Any

from django.db import connections, models
from django.db.models.constants import OnConflict

Values = Sequence[Any]

#: Rows below which the ordinary statement is as fast as any other.
FEW_ROWS = 8


class Table:
    """The table of a model on one database, whose rows are lists of values.

    ``fields`` are the columns of a row, all but the primary key; ``unique`` is the
    one that tells rows apart.
    """

    def __init__(self, model: type[models.Model], unique: str, using: str) -> None:
        self.model = model
        self.using = using
        self.connection = connections[using]
        self.fields = [f for f in model._meta.concrete_fields if not f.primary_key]
        self.columns = [str(field.column) for field in self.fields]
        self.unique: Any = model._meta.get_field(unique)

    def insert(self, rows: Sequence[Values]) -> int:
        """Insert rows, but for those that are there; return how many were inserted.

        Raises IntegrityError when one is there and the database cannot leave out
        that one alone, and when one is refused.
        """
        # MySQL's IGNORE would ignore whatever is wrong with a row, and cut values.
        skips = self.connection.vendor in {"postgresql", "sqlite"}
        return self._write(rows, "ON CONFLICT DO NOTHING" if skips else "", None)

    def update(self, rows: Sequence[Values]) -> None:
        """Replace rows that are there, all but their primary keys."""
        changed = [field for field in self.fields if field is not self.unique]
        suffix: str = self.connection.ops.on_conflict_suffix_sql(
            self.fields,
            OnConflict.UPDATE,
            [field.column for field in changed],
            [self.unique.column],
        )
        self._write(rows, suffix, changed)

    def _write(
        self, rows: Sequence[Values], suffix: str, changed: list[Any] | None
    ) -> int:
        """Insert rows; ``changed`` and ``suffix`` say what of those that are there."""
        if not rows:
            return 0
        vendor = self.connection.vendor
        if vendor == "postgresql" and len(rows) > FEW_ROWS and _can_copy():
            return self._copy(rows, suffix)
        if vendor in {"mysql", "postgresql", "sqlite"}:
            return self._execute_many(rows, suffix)
        return self._orm(rows, changed)

    def _execute_many(self, rows: Sequence[Values], suffix: str) -> int:
        table = self.connection.ops.quote_name(self.model._meta.db_table)
        places = ", ".join(["%s"] * len(self.columns))
        statement = (
            f"INSERT INTO {table} ({self._column_list()})"  # noqa: S608
            f" VALUES ({places}) {suffix}"
        )
        with self.connection.cursor() as cursor:
            cursor.executemany(statement, self._prepared(rows))
            return int(cursor.rowcount)

    def _copy(self, rows: Sequence[Values], suffix: str) -> int:
        quote = self.connection.ops.quote_name
        table = self.model._meta.db_table
        into, columns = quote(f"{table}_copy"), self._column_list()
        with self.connection.cursor() as cursor:
            cursor.execute(
                f"CREATE TEMPORARY TABLE IF NOT EXISTS {into}"  # noqa: S608
                " ON COMMIT DELETE ROWS"
                f" AS SELECT {columns} FROM {quote(table)} WITH NO DATA"
            )
            # Inserted and replaced rows may share a transaction.
            cursor.execute(f"TRUNCATE {into}")
            with cursor.copy(f"COPY {into} ({columns}) FROM STDIN") as copy:
                for row in self._prepared(rows):
                    copy.write_row(row)
            cursor.execute(
                f"INSERT INTO {quote(table)} ({columns})"  # noqa: S608
                f" SELECT {columns} FROM {into} {suffix}"
            )
            return int(cursor.rowcount)

    def _orm(self, rows: Sequence[Values], changed: list[Any] | None) -> int:
        names = [field.attname for field in self.fields]
        objects = [self.model(**dict(zip(names, row, strict=True))) for row in rows]
        manager = self.model._base_manager.using(self.using)
        if changed is None:
            manager.bulk_create(objects)
        else:
            features = self.connection.features
            targeted = features.supports_update_conflicts_with_target
            manager.bulk_create(
                objects,
                update_conflicts=True,
                update_fields=[field.name for field in changed],
                unique_fields=[self.unique.name] if targeted else None,
            )
        return len(objects)

    def _column_list(self) -> str:
        return ", ".join(map(self.connection.ops.quote_name, self.columns))

    def _prepared(self, rows: Sequence[Values]) -> Sequence[Values]:
        """Return rows with values as the driver takes them."""
        prepare = [
            (index, adapt)
            for index, field in enumerate(self.fields)
            if (adapt := self._adapter(field)) is not None
        ]
        prepared = [list(row) for row in rows]
        for index, adapt in prepare:
            for row in prepared:
                if row[index] is not None:
                    row[index] = adapt(row[index])
        return prepared

    def _adapter(self, field: Any) -> Callable[[Any], Any] | None:
        if isinstance(field, models.DateTimeField):
            return None if self.connection.vendor == "postgresql" else self._datetime
        if isinstance(field, models.JSONField):
            return lambda value: field.get_db_prep_save(value, self.connection)
        return None

    def _datetime(self, value: datetime) -> Any:
        if value.tzinfo is timezone.utc and self.connection.timezone is timezone.utc:
            # What Django does for them, in a tenth of the time.
            return str(value.replace(tzinfo=None))
        return self.connection.ops.adapt_datetimefield_value(value)


def _can_copy() -> bool:
    from django.db.backends.postgresql.psycopg_any import is_psycopg3

    return bool(is_psycopg3)
