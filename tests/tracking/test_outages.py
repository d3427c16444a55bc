"""A database that is locked, away or broken: nobody waits for it, little is lost."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.db import connections, models
from django.test import override_settings

from django_celery_monitor.models import TaskState
from django_celery_monitor.tracking import backlog as backlogs
from django_celery_monitor.tracking import time_limit
from django_celery_monitor.tracking.models import TaskObjectLink
from django_celery_monitor.tracking.recording import backlog
from tests.integration import database_faults
from tests.integration.processes import wait_for
from tests.scratch import EVERYWHERE, Scratch
from tests.tracked import tasks

#: Seconds that a lock may keep a publisher, by far.
BOUND = 3.0

#: The limit of the tracker, in seconds; who does not try takes less.
LIMIT = 1


class Router:
    """Routes all models to the database of a test."""

    alias = "default"

    def db_for_read(self, model: type[models.Model], **hints: Any) -> str:
        """Return the alias."""
        return self.alias

    db_for_write = db_for_read


@pytest.fixture
def tracked(database: Scratch, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scratch]:
    """Return a database of the test's own, that the tracker writes to."""
    database.migrate_tracker()
    monkeypatch.setattr(Router, "alias", database.alias)
    monkeypatch.setattr(time_limit, "SECONDS", LIMIT)
    with override_settings(DATABASE_ROUTERS=[f"{__name__}.Router"]):
        yield database
        TaskObjectLink.objects.all().delete()


@pytest.fixture
def publisher() -> Iterator[Callable[[], float]]:
    """Return what sends a task from another thread; it returns the seconds it took."""

    def send() -> float:
        began = time.monotonic()
        tasks.process_payment.delay(7)
        return time.monotonic() - began

    with ThreadPoolExecutor(1) as thread:
        yield lambda: thread.submit(send).result()
        thread.submit(connections.close_all).result()


everywhere = pytest.mark.parametrize("database", EVERYWHERE, indirect=True)


@everywhere
def test_locked_table_keeps_one_publisher_a_moment(
    tracked: Scratch,
    publisher: Callable[[], float],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    publisher()
    monkeypatch.setattr(backlogs, "PAUSE", 2.0)
    with database_faults.locked(tracked):
        assert 0.5 < publisher() < BOUND
        # From now on nobody tries.
        assert sum(publisher() for _ in range(10)) < 5 * LIMIT
        assert len(backlog) == 11
    wait_for(lambda: not len(backlog))
    assert TaskState.objects.count() == 12
    assert TaskObjectLink.objects.count() == 12


@everywhere
def test_limit_is_gone_afterwards(
    tracked: Scratch, publisher: Callable[[], float]
) -> None:
    tasks.process_payment.delay(7)
    raw = {
        "sqlite": "PRAGMA busy_timeout",
        "postgresql": "SHOW statement_timeout",
        "mysql": "SELECT @@innodb_lock_wait_timeout, @@max_statement_time",
    }[tracked.vendor]
    after = tracked.execute(raw)
    tracked.connection.close()
    assert after == tracked.execute(raw)


@pytest.mark.services("DATABASE_URL")
@pytest.mark.parametrize("database", ["server"], indirect=True)
def test_connections_that_are_killed(
    tracked: Scratch, publisher: Callable[[], float]
) -> None:
    publisher()
    for _ in range(3):
        database_faults.kill_connections(tracked)
        assert publisher() < BOUND
    wait_for(lambda: TaskState.objects.count() == 4)


@pytest.mark.services("DATABASE_URL")
@pytest.mark.parametrize("database", ["server"], indirect=True)
def test_server_that_takes_no_connection(
    tracked: Scratch, publisher: Callable[[], float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(tracked.connection.settings_dict, "PORT", "1")
    assert publisher() < BOUND
    assert publisher() < LIMIT


@pytest.mark.services("DATABASE_URL")
@pytest.mark.parametrize("database", ["server"], indirect=True)
def test_server_that_does_not_answer(
    tracked: Scratch, publisher: Callable[[], float], monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        settings = tracked.connection.settings_dict
        monkeypatch.setitem(settings, "PORT", str(silent.getsockname()[1]))
        monkeypatch.setattr(backlogs, "PAUSE", 60.0)
        assert LIMIT < publisher() < BOUND + 1
        assert publisher() < LIMIT


@everywhere
def test_table_that_is_away(
    tracked: Scratch, publisher: Callable[[], float], caplog: pytest.LogCaptureFixture
) -> None:
    with database_faults.renamed(tracked):
        for _ in range(3):
            assert publisher() < BOUND
    said = [r for r in caplog.records if "tracker cannot write" in r.getMessage()]
    assert len(said) == 1
