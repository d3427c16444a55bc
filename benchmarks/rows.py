"""How many rows a second the camera saves.

The references, in the same run and on the same database: a save row by row, and what
the database does by itself with the same values in a like table with its indexes, its
bulk load for new tasks (COPY on PostgreSQL, LOAD DATA on MariaDB, executemany on
SQLite) and its bulk upsert for those that ended since. Usage: ``python -m
benchmarks.rows [--tasks 50000]``; ``DATABASE_URL`` names the database.
"""

from __future__ import annotations

import argparse
from typing import Any

from django.db import models

from benchmarks.limits import Limits
from benchmarks.setup import database, events, rate
from django_celery_monitor import sanitize
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


def saved(batch: Batch) -> float:
    """Return how many rows of ``batch`` a camera saves a second."""
    saver = Saver(Counters(), 60, 1)
    rows = len(batch)
    return rate(rows, lambda: saver.save(batch))


def one_by_one(first: int) -> float:
    """Return how many rows a second are saved by themselves, as a subclass may."""
    batch = observe(ONE_BY_ONE, first, 4)
    worker = WorkerState.objects.create(hostname="worker0@host0")
    rows = {
        task_id: {**seen, "worker": worker, "attempts": None}
        for task_id, seen in batch.finished.items()
    }

    def run() -> None:
        for task_id, columns in rows.items():
            TaskState.objects.update_state(columns["state"], task_id, columns)

    return rate(len(rows), run)


def main() -> None:
    """Print rows a second and what they are of the references."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", type=int, default=50_000)
    tasks = parser.parse_args().tasks
    with database() as made:
        if made.vendor == "mysql":
            made.connection.settings_dict.setdefault("OPTIONS", {})["local_infile"] = 1
            made.connection.close()
        use(made.alias)
        limits = Limits(made.alias)
        single = one_by_one(2 * tasks)
        print(f"{made.vendor}: {tasks:,} tasks a line")
        show("row by row", single, single, None)
        found = saved(observe(tasks, 0, 4))
        show("new tasks", found, single, limits.insert(limits.rows()))
        saved(observe(tasks, tasks, 3))
        before = limits.rows()[-tasks:]
        found = saved(observe(tasks, tasks, 4))
        after = limits.rows()[-tasks:]
        show("tasks that ended since", found, single, limits.upsert(before, after))


def show(title: str, found: float, single: float, limit: float | None) -> None:
    """Print a line of the table."""
    line = f"  {title:24}{found:10,.0f} rows/s{found / single:8.1f} x row by row"
    if limit is not None:
        line += f"{found / limit:8.2f} of the database's own {limit:,.0f}"
    print(line, flush=True)


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
