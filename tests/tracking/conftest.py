"""What the tests of the tracker share: a recorder at rest, and what it has written."""

from __future__ import annotations

from collections.abc import Iterator
from weakref import WeakSet

import pytest
from django.contrib.contenttypes.models import ContentType

from django_celery_monitor.tracking import backlog as backlogs
from django_celery_monitor.tracking import pool, recording, time_limit, writing
from django_celery_monitor.tracking.backlog import Backlog
from tests.tracked.models import Order, Parcel, Warehouse


def settle(backlog: Backlog) -> None:
    """End the thread of a backlog, whatever it still has to write."""
    thread = backlog._thread
    with backlog._changed:
        backlog._waiting.clear()
        backlog._pause_ends = 0.0
        backlog._changed.notify_all()
    if thread is not None:
        thread.join(20)
        assert not thread.is_alive()
    backlog.reset()


@pytest.fixture(autouse=True)
def _recorder_at_rest(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Leave no worker, no thread and nothing unwritten to the next test."""
    monkeypatch.setattr(backlogs, "IDLE", 0.01)
    monkeypatch.setattr(backlogs, "PAUSE", 0.1)
    # Whatever else the machine is doing.
    monkeypatch.setattr(time_limit, "SECONDS", 20)
    monkeypatch.setattr(pool, "_worker", None)
    monkeypatch.setattr(pool, "_jobs", WeakSet())
    monkeypatch.setattr(writing, "_worker_ids", {})
    monkeypatch.setattr(writing, "_running", {})
    recording._observer.cache_clear()
    yield
    settle(recording.backlog)
    recording._observer.cache_clear()


@pytest.fixture
def known_content_types(request: pytest.FixtureRequest) -> None:
    """Have the content types in memory, as after the first task of a process."""
    if request.node.get_closest_marker("django_db"):
        request.getfixturevalue("db")
        ContentType.objects.get_for_models(Order, Parcel, Warehouse)
