"""How long the list of tasks takes, by how many tasks there are.

The reference is the same page with the fewest tasks, in the same run. Usage: ``python
-m benchmarks.lists [--rows 10000 --rows 1000000] [--explain]``; ``DATABASE_URL`` names
the database. The times are of the whole answer, the template included.
"""

from __future__ import annotations

import argparse
import time
from datetime import datetime, timedelta, timezone
from typing import Any

from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.test import Client
from django.test.utils import CaptureQueriesContext

from benchmarks.rows import use
from benchmarks.setup import database
from django_celery_monitor.bulk import Table
from django_celery_monitor.models import TaskState, WorkerState
from tests.scratch import Scratch

LIST = "/admin/celery_monitor/taskstate/"
CHUNK = 20_000
REPEATS = 7

#: Of a thousand tasks: nearly all succeed.
STATES = ["FAILURE"] * 10 + ["RETRY"] + ["STARTED"] + ["SUCCESS"] * 988
#: The first of all are stuck, so that a page of such tasks is full in the smallest
#: table too.
STUCK = 50
WORKERS = 20

#: What a database does by itself after a while, and how it explains a query.
SETTLE = {
    "postgresql": ("VACUUM ANALYZE", "CHECKPOINT"),
    "mysql": ("ANALYZE TABLE celery_monitor_taskstate",),
    "sqlite": ("ANALYZE",),
}
EXPLAIN = {
    "postgresql": "EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF) ",
    "mysql": "EXPLAIN ",
    "sqlite": "EXPLAIN QUERY PLAN ",
}
NAMES = 50


def fill(first: int, upto: int, using: str) -> None:
    """Insert tasks, one a millisecond, as the camera would."""
    table = Table(TaskState, using)
    names = [field.attname for field in table.fields]
    workers = list(WorkerState.objects.order_by("pk").values_list("pk", flat=True))
    start = datetime(2026, 1, 1, tzinfo=timezone.utc)
    for begin in range(first, upto, CHUNK):
        rows = []
        for number in range(begin, min(upto, begin + CHUNK)):
            # 7919 is a prime: what comes together is spread.
            spread = number * 7919
            when = start + timedelta(milliseconds=number)
            uuid = f"{spread % 2**32:08x}-5c2e-4f0a-9d1e-{number:012x}"
            columns = dict.fromkeys(names)
            columns.update(
                task_id=uuid,
                state="STARTED" if number < STUCK else STATES[spread % len(STATES)],
                name=f"shop.tasks.task_{spread % NAMES}",
                tstamp=when,
                tstamp_us=number,
                args=f"({number}, 'ada@example.com')",
                kwargs=f"{{'order_id': {spread % 1_000_000}, 'express': True}}",
                result="'done'",
                runtime=spread % 20_000 / 1000,
                retries=int(spread % 100 == 7),
                worker_id=workers[spread % WORKERS],
                queue="slow" if spread % 40 == 3 else "celery",
                root_id=uuid,
                updated_at=when,
                hidden=False,
            )
            rows.append(list(columns.values()))
        table.insert(rows)


def settle(made: Scratch) -> None:
    """Do what the database does by itself after a while."""
    for statement in SETTLE[made.vendor]:
        made.execute(statement)


