"""The upgrade of a database that version 1.1.2 created and filled."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from django.db import IntegrityError, connections
from django.test.utils import CaptureQueriesContext
from pytest_django import DjangoDbBlocker

from django_celery_monitor.models import TaskState, WorkerState
from tests.scratch import EVERYWHERE, Scratch, scratch
from tests.version_1 import (
    LAST_INT,
    TASK_ROWS,
    TASKS,
    WORKER_ROWS,
    WORKERS,
    load_old,
    rows,
    schema,
    script,
    utc,
)


@pytest.fixture
def database(
    request: pytest.FixtureRequest, tmp_path: Path, django_db_blocker: DjangoDbBlocker
) -> Iterator[Scratch]:
    """Return an empty database, on SQLite unless the test is parametrized."""
    kind = getattr(request, "param", "sqlite")
    with django_db_blocker.unblock(), scratch(kind, tmp_path) as made:
        yield made


@pytest.fixture(scope="module")
def new_schema(
    tmp_path_factory: pytest.TempPathFactory, django_db_blocker: DjangoDbBlocker
) -> Callable[[str], dict[str, Any]]:
    """Return what tells the schema of a new database of a kind."""

    @cache
    def new_schema(kind: str) -> dict[str, Any]:
        folder = tmp_path_factory.mktemp("new")
        with django_db_blocker.unblock(), scratch(kind, folder) as new:
            new.migrate()
            return schema(new)

    return new_schema


@pytest.fixture
def old(database: Scratch) -> Scratch:
    """Return a database of version 1.1.2 with rows."""
    load_old(database, script(database.vendor))
    return database


@pytest.fixture
def old_postgresql(old: Scratch) -> Scratch:
    """Return a database of version 1.1.2 on PostgreSQL."""
    if old.vendor != "postgresql":
        pytest.skip("only PostgreSQL does this")
    return old


everywhere = pytest.mark.parametrize("database", EVERYWHERE, indirect=True)
on_the_server = pytest.mark.parametrize("database", EVERYWHERE[1:], indirect=True)


@everywhere
def test_every_row_stays_as_it_was(old: Scratch) -> None:
    before = rows(old)
    assert [len(table) for table in before] == [len(WORKER_ROWS), len(TASK_ROWS)]

    old.migrate()

    assert rows(old) == before


@everywhere
def test_the_tables_equal_those_of_a_new_database(
    old: Scratch, new_schema: Callable[[str], dict[str, Any]]
) -> None:
    old.migrate()

    assert schema(old) == new_schema(old.kind)


@everywhere
def test_the_models_read_every_row(old: Scratch) -> None:
    old.migrate()

    tasks = {task.pk: task for task in TaskState.objects.using(old.alias)}
    assert {pk: task.worker_id for pk, task in tasks.items()} == {
        row[0]: row[-1] for row in TASK_ROWS
    }
    worker = tasks[LAST_INT].worker
    assert worker is not None
    assert worker.hostname == "celery@бета-ü"
    assert not worker.is_alive()
    assert tasks[1].runtime == 0.1 + 0.2
    assert tasks[2].args == TASK_ROWS[1][5]
    assert tasks[2].attempts is None
    assert (tasks[2].sent_at, tasks[2].updated_at) == (None, None)


@everywhere
def test_the_foreign_key_still_holds(old: Scratch) -> None:
    old.migrate()

    old.connection.check_constraints()
    stray = f"UPDATE {TASKS} SET worker_id = 4711 WHERE id = 1"  # noqa: S608
    with pytest.raises(IntegrityError):
        old.execute(stray)


@everywhere
def test_a_worker_is_deleted_without_its_tasks(old: Scratch) -> None:
    old.migrate()

    WorkerState.objects.using(old.alias).get(pk=LAST_INT).delete()

    task = TaskState.objects.using(old.alias).get(pk=2)
    assert task.worker is None


@everywhere
def test_long_names_and_ids_are_stored(old: Scratch) -> None:
    old.migrate()

    task_id, name = "ü" * 250, "名" * 250
    TaskState.objects.using(old.alias).update_state(
        "SUCCESS", task_id, {"name": name, "result": "4"}
    )

    task = TaskState.objects.using(old.alias).get(task_id=task_id)
    assert (task.name, task.result) == (name, "4")


@everywhere
def test_ids_go_on_beyond_32_bits(old: Scratch) -> None:
    old.migrate()

    worker = WorkerState.objects.using(old.alias).update_heartbeat(
        "celery@new", utc("2026-01-01T00:00:00"), 60
    )
    task = TaskState.objects.using(old.alias).update_state(
        "STARTED", "new", {"worker": worker}
    )

    assert task.pk == worker.pk == task.worker_id == 2**31
    for table in (WORKERS, TASKS):
        old.execute(
            {
                "postgresql": f"ALTER SEQUENCE {table}_id_seq RESTART {2**40}",
                "mysql": f"ALTER TABLE {table} AUTO_INCREMENT = {2**40}",
                "sqlite": f"UPDATE sqlite_sequence SET seq = {2**40 - 1}"  # noqa: S608
                f" WHERE name = '{table}'",
            }[old.vendor]
        )
    worker = WorkerState.objects.using(old.alias).create(hostname="celery@later")
    task = TaskState.objects.using(old.alias).update_state(
        "STARTED", "later", {"worker": worker}
    )
    assert task.pk == worker.pk == task.worker_id == 2**40


@everywhere
def test_an_event_is_merged_into_an_old_row(old: Scratch) -> None:
    old.migrate()
    tasks = TaskState.objects.using(old.alias)
    late = utc("2019-03-31T01:29:00")
    after = utc("2019-03-31T01:31:00")

    tasks.update_state("STARTED", TASK_ROWS[0][2], {"tstamp": after, "queue": "q"})
    tasks.update_state("RECEIVED", TASK_ROWS[3][2], {"tstamp": late})
    tasks.update_state("SUCCESS", TASK_ROWS[2][2], {"tstamp": late, "result": "1"})

    finished = tasks.get(pk=1)
    assert (finished.state, finished.result) == ("SUCCESS", "4")
    assert (finished.worker_id, finished.queue) == (1, "q")
    assert tasks.get(pk=LAST_INT).state == "PROGRESS"
    learnt = tasks.get(pk=LAST_INT - 1)
    assert (learnt.state, learnt.result) == ("SUCCESS", "1")
    assert (learnt.retries, learnt.tstamp) == (LAST_INT, late)


@everywhere
def test_the_way_back_and_forth_keeps_every_row(
    old: Scratch, new_schema: Callable[[str], dict[str, Any]]
) -> None:
    before = rows(old)
    old.migrate()

    old.migrate("0002_workerstate_last_update")
    assert rows(old) == before
    old.execute(f"UPDATE {TASKS} SET retries = 7 WHERE id = 1")  # noqa: S608
    changed = rows(old)
    assert changed != before
    old.migrate()

    assert rows(old) == changed
    assert schema(old) == new_schema(old.kind)


@on_the_server
def test_postgresql_counts_ids_in_64_bits(old_postgresql: Scratch) -> None:
    def types() -> set[object]:
        found = old_postgresql.execute(
            "SELECT data_type::text FROM pg_sequences"
            " WHERE sequencename LIKE 'celery_monitor%'"
        )
        return {row[0] for row in found}

    assert types() == {"integer"}
    old_postgresql.migrate()
    assert types() == {"bigint"}


@on_the_server
def test_postgresql_builds_indexes_concurrently(old_postgresql: Scratch) -> None:
    old_postgresql.migrate("0004_columns")

    with CaptureQueriesContext(connections[old_postgresql.alias]) as queries:
        old_postgresql.migrate()

    indexing = [q["sql"] for q in queries if " INDEX " in q["sql"]]
    assert len(indexing) >= 7
    assert [sql for sql in indexing if "CONCURRENTLY" not in sql] == []


@on_the_server
def test_postgresql_replaces_an_index_left_invalid(old_postgresql: Scratch) -> None:
    old_postgresql.migrate("0004_columns")
    old_postgresql.execute(f"UPDATE {TASKS} SET state = 'SUCCESS'")  # noqa: S608
    invalid = "SELECT indexrelid::regclass::text FROM pg_index WHERE NOT indisvalid"
    with pytest.raises(IntegrityError):
        old_postgresql.execute(
            f"CREATE UNIQUE INDEX CONCURRENTLY celery_monitor_task_state"
            f" ON {TASKS} (state)"
        )
    assert old_postgresql.execute(invalid) == [("celery_monitor_task_state",)]

    old_postgresql.migrate()

    assert old_postgresql.execute(invalid) == []
    ((definition,),) = old_postgresql.execute(
        "SELECT indexdef FROM pg_indexes WHERE indexname = 'celery_monitor_task_state'"
    )
    assert str(definition).endswith("USING btree (state, tstamp)")


@on_the_server
def test_an_interrupted_upgrade_of_mysql_goes_on(
    old: Scratch, new_schema: Callable[[str], dict[str, Any]]
) -> None:
    if old.vendor != "mysql":
        pytest.skip("everywhere else a migration that fails leaves nothing behind")
    before = rows(old)
    old.execute(
        f"ALTER TABLE {TASKS}"
        " DROP FOREIGN KEY celery_monitor_tasks_worker_id_d4c83d67_fk_celery_mo"
    )
    old.migrate("0004_columns")
    old.execute(f"CREATE INDEX celery_monitor_task_state ON {TASKS} (state, tstamp)")

    old.migrate()

    assert rows(old) == before
    assert schema(old) == new_schema(old.kind)


def test_a_foreign_key_that_sqlite_misled_is_mended(
    database: Scratch, new_schema: Callable[[str], dict[str, Any]]
) -> None:
    target = f'REFERENCES "{WORKERS}'
    database.execute("PRAGMA foreign_keys = OFF")  # as Django 1.11 had it
    load_old(database, script("sqlite").replace(target, f"{target}__old"))
    before = rows(database)
    database.connection.close()

    database.migrate()

    assert rows(database) == before
    worker = WorkerState.objects.using(database.alias).get(pk=1)
    task = TaskState.objects.using(database.alias).create(
        state="STARTED", task_id="new", tstamp=worker.last_update, worker=worker
    )
    assert task.pk == 2**31
    constraints = f"{TASKS} constraints"
    assert schema(database)[constraints] == new_schema("sqlite")[constraints]


@on_the_server
def test_a_row_format_of_old_servers_is_no_obstacle(database: Scratch) -> None:
    if database.vendor != "mysql":
        pytest.skip("row formats are InnoDB's")
    options = "CHARACTER SET utf8mb3 ROW_FORMAT=COMPACT"
    statements = re.sub(
        r"^(CREATE TABLE .*);$", rf"\1 {options};", script("mysql"), flags=re.MULTILINE
    )
    in_three_bytes = [row for row in TASK_ROWS if max(map(ord, str(row))) < 2**16]
    load_old(database, statements, in_three_bytes)
    before = rows(database)

    database.migrate()

    assert rows(database) == before
