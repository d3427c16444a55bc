"""No statement of the tracker's takes long, and no connection is left limited."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
from django.db import OperationalError, connection, transaction

from django_celery_monitor.models import WorkerState
from django_celery_monitor.tracking import time_limit as limits
from django_celery_monitor.tracking.time_limit import connect, time_limit
from tests.scratch import EVERYWHERE, Scratch

everywhere = pytest.mark.parametrize("database", EVERYWHERE, indirect=True)
on_server = pytest.mark.parametrize("database", ["server"], indirect=True)

#: What takes too long.
SLEEP = {
    "postgresql": "SELECT 1 FROM pg_sleep(5)",
    "mysql": (
        "SELECT COUNT(*) FROM seq_1_to_1000000 one, seq_1_to_1000000 other"
        " WHERE one.seq + other.seq = 1"
    ),
}
#: What the limits of a connection are.
LIMITS = {
    "sqlite": "PRAGMA busy_timeout",
    "postgresql": (
        "SELECT current_setting('statement_timeout'),"
        " current_setting('synchronous_commit')"
    ),
    "mysql": (
        "SELECT @@innodb_lock_wait_timeout, @@lock_wait_timeout, @@max_statement_time"
    ),
}


@pytest.fixture(params=["as it is", "other"])
def other_ways(
    request: pytest.FixtureRequest, database: Scratch, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """Have the database be as it is, or of the kind that has no limit as short."""
    database.connection.close()
    if request.param == "other" and database.vendor == "postgresql":
        options = {"server_side_binding": True}
        monkeypatch.setitem(database.connection.settings_dict, "OPTIONS", options)
    elif request.param == "other" and database.vendor == "mysql":
        known = vars(database.connection)
        monkeypatch.setitem(known, "mysql_is_mariadb", value=False)
    yield
    database.connection.close()


@everywhere
@pytest.mark.usefixtures("other_ways")
def test_rows_are_written_and_read(database: Scratch) -> None:
    rows = WorkerState.objects.using(database.alias)
    with time_limit(database.alias):
        made, created = rows.get_or_create(hostname="celery@one")
        assert created
        assert rows.filter(pk=made.pk).update(pid=7) == 1
        assert list(rows.values_list("hostname", "pid")) == [("celery@one", 7)]
        assert rows.count() == 1
    assert rows.get() == made


@everywhere
@pytest.mark.usefixtures("other_ways")
@pytest.mark.parametrize("durable", [True, False])
def test_nothing_is_left_limited(
    database: Scratch, durable: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "SECONDS", 1)
    before = database.execute(LIMITS[database.vendor])
    with time_limit(database.alias, durable=durable):
        WorkerState.objects.using(database.alias).count()
    with pytest.raises(ZeroDivisionError), time_limit(database.alias):
        raise ZeroDivisionError
    assert database.execute(LIMITS[database.vendor]) == before


@pytest.mark.services("DATABASE_URL")
@on_server
def test_long_statement_ends(
    database: Scratch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "SECONDS", 1)
    began = time.monotonic()
    with pytest.raises(OperationalError), time_limit(database.alias):
        database.execute(SLEEP[database.vendor])
    assert time.monotonic() - began < 3
    assert database.execute("SELECT 1") == [(1,)]


@pytest.mark.services("DATABASE_URL")
@on_server
def test_what_is_not_durable(database: Scratch) -> None:
    if database.vendor != "postgresql":
        pytest.skip("others cannot tell one transaction from another")
    setting = "SELECT current_setting('synchronous_commit')"
    for durable, expected in ((True, "on"), (False, "off")):
        with time_limit(database.alias, durable=durable):
            assert database.execute(setting) == [(expected,)]


@everywhere
def test_transaction_of_the_projects_own_is_not_limited(database: Scratch) -> None:
    limit = LIMITS[database.vendor]
    with transaction.atomic(using=database.alias):
        before = database.execute(limit)
        with suppress(ZeroDivisionError), time_limit(database.alias):
            WorkerState.objects.using(database.alias).create(hostname="celery@one")
            raise ZeroDivisionError
        assert database.execute(limit) == before
        assert not WorkerState.objects.using(database.alias).exists()


def test_options_of_the_projects_own_stay() -> None:
    class Connection:
        """A connection that is not open yet."""

        vendor = "postgresql"
        connection = None

        def __init__(self, options: dict[str, Any]) -> None:
            self.settings_dict = {"OPTIONS": options}

        def ensure_connection(self) -> None:
            """Keep the options that it is opened with."""
            self.used = self.settings_dict["OPTIONS"]

    for options, used in (
        ({}, {"connect_timeout": limits.CONNECT_SECONDS}),
        ({"connect_timeout": 1}, {"connect_timeout": 1}),
        ({"pool": True}, {"pool": True}),
    ):
        made = Connection(options)
        connect(made)
        assert made.used == used
        assert made.settings_dict == {"OPTIONS": options}


def test_database_of_another_kind_has_no_limit() -> None:
    with limits._unlimited(connection, True):  # noqa: FBT003
        pass
