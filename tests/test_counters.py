"""What a camera counts: its line in the log, its row."""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import OperationalError, connection
from django.test import override_settings
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from hypothesis import given
from hypothesis import strategies as st
from pytest_django import DjangoAssertNumQueries

import django_celery_monitor
from django_celery_monitor import counters as module
from django_celery_monitor.counters import Counters, Reporter
from django_celery_monitor.models import CameraState
from django_celery_monitor.utils import fromtimestamp
from tests.factories import CameraStateFactory

NAMES = tuple(Counters().as_columns())
HOUR = 3600.0


@pytest.fixture
def counters() -> Counters:
    return Counters()


@pytest.fixture
def reporter(counters: Counters) -> Reporter:
    """Return a reporter that always finds a line and a write due."""
    return Reporter(counters, 2.0, log_freq=0, store_freq=0)


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Callable[[], list[tuple[str, str]]]:
    """Return a function that returns what was logged since the last call."""
    caplog.set_level(logging.INFO, logger=module.__name__)

    def lines() -> list[tuple[str, str]]:
        found = [(r.levelname, r.getMessage()) for r in caplog.records]
        caplog.clear()
        return found

    return lines


Lines = Callable[[], list[tuple[str, str]]]


# Counters


def test_a_camera_begins_with_nothing(counters: Counters) -> None:
    assert set(counters.as_columns().values()) == {0}


def test_a_snapshot_counts_no_further(counters: Counters) -> None:
    counters.received = 3
    snapshot = counters.snapshot()
    counters.received += 1
    assert (snapshot.received, counters.received) == (3, 4)


@given(
    first=st.lists(st.integers(0, 9), min_size=9, max_size=9),
    more=st.lists(st.integers(0, 9), min_size=9, max_size=9),
)
def test_what_grew_is_what_was_added(first: list[int], more: list[int]) -> None:
    earlier = Counters(*first)
    later = Counters(*(a + b for a, b in zip(first, more, strict=True)))
    later.lag = 1.0
    grown = later.since(earlier)
    assert [grown.get(name, 0) for name in NAMES if name != "lag"] == more
    assert 0 not in grown.values()


def test_every_counter_has_a_column() -> None:
    assert set(NAMES) <= {field.name for field in CameraState._meta.fields}


# The log


def test_a_line_says_what_changed(
    counters: Counters, reporter: Reporter, lines: Lines
) -> None:
    counters.received, counters.made_fit, counters.lag = 1200, 3, 0.42
    reporter.log()
    assert lines() == [("INFO", "Camera: received 1200, made fit 3, lag 0.4 s")]
    counters.received += 5
    counters.saved, counters.lag = 7, 0.0
    reporter.log()
    assert lines() == [("INFO", "Camera: received 5, saved 7")]


def test_nothing_is_logged_when_nothing_happened(
    counters: Counters, reporter: Reporter, lines: Lines
) -> None:
    counters.lag = 1.0
    reporter.log()
    reporter.log(force=True)
    assert lines() == []


@pytest.mark.parametrize(
    ("name", "level"),
    [
        ("received", "INFO"),
        ("merged", "INFO"),
        ("saved", "INFO"),
        ("made_fit", "INFO"),
        ("reconnects", "INFO"),
        ("retried", "WARNING"),
        ("dropped", "WARNING"),
        ("quarantined", "WARNING"),
        ("poison", "WARNING"),
    ],
)
def test_what_went_wrong_is_a_warning_once(
    counters: Counters, reporter: Reporter, lines: Lines, name: str, level: str
) -> None:
    setattr(counters, name, 1)
    reporter.log()
    counters.received += 1
    reporter.log()
    assert [line[0] for line in lines()] == [level, "INFO"]


@pytest.mark.django_db
def test_a_line_waits_for_the_one_before(counters: Counters, lines: Lines) -> None:
    reporter = Reporter(counters, 2.0, log_freq=HOUR)
    reporter.register()
    counters.received = 1
    reporter.report()
    assert lines() == []
    reporter.log(force=True)
    assert lines() == [("INFO", "Camera: received 1")]
    counters.received = 3
    reporter.log()
    assert lines() == []
    reporter.stop()
    assert lines() == [("INFO", "Camera: received 2")]


def test_a_line_that_had_nothing_to_say_stays_due(
    counters: Counters, lines: Lines
) -> None:
    reporter = Reporter(counters, 2.0, log_freq=HOUR)
    reporter.log()
    counters.poison = 1
    reporter.log()
    assert lines() == [("WARNING", "Camera: poison 1")]


# The row


@pytest.mark.django_db
def test_a_camera_registers(counters: Counters) -> None:
    before = time.time()
    Reporter(counters, 2.5).register()
    row = CameraState.objects.get()
    assert (row.hostname, row.pid) == (socket.gethostname(), os.getpid())
    assert row.version == django_celery_monitor.__version__
    assert row.freq == 2.5
    assert row.started_at == row.last_shot >= fromtimestamp(before)
    assert (row.last_commit, row.stopped_at, row.received) == (None, None, 0)
    assert row.is_watching()


