"""Rows in bulk: the fast way of each database writes what the ORM would."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from django.conf import settings
from django.db import DatabaseError, IntegrityError, connection, transaction
from django.test import override_settings

from django_celery_monitor.bulk import FEW_ROWS, Table
from django_celery_monitor.models import TaskState, WorkerState
from django_celery_monitor.utils import correct_awareness, fromtimestamp
from tests.events import NOW
from tests.factories import WorkerStateFactory

pytestmark = pytest.mark.django_db

Columns = dict[str, Any]

#: Every column but the key.
ALL = {f.attname for f in TaskState._meta.concrete_fields} - {"id", "task_id"}

#: As few rows as are written one way, and as many as are written another way.
SIZES = [1, FEW_ROWS, FEW_ROWS + 1, 300]


def table(model: Any = TaskState) -> Table:
    return Table(model, connection.alias)


def task(task_id: str, **columns: Any) -> Columns:
    """Return a row that has as little as can be, but for ``columns``."""
    row = dict.fromkeys(field.attname for field in table().fields)
    least = {"state": "PENDING", "tstamp": fromtimestamp(NOW), "retries": 0}
    return {**row, **least, "task_id": task_id, "hidden": False, **columns}


def values(rows: list[Columns]) -> list[list[Any]]:
    return [list(row.values()) for row in rows]


def there(rows: list[Columns]) -> list[list[Any]]:
    """Return the values of rows that are in the table, with their keys."""
    keys = dict(TaskState.objects.values_list("task_id", "pk"))
    return values([{**row, "id": keys[row["task_id"]]} for row in rows])


def stored() -> dict[str, Columns]:
    """Return the rows that are there, by their ids."""
    rows = {row.task_id: row.columns() for row in TaskState.objects.all()}
    for row in rows.values():
        row["id"] = None
        # The ORM takes the time of its own write.
        del row["updated_at"]
    return rows


def expected(rows: list[Columns]) -> dict[str, Columns]:
    return {
        row["task_id"]: {
            **{name: v for name, v in row.items() if name != "updated_at"},
            "tstamp_us": row["tstamp_us"] or NOW * 1_000_000,
        }
        for row in rows
    }


def full(task_id: str) -> Columns:
    """Return a row that has everything, and of each the most difficult."""
    odd = "ä 😀 \t\n\r \\ \\N \\. ' \" % %s {} ; -- \x01 \x7f \u2028"
    fold = datetime(2026, 10, 25, 0, 30, 0, 123_456, tzinfo=timezone.utc)
    east = fold.astimezone(timezone(timedelta(hours=5, minutes=45)))
    return task(
        task_id,
        state="SUCCESS",
        name=odd,
        args=odd * 500,
        kwargs="",
        result="\\N",
        traceback="\\.",
        exception="",
        runtime=0.1 + 0.2,
        retries=2**31 - 1,
        eta=correct_awareness(fold),
        expires=correct_awareness(east),
        finished_at=correct_awareness(datetime(1001, 1, 1, tzinfo=timezone.utc)),
        attempts=[{"timestamp": 2**53 + 1, "exception": odd, "traceback": None}],
        queue="NULL",
        tstamp_us=round(NOW * 1_000_000),
        hidden=True,
    )


@pytest.mark.usefixtures("writing")
@pytest.mark.parametrize("size", SIZES)
def test_rows_are_inserted_as_they_are(size: int) -> None:
    worker = WorkerStateFactory.create()
    rows = [{**full(f"id-{n}"), "worker_id": worker.pk} for n in range(size)]
    rows.append(task("bare"))

    table().insert(values(rows))

    assert stored() == expected(rows)


@pytest.mark.usefixtures("writing")
@pytest.mark.parametrize("size", SIZES)
def test_rows_are_replaced_but_for_their_keys(size: int) -> None:
    before = [full(f"id-{n}") for n in range(size)]
    other = task("other", name="left alone")
    table().insert(values([*before, other]))
    pks = dict(TaskState.objects.values_list("task_id", "pk"))
    after = [task(f"id-{n}", state="STARTED", result=str(n)) for n in range(size)]

    table().update(there(after), ALL)

    assert stored() == expected([*after, other])
    assert dict(TaskState.objects.values_list("task_id", "pk")) == pks
    # Nor does an update use up keys that 32 bits may soon be too few for.
    table().insert(values([task("next")]))
    assert TaskState.objects.get(task_id="next").pk == max(pks.values()) + 1


@pytest.mark.usefixtures("writing")
def test_nothing_is_no_statement(django_assert_num_queries: Any) -> None:
    with django_assert_num_queries(0):
        table().insert([])
        table().update([], ["state"])
        table().update(values([task("id-1")]), [])


@pytest.mark.usefixtures("writing")
@pytest.mark.parametrize("size", SIZES)
def test_row_that_is_there_refuses_the_others(size: int) -> None:
    table().insert(values([task("id-0", name="first")]))
    rows = [task(f"id-{n}", name="second") for n in range(size)]
    with pytest.raises(IntegrityError), transaction.atomic():
        table().insert(values(rows))
    assert TaskState.objects.get().name == "first"


@pytest.mark.usefixtures("writing")
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    "wrong", [{"state": None}, {"retries": None}, {"tstamp": None}]
)
def test_row_that_is_wrong_is_no_row_that_is_there(size: int, wrong: Columns) -> None:
    rows = [task(f"id-{n}") for n in range(size)]
    with pytest.raises(DatabaseError), transaction.atomic():
        table().insert(values([*rows, task("wrong", **wrong)]))
    assert not TaskState.objects.exists()


@pytest.mark.usefixtures("writing")
@pytest.mark.skipif(connection.vendor == "sqlite", reason="SQLite takes any length")
def test_text_that_is_too_long_is_not_cut() -> None:
    with pytest.raises(DatabaseError), transaction.atomic():
        table().insert(values([task("id-1", name="x" * 300)]))


@pytest.mark.usefixtures("writing")
def test_inserts_and_updates_share_a_transaction() -> None:
    rows = [task(f"id-{n}") for n in range(40)]
    table().insert(values(rows[:20]))
    changed = [{**row, "state": "STARTED"} for row in rows[:20]]
    with transaction.atomic():
        table().update(there(changed), ["state"])
        table().insert(values(rows[20:]))
        table().update(there([{**row, "name": "n"} for row in changed]), ["name"])
    assert TaskState.objects.filter(state="STARTED", name="n").count() == 20
    assert TaskState.objects.filter(state="PENDING", name=None).count() == 20


@pytest.mark.usefixtures("writing")
def test_workers() -> None:
    rows = []
    for number in range(20):
        row = dict.fromkeys(f.attname for f in table(WorkerState).fields)
        about = {"hostname": f"celery@{number}", "loadavg": [0.5, 1.0, number]}
        row.update(about, pid=2**63 - 1, freq=2.0, last_update=fromtimestamp(NOW))
        rows.append(row)
    workers = table(WorkerState)
    workers.insert(values(rows))
    keys = WorkerState.objects.order_by("pk").values_list("pk", flat=True)
    changed = [
        {**row, "id": key, "active": 3, "pid": 1}
        for key, row in zip(keys, rows, strict=True)
    ]
    workers.update(values(changed), ["active"])
    found = WorkerState.objects.order_by("pk")
    assert [row.loadavg for row in found] == [row["loadavg"] for row in rows]
    assert {(row.pid, row.freq, row.active) for row in found} == {(2**63 - 1, 2.0, 3)}


@pytest.mark.usefixtures("writing")
def test_zone_of_the_database_is_its_own() -> None:
    """A time in another zone than the connection's is the same instant."""
    if not settings.USE_TZ:
        pytest.skip("without USE_TZ there are no zones")
    with override_settings(TIME_ZONE="Asia/Kathmandu"):
        table().insert(values([full("id-1")]))
    assert stored() == expected([full("id-1")])
