"""Queries that read a bounded number of rows, the newest, whatever the table's size.

A *branch* is a queryset that one index has in the order of time, such as the tasks of
one state. Several branches are merged by the database, which reads of each no more
than it needs: an ``IN`` on the same column would read and sort all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from django.core.exceptions import EmptyResultSet
from django.db import connections
from django.db.models import QuerySet
from django.db.models.expressions import RawSQL

from django_celery_monitor.models import TaskState

#: More than there ever are. Without a limit, a database that is told where to look may
#: mix the conditions, and look elsewhere.
FENCE = 10_000_000

#: States that are told apart at most: anybody who can send events can invent some.
MOST_STATES = 40

#: One step through the index for each state, however many tasks are in it.
STATES = """
WITH RECURSIVE found (state, number) AS (
    SELECT MIN(state), 1 FROM {table}
    UNION ALL
    SELECT (SELECT MIN(state) FROM {table} WHERE state > found.state), number + 1
    FROM found WHERE state IS NOT NULL AND number < %s
)
SELECT state FROM found WHERE state IS NOT NULL
"""


def _sql(rows: QuerySet[Any], *columns: str) -> tuple[str, list[Any]]:
    """Return the query of ``columns`` of ``rows``, or that it finds nothing."""
    query = rows.values_list(*columns).query
    try:
        sql, params = query.get_compiler(rows.db).as_sql()
    except EmptyResultSet:
        return "", []
    return sql, list(params)


def _union(
    branches: Sequence[QuerySet[Any]], number: int, *columns: str
) -> tuple[str, list[Any]]:
    """Return the query of ``columns`` of the first ``number`` of each branch."""
    found = [_sql(branch[:number], *columns) for branch in branches]
    parts = [
        f"SELECT * FROM ({sql}) branch{index}"  # noqa: S608 -- Django's own SQL
        for index, (sql, _params) in enumerate(found)
        if sql
    ]
    return " UNION ALL ".join(parts), [item for _sql, args in found for item in args]


def _rows(using: str, sql: str, params: Sequence[Any]) -> list[tuple[Any, ...]]:
    with connections[using].cursor() as cursor:
        cursor.execute(sql, params)
        return list(cursor.fetchall())


def keys(
    branches: Sequence[QuerySet[TaskState]], first: int, last: int
) -> list[tuple[int, str]]:
    """Return keys and states of tasks of all ``branches`` together, some of them.

    These are the ones from ``first`` to before ``last``. Each branch is ordered by
    time, the same way.
    """
    if len(branches) == 1:
        return list(branches[0].values_list("pk", "state")[first:last])
    way = "DESC" if is_newest_first(branches[0]) else "ASC"
    return _merged(branches, last, way, first, last)


def _merged(
    branches: Sequence[QuerySet[TaskState]], most: int, way: str, first: int, last: int
) -> list[tuple[int, str]]:
    """Return keys and states of the first ``most`` of each branch, some of them."""
    sql, params = _union(branches, most, "tstamp", "id", "state")
    if not sql:
        return []
    sql = (
        f"SELECT id, state FROM ({sql}) tasks"  # noqa: S608 -- Django's own SQL
        f" ORDER BY tstamp {way}, id {way} LIMIT %s OFFSET %s"
    )
    return _rows(branches[0].db, sql, [*params, last - first, first])


def first_of_each(
    branches: Sequence[QuerySet[Any]], *columns: str
) -> list[tuple[Any, ...]]:
    """Return ``columns`` of the first row of each branch that has one."""
    sql, params = _union(branches, 1, *columns)
    return _rows(branches[0].db, sql, params) if sql else []


def few_keys(
    rows: QuerySet[TaskState], branches: Sequence[QuerySet[TaskState]] = ()
) -> list[tuple[int, str]]:
    """Return keys and states of ``rows``, of which there are not many, in their order.

    All of them are in ``branches``, if there are any. Which index to use is left to
    PostgreSQL alone, which knows what values are rare: the others take of two indexes
    the one that has fewer tasks on average. The order comes afterwards: some would walk
    through the whole table in it rather than sort what another index finds at once.
    """
    if branches and connections[rows.db].vendor != "postgresql":
        sql, params = _union([branch.order_by() for branch in branches], FENCE, "pk")
        rows = rows.filter(pk__in=RawSQL(sql, params)) if sql else rows.none()  # noqa: S611 -- Django's own SQL
    way = "DESC" if is_newest_first(rows) else "ASC"
    return _merged([rows.order_by()], FENCE, way, 0, FENCE)


def is_newest_first(rows: QuerySet[TaskState]) -> bool:
    """Return whether ``rows`` are in the order of the list."""
    return rows.query.order_by[:1] == ("-tstamp",)


def nth_times(
    paths: Sequence[Sequence[QuerySet[TaskState]]], number: int
) -> list[datetime | None]:
    """Return for each path, its branches, the time of its newest task after ``number``.

    None stands for a path that has no more than so many.
    """
    parts: list[str] = []
    params: list[Any] = []
    for branches in paths:
        newest = [branch.order_by("-tstamp") for branch in branches]
        sql, args = _union(newest, number + 1, "tstamp")
        parts.append(
            f"(SELECT tstamp FROM ({sql}) tasks"  # noqa: S608 -- Django's own SQL
            " ORDER BY tstamp DESC LIMIT 1 OFFSET %s)"
            if sql
            else "NULL"
        )
        params += [*args, number] if sql else []
    using = paths[0][0].db
    (found,) = _rows(using, f"SELECT {', '.join(parts)}", params)
    return [None if value is None else _time(value, using) for value in found]


def _time(value: Any, using: str) -> datetime:
    """Return what Django makes of a time as the database's driver returns it."""
    connection = connections[using]
    column = TaskState._meta.get_field("tstamp").get_col(TaskState._meta.db_table)
    for convert in connection.ops.get_db_converters(column):
        value = convert(value, column, connection)
    found: datetime = value
    return found


