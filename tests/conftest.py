"""What tests share: a profile of hypothesis, a camera, clocks, databases, servers."""

import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import cache
from importlib.util import find_spec
from urllib.parse import urlsplit

import hypothesis
import pytest
from django.apps import apps
from django.contrib.contenttypes.models import ContentType
from django.db import connection
from django.db.backends.sqlite3.base import DatabaseWrapper
from django.test.utils import CaptureQueriesContext
from django.utils import translation
from pytest_django import DjangoDbBlocker

from django_celery_monitor import deletion, retention
from django_celery_monitor.bulk import Table
from django_celery_monitor.camera import Camera
from django_celery_monitor.counters import Counters
from django_celery_monitor.deletion import Batch, Deleter
from django_celery_monitor.reconnecting import Reconnecting
from django_celery_monitor.saver import Saver
from tests.cameras import at, make
from tests.expired import Clock
from tests.scratch import Scratch, scratch

# How long an example takes says more about the machine than about the code.
hypothesis.settings.register_profile("monitor", deadline=None, max_examples=50)
# Where the same laws are looked into again, on another database or another Python.
hypothesis.settings.register_profile("again", deadline=None, max_examples=10)
hypothesis.settings.load_profile("monitor")

MAIN_THREAD = threading.main_thread()

DEFAULT_PORTS = {
    "postgres": 5432,
    "postgresql": 5432,
    "mysql": 3306,
    "redis": 6379,
    "amqp": 5672,
}


@pytest.fixture(autouse=True)
def _no_content_types() -> None:
    """Have every test look up content types as the first request of a process does.

    Django keeps them for the process: what a test asks the database would depend on
    the tests before it.
    """
    ContentType.objects.clear_cache()


@pytest.fixture(autouse=True)
def _closing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have threads close what they opened, as they do on every other database.

    Django closes no connection to a database in memory; that of the main thread is
    enough to keep it.
    """
    in_memory = DatabaseWrapper.is_in_memory_db

    def is_kept(self: DatabaseWrapper) -> bool:
        return threading.current_thread() is MAIN_THREAD and in_memory(self)

    monkeypatch.setattr(DatabaseWrapper, "is_in_memory_db", is_kept)


@pytest.fixture(autouse=True)
def _language() -> Iterator[None]:
    """Speak the language of the settings again: a page leaves its own behind."""
    yield
    translation.deactivate()


@pytest.fixture
def soon_after(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let a test take place soon after its events, with no receiver at work."""
    monkeypatch.setattr(Reconnecting, "consuming", None)
    with at(60):
        yield


@pytest.fixture
def camera() -> Camera:
    """Return a camera whose State, app and timer are the test's own."""
    camera: Camera = make()
    return camera


@pytest.fixture
def saver() -> Saver:
    """Return a saver with counters of its own."""
    return Saver(Counters(), 60, 2)


@pytest.fixture(params=["fast", "orm"])
def writing(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Write by the way of this database, and by that of any other."""
    if request.param == "orm":
        monkeypatch.setattr(Table, "vendor", property(lambda _: "other"))
    return str(request.param)


@pytest.fixture
def queries() -> CaptureQueriesContext:
    """Return what captures the queries of the default database, once entered."""
    return CaptureQueriesContext(connection)


@pytest.fixture
def deletion_clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Return the clock that the deletion goes by."""
    clock = Clock()
    real = Deleter._transaction

    def transact(self: Deleter, batch: Batch) -> int:
        clock.sizes.append(len(batch.found))
        clock.now += len(batch.found) * clock.cost
        return real(self, batch)

    monkeypatch.setattr(Deleter, "_transaction", transact)
    for module in (deletion, retention):
        monkeypatch.setattr(module, "time", clock)
    return clock


@pytest.fixture
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the deletion delete three rows at a time."""
    for name in ("BATCH", "SMALLEST", "LARGEST", "LARGEST_LOADED"):
        monkeypatch.setattr(deletion, name, 3)


@pytest.fixture(scope="module")
def databases(
    tmp_path_factory: pytest.TempPathFactory, django_db_blocker: DjangoDbBlocker
) -> Iterator[Callable[[str], Scratch]]:
    """Return what makes a migrated database of a kind, once."""
    with django_db_blocker.unblock(), ExitStack() as stack:

        @cache
        def make(kind: str) -> Scratch:
            made = stack.enter_context(scratch(kind, tmp_path_factory.mktemp("db")))
            made.migrate_tracker()
            return made

        yield make


@pytest.fixture
def database(
    request: pytest.FixtureRequest,
    databases: Callable[[str], Scratch],
    django_db_blocker: DjangoDbBlocker,
) -> Iterator[Scratch]:
    """Return an empty database that connections of other threads reach too."""
    with django_db_blocker.unblock():
        made = databases(request.param)
        yield made
        for label in ("celery_monitor_tracking", "celery_monitor"):
            for model in reversed(list(apps.get_app_config(label).get_models())):
                model._base_manager.using(made.alias).all().delete()


#: The tests in a browser take the extra of that name.
collect_ignore = [] if find_spec("playwright") else ["browser"]

#: Fixtures that give a test a database.
DATABASES = {"db", "transactional_db", "databases"}


def mark_database(items: list[pytest.Item]) -> None:
    """Mark the tests that can come out differently with another database."""
    for item in items:
        fixtures = set(getattr(item, "fixturenames", ()))
        if item.get_closest_marker("django_db") or fixtures & DATABASES:
            item.add_marker("database")


def spread(items: list[pytest.Item]) -> None:
    """Let half of pytest-xdist's workers begin with what waits for processes.

    The others compute meanwhile, and nobody is left alone with the longest at the end.
    """
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    waiting = [item for item in items if item.get_closest_marker("integration")]
    others = [item for item in items if not item.get_closest_marker("integration")]
    # Each begins with a part of the list, and takes from the ends of the others'.
    size, half = -(-len(items) // workers), max(1, workers // 2)
    items.clear()
    for worker in range(half):
        share = waiting[worker::half]
        taken = max(0, size - len(share))
        items += share + others[:taken]
        del others[:taken]
    items += others


@pytest.hookimpl(wrapper=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> Iterator[None]:
    """Mark the tests before ``-m`` chooses, and spread what is left in random order."""
    mark_database(items)
    yield
    spread(items)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a test whose servers nobody named; fail one whose servers are away."""
    for marker in item.iter_markers("services"):
        if not marker.args:
            pytest.fail("services needs the variables that name the servers")
        for variable in marker.args:
            require_server(variable)


def require_server(variable: str) -> None:
    """Skip unless ``variable`` holds the URL of a server; fail if it is away."""
    url = os.environ.get(variable, "")
    if not url or url.startswith("sqlite:"):
        pytest.skip(f"{variable} names no server")
    parts = urlsplit(url)
    if parts.scheme not in DEFAULT_PORTS:
        pytest.fail(f"{variable} has the unknown scheme {parts.scheme!r}")
    address = (parts.hostname or "127.0.0.1", parts.port or DEFAULT_PORTS[parts.scheme])
    try:
        socket.create_connection(address, timeout=5).close()
    except OSError as error:
        pytest.fail(f"{variable} is set, but {address} does not answer: {error}")
