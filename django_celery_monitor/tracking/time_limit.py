"""A short limit on how long the database may keep whoever records a task."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

from django.db import connections, transaction

#: What limits the statements of a connection, durable or not.
Limit = Callable[[Any, bool], AbstractContextManager[None]]

#: Seconds that a statement may take, its wait for a lock included.
SECONDS = 1

#: Seconds that connecting to a server may take: PostgreSQL's driver takes no less.
CONNECT_SECONDS = 2

#: Beginnings of the statements that are limited.
LIMITED = ("SELECT", "INSERT", "UPDATE", "WITH")

#: MySQL has no limit for a single statement that writes.
MYSQL_VARIABLES = ("innodb_lock_wait_timeout", "lock_wait_timeout")


@contextmanager
def time_limit(using: str, *, durable: bool = True) -> Iterator[None]:
    """Let each statement take no longer than ``SECONDS``, in this thread alone.

    What is not ``durable`` PostgreSQL need not have on its disk when it is committed.
    Within a transaction of the project's there is no limit, as it would last as long
    as the transaction; an error undoes no more than what is done here. Raises
    OperationalError when it takes longer.
    """
    connection: Any = connections[using]
    if connection.in_atomic_block:
        with transaction.atomic(using=using):
            yield
        return
    connect(connection)
    limit: Limit = _LIMITS.get(connection.vendor, _unlimited)
    with limit(connection, durable):
        yield


def _unlimited(*_: Any) -> AbstractContextManager[None]:
    return nullcontext()


def connect(connection: Any) -> None:
    """Connect to the database, if nobody has, within ``CONNECT_SECONDS``."""
    if connection.connection is not None:
        return
    settings = connection.settings_dict
    options = settings["OPTIONS"]
    if connection.vendor in {"mysql", "postgresql"} and not options.get("pool"):
        limited = {"connect_timeout": CONNECT_SECONDS, **options}
        connection.settings_dict = {**settings, "OPTIONS": limited}
    try:
        connection.ensure_connection()
    finally:
        connection.settings_dict = settings


def _postgresql(
    connection: Any,
    durable: bool,  # noqa: FBT001
) -> AbstractContextManager[None]:
    settings = f"SELECT set_config('statement_timeout', '{SECONDS}s', true)"
    if not durable:
        settings += ", set_config('synchronous_commit', 'off', true)"
    if connection.settings_dict["OPTIONS"].get("server_side_binding"):
        return _postgresql_transaction(connection, settings)
    wrapper = partial(_send_along, f"{settings}; ")
    limit: AbstractContextManager[None] = connection.execute_wrapper(wrapper)
    return limit


def _send_along(
    prefix: str,
    execute: Callable[..., Any],
    sql: str,
    params: Any,
    many: bool,  # noqa: FBT001
    context: Any,
) -> Any:
    """Execute two statements in one go: together they are one transaction."""
    if many or not sql.startswith(LIMITED):
        return execute(sql, params, many, context)
    result = execute(prefix + sql, params, many, context)
    cursor = context["cursor"].cursor
    # The older driver has the result of the last statement alone.
    if getattr(cursor, "pgresult", None) is not None:
        cursor.nextset()
    return result


@contextmanager
def _postgresql_transaction(connection: Any, settings: str) -> Iterator[None]:
    with transaction.atomic(using=connection.alias):
        with connection.cursor() as cursor:
            cursor.execute(settings)
        yield


@contextmanager
def _sqlite(connection: Any, durable: bool) -> Iterator[None]:  # noqa: FBT001
    # The driver itself waits.
    driver = connection.connection
    (before,) = driver.execute("PRAGMA busy_timeout").fetchone()
    driver.execute(f"PRAGMA busy_timeout = {min(before, SECONDS * 1000)}")
    try:
        yield
    finally:
        driver.execute(f"PRAGMA busy_timeout = {before}")


@contextmanager
def _mysql(connection: Any, durable: bool) -> Iterator[None]:  # noqa: FBT001
    if connection.mysql_is_mariadb:
        limits = f"max_statement_time={SECONDS}, innodb_lock_wait_timeout={SECONDS}"
        wrapper = partial(_prefix, f"SET STATEMENT {limits} FOR ")
        with connection.execute_wrapper(wrapper):
            yield
        return
    with connection.cursor() as cursor:
        variables = ", ".join(f"@@SESSION.{name}" for name in MYSQL_VARIABLES)
        cursor.execute(f"SELECT {variables}")
        before = cursor.fetchone()
        _set_session(cursor, [min(value, SECONDS) for value in before])
    try:
        yield
    finally:
        with connection.cursor() as cursor:
            _set_session(cursor, before)


def _set_session(cursor: Any, values: Any) -> None:
    names = ", ".join(f"SESSION {name} = %s" for name in MYSQL_VARIABLES)
    cursor.execute(f"SET {names}", list(values))


def _prefix(prefix: str, execute: Callable[..., Any], sql: str, *arguments: Any) -> Any:
    if sql.startswith(LIMITED):
        sql = prefix + sql
    return execute(sql, *arguments)


_LIMITS: dict[str, Limit] = {
    "mysql": _mysql,
    "postgresql": _postgresql,
    "sqlite": _sqlite,
}
