"""How long a camera needs to delete many expired rows, and whom it keeps waiting.

A camera in a process of its own takes in and saves tasks at a steady rate while it
deletes rows that have expired; another writer asks all the while for the lock of the
row that is next to be deleted. The reference, in the same run and on the same
database: the camera before it begins to delete, and one DELETE of as many rows. Usage:
``python -m benchmarks.expiry [--rows 1000000] [--rate 100]``; ``DATABASE_URL`` names
the database, ``REDIS_URL`` the broker.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

from django.db import connections, transaction
from django.utils import timezone

from benchmarks.setup import kind_of_database
from django_celery_monitor.bulk import Table
from django_celery_monitor.models import CameraState, TaskState
from tests.integration import faults
from tests.integration.processes import Process, Project, wait_for
from tests.scratch import Scratch

os.environ.setdefault("REDIS_URL", "redis://127.0.0.1:6379/0")

#: Rows that are written at a time.
CHUNK = 10_000

#: Rows that the other writer may have had, which are left to the next hour's cleanup.
PASSED_OVER = 20

#: Seconds that a run may take.
LONGEST = 900


def fill(database: Scratch, number: int) -> None:
    """Create tasks that succeeded long ago."""
    table = Table(TaskState, database.alias)
    tstamp = timezone.now() - timedelta(days=30)
    for first in range(0, number, CHUNK):
        rows = []
        for index in range(first, min(first + CHUNK, number)):
            at = tstamp + timedelta(seconds=index)
            task = TaskState(state="SUCCESS", task_id=f"old-{index}", tstamp=at)
            task.name, task.args, task.result = "proj.work", f"({index},)", str(index)
            rows.append([task.columns()[field.attname] for field in table.fields])
        with transaction.atomic(using=database.alias):
            table.insert(rows)


class Waiter(threading.Thread):
    """Asks for the lock of the oldest row again and again, and lets go at once."""

    def __init__(self, database: Scratch) -> None:
        super().__init__(daemon=True)
        self.database = database
        self.longest = 0.0
        self.waits = 0
        self.ended = threading.Event()

    def run(self) -> None:
        """Ask until it is told to end."""
        rows = TaskState._base_manager.using(self.database.alias)
        while not self.ended.wait(0.005):
            oldest = rows.order_by("pk").values_list("pk", flat=True).first()
            began = time.perf_counter()
            with transaction.atomic(using=self.database.alias):
                # SQLite has one lock, which is taken where a transaction begins.
                rows.filter(pk__in=[oldest]).select_for_update().values_list(
                    "pk"
                ).first()
                self.longest = max(self.longest, time.perf_counter() - began)
            self.waits += 1
        connections[self.database.alias].close()


def memory(camera: Process, line: str) -> int:
    """Return a figure of a camera's memory in MiB: ``VmRSS``, or ``VmHWM`` at most."""
    text = Path(f"/proc/{camera.popen.pid}/status").read_text()
    return next(int(x.split()[1]) for x in text.splitlines() if line in x) // 1024


@contextmanager
def waiter(database: Scratch) -> Iterator[Waiter]:
    """Let another writer wait for locks meanwhile."""
    thread = Waiter(database)
    thread.start()
    try:
        yield thread
    finally:
        thread.ended.set()
        thread.join()


def measure(project: Project, rows: int, rate: float) -> None:
    """Print what becomes of ``rows`` expired tasks beside a camera under load."""
    ledger = faults.Ledger()
    limit = timezone.now() - timedelta(days=2)
    old = project.tasks.filter(tstamp__lt=limit).order_by("tstamp")
    states = CameraState.objects.using(project.database.alias)
    fill(project.database, rows)
    camera = faults.start_camera(project, frequency=1)
    with faults.flow(project, ledger, rate), waiter(project.database) as other:
        wait_for(lambda: project.tasks.filter(task_id="id-0").exists())
        before = memory(camera, "VmRSS")
        wait_for(lambda: not project.tasks.filter(task_id="old-0").exists(), 60)
        began, calm = time.monotonic(), other.longest
        lag = 0.0
        while old[PASSED_OVER : PASSED_OVER + 1].exists():
            lag = max(lag, states.values_list("lag", flat=True).get() or 0.0)
            if time.monotonic() - began > LONGEST:
                raise SystemExit(f"{old.count():,} rows are left")
            time.sleep(1)
        seconds = time.monotonic() - began
    project.tasks.filter(tstamp__lt=limit).delete()
    ledger.check(project, 60)
    print(f"  {rows:,} rows gone in {seconds:.0f} s, {rows / seconds:,.0f} a second")
    print(f"  a lock was waited for {other.longest:.3f} s at most, {calm:.3f} s before")
    print(f"  {len(ledger.sent):,} tasks came meanwhile, all saved; lag {lag:.1f} s")
    print(f"  memory {before} MiB before, {memory(camera, 'VmHWM')} MiB at most")


def at_once(database: Scratch, rows: int) -> None:
    """Print how long one statement needs for as many rows, and blocks everybody."""
    fill(database, rows)
    began = time.perf_counter()
    database.execute("DELETE FROM celery_monitor_taskstate WHERE task_id LIKE 'old-%'")
    seconds = time.perf_counter() - began
    print(f"  one DELETE of them: {seconds:.0f} s, for which they are locked")


def main() -> None:
    """Print the figures of one database."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--rate", type=float, default=100, help="tasks a second")
    options = parser.parse_args()
    place = (kind_of_database(), "REDIS_URL")
    with (
        tempfile.TemporaryDirectory() as folder,
        faults.project_in(place, Path(folder)) as project,
    ):
        print(f"{project.database.vendor}: {options.rate:.0f} tasks a second beside")
        measure(project, options.rows, options.rate)
        at_once(project.database, options.rows)


if __name__ == "__main__":
    main()
