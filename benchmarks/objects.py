"""How long the pages of the task tracker take, by how many tasks an object has.

The reference is the object with the fewest tasks, in the same run. Usage: ``python -m
benchmarks.objects [--tasks 20 --tasks 10000 --tasks 200000]``; ``DATABASE_URL`` names
the database. The times are of the whole answer, the template included.
"""

from __future__ import annotations

import argparse
import time
from datetime import datetime, timedelta, timezone

from django.core.management import call_command
from django.test import Client
from django.test.utils import override_settings

from benchmarks.lists import REPEATS, STATES, log_in, settle
from benchmarks.rows import use
from benchmarks.setup import database
from django_celery_monitor.models import TaskState
from django_celery_monitor.tracking.models import TaskObjectLink
from tests.tracked.models import Order

CHUNK = 5_000
#: Orders beside those that are measured, so that the list has a full page.
ORDERS = 100

START = datetime(2026, 1, 1, tzinfo=timezone.utc)
SOURCES = ("request", "beat", None)


def fill(order: Order, count: int) -> None:
    """Give an order its tasks, one a second."""
    for begin in range(0, count, CHUNK):
        tasks = [
            TaskState(
                task_id=f"{order.pk:08x}-5c2e-4f0a-9d1e-{number:012x}",
                name=f"shop.tasks.task_{number * 7919 % 5}",
                state=STATES[number * 7919 % len(STATES)],
                tstamp=START + timedelta(seconds=number),
                result="'done'",
                runtime=1.5,
                updated_at=START,
            )
            for number in range(begin, min(count, begin + CHUNK))
        ]
        TaskState.objects.bulk_create(tasks)
        TaskObjectLink.objects.bulk_create(
            TaskObjectLink(
                task_id=task.task_id,
                content_object=order,
                role="order_id",
                source=SOURCES[number % len(SOURCES)],
            )
            for number, task in enumerate(tasks)
        )


def measure(client: Client, order: Order) -> dict[str, float]:
    """Return the best time of each page in seconds: what else runs takes its share."""
    url = f"/admin/tracked/order/{order.pk}/task-tracker/"
    tag = client.get(url).headers["ETag"]
    script = {"If-None-Match": tag, "X-Celery-Monitor-Live": "1"}
    requests: dict[str, tuple[str, dict[str, str]]] = {
        "first page": (url, {}),
        "200 tasks": (f"{url}?page_size=200", {}),
        "one state": (f"{url}?state=FAILURE", {}),
        "name, second page": (f"{url}?name=shop.tasks.task_3&page=2", {}),
        # But for the one with which a minute begins.
        "nothing has changed": (url, script),
        "list with last states": ("/inlines/tracked/order/", {}),
    }
    found = {}
    for title, (address, headers) in requests.items():
        times = []
        for _ in range(REPEATS + 1):
            began = time.perf_counter()
            response = client.get(address, headers=headers)
            times.append(time.perf_counter() - began)
            if response.status_code not in {200, 304}:
                raise RuntimeError(f"{address}: {response.status_code}")
        # The first one warms up.
        found[title] = min(times[1:])
    return found


def main() -> None:
    """Print the times with each number of tasks."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", type=int, action="append")
    numbers = sorted(parser.parse_args().tasks or [20, 10_000, 200_000])
    sites = override_settings(ROOT_URLCONF="tests.admin.tracking.sites")
    with database() as made, sites:
        use(made.alias)
        # The tables of users and sessions, and of the orders.
        call_command("migrate", database=made.alias, verbosity=0, run_syncdb=True)
        client = log_in()
        Order.objects.bulk_create(Order() for _ in range(ORDERS))
        orders = []
        for number in numbers:
            orders.append(Order.objects.create())
            fill(orders[-1], number)
        settle(made)
        results = [measure(client, order) for order in orders]
        print(f"{made.vendor}: ms with {', '.join(f'{n:,}' for n in numbers)} tasks")
        for title, least in results[0].items():
            times = "".join(f"{found[title] * 1000:9.1f}" for found in results)
            print(f"  {title:24}{times}{results[-1][title] / least:8.2f} x")


if __name__ == "__main__":
    main()
