"""``manage.py celery_monitor`` in a process of its own: how it ends."""

from __future__ import annotations

import subprocess
import sys
from datetime import timedelta
from signal import SIGINT, SIGTERM, Signals

import pytest
from django.utils import timezone

from tests.integration.processes import ROOT, Process, Project, wait_for


def manage(project: Project, *arguments: str) -> Process:
    """Start the command as ``manage.py`` does, in a process of the project."""
    log = project.folder / "command.log"
    code = (
        "import sys, tests.integration.project.celery\n"
        "from django.core.management import execute_from_command_line\n"
        "execute_from_command_line(['manage.py', 'celery_monitor', *sys.argv[1:]])"
    )
    with log.open("wb") as output:
        popen = subprocess.Popen(
            [sys.executable, "-c", code, *arguments],
            cwd=project.folder,
            env={**project.environment, "PYTHONPATH": str(ROOT)},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    process = Process(log, popen)
    project.processes.append(process)
    return process


@pytest.mark.integration
@pytest.mark.parametrize("signum", [SIGINT, SIGTERM])
def test_camera_saves_and_ends_well(project: Project, signum: Signals) -> None:
    pidfile = project.folder / "pid"
    camera = manage(project, "camera", "-F", "0.2", "-l", "info", "--pidfile", "pid")
    wait_for(lambda: project.listening() or camera.popen.poll() is not None)
    assert int(pidfile.read_text()) == camera.popen.pid

    with project.dispatcher() as dispatcher:
        dispatcher.send("task-received", uuid="id", name="proj.add")
        dispatcher.send("task-succeeded", uuid="id", result="4", runtime=0.5)
    wait_for(lambda: project.state("id") == "SUCCESS")

    camera.signal(signum)
    assert camera.wait() == 0, camera.output()
    assert not pidfile.exists()


@pytest.mark.integration
def test_wrong_option_ends_the_process(project: Project) -> None:
    camera = manage(project, "camera", "--max-tasks", "0")
    assert camera.wait() == 1
    assert "CommandError: --max-tasks must be a positive" in camera.output()


@pytest.mark.integration
def test_purge_in_a_process(project: Project) -> None:
    project.tasks.create(
        task_id="id", state="SUCCESS", tstamp=timezone.now() - 10 * timedelta(days=1)
    )
    purge = manage(project, "purge", "--seconds", "30")
    assert purge.wait() == 0, purge.output()
    assert "Deleted tasks: 1" in purge.output()
    assert not project.tasks.exists()
