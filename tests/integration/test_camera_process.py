"""The camera under the stock command, with real workers, on files alone."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from signal import SIGCONT, SIGINT, SIGSTOP, SIGTERM
from typing import Any

import pytest
from celery import chain, group
from pytest_django import DjangoDbBlocker

from django_celery_monitor.models import CameraState
from tests.integration.conftest import MakeProject
from tests.integration.processes import Project, wait_for

pytestmark = [pytest.mark.integration]

HTML = "<b>日本語 & co</b>"
#: Seconds between two shots: only the last shot is taken.
NEVER = "--frequency=3600"


@pytest.fixture(scope="module")
def _running(make_project: MakeProject) -> Project:
    project = make_project()
    project.camera("--frequency=0.5")
    project.worker("-c", "2")
    wait_for(project.workers.exists)
    return project


@pytest.fixture
def running(_running: Project, django_db_blocker: DjangoDbBlocker) -> Iterator[Project]:
    """Return a project whose camera has seen its worker."""
    with django_db_blocker.unblock():
        yield _running


def send_events(project: Project, *task_ids: str) -> None:
    """Send that tasks have succeeded, and return when the camera knows."""
    with project.dispatcher() as dispatcher:
        for task_id in task_ids:
            dispatcher.send("task-received", uuid=task_id, name="proj.add")
            dispatcher.send("task-succeeded", uuid=task_id, result="4", runtime=0.5)
        # When this one is taken, the camera is done with those before.
        dispatcher.send("worker-heartbeat", freq=2.0)
    wait_for(lambda: not project.waiting())


def test_success(running: Project) -> None:
    task_id = running.send("add", 2, 2)

    wait_for(lambda: running.state(task_id) == "SUCCESS")
    row = running.tasks.get(task_id=task_id)
    assert (row.name, row.result) == ("tests.integration.project.tasks.add", "4")
    assert (row.args, row.kwargs, row.retries) == ("(2, 2)", "{}", 0)
    assert (row.queue, row.routing_key) == (running.name, running.name)
    assert row.root_id == task_id
    assert row.worker is not None
    assert row.worker.hostname == "worker@test"
    assert row.runtime is not None
    assert row.sent_at is not None
    assert row.received_at is not None
    assert row.started_at is not None
    assert row.finished_at == row.tstamp
    assert row.sent_at <= row.received_at <= row.started_at <= row.tstamp
    assert row.traceback is None


def test_failure(running: Project) -> None:
    task_id = running.send("fail", HTML)

    wait_for(lambda: running.state(task_id) == "FAILURE")
    row = running.tasks.get(task_id=task_id)
    assert row.exception == "ValueError"
    assert row.result == f"ValueError({HTML!r})"
    assert row.traceback is not None
    assert row.traceback.startswith("Traceback (most recent call last)")
    assert row.runtime is None


def test_a_retry_that_succeeds(running: Project) -> None:
    task_id = running.send("flaky", recovers=True)

    wait_for(lambda: running.state(task_id) == "SUCCESS")
    row = running.tasks.get(task_id=task_id)
    assert (row.retries, row.result) == (2, "'recovered'")
    assert (row.traceback, row.exception) == (None, None)
    assert row.attempts is not None
    assert row.attempts[-1]["exception"] == "ConnectionError('attempt 1')"


def test_arguments_with_unicode_and_html(running: Project) -> None:
    task_id = running.send("echo", HTML, key=HTML)

    wait_for(lambda: running.state(task_id) == "SUCCESS")
    row = running.tasks.get(task_id=task_id)
    assert row.args == repr((HTML,))
    assert row.kwargs == repr({"key": HTML})


def test_a_task_is_started_until_it_ends(running: Project) -> None:
    task_id = running.send("wait", "the end")

    wait_for(lambda: running.state(task_id) == "STARTED")
    (running.folder / "the end").touch()
    wait_for(lambda: running.state(task_id) == "SUCCESS")
    assert (running.tasks.get(task_id=task_id).runtime or 0) > 0


def test_a_state_of_its_own(running: Project) -> None:
    task_id = running.send("progress", "the progress", "its end")

    # The pool's process, which tells of it, may be ahead of the worker's, which
    # tells that the task has started.
    wait_for(lambda: running.state(task_id) == "STARTED")
    (running.folder / "the progress").touch()
    wait_for(lambda: running.state(task_id) == "PROGRESS")
    (running.folder / "its end").touch()
    wait_for(lambda: running.state(task_id) == "SUCCESS")


def test_rejected(running: Project) -> None:
    task_id = running.send("reject")

    # Newer versions of Celery say first that it has failed.
    wait_for(lambda: running.state(task_id) in {"REJECTED", "FAILURE"})
    assert running.tasks.get(task_id=task_id).finished_at is not None


def test_ignored(running: Project) -> None:
    task_id = running.send("ignore")
    last = running.send("add", 1, 1)

    wait_for(lambda: running.state(last) == "SUCCESS")
    wait_for(lambda: running.state(task_id) == "STARTED")


def test_a_chain_has_one_root(running: Project) -> None:
    result: Any = chain(running.task("add", 1, 1), running.task("add", 1))()

    for task_id in (result.parent.id, result.id):
        wait_for(lambda: running.state(task_id) == "SUCCESS")  # noqa: B023
    first = running.tasks.get(task_id=result.parent.id)
    second = running.tasks.get(task_id=result.id)
    assert second.result == "3"
    assert (second.root_id, second.parent_id) == (first.task_id, first.task_id)
    assert (first.root_id, first.parent_id) == (first.task_id, None)


def test_every_task_of_a_group(running: Project) -> None:
    result: Any = group(running.task("add", n, n) for n in range(3)).apply_async()

    ids = [child.id for child in result.children]
    wait_for(lambda: {running.state(task_id) for task_id in ids} == {"SUCCESS"})
    found = running.tasks.filter(task_id__in=ids).values_list("result", flat=True)
    assert sorted(filter(None, found)) == ["0", "2", "4"]


def test_a_worker_that_stops_is_offline_at_once(running: Project) -> None:
    row = running.workers.get(hostname="worker@test")
    assert row.is_alive()
    assert row.pid == running.processes[1].popen.pid
    assert (row.freq, row.sw_ident) == (2.0, "py-celery")
    other = running.worker("-n", "other@test", "-P", "solo")
    wait_for(running.workers.filter(hostname="other@test").exists)

    other.signal(SIGTERM)

    assert other.wait() == 0
    stopped = running.workers.filter(hostname="other@test")
    wait_for(stopped.exclude(offline_at=None).exists)
    assert not stopped.get().is_alive()
    assert running.workers.get(hostname="worker@test").is_alive()


@pytest.mark.parametrize(
    "signals", [[SIGTERM], [SIGINT], [SIGINT, SIGTERM], [SIGTERM, SIGTERM, SIGINT]]
)
def test_a_signal_ends_with_a_last_shot(
    project: Project, signals: list[signal.Signals]
) -> None:
    camera = project.camera(NEVER)
    send_events(project, "first", "second")
    assert not project.tasks.exists()

    camera.signal(*signals)

    assert camera.wait() == 0
    states = set(project.tasks.values_list("task_id", "state"))
    assert states == {("first", "SUCCESS"), ("second", "SUCCESS")}
    assert project.workers.get().hostname == "worker@test"
    assert "Traceback" not in camera.output()


def test_a_signal_waits_for_the_shot_under_way(project: Project) -> None:
    camera = project.camera(
        "--frequency=0.2", camera="tests.integration.project.cameras.Telling"
    )
    # Its own row is written first, and would wait for the lock as well.
    wait_for(CameraState.objects.using(project.database.alias).exists)
    project.database.execute("BEGIN IMMEDIATE")
    send_events(project, "first")
    wait_for((project.folder / "shooting").exists)
    camera.signal(SIGTERM, SIGINT)

    project.database.execute("COMMIT")

    assert camera.wait() == 0
    assert project.state("first") == "SUCCESS"


def test_no_event_that_was_received_is_lost_at_the_end(project: Project) -> None:
    events = 1_000
    camera = project.camera("--frequency=0.5")
    # All are there before it takes the first.
    camera.signal(SIGSTOP)
    with project.dispatcher() as dispatcher:
        for number in range(events):
            dispatcher.send("task-succeeded", uuid=f"id-{number}", result="4")
    camera.signal(SIGCONT)
    wait_for(lambda: project.waiting() < events - 20)

    camera.signal(SIGTERM)

    assert camera.wait() == 0
    received = events - project.waiting()
    assert 0 < received < events
    assert project.tasks.count() == received


def test_the_last_shot_is_taken_whatever_the_maximum_rate(project: Project) -> None:
    camera = project.camera(NEVER, "--maxrate=1/h")
    send_events(project, "first")

    camera.signal(SIGTERM)

    assert camera.wait() == 0
    assert project.state("first") == "SUCCESS"


def test_a_wrong_setting_ends_the_camera(project: Project) -> None:
    camera = project.camera(settings="wrong_settings")

    assert camera.wait() != 0
    assert "monitor_task_error_expires" in camera.output()


def test_the_pid_file(project: Project) -> None:
    path = project.folder / "camera.pid"
    camera = project.camera(NEVER, f"--pidfile={path}")

    wait_for(path.exists)
    assert int(path.read_text()) == camera.popen.pid
    camera.signal(SIGTERM)
    assert camera.wait() == 0
    assert not path.exists()


def test_a_camera_of_the_projects_own(project: Project) -> None:
    own = project.camera(
        "--frequency=0.2", camera="tests.integration.project.cameras.Picky"
    )
    project.worker()
    added, echoed = project.send("add", 3, 4), project.send("echo")
    last = project.send("add", 1, 1)

    picked = project.tasks.filter(kwargs="picked", state="SUCCESS")
    wait_for(lambda: picked.count() == 2)
    assert set(picked.values_list("task_id", "result")) == {(added, "7"), (last, "2")}
    assert not project.tasks.filter(task_id=echoed).exists()
    own.signal(SIGTERM)
    assert own.wait() == 0
