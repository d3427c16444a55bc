"""What waits to be written: bounded, tried again, and told once."""

from __future__ import annotations

import logging
import os
import threading
import time
from asyncio import CancelledError
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from django.db import DataError, InterfaceError, OperationalError

from django_celery_monitor.tracking import backlog as backlogs
from django_celery_monitor.tracking.backlog import Backlog
from django_celery_monitor.tracking.writing import Observed
from tests.integration.processes import wait_for
from tests.tracking.conftest import settle


def observed(task_id: str = "id-1", at: float | None = None, **seen: Any) -> Observed:
    when = time.time() if at is None else at
    return Observed("task", task_id, {"tstamp_us": round(when * 1_000_000), **seen})


class Writer:
    """Writes into a list, unless it is told to fail."""

    def __init__(self) -> None:
        self.written: list[str] = []
        self.tries = 0
        self.error: BaseException | None = None
        self.go = threading.Event()
        self.go.set()

    def __call__(self, observed: Observed) -> None:
        """Write, once it may."""
        assert self.go.wait(20)
        self.tries += 1
        if self.error is not None:
            raise self.error
        self.written.append(observed.task_id)


FAULTS = [OperationalError("away"), InterfaceError("connection already closed")]


@pytest.fixture
def writer() -> Writer:
    return Writer()


@pytest.fixture
def backlog(writer: Writer) -> Iterator[Backlog]:
    backlog = Backlog(writer)
    yield backlog
    writer.go.set()
    settle(backlog)


def test_another_thread_writes(backlog: Backlog, writer: Writer) -> None:
    writer.go.clear()
    backlog.add(observed("id-1"))
    backlog.add(observed("id-2"))
    assert len(backlog) == 2
    writer.go.set()
    backlog.flush(20)
    assert writer.written == ["id-1", "id-2"]
    assert len(backlog) == 0


def test_thread_ends_when_nothing_is_left(backlog: Backlog, writer: Writer) -> None:
    for number in range(2):
        backlog.add(observed(str(number)))
        thread = backlog._thread
        assert thread is not None
        thread.join(20)
        assert not thread.is_alive()
    assert writer.written == ["0", "1"]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_another_thread_takes_the_place_of_one_that_died(
    backlog: Backlog, writer: Writer
) -> None:
    writer.error = CancelledError()
    backlog.add(observed("lost"))
    thread = backlog._thread
    assert thread is not None
    thread.join(20)
    writer.error = None
    backlog.add(observed("written"))
    backlog.flush(20)
    assert writer.written == ["written"]


def test_too_many(
    backlog: Backlog, writer: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backlogs, "MAX_WAITING", 3)
    writer.go.clear()
    for number in range(10):
        backlog.add(observed(str(number)))
    wait_for(lambda: backlog._busy)
    assert len(backlog) <= 4
    writer.go.set()
    backlog.flush(20)
    assert writer.written[-3:] == ["7", "8", "9"]
    assert backlog.dropped == 10 - len(writer.written)


def test_too_much(
    backlog: Backlog, writer: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backlogs, "MAX_BYTES", 10_000)
    writer.go.clear()
    for number in range(10):
        backlog.add(observed(str(number), result="x" * 4_000))
    writer.go.set()
    backlog.flush(20)
    assert writer.written[-1] == "9"
    assert backlog.dropped >= 7


def test_too_much_that_tells_objects(
    backlog: Backlog, writer: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backlogs, "MAX_BYTES", 10_000)
    writer.go.clear()
    for number in range(10):
        backlog.add(replace(observed(str(number)), objects=({"name": "x" * 4_000},)))
    writer.go.set()
    backlog.flush(20)
    assert writer.written[-1] == "9"
    assert backlog.dropped >= 7


def test_database_that_fails_is_left_alone_for_a_while(
    backlog: Backlog, writer: Writer, caplog: pytest.LogCaptureFixture
) -> None:
    writer.error = OperationalError("away")
    backlog.fail(observed("id-1"), writer.error)
    assert backlog.pausing
    backlog.add(observed("id-2"))
    assert writer.tries == 0
    wait_for(lambda: writer.tries >= 2)
    writer.error = None
    wait_for(lambda: not len(backlog))
    assert sorted(writer.written) == ["id-1", "id-2"]
    messages = [record.getMessage() for record in caplog.records]
    assert messages == [
        "The tracker cannot write, and keeps what it sees: away",
        "The tracker writes again, 0 were lost",
    ]


@pytest.mark.parametrize("error", FAULTS)
def test_what_a_lost_connection_has_not_taken_is_kept(
    backlog: Backlog, writer: Writer, error: Exception
) -> None:
    backlog.fail(observed("id-1"), error)
    assert (backlog.dropped, len(backlog)) == (0, 1)
    wait_for(lambda: writer.written == ["id-1"])


def test_thread_alone_finds_out_whether_the_database_is_back(
    backlog: Backlog, writer: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backlogs, "PAUSE", 0.5)
    writer.go.clear()
    backlog.fail(observed("id-1"), OperationalError("away"))
    wait_for(lambda: not backlog.pausing)
    assert backlog.failing
    writer.go.set()
    wait_for(lambda: not len(backlog))
    assert not backlog.failing


def test_database_is_tried_where_no_thread_runs(
    backlog: Backlog, writer: Writer
) -> None:
    writer.go.clear()
    backlog.fail(observed("id-1"), OperationalError("away"))
    wait_for(lambda: not backlog.failing)
    assert writer.tries == 0


def test_thread_that_cannot_be_had_is_asked_for_again(
    backlog: Backlog, writer: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def start(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", start)
        with pytest.raises(RuntimeError):
            backlog.add(observed("id-1"))
    backlog.add(observed("id-2"))
    backlog.flush(20)
    assert writer.written == ["id-1", "id-2"]


def test_what_is_refused_for_good_is_dropped(
    backlog: Backlog, writer: Writer, caplog: pytest.LogCaptureFixture
) -> None:
    backlog.fail(observed(), DataError("too long"))
    backlog.fail(observed(), ValueError("odd"))
    assert (backlog.dropped, len(backlog)) == (2, 0)
    levels = [record.levelno for record in caplog.records]
    assert levels == [logging.WARNING, logging.ERROR]


def test_what_is_not_the_databases_fault_stops_nobody(backlog: Backlog) -> None:
    backlog.fail(observed(), ValueError("odd"))
    assert not backlog.pausing


def test_old_observation_is_not_tried_again(backlog: Backlog) -> None:
    backlog.fail(observed(at=time.time() - 7_200), OperationalError("away"))
    assert (backlog.dropped, len(backlog)) == (1, 0)


def test_flush_does_not_wait_for_a_database_that_fails(backlog: Backlog) -> None:
    backlog.fail(observed(), OperationalError("away"))
    began = time.monotonic()
    backlog.flush(20)
    assert time.monotonic() - began < 10


def test_flush_ends_in_time(backlog: Backlog, writer: Writer) -> None:
    writer.go.clear()
    backlog.add(observed())
    backlog.flush(0.05)
    assert len(backlog) == 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_child_begins_anew(backlog: Backlog, writer: Writer) -> None:
    from django_celery_monitor.tracking import recording

    recording.backlog._failed = True
    recording.backlog.dropped = 3
    child = os.fork()
    if not child:
        os._exit(recording.backlog.dropped + recording.backlog._failed)
    assert os.waitpid(child, 0)[1] == 0