def pages(number: int) -> dict[str, str]:
    """Return the addresses to measure, of a list of so many tasks."""
    middle = datetime(2026, 1, 1, tzinfo=timezone.utc)
    thousand = f"{middle + timedelta(seconds=1):%Y-%m-%dT%H:%M:%S}"
    middle += timedelta(milliseconds=number // 2)
    worker = WorkerState.objects.get(hostname="worker7@host")
    task = TaskState.objects.order_by("pk")[number // 2]
    return {
        "first page": "",
        "second page": "?p=2",
        "last page": "?p=200",
        "oldest first": "?o=7",
        "state, common": "?state__exact=SUCCESS",
        "state, rare": "?state__exact=FAILURE",
        "state, none": "?state__exact=REVOKED",
        "states, several": "?state__in=FAILURE,RETRY",
        "states, with common": "?state__in=FAILURE,SUCCESS",
        "name": "?name=shop.tasks.task_7",
        "worker": f"?worker__id__exact={worker.pk}",
        "queue": "?queue=slow",
        "last hour": "?since=1h",
        "older half": f"?to={middle:%Y-%m-%dT%H:%M:%S}",
        "runtime": "?runtime_over=10s",
        "retried": "?retried=yes",
        "stuck": "?stuck=yes",
        "state and name": "?state__exact=FAILURE&name=shop.tasks.task_7",
        "state and name, none": "?state__exact=REVOKED&name=shop.tasks.task_7",
        "state and queue": "?state__exact=SUCCESS&queue=slow",
        "id": f"?q={task.task_id}",
        "beginning of an id": f"?q={task.task_id[:8]}",
        "words": "?q=ada",
        "words, none": "?q=nobody%20knows",
        "key=value, rare": "?q=kwargs:order_id=7919",
        "state: and name:": "?q=state:FAILURE+name:shop.tasks.task_7",
        "ten times further": "?q=nobody%20knows&look=100000",
        "export, 1,000 tasks": f"export/?to={thousand}&format=csv",
        "one task": f"{task.pk}/change/",
    }


def measure(client: Client, number: int) -> dict[str, float]:
    """Return the best time of each page in seconds: what else runs takes its share."""
    found = {}
    for title, query in pages(number).items():
        times = []
        for _ in range(REPEATS + 1):
            began = time.perf_counter()
            response = client.get(LIST + query)
            if response.streaming:
                b"".join(response)
            times.append(time.perf_counter() - began)
            if response.status_code != 200:
                raise RuntimeError(f"{query}: {response.status_code}")
        # The first one warms up.
        found[title] = min(times[1:])
    return found


def explain(client: Client, number: int, made: Scratch) -> None:
    """Print the plan of each query on the tasks of each page."""
    for title, query in pages(number).items():
        with CaptureQueriesContext(made.connection) as captured:
            client.get(LIST + query)
        print(f"\n== {title}: {query}")
        for one in captured.captured_queries:
            sql = one["sql"]
            if "celery_monitor_taskstate" not in sql:
                continue
            print(f"\n-- {float(one['time']) * 1000:.0f} ms: {sql[:300]}")
            for line in made.execute(EXPLAIN[made.vendor] + sql):
                print("   ", *line)


def log_in() -> Client:
    """Return the client of a superuser."""
    users: Any = get_user_model()
    client = Client()
    client.force_login(users.objects.create_superuser("ada", "", "ada"))
    return client


def main() -> None:
    """Print the times with each number of tasks."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, action="append")
    parser.add_argument("--explain", action="store_true")
    options = parser.parse_args()
    numbers = sorted(options.rows or [10_000, 1_000_000])
    with database() as made:
        use(made.alias)
        # The tables of users and sessions too.
        call_command("migrate", database=made.alias, verbosity=0)
        for number in range(WORKERS):
            WorkerState.objects.create(hostname=f"worker{number}@host")
        client = log_in()
        results = []
        done = 0
        for number in numbers:
            if made.vendor == "sqlite":
                made.execute("PRAGMA cache_size = -1000000")
            fill(done, number, made.alias)
            if made.vendor == "sqlite":
                made.execute("PRAGMA cache_size = -2000")
            done = number
            settle(made)
            results.append(measure(client, number))
        print(f"{made.vendor}: ms with {', '.join(f'{n:,}' for n in numbers)} tasks")
        for title, least in results[0].items():
            times = "".join(f"{found[title] * 1000:9.1f}" for found in results)
            print(f"  {title:24}{times}{results[-1][title] / least:8.2f} x")
        if options.explain:
            explain(client, numbers[-1], made)


if __name__ == "__main__":
    main()
