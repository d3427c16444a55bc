"""Runs the demo's shop: web server, camera and worker in processes of their own."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

from celery import Celery

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "example"
#: What the processes are not to inherit from the run of the tests.
OWN = ("CELERY_", "COV", "DATABASE_URL", "DJANGO_", "PYTEST")

PREPARE = """
from shop.management.commands import demo
demo.prepare_folders()
demo.bind_exchanges()
demo.prepare_database()
"""


def wait_for(condition: Callable[[], object], seconds: float = 60) -> None:
    """Return once ``condition`` is true; raise AssertionError when time is up."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not true in {seconds} seconds"
        time.sleep(0.1)


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Shop:
    """The shop on a folder of its own, without beat: the tests send what they need."""

    folder: Path
    settings: str = "tests.browser.settings"
    port: int = field(default_factory=free_port)
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def address(self) -> str:
        """Where the web server is."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def environment(self) -> dict[str, str]:
        """The environment variables of the processes."""
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(OWN)}
        return {
            **inherited,
            "DEMO_DIR": str(self.folder),
            "DJANGO_SETTINGS_MODULE": self.settings,
            "PYTHONPATH": f"{ROOT}{os.pathsep}{EXAMPLE}",
        }

    @cached_property
    def client(self) -> Celery:
        """What sends tasks to the shop's broker."""
        app = Celery("client", broker="filesystem://localhost", set_as_current=False)
        app.conf.update(
            broker_transport="tests.integration.project.broker:Transport",
            broker_transport_options={
                "data_folder_in": self.folder / "run" / "messages",
                "data_folder_out": self.folder / "run" / "messages",
                "control_folder": self.folder / "run" / "control",
            },
            task_send_sent_event=True,
        )
        return app

    def start(self) -> None:
        """Prepare the database and the broker, start all, and wait for the server."""
        self.folder.mkdir(parents=True, exist_ok=True)
        subprocess.run(
            [sys.executable, "manage.py", "shell", "-v", "0", "-c", PREPARE],
            cwd=EXAMPLE,
            env=self.environment,
            check=True,
            stdin=subprocess.DEVNULL,
        )
        celery = ("-m", "celery", "-A", "shop")
        camera = "django_celery_monitor.camera.Camera"
        self.run(*celery, "events", "--camera", camera, "--frequency=0.5")
        # As in the demo: one that is quick, and one that is soon busy.
        for name, queue in (("quick", "celery"), ("slow", "slow")):
            self.work(name, queue)
        self.run("manage.py", "runserver", "--noreload", f"127.0.0.1:{self.port}")
        wait_for(self.serves)

    def work(self, name: str, queue: str) -> subprocess.Popen[bytes]:
        """Start a worker, which runs one task at a time."""
        own = ("-E", "-n", f"{name}@shop", "-Q", queue, "-c", "1", "--without-mingle")
        return self.run("-m", "celery", "-A", "shop", "worker", *own)

    def run(self, *arguments: str) -> subprocess.Popen[bytes]:
        """Start a process, which writes into a log of its own."""
        with (self.folder / f"{len(self.processes)}.log").open("wb") as output:
            self.processes.append(
                subprocess.Popen(
                    [sys.executable, *arguments],
                    cwd=EXAMPLE,
                    env=self.environment,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
            )
        return self.processes[-1]

    def serves(self) -> bool:
        """Tell whether the web server answers."""
        try:
            urlopen(f"{self.address}/admin/login/", timeout=10).close()  # noqa: S310
        except URLError:
            return False
        return True

    def send(self, task: str, *args: Any, queue: str = "celery", **kwargs: Any) -> str:
        """Send a task of the shop; return its id."""
        name = f"shop.tasks.{task}"
        return str(self.client.send_task(name, args, kwargs, queue=queue).id)

    def output(self) -> str:
        """Return what the processes have written."""
        logs = sorted(self.folder.glob("*.log"))
        return "\n".join(log.read_text(errors="replace") for log in logs)

    def end(self) -> None:
        """End all processes and those that they started."""
        for process in self.processes:
            kill(process)
        self.client.close()


def kill(process: subprocess.Popen[bytes]) -> None:
    """End a process and those that it started."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@contextmanager
def open_shop(folder: Path, **options: Any) -> Iterator[Shop]:
    """Give a shop that is open; close it afterwards."""
    shop = Shop(folder, **options)
    try:
        shop.start()
        yield shop
    finally:
        shop.end()
