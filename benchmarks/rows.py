"""How many rows a second the camera saves.

The references, in the same run and on the same database: a save row by row, and the
database's own bulk load of the same values into a copy of the table with its indexes
(COPY on PostgreSQL, LOAD DATA on MariaDB, executemany on SQLite). Usage:
``python -m benchmarks.rows [--tasks 50000]``; ``DATABASE_URL`` names the database.
"""

from __future__ import annotations

import argparse
import csv
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from django.db import connections, models, transaction

from benchmarks.setup import database, events
from django_celery_monitor import sanitize
from django_celery_monitor.bulk import Table
from django_celery_monitor.conf import SECRET_KEYS
from django_celery_monitor.counters import Counters
from django_celery_monitor.models import TaskState, WorkerState
from django_celery_monitor.observation import Observer
from django_celery_monitor.outbox import Batch, Outbox
from django_celery_monitor.saver import Saver

#: Rows that are saved one by one: enough to tell how long one takes.
ONE_BY_ONE = 1_000


def observe(tasks: int, first: int, upto: int) -> Batch:
    """Return what a camera knows after the first events, ``upto``, of new tasks."""
    observer = Observer(sanitize.Sanitizer(SECRET_KEYS, 65_536))
    outbox = Outbox(10**9, 10**12, Counters())
    for told in events(tasks, first):
        for event in told[:upto]:
            task_id, seen = observer.task(event)
            outbox.see_task(task_id, seen)
    return outbox.take()


def rate(rows: int, run: Callable[[], Any]) -> float:
    """Return how many of ``rows`` a second ``run`` does."""
    began = time.perf_counter()
    run()
    return rows / (time.perf_counter() - began)


def saved(batch: Batch, using: str) -> float:
    """Return how many rows of ``batch`` a camera saves a second."""
    saver = Saver(Counters(), 60, 1)
    rows = len(batch)
    return rate(rows, lambda: saver.save(batch))


def one_by_one(first: int, using: str) -> float:
    """Return how many rows a second are saved by themselves, as a subclass may."""
    batch = observe(ONE_BY_ONE, first, 4)
    worker = WorkerState.objects.using(using).first()
    rows = {
        task_id: {**seen, "worker": worker, "attempts": None}
        for task_id, seen in batch.finished.items()
    }

    def run() -> None:
        for task_id, columns in rows.items():
            TaskState.objects.update_state(columns["state"], task_id, columns)

    return rate(len(rows), run)


def bulk_load(using: str) -> float:
    """Return how many rows a second the database itself loads into a like table."""
    connection = connections[using]
    table = Table(TaskState, "task_id", using)
    names = [field.attname for field in table.fields]
    found = TaskState.objects.using(using).values_list(*names)
    rows = table._prepared(table.fields, list(found))
    source, columns = TaskState._meta.db_table, table._columns(table.fields)
    load = {
        "postgresql": _copy,
        "mysql": _load_data,
        "sqlite": _execute_many,
    }[connection.vendor]
    with connection.cursor() as cursor:
        for statement in _copy_of(source, connection.vendor, cursor):
            cursor.execute(statement)
        return load(cursor, columns, rows, using)


def _copy_of(source: str, vendor: str, cursor: Any) -> list[str]:
    if vendor == "postgresql":
        return [f"CREATE TABLE loaded (LIKE {source} INCLUDING ALL)"]
    if vendor == "mysql":
        return [f"CREATE TABLE loaded LIKE {source}"]
    cursor.execute(
        "SELECT sql FROM sqlite_master WHERE tbl_name = %s AND sql IS NOT NULL"
        " ORDER BY type DESC",
        [source],
    )
    statements = [sql.replace(source, "loaded") for (sql,) in cursor.fetchall()]
    return [s.replace('INDEX "', 'INDEX "loaded_') for s in statements]


def _copy(cursor: Any, columns: str, rows: Sequence[Any], using: str) -> float:
    def run() -> None:
        with (
            transaction.atomic(using=using),
            cursor.copy(f"COPY loaded ({columns}) FROM STDIN") as copy,
        ):
            for row in rows:
                copy.write_row(row)

    return rate(len(rows), run)


def _load_data(cursor: Any, columns: str, rows: Sequence[Any], using: str) -> float:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows"

        def run() -> None:
            with path.open("w", newline="", encoding="utf-8") as file:
                writer = csv.writer(file, delimiter="\t", escapechar="\\")
                writer.writerows(
                    ["\\N" if value is None else _text(value) for value in row]
                    for row in rows
                )
            cursor.execute(
                f"LOAD DATA LOCAL INFILE '{path}' INTO TABLE loaded"
                f" CHARACTER SET utf8mb4 ({columns})"
            )

        return rate(len(rows), run)


def _text(value: Any) -> Any:
    return int(value) if isinstance(value, bool) else value


def _execute_many(cursor: Any, columns: str, rows: Sequence[Any], using: str) -> float:
    marks = ", ".join(["%s"] * len(rows[0]))

    def run() -> None:
        with transaction.atomic(using=using):
            cursor.executemany(f"INSERT INTO loaded ({columns}) VALUES ({marks})", rows)

    return rate(len(rows), run)


def main() -> None:
    """Print rows a second and what they are of the references."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", type=int, default=50_000)
    tasks = parser.parse_args().tasks
    with database() as made:
        made.connection.settings_dict.setdefault("OPTIONS", {})
        if made.vendor == "mysql":
            made.connection.settings_dict["OPTIONS"]["local_infile"] = True
            made.connection.close()
        use(made.alias)
        new = saved(observe(tasks, 0, 4), made.alias)
        started = observe(tasks, tasks, 3)
        saved(started, made.alias)
        changed = saved(observe(tasks, tasks, 4), made.alias)
        single = one_by_one(2 * tasks, made.alias)
        limit = bulk_load(made.alias)
        print(f"{made.vendor}: {TaskState.objects.count():,} rows in the table")
        for name, found in (
            ("new tasks", new),
            ("tasks that ended since", changed),
            ("row by row", single),
            ("bulk load", limit),
        ):
            print(
                f"  {name:24}{found:10,.0f} rows/s"
                f"{found / single:8.1f} x row by row{found / limit:8.2f} of the limit"
            )


def use(alias: str) -> None:
    """Have every model read and written in the database called ``alias``."""

    class Router:
        def db_for_read(self, model: type[models.Model], **_: Any) -> str:
            return alias

        db_for_write = db_for_read

    from django.db import router

    router.routers = [Router()]


if __name__ == "__main__":
    main()
