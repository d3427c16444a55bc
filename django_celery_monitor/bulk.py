"""Writes many rows in one statement, by the fastest way of each database."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from datetime import date, datetime, timezone
from functools import lru_cache
from importlib.util import find_spec
from typing import Any

from django.db import connections, models
from django.db.models.constants import OnConflict
from django.db.models.expressions import RawSQL

Values = Sequence[Any]

#: Databases whose drivers take many rows at once.
DRIVEN = {"mysql", "postgresql", "sqlite"}

#: Rows below which the ordinary statement is as fast as any other.
FEW_ROWS = 8

#: Bytes of one statement on MySQL: the driver's own limit of 64 kB costs a fifth of
#: the time, and no server takes less than 1 MB unless it is told to.
MYSQL_STATEMENT = 1 << 19

#: Whether PostgreSQL's driver, if there is one, can copy: psycopg 3 can.
can_copy = find_spec("psycopg") is not None


class Table:
    """The table of a model on one database, whose rows are lists of values.

    ``fields`` are the columns of a row in their order: last comes the time of the
    write, which nobody has to read before.
    """

    def __init__(self, model: type[models.Model], using: str) -> None:
        self.model = model
        self.using = using
        self.connection = connections[using]
        self.fields: list[Any] = sorted(
            model._meta.concrete_fields, key=lambda f: getattr(f, "auto_now", False)
        )
        self.key: Any = model._meta.pk

    def any_of(self, texts: list[str]) -> Any:
        """Return the right side of ``__in``.

        A thousand texts are one parameter where the database has arrays.
        """
        if self.vendor == "postgresql":
            return RawSQL("SELECT unnest(%s::text[])", [texts])
        return texts

    def insert(self, rows: Sequence[Values]) -> None:
        """Insert rows, whose primary keys are None.

        Raises IntegrityError when one of them is there, or is refused.
        """
        if not rows:
            return
        # What is null in every row is so without being sent, as is a new key.
        fields = [
            field
            for field, values in zip(self.fields, zip(*rows, strict=True), strict=True)
            if values.count(None) < len(rows) or not (field.null or field is self.key)
        ]
        if self.vendor == "postgresql" and len(rows) > FEW_ROWS and can_copy:
            with self.connection.cursor() as cursor:
                self._copy(cursor, self.table, fields, rows)
        elif self.vendor in DRIVEN:
            self._execute_many(self._insert_statement(fields), fields, rows)
        else:
            self._manager.bulk_create(self._objects(rows))

    def update(self, rows: Sequence[Values], changed: Collection[str]) -> None:
        """Set the attributes ``changed`` in rows that are there, by primary key."""
        fields = [field for field in self.fields if field.attname in changed]
        if not rows or not fields:
            return
        if self.vendor == "postgresql" and len(rows) > FEW_ROWS and can_copy:
            self._update_from_copy(rows, fields)
        elif self.vendor in {"postgresql", "sqlite"}:
            sets = ", ".join(f"{self._quote(field.column)} = %s" for field in fields)
            where = f"{self._quote(self.key.column)} = %s"
            statement = f"UPDATE {self.table} SET {sets} WHERE {where}"  # noqa: S608
            self._execute_many(statement, [*fields, self.key], rows)
        elif self.vendor == "mysql":
            # The driver sends many rows together in an INSERT alone, which wants all
            # that cannot be null. Rows that bring their key use up no new one.
            suffix = self.connection.ops.on_conflict_suffix_sql(
                self.fields,
                OnConflict.UPDATE,
                [field.column for field in fields],
                [self.key.column],
            )
            sent = [f for f in self.fields if f in fields or not f.null]
            self._execute_many(f"{self._insert_statement(sent)} {suffix}", sent, rows)
        else:
            self._upsert(rows, fields)

    def _insert_statement(self, fields: Sequence[Any]) -> str:
        places = ", ".join(["%s"] * len(fields))
        columns = self._columns(fields)
        return f"INSERT INTO {self.table} ({columns}) VALUES ({places})"  # noqa: S608

    def _execute_many(
        self, statement: str, fields: Sequence[Any], rows: Sequence[Values]
    ) -> None:
        with self.connection.cursor() as cursor:
            driver: Any = cursor
            while (inner := getattr(driver, "cursor", None)) is not None:
                driver = inner
            if hasattr(driver, "max_stmt_length"):
                driver.max_stmt_length = MYSQL_STATEMENT
            cursor.executemany(statement, list(self._prepared(fields, rows)))

    def _update_from_copy(self, rows: Sequence[Values], fields: list[Any]) -> None:
        copied = [self.key, *fields]
        copy = self._quote(f"{self.model._meta.db_table}_copy")
        sets = ", ".join(
            f"{column} = {copy}.{column}"
            for column in (self._quote(field.column) for field in fields)
        )
        key = self._quote(self.key.column)
        with self.connection.cursor() as cursor:
            cursor.execute(
                f"CREATE TEMPORARY TABLE {copy} AS"  # noqa: S608
                f" SELECT {self._columns(copied)} FROM {self.table} WITH NO DATA"
            )
            self._copy(cursor, copy, copied, rows)
            cursor.execute(
                f"UPDATE {self.table} SET {sets} FROM {copy}"  # noqa: S608
                f" WHERE {self.table}.{key} = {copy}.{key}"
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
            unique_fields=[self.key.name] if targeted else None,
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
    ) -> Iterator[list[Any]]:
        """Yield the values of some fields as the driver takes them."""
        places = [self.fields.index(field) for field in fields]
        # The time of the write is that of every row, and the time of a state that
        # of the end too.
        when = lru_cache(maxsize=16)(self._datetime)
        adapters = [
            (index, adapt)
            for index, field in enumerate(fields)
            if (adapt := self._adapter(field, when)) is not None
        ]
        for row in rows:
            prepared = [row[place] for place in places]
            for index, adapt in adapters:
                if (value := prepared[index]) is not None:
                    prepared[index] = adapt(value)
            yield prepared

    def _adapter(
        self, field: Any, when: Callable[[datetime], Any]
    ) -> Callable[[Any], Any] | None:
        if isinstance(field, models.DateTimeField):
            return when
        if isinstance(field, models.JSONField):
            return lambda value: field.get_db_prep_save(value, self.connection)
        return None

    def _datetime(self, value: datetime) -> Any:
        # What Django or the driver does for them, in a tenth of the time.
        if value.tzinfo is timezone.utc:
            if self.connection.vendor == "postgresql":
                return f"{_day(value.date())} {value.time()}+00"
            if self.connection.timezone is timezone.utc:
                return f"{_day(value.date())} {value.time()}"
        return self.connection.ops.adapt_datetimefield_value(value)


@lru_cache(maxsize=64)
def _day(value: date) -> str:
    return str(value)
