"""The demo as a newcomer runs it: real processes, no server."""

import fcntl
import os
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from http.cookiejar import CookieJar
from pathlib import Path
from urllib.error import URLError
from urllib.parse import urlencode
from urllib.request import HTTPCookieProcessor, build_opener

import pytest

ROOT = Path(__file__).resolve().parents[2]

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(not Path("/proc").is_dir(), reason="finds processes in /proc"),
]


class Demo:
    """One run of the demo on a folder of its own."""

    def __init__(self, folder: Path, port: int, output: int) -> None:
        """Start the demo with its defaults: a file-system broker and SQLite."""
        self.folder = folder
        self.address = f"http://127.0.0.1:{port}"
        environment = {
            name: value
            for name, value in os.environ.items()
            if name not in {"CELERY_BROKER_URL", "DATABASE_URL"}
            and not name.startswith(("COV", "DJANGO_", "PYTEST"))
        }
        self.process = subprocess.Popen(
            [sys.executable, "example/manage.py", "demo", "--port", str(port)],
            cwd=ROOT,
            env={**environment, "DEMO_DIR": str(folder), "PYTHONPATH": str(ROOT)},
            stdout=output,
            stderr=subprocess.STDOUT,
        )

    def processes(self) -> set[int]:
        """Return the ids of all processes of this demo, the runner's included."""
        mark = f"DEMO_DIR={self.folder}".encode()
        found = set()
        for environ in Path("/proc").glob("[0-9]*/environ"):
            try:
                variables = environ.read_bytes().split(b"\0")
            except OSError:
                continue
            if mark in variables:
                found.add(int(environ.parent.name))
        return found

    def serves(self) -> bool:
        """Tell whether the web server answers."""
        try:
            build_opener().open(f"{self.address}/admin/login/", timeout=10).close()
        except URLError:
            return False
        return True

    def log_in(self) -> str:
        """Log in to the admin as the README says; return the page that follows."""
        browser = build_opener(HTTPCookieProcessor(CookieJar()))
        login = f"{self.address}/admin/login/?next=/admin/"
        form = browser.open(login, timeout=10).read().decode()
        token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', form)
        assert token is not None
        fields = {"username": "admin", "password": "admin"}
        fields["csrfmiddlewaretoken"] = token[1]
        page = browser.open(login, urlencode(fields).encode(), timeout=10).read()
        return str(page.decode())

    def query(self, statement: str) -> set[str]:
        """Return the first column of what ``statement`` finds in the database."""
        with closing(sqlite3.connect(self.folder / "db.sqlite3")) as connection:
            return {row[0] for row in connection.execute(statement)}

    def states(self) -> set[str]:
        """Return the states that tasks have in the database now."""
        return self.query("SELECT state FROM celery_monitor_taskstate")


def wait_for(condition: Callable[[], object], seconds: float = 60) -> None:
    """Return once ``condition`` is true; raise AssertionError when time is up."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not true in {seconds} seconds"
        time.sleep(0.1)


@pytest.fixture
def port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def start(tmp_path: Path, port: int) -> Iterator[Callable[[int], Demo]]:
    """Start demos that leave no process to the other tests."""
    demos = []

    def start(output: int) -> Demo:
        demos.append(Demo(tmp_path / "var", port, output))
        return demos[-1]

    yield start
    for demo in demos:
        for process in demo.processes():
            os.kill(process, signal.SIGKILL)
        demo.process.wait()


def test_shows_every_outcome_until_sigterm(
    start: Callable[[int], Demo], tmp_path: Path
) -> None:
    leave_behind(tmp_path / "var" / "run")
    with (tmp_path / "log").open("w") as log:
        demo = start(log.fileno())
    wait_for(demo.serves)
    page = demo.log_in()
    assert "/admin/celery_monitor/taskstate/" in page
    assert "/admin/celery_monitor/workerstate/" in page
    seen: set[str] = set()

    def seen_all() -> bool:
        seen.update(demo.states())
        return seen >= {"SUCCESS", "FAILURE", "RETRY"}

    wait_for(seen_all)
    workers = demo.query("SELECT hostname FROM celery_monitor_workerstate")
    assert {name.partition("@")[0] for name in workers} == {"quick", "slow"}

    demo.process.send_signal(signal.SIGTERM)

    assert demo.process.wait(timeout=60) == 0
    assert demo.processes() == set()


def leave_behind(run: Path) -> None:
    """Fill ``run`` with what a demo that was killed may leave."""
    for left, content in {
        "messages/1_a.celery.msg": "",
        "control/celeryev.exchange": '[["#", "^.*?$", "celeryev.gone"]]',
        "control/celery.exchange": "",
        "schedule": "no schedule",
        "supervisord.pid": "1",
    }.items():
        (run / left).parent.mkdir(parents=True, exist_ok=True)
        (run / left).write_text(content)


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGHUP])
def test_ends_with_its_terminal_while_it_starts(
    start: Callable[[int], Demo], tmp_path: Path, signum: int
) -> None:
    log = tmp_path / "log"
    with log.open("w") as output:
        demo = start(output.fileno())
    wait_for(lambda: "spawned: 'beat'" in log.read_text())

    demo.process.send_signal(signum)

    assert demo.process.wait(timeout=60) == 0
    assert demo.processes() == set()


def test_refuses_a_port_that_is_taken(
    start: Callable[[int], Demo], port: int, tmp_path: Path
) -> None:
    with (tmp_path / "log").open("w") as log, socket.socket() as other:
        other.bind(("127.0.0.1", port))
        other.listen()
        assert start(log.fileno()).process.wait(timeout=60) == 1
    assert f"Port {port} cannot be used" in (tmp_path / "log").read_text()


def test_refuses_the_folder_of_a_demo_that_runs(
    start: Callable[[int], Demo], tmp_path: Path
) -> None:
    (tmp_path / "var").mkdir()
    with (tmp_path / "log").open("w") as log, (tmp_path / "var/lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert start(log.fileno()).process.wait(timeout=60) == 1
    assert "already runs" in (tmp_path / "log").read_text()
