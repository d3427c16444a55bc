"""Writes many rows in one statement, by the fastest way of each database."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from datetime import datetime, timezone
from importlib.util import find_spec
from typing import Any

from django.db import connections, models
from django.db.models.constants import OnConflict

Values = Sequence[Any]

#: Databases whose drivers take many rows at once.
DRIVEN = {"mysql", "postgresql", "sqlite"}

#: Rows below which the ordinary statement is as fast as any other.
FEW_ROWS = 8

#: Whether PostgreSQL's driver, if there is one, can copy: psycopg 3 can.
can_copy = find_spec("psycopg") is not None


class Table:
    """The table of a model on one database, whose rows are lists of values.

    ``fields`` are the columns of a row, all but the primary key; ``unique`` is the
    one that tells rows apart.
    """

    def __init__(self, model: type[models.Model], unique: str, using: str) -> None:
        self.model = model
        self.using = using
        self.connection = connections[using]
        self.fields: list[Any] = [
            f for f in model._meta.concrete_fields if not f.primary_key
        ]
        self.unique: Any = model._meta.get_field(unique)

    def insert(self, rows: Sequence[Values]) -> None:
        """Insert rows.

        Raises IntegrityError when one of them is there, or is refused.
        """
        if not rows:
            return
        if self.vendor == "postgresql" and len(rows) > FEW_ROWS and can_copy:
            with self.connection.cursor() as cursor:
                self._copy(cursor, self.table, self.fields, rows)
        elif self.vendor in DRIVEN:
            self._execute_many(self._insert_statement(), self.fields, rows)
        else:
            self._manager.bulk_create(self._objects(rows))

    def update(self, rows: Sequence[Values], changed: Collection[str]) -> None:
        """Set the attributes ``changed`` in rows that are there."""
        fields = [field for field in self.fields if field.attname in changed]
        if not rows or not fields:
            return
        if self.vendor == "postgresql" and len(rows) > FEW_ROWS and can_copy:
            self._update_from_copy(rows, fields)
        elif self.vendor in {"postgresql", "sqlite"}:
            sets = ", ".join(f"{self._quote(field.column)} = %s" for field in fields)
            where = f"{self._quote(self.unique.column)} = %s"
            statement = f"UPDATE {self.table} SET {sets} WHERE {where}"  # noqa: S608
            self._execute_many(statement, [*fields, self.unique], rows)
        elif self.vendor == "mysql":
            # The driver sends many rows together in an INSERT alone.
            suffix = self.connection.ops.on_conflict_suffix_sql(
                self.fields,
                OnConflict.UPDATE,
                [field.column for field in fields],
                [self.unique.column],
            )
            statement = f"{self._insert_statement()} {suffix}"
            self._execute_many(statement, self.fields, rows)
        else:
            self._upsert(rows, fields)

    def _insert_statement(self) -> str:
        places = ", ".join(["%s"] * len(self.fields))
        columns = self._columns(self.fields)
        return f"INSERT INTO {self.table} ({columns}) VALUES ({places})"  # noqa: S608

    def _execute_many(
        self, statement: str, fields: Sequence[Any], rows: Sequence[Values]
    ) -> None:
        with self.connection.cursor() as cursor:
            cursor.executemany(statement, self._prepared(fields, rows))

    def _update_from_copy(self, rows: Sequence[Values], fields: list[Any]) -> None:
        copied = [self.unique, *fields]
        copy = self._quote(f"{self.model._meta.db_table}_copy")
        sets = ", ".join(
            f"{column} = {copy}.{column}"
            for column in (self._quote(field.column) for field in fields)
        )
        unique = self._quote(self.unique.column)
        with self.connection.cursor() as cursor:
            cursor.execute(
                f"CREATE TEMPORARY TABLE {copy} AS"  # noqa: S608
                f" SELECT {self._columns(copied)} FROM {self.table} WITH NO DATA"
            )
            self._copy(cursor, copy, copied, rows)
            cursor.execute(
                f"UPDATE {self.table} SET {sets} FROM {copy}"  # noqa: S608
                f" WHERE {self.table}.{unique} = {copy}.{unique}"
            )
            cursor.execute(f"DROP TABLE {copy}")

    def _copy(
        self, cursor: Any, into: str, fields: Sequence[Any], rows: Sequence[Values]
    ) -> None:
        statement = f"COPY {into} ({self._columns(fields)}) FROM STDIN"
        # Django wraps the errors of statements alone.
        with self.connection.wrap_database_errors, cursor.copy(statement) as copy:
            for row in self._prepared(fields, rows):
                copy.write_row(row)

    # Where the driver is not known to do any better

    @property
    def _manager(self) -> Any:
        return self.model._base_manager.using(self.using)

    def _objects(self, rows: Sequence[Values]) -> list[models.Model]:
        names = [field.attname for field in self.fields]
        return [self.model(**dict(zip(names, row, strict=True))) for row in rows]

    def _upsert(self, rows: Sequence[Values], fields: list[Any]) -> None:
        targeted = self.connection.features.supports_update_conflicts_with_target
        self._manager.bulk_create(
            self._objects(rows),
            update_conflicts=True,
            update_fields=[field.name for field in fields],
            unique_fields=[self.unique.name] if targeted else None,
        )

    # Names and values

    @property
    def vendor(self) -> str:
        """What Django calls the kind of database."""
        return self.connection.vendor

    @property
    def table(self) -> str:
        """The name of the table, quoted."""
        return self._quote(self.model._meta.db_table)

    def _quote(self, name: str) -> str:
        return str(self.connection.ops.quote_name(name))

    def _columns(self, fields: Sequence[Any]) -> str:
        return ", ".join(self._quote(field.column) for field in fields)

    def _prepared(
        self, fields: Sequence[Any], rows: Sequence[Values]
    ) -> list[list[Any]]:
        """Return the values of some fields as the driver takes them."""
        places = [self.fields.index(field) for field in fields]
        prepared = [[row[place] for place in places] for row in rows]
        for index, field in enumerate(fields):
            if (adapt := self._adapter(field)) is not None:
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