def counts(branches: Sequence[QuerySet[TaskState]], most: int) -> list[int]:
    """Return how many tasks each branch has, or ``most`` where there are more."""
    # The last column of every index: the rows themselves need not be read.
    found = [_sql(branch.order_by()[:most], "tstamp") for branch in branches]
    parts = [
        f"(SELECT COUNT(*) FROM ({sql}) tasks)"  # noqa: S608 -- Django's own SQL
        if sql
        else "0"
        for sql, _params in found
    ]
    params = [item for _sql, args in found for item in args]
    (numbers,) = _rows(branches[0].db, f"SELECT {', '.join(parts)}", params)
    return list(numbers)


def counts_by_state(
    branches: Sequence[QuerySet[TaskState]], most: int
) -> dict[str, int]:
    """Return how many of the first ``most`` of each branch are in each state."""
    sql, params = _union(branches, most, "state", "tstamp")
    if not sql:
        return {}
    sql = (
        f"SELECT state, COUNT(*) FROM ({sql}) tasks"  # noqa: S608 -- Django's own SQL
        " GROUP BY state"
    )
    return dict(_rows(branches[0].db, sql, params))


def distinct(
    rows: QuerySet[TaskState], number: int, *columns: str
) -> list[tuple[Any, ...]]:
    """Return the values of ``columns`` of the newest of ``rows``, each once."""
    sql, params = _union([rows.order_by("-tstamp")], number, *columns)
    if not sql:
        return []
    sql = f"SELECT DISTINCT * FROM ({sql}) tasks"  # noqa: S608 -- Django's own SQL
    return _rows(rows.db, sql, params)


def states(using: str) -> list[str]:
    """Return the states that tasks are in, in their order, ``MOST_STATES`` at most."""
    if connections[using].vendor == "mysql":
        # It steps through the index by itself, and not within a recursion.
        tasks = TaskState.objects.using(using).order_by("state")
        return list(tasks.values_list("state", flat=True).distinct()[:MOST_STATES])
    table = connections[using].ops.quote_name(TaskState._meta.db_table)
    found = _rows(using, STATES.format(table=table), [MOST_STATES])
    return [state for (state,) in found]