@pytest.mark.parametrize("use_tz", [True, False])
@pytest.mark.django_db
def test_a_camera_stores_what_it_counted(
    counters: Counters, reporter: Reporter, use_tz: bool
) -> None:
    with override_settings(USE_TZ=use_tz, TIME_ZONE="Asia/Kolkata"):
        reporter.register()
        for number, name in enumerate(NAMES, 1):
            setattr(counters, name, number)
        shot = time.time()
        reporter.report(shot, shot + 1)
        row = CameraState.objects.get()
        assert [getattr(row, name) for name in NAMES] == list(range(1, 11))
        assert row.last_shot == fromtimestamp(shot)
        assert row.last_commit == fromtimestamp(shot + 1)
        reporter.report(shot + 2)
        row.refresh_from_db()
        assert row.last_shot == fromtimestamp(shot + 2)
        assert row.last_commit == fromtimestamp(shot + 1)
        assert row.is_watching()


@pytest.mark.django_db
def test_a_write_is_one_statement(
    reporter: Reporter, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    reporter.register()
    with django_assert_num_queries(1) as queries:
        reporter.store(time.time(), time.time())
    assert queries[0]["sql"].startswith("UPDATE")


@pytest.mark.django_db
def test_a_write_waits_for_the_one_before(
    counters: Counters, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    reporter = Reporter(counters, 2.0, store_freq=HOUR)
    reporter.register()
    shot = time.time() + 1
    with django_assert_num_queries(0):
        reporter.report(shot)
    with django_assert_num_queries(1):
        reporter.store(force=True)
    assert CameraState.objects.get().last_shot == fromtimestamp(shot)


@pytest.mark.django_db
def test_what_is_committed_is_said_at_once(counters: Counters) -> None:
    reporter = Reporter(counters, 2.0, store_freq=HOUR)
    reporter.register()
    counters.saved = 3
    commit = time.time()
    reporter.report(commit - 1, commit)
    row = CameraState.objects.get()
    assert (row.last_commit, row.saved) == (fromtimestamp(commit), 3)


@pytest.mark.django_db
def test_a_camera_that_stops_says_so_at_once(counters: Counters) -> None:
    reporter = Reporter(counters, 2.0, store_freq=HOUR)
    reporter.register()
    counters.saved = 4
    reporter.stop()
    row = CameraState.objects.get()
    assert row.stopped_at is not None
    assert row.stopped_at >= row.started_at
    assert (row.saved, row.is_watching()) == (4, False)


@pytest.mark.django_db
def test_a_row_that_somebody_deleted_comes_back(
    counters: Counters, reporter: Reporter
) -> None:
    reporter.register()
    started = CameraState.objects.get().started_at
    CameraState.objects.all().delete()
    counters.received = 9
    reporter.store()
    row = CameraState.objects.get()
    assert (row.started_at, row.received) == (started, 9)


def away(*args: Any) -> Any:
    """Refuse a statement as a database that is away does."""
    raise OperationalError("the database is away")


@pytest.mark.django_db(transaction=True)
def test_a_database_that_is_away_does_no_harm(
    counters: Counters, reporter: Reporter, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, logger=module.__name__)
    with connection.execute_wrapper(away):
        reporter.register()
        reporter.store(time.time())
    assert CameraState.objects.count() == 0
    assert {record.levelname for record in caplog.records} == {"DEBUG"}
    assert "the database is away" in caplog.text

    counters.received = 2
    reporter.store()
    assert CameraState.objects.get().received == 2
    with connection.execute_wrapper(away):
        reporter.stop()
    assert CameraState.objects.get().stopped_at is None


@pytest.mark.django_db(databases=["default", "other"])
@override_settings(DATABASE_ROUTERS=["tests.routers.ReplicaRouter"])
def test_the_row_is_where_the_router_writes(reporter: Reporter) -> None:
    with CaptureQueriesContext(connection) as queries:
        reporter.register()
        reporter.store(time.time())
        reporter.stop()
    assert len(queries) == 0
    assert CameraState.objects.using("other").get().stopped_at is not None


# Runs of long ago


@pytest.mark.django_db
def test_runs_of_long_ago_are_forgotten(reporter: Reporter) -> None:
    now = timezone.now()
    long = CameraStateFactory.create(started_at=now - timedelta(days=200))
    running = CameraStateFactory.create(
        started_at=now - timedelta(days=200), last_shot=now
    )
    recent = CameraStateFactory.create(started_at=now - timedelta(days=89))
    reporter.register()
    kept = set(CameraState.objects.values_list("pk", flat=True))
    assert {running.pk, recent.pk} < kept
    assert long.pk not in kept
    assert len(kept) == 3


@pytest.mark.django_db
def test_the_newest_runs_are_kept(
    reporter: Reporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_RUNS", 3)
    now = timezone.now()
    for hours in (1, 4, 2, 3):
        start = now - timedelta(hours=hours)
        CameraStateFactory.create(hostname=f"{hours}", started_at=start)
    reporter.register()
    hosts = CameraState.objects.values_list("hostname", flat=True)
    assert list(hosts) == [socket.gethostname(), "1", "2"]


def test_a_camera_is_named_by_where_it_runs() -> None:
    camera = CameraStateFactory.build(hostname="web1", pid=42)
    assert str(camera) == "web1 (42)"
