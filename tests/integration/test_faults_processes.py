"""What becomes of the events when the camera ends, is killed, or loses the broker."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from signal import SIGINT, SIGKILL, SIGTERM, Signals

import pytest
from pytest_django import DjangoDbBlocker

from tests.integration import database_faults, faults
from tests.integration.brokers import RedisServer, redis_server
from tests.integration.faults import Ledger, flow, projects, received, start_camera
from tests.integration.processes import FILES, Project, wait_for
from tests.scratch import scratch

pytestmark = pytest.mark.integration


durable = projects(("sqlite", "AMQP_URL"), ("server", "AMQP_URL"))


@pytest.fixture
def project(
    request: pytest.FixtureRequest, tmp_path: Path, django_db_blocker: DjangoDbBlocker
) -> Iterator[Project]:
    """Return a project in the place that the test names."""
    with (
        django_db_blocker.unblock(),
        faults.project_in(request.param, tmp_path) as made,
    ):
        yield made


@projects(
    *(("sqlite", FILES), ("server", FILES)),
    *(("server", "REDIS_URL"), ("server", "AMQP_URL")),
)
def test_two_cameras_of_which_one_is_killed_in_mid_write(project: Project) -> None:
    first, second = start_camera(project), start_camera(project)
    with flow(project, Ledger()) as ledger:
        wait_for(lambda: project.tasks.count() >= 50)
        faults.kill_in_transaction(project, first)
        sent = len(ledger.sent)
        wait_for(lambda: len(ledger.sent) >= sent + 100)

    ledger.check(project)
    second.signal(SIGTERM)
    assert second.wait() == 0


@projects(("server", FILES), ("server", "REDIS_URL"), ("server", "AMQP_URL"))
@pytest.mark.parametrize("signals", [[SIGTERM], [SIGINT], [SIGTERM, SIGINT]])
def test_a_signal_in_mid_write(project: Project, signals: list[Signals]) -> None:
    camera = start_camera(project)
    ledger, before = Ledger(), received(project, camera)
    with project.dispatcher() as dispatcher:
        for number in range(20):
            ledger.send(dispatcher, number)
        wait_for(lambda: project.tasks.count() == 20)
        with database_faults.locked(project.database):
            for number in range(20, 300):
                ledger.send(dispatcher, number)
            wait_for(lambda: database_faults.waits_for_lock(project.database))
            wait_for(lambda: received(project, camera) - before >= ledger.events)
            camera.signal(*signals)

    assert camera.wait() == 0
    ledger.check(project, seconds=0)


@projects(("sqlite", FILES), ("server", FILES))
def test_the_end_while_the_database_stays_locked(project: Project) -> None:
    camera = start_camera(project, settings="impatient_settings")
    ledger, before = Ledger(), received(project, camera)
    with database_faults.locked(project.database):
        with project.dispatcher() as dispatcher:
            for number in range(50):
                ledger.send(dispatcher, number)
        wait_for(lambda: received(project, camera) - before >= ledger.events)
        camera.signal(SIGTERM)
        assert camera.wait() == 1

    # A task counts twice that is in a shot under way and was heard of since.
    assert re.search(r"\d\d tasks are not saved", camera.output())
    assert not project.tasks.exists()


@durable
def test_killed_in_mid_write_with_a_durable_queue(project: Project) -> None:
    camera = start_camera(project, settings="durable_settings")
    with flow(project, Ledger(), rate=200) as ledger:
        for _ in range(2):
            count = project.tasks.count()
            wait_for(lambda: project.tasks.count() > count + 30)  # noqa: B023
            faults.kill_in_transaction(project, camera)
            sent = len(ledger.sent)
            # Nobody is there to receive these.
            wait_for(lambda: len(ledger.sent) >= sent + 100)  # noqa: B023
            camera = start_camera(project, settings="durable_settings")

    ledger.check(project)
    camera.signal(SIGTERM)
    assert camera.wait() == 0


@durable
def test_two_cameras_share_a_durable_queue(project: Project) -> None:
    first = start_camera(project, settings="durable_settings")
    second = start_camera(project, settings="durable_settings")
    with flow(project, Ledger(), rate=200) as ledger:
        wait_for(lambda: project.tasks.count() >= 100)
        first.signal(SIGKILL)
        sent = len(ledger.sent)
        wait_for(lambda: len(ledger.sent) >= sent + 100)
        third = start_camera(project, settings="durable_settings")
        faults.kill_in_transaction(project, second)
        wait_for(lambda: len(ledger.sent) >= sent + 200)

    ledger.check(project)
    third.signal(SIGTERM)
    assert third.wait() == 0


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    """Return a Redis server of the test's own."""
    with redis_server(tmp_path) as server:
        server.start()
        yield server


@pytest.fixture
def on_redis(
    redis: RedisServer, tmp_path: Path, django_db_blocker: DjangoDbBlocker
) -> Iterator[Project]:
    """Return a project on the Redis server."""
    with (
        django_db_blocker.unblock(),
        scratch("sqlite", tmp_path) as database,
        faults.project_on(database, redis.url, tmp_path) as made,
    ):
        yield made
        faults.end_processes(made)


@pytest.mark.services("REDIS_URL")
def test_redis_restarted(redis: RedisServer, on_redis: Project) -> None:
    """What is sent once both are back is saved; what is sent before may be lost."""
    camera = start_camera(on_redis)
    ledger = Ledger()
    with on_redis.dispatcher() as dispatcher:
        for number in range(50):
            ledger.send(dispatcher, number)
    ledger.check(on_redis)
    redis.stop()
    wait_for(lambda: "trying again" in camera.output())
    redis.start()
    wait_for(lambda: camera.output().count("Connected to") == 2)
    # By now it has told of all that it had received before.
    told = partial(faults.told, on_redis, camera)
    before = told().events

    with on_redis.dispatcher() as dispatcher:
        faults.send_until(dispatcher, lambda: told().events > before)
        for number in range(50, 100):
            ledger.send(dispatcher, number)

    ledger.check(on_redis)
    camera.signal(SIGTERM)
    assert camera.wait() == 0


@pytest.mark.services("REDIS_URL")
def test_redis_frozen_for_a_while(redis: RedisServer, on_redis: Project) -> None:
    """Nothing is lost while the connections stay."""
    camera = start_camera(on_redis)
    with flow(on_redis, Ledger()) as ledger:
        wait_for(lambda: on_redis.tasks.count() >= 50)
        redis.freeze()
        begin, sent = time.monotonic(), len(ledger.sent)
        wait_for(lambda: time.monotonic() - begin >= 3)
        redis.thaw()
        wait_for(lambda: len(ledger.sent) >= sent + 50)

    ledger.check(on_redis)
    camera.signal(SIGTERM)
    assert camera.wait() == 0
