"""Tracked tasks in real workers: their history is complete, with nothing beside it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from celery import chain
from pytest_django import DjangoDbBlocker

from django_celery_monitor.models import TaskState
from django_celery_monitor.tracking.models import TaskObjectLink
from tests.integration import database_faults, faults
from tests.integration.database_servers import Server
from tests.integration.processes import FILES, Process, Project, wait_for

pytestmark = pytest.mark.integration

SQLITE = ("sqlite", FILES)
REDIS, RABBITMQ = ("server", "REDIS_URL"), ("server", "AMQP_URL")
TASKS = "tests.integration.project.tracked.tasks"
FINISHED = ("SUCCESS", "FAILURE", "REVOKED")


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


everywhere = faults.projects(SQLITE, REDIS, RABBITMQ)


def start_worker(project: Project, *arguments: str, settings: str = "") -> Process:
    """Start a worker that sends no events, as there is no camera."""
    own = ("-l", "info", "-n", "worker@test", "--without-mingle", "--without-gossip")
    name = settings or "tracked_settings"
    worker = project.start("worker", *own, *arguments, settings=name)
    wait_for(lambda: "ready." in worker.output())
    return worker


def send(project: Project, task: str, *args: Any, **options: Any) -> str:
    """Send a task of the orders; return its id."""
    return str(project.app.send_task(f"{TASKS}.{task}", args, **options).id)


def row_of(project: Project, task_id: str, state: str = "") -> TaskState:
    """Return the row of a task, once it has a state, or one of those that end it."""
    rows = project.tasks.select_related("worker").filter(
        task_id=task_id, state__in=[state] if state else FINISHED
    )
    wait_for(rows.exists)
    row: TaskState = rows.get()
    return row


def attempts_of(project: Project, task_id: str, number: int) -> list[dict[str, Any]]:
    """Return what is known of the attempts of a task, once it is so many.

    The next one may end before the worker has told why the last one did not.
    """
    rows = project.tasks.filter(task_id=task_id).values_list("attempts", flat=True)
    wait_for(lambda: len(rows.first() or ()) == number)
    return list(rows.get() or ())


def objects_of(project: Project, task_id: str) -> list[tuple[str, str]]:
    """Return object and role of each link of a task."""
    links = TaskObjectLink.objects.using(project.database.alias)
    found = links.filter(task=task_id)  # type: ignore[misc]
    return list(found.values_list("object_id", "role"))


@everywhere
@pytest.mark.parametrize(
    "pool", [("prefork", "-c", "2"), ("threads", "-c", "2"), ("solo",)], ids=" ".join
)
def test_history_is_complete(project: Project, pool: tuple[str, ...]) -> None:
    start_worker(project, "-P", *pool)
    ids = {name: send(project, name, 7) for name in ("pay", "fail", "flaky")}
    attempts = attempts_of(project, ids["flaky"], 2)
    rows = {name: row_of(project, task_id) for name, task_id in ids.items()}

    assert rows["pay"].result == "'paid 7'"
    assert rows["pay"].runtime is not None
    assert rows["pay"].started_at is not None
    assert rows["pay"].finished_at is not None
    assert rows["fail"].exception == "ValueError"
    assert "cannot pay 7" in (rows["fail"].traceback or "")
    assert (rows["flaky"].state, rows["flaky"].retries) == ("SUCCESS", 2)
    assert [a["exception"] for a in attempts] == [
        "ConnectionError('attempt 0')",
        "ConnectionError('attempt 1')",
    ]
    for name, row in rows.items():
        assert row.name == f"{TASKS}.{name}"
        assert row.worker is not None
        assert row.worker.hostname == "worker@test"
        assert objects_of(project, ids[name]) == [("7", "order_id")]


@everywhere
def test_what_the_main_process_ends(project: Project) -> None:
    """A task revoked while it runs and before, a hard time limit, a killed child."""
    worker = start_worker(project, "-P", "prefork", "-c", "2")
    running = send(project, "wait", 1, "never")
    row_of(project, running, "STARTED")
    waiting = send(project, "pay", 2, countdown=3)
    project.app.control.revoke(waiting)
    project.app.control.revoke(running, terminate=True)
    hanging, dying = send(project, "hang", 3), send(project, "die", 4)
    expected = {
        running: ("REVOKED", "TaskRevokedError('terminated')"),
        waiting: ("REVOKED", "TaskRevokedError('revoked')"),
        hanging: ("FAILURE", "TimeLimitExceeded"),
        dying: ("FAILURE", "WorkerLostError"),
    }
    for number, (task_id, (state, result)) in enumerate(expected.items(), 1):
        row = row_of(project, task_id)
        # Written just now, and by somebody else.
        assert not connections_of(worker, project)
        assert (row.state, (row.result or "")[: len(result)]) == (state, result)
        assert row.worker is not None
        assert row.worker.hostname == "worker@test"
        assert objects_of(project, task_id) == [(str(number), "order_id")]


def connections_of(worker: Process, project: Project) -> set[str]:
    """Return what the main process of a worker has open of the database."""
    opened = set()
    for entry in Path(f"/proc/{worker.popen.pid}/fd").iterdir():
        with suppress(FileNotFoundError):
            opened.add(str(entry.readlink()))
    if project.database.vendor == "sqlite":
        return {name for name in opened if ".sqlite3" in name}
    port = f":{urlsplit(project.database.url).port:04X}"
    sockets = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()]
    remote = {f"socket:[{line[9]}]" for line in sockets if line[2].endswith(port)}
    return opened & remote


@everywhere
def test_whoever_is_sent_by_a_task_says_so(project: Project) -> None:
    start_worker(project, "-P", "prefork", "-c", "2")
    send(project, "pay_all", 20)
    paid = project.tasks.filter(name=f"{TASKS}.pay", state="SUCCESS")
    wait_for(lambda: paid.count() == 20)
    assert not paid.filter(sent_at=None).exists()
    links = TaskObjectLink.objects.using(project.database.alias)
    assert links.count() == 20
    assert set(links.values_list("source", "source_name")) == {
        ("task", f"{TASKS}.pay_all")
    }


@everywhere
def test_camera_beside_it_says_the_same(project: Project) -> None:
    project.camera("--frequency", "0.2")
    start_worker(project, "-E", "-P", "prefork", "-c", "2")
    ids = [send(project, "flaky", number) for number in range(5)]
    for task_id in ids:
        row_of(project, task_id)
    # The camera has seen what the tracker has not.
    received = project.tasks.filter(task_id__in=ids, received_at__isnull=False)
    wait_for(lambda: received.count() == 5)
    for task_id in ids:
        attempts = attempts_of(project, task_id, 2)
        assert [a["retries"] for a in attempts] == [0, 1]
        assert row_of(project, task_id).state == "SUCCESS"


@everywhere
def test_database_locked_while_tasks_run(project: Project) -> None:
    worker = start_worker(project, "-P", "prefork", "-c", "1")
    row_of(project, send(project, "pay", 0))
    with database_faults.locked(project.database):
        began = time.monotonic()
        ids = [send(project, "pay", number) for number in range(10)]
        wait_for(lambda: worker.output().count("succeeded in") == 11)
        assert time.monotonic() - began < 10
    for task_id in ids:
        assert row_of(project, task_id).state == "SUCCESS"
        assert objects_of(project, task_id)


@pytest.mark.services("DATABASE_URL")
def test_database_down_while_tasks_run(tmp_path: Path, server: Server) -> None:
    with faults.project_in(("server", FILES), tmp_path) as project:
        worker = start_worker(project, "-P", "prefork", "-c", "1")
        row_of(project, send(project, "pay", 0))
        project.database.connection.close()
        server.crash()
        began = time.monotonic()
        ids = [send(project, "pay", number) for number in range(10)]
        wait_for(lambda: worker.output().count("succeeded in") == 11)
        assert time.monotonic() - began < 10
        server.start()
        for task_id in ids:
            assert row_of(project, task_id).state == "SUCCESS"
            assert objects_of(project, task_id)


@faults.projects(REDIS)
def test_chain(project: Project) -> None:
    start_worker(project, "-P", "prefork", "-c", "2")
    name = f"{TASKS}.pay"
    pays = [project.app.signature(name, (n,), immutable=True) for n in range(3)]
    chain(*pays).apply_async()
    wait_for(lambda: project.tasks.filter(state="SUCCESS").count() == 3)
    assert len(set(project.tasks.values_list("root_id", flat=True))) == 1
    # The client does not know the tasks, the worker sends two of them.
    links = TaskObjectLink.objects.using(project.database.alias)
    assert links.filter(source="task", source_name=name).count() == 2


@everywhere
def test_schedule(project: Project) -> None:
    start_worker(project, "-P", "prefork", "-c", "1")
    project.start("beat", "-l", "info", settings="scheduled_settings")
    links = TaskObjectLink.objects.using(project.database.alias)
    wait_for(links.filter(source="beat", source_name="pay the first").exists)
