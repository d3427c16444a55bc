"""What it costs to track a task: to send one, and to run one.

The reference, in the same run and on the same broker and database: the same task that
is registered for no model. Each is sent, and run by the code of a worker in this
process, in turns; then a worker of one process runs some of each. Usage: ``python -m
benchmarks.tracking [--tasks 1000] [--broker redis://...]``; ``DATABASE_URL`` names the
database.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from celery.app.trace import build_tracer
from celery.utils import uuid
from django.core.management import call_command
from django.test.utils import CaptureQueriesContext

from benchmarks.rows import use
from benchmarks.setup import database, kind_of_database
from tests.celery import app
from tests.integration import faults
from tests.integration.processes import FILES, Project, wait_for
from tests.scratch import Scratch
from tests.tracked import tasks

#: Tasks of each kind that are sent before it is the other's turn.
TURN = 50

WORKER = "worker@bench"

#: The worker of one process, its tasks and what they are called with: one that is
#: tracked, one that asks the database once, and one that asks nobody.
ARGUMENTS = ("-l", "warning", "-P", "prefork", "-c", "1", "--without-gossip")
PREFIX = "tests.integration.project.tracked.tasks"
KINDS: dict[str, tuple[Any, ...]] = {"pay": (1,), "look": (), "nothing": ()}
ROUNDS = 3

#: Beginnings of statements that only begin or end a transaction.
OF_TRANSACTIONS = ("BEGIN", "COMMIT", "RELEASE", "ROLLBACK", "SAVEPOINT")


@dataclass
class Life:
    """What a task takes to send and to run, once for each number."""

    task: Any
    sending: list[float] = field(default_factory=list)
    running: list[float] = field(default_factory=list)

    def live(self, number: int) -> None:
        """Send a task, and run it as the process of a worker does."""
        registered = app.tasks[self.task.name]
        trace = build_tracer(registered.name, registered, app=app, hostname=WORKER)
        began = time.perf_counter()
        task_id = self.task.apply_async((number,)).id
        sent = time.perf_counter()
        request = {"id": task_id, "hostname": WORKER, "root_id": task_id}
        trace(task_id, [number], {}, {**request, "delivery_info": {}})
        self.running.append(time.perf_counter() - sent)
        self.sending.append(sent - began)


def lives(count: int) -> tuple[Life, Life]:
    """Return what tasks took in turns: some that are tracked, and some that are not."""
    both = Life(tasks.process_payment), Life(tasks.untracked)
    for first in range(0, count, TURN):
        for life in both:
            for number in range(first, first + TURN):
                life.live(number)
    return both


def statements(made: Scratch) -> tuple[int, int]:
    """Return how many statements it takes to send a task, and to run it."""
    counts = []
    life = Life(tasks.process_payment)
    life.live(1)
    for what in (lambda: tasks.process_payment.delay(1), lambda: life.live(1)):
        with CaptureQueriesContext(made.connection) as captured:
            what()
        executed = [query["sql"] for query in captured.captured_queries]
        counts.append(sum(not sql.startswith(OF_TRANSACTIONS) for sql in executed))
    return counts[0], counts[1] - counts[0]


def working(broker: str, count: int) -> dict[str, float]:
    """Return the seconds that a worker takes for a task of each kind."""
    place = (kind_of_database(), FILES)
    with (
        tempfile.TemporaryDirectory() as folder,
        faults.project_in(place, Path(folder)) as project,
    ):
        project.broker = broker
        project.start("worker", *ARGUMENTS, settings="tracked_settings")
        best: dict[str, float] = {}
        for _ in range(ROUNDS):
            for name, args in KINDS.items():
                seconds = worked(project, f"{PREFIX}.{name}", args, count)
                best[name] = min(seconds, best.get(name, seconds))
        return best


def entered(project: Project) -> int:
    """Return how many lines the ledger of a project has."""
    path = project.folder / "ledger"
    return path.read_bytes().count(b"\n") if path.exists() else 0


def worked(project: Project, name: str, args: tuple[Any, ...], count: int) -> float:
    """Return the seconds that the worker of a project takes for each of many tasks."""
    signature = project.app.signature(name, args)
    before = entered(project)
    # It has begun: not the start is measured.
    signature.apply_async()
    wait_for(lambda: entered(project) == before + 2)
    began = time.perf_counter()
    for _ in range(count):
        signature.apply_async()
    wait_for(lambda: entered(project) >= before + 2 + 2 * count, 300)
    return (time.perf_counter() - began) / count


def show(title: str, tracked: float, plain: float, extra: str = "") -> None:
    """Print a line of the table."""
    print(
        f"  {title:22}{tracked * 1e6:10,.0f} µs{plain * 1e6:10,.0f} µs without"
        f"{tracked / plain:8.1f} x{extra}",
        flush=True,
    )


def main() -> None:
    """Print what a task costs that is tracked, and what one that is not."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", type=int, default=1_000)
    parser.add_argument("--broker", default="memory://")
    options = parser.parse_args()
    app.conf.update(broker_url=options.broker, task_default_queue=uuid())
    with database() as made:
        use(made.alias)
        call_command("migrate", database=made.alias, verbosity=0)
        print(f"{made.vendor}, {options.broker.partition(':')[0]}")
        send, run = statements(made)
        tracked, plain = lives(options.tasks)
        sent = median(tracked.sending), median(plain.sending)
        show("sent", *sent, f"{send:5} statements")
        ran = median(tracked.running), median(plain.running)
        show("run, in this process", *ran, f"{run:5} statements")
    if options.broker != "memory://":
        found = working(options.broker, options.tasks)
        show("run by a worker", found["pay"], found["nothing"])
        show("after one query", found["pay"], found["look"])


if __name__ == "__main__":
    main()
