"""Run cameras for a long time under faults at random, and say what was lost.

Two cameras share a durable queue on RabbitMQ and save to a database, while a client
sends the events of tasks at a steady rate and faults come one after another. At the
end every task's row is compared with what was sent. Exits with 1 when a row is wrong
or missing. Usage: ``python benchmarks/soak.py --minutes 30 --rate 300
--database postgres://... --broker amqp://...``.
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from signal import SIGCONT, SIGKILL, SIGSTOP, SIGTERM

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")

import django  # noqa: E402 -- finds the project by the lines above

django.setup()

from django_celery_monitor.models import CameraState  # noqa: E402 -- needs Django
from tests.integration import database_faults, faults  # noqa: E402
from tests.integration.processes import Process, Project, wait_for  # noqa: E402

COUNTERS = (
    *("received", "merged", "saved", "retried", "dropped", "made_fit"),
    *("quarantined", "poison", "reconnects"),
)


class Soak:
    """A project under load, its two cameras, and the faults that befall them."""

    def __init__(self, project: Project, rng: random.Random) -> None:
        self.project = project
        self.rng = rng
        self.cameras = [self.start(), self.start()]
        self.faults: Counter[str] = Counter()
        self.exits: Counter[int] = Counter()
        self.peak = 0

    def start(self) -> Process:
        """Start a camera."""
        return faults.start_camera(
            self.project, settings="durable_settings", frequency=1
        )

    def pause(self, shortest: float, longest: float) -> None:
        """Let some seconds pass, and look how much memory the cameras take."""
        end = time.monotonic() + self.rng.uniform(shortest, longest)
        while time.monotonic() < end:
            self.measure()
            time.sleep(0.5)

    def measure(self) -> None:
        """Note the largest resident set of a camera so far, in kilobytes."""
        for camera in self.cameras:
            with suppress(FileNotFoundError, ProcessLookupError):
                text = Path(f"/proc/{camera.popen.pid}/status").read_text()
                lines = [line for line in text.splitlines() if "VmHWM" in line]
                self.peak = max(self.peak, *(int(line.split()[1]) for line in lines), 0)

    def run(self, seconds: float) -> None:
        """Inject one fault after another."""
        choices: list[Callable[[], None]] = [
            *(self.kill_connections, self.lock_table, self.rename_table),
            *(self.restart_camera, self.kill_camera, self.kill_camera_in_mid_write),
            *(self.stop_camera, self.purge),
        ]
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            fault = self.rng.choice(choices)
            self.faults[fault.__name__] += 1
            fault()
            self.check_cameras()
            self.pause(0.5, 5)

    def check_cameras(self) -> None:
        """Raise AssertionError when a camera has ended by itself."""
        for camera in self.cameras:
            if camera.popen.poll() is not None:
                raise AssertionError(camera.output()[-5000:])

    # Faults

    def kill_connections(self) -> None:
        """End all connections to the database, over and over for some seconds."""
        end = time.monotonic() + self.rng.uniform(0.5, 5)
        while time.monotonic() < end:
            database_faults.kill_connections(self.project.database)
            time.sleep(0.01)

    def lock_table(self) -> None:
        """Keep the cameras from the table of tasks for up to 20 seconds."""
        with database_faults.locked(self.project.database):
            self.pause(1, 20)

    def rename_table(self) -> None:
        """Take the table of tasks away for some seconds."""
        with database_faults.renamed(self.project.database):
            self.pause(0.5, 5)

    def restart_camera(self) -> None:
        """End a camera as a supervisor does, and start it again."""
        index = self.rng.randrange(2)
        self.cameras[index].signal(SIGTERM)
        self.exits[self.cameras[index].wait()] += 1
        self.cameras[index] = self.start()

    def kill_camera(self) -> None:
        """Kill a camera, and start another one after a while."""
        index = self.rng.randrange(2)
        self.cameras[index].signal(SIGKILL)
        self.exits[self.cameras[index].wait()] += 1
        self.pause(0, 5)
        self.cameras[index] = self.start()

    def kill_camera_in_mid_write(self) -> None:
        """Have a camera killed before a commit, and start another one."""
        index = self.rng.randrange(2)
        faults.kill_in_transaction(self.project, self.cameras[index])
        self.exits[-SIGKILL] += 1
        self.cameras[index] = self.start()

    def stop_camera(self) -> None:
        """Stop a camera in whatever it does for some seconds."""
        camera = self.rng.choice(self.cameras)
        camera.signal(SIGSTOP)
        self.pause(1, 8)
        camera.signal(SIGCONT)

    def purge(self) -> None:
        """Clean up beside the cameras."""
        command = ("-m", "django", "celery_monitor", "purge")
        environment = {
            **self.project.environment,
            "DJANGO_SETTINGS_MODULE": "tests.integration.project.settings",
        }
        subprocess.run(  # noqa: S603 -- our own command
            [sys.executable, *command],
            env=environment,
            cwd=self.project.folder,
            check=True,
            stdout=subprocess.DEVNULL,
        )

    def end(self) -> None:
        """End both cameras."""
        self.measure()
        for camera in self.cameras:
            camera.signal(SIGTERM)
            self.exits[camera.wait()] += 1


def main() -> int:
    """Run as the command line says; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--rate", type=float, default=300, help="tasks a second")
    parser.add_argument("--database", default=os.environ.get("DATABASE_URL"))
    parser.add_argument("--broker", default=os.environ.get("AMQP_URL"))
    parser.add_argument("--seed", type=int, default=time.time_ns() % 10**6)
    options = parser.parse_args()
    if not options.database or not options.broker:
        parser.error("--database and --broker must name servers")
    os.environ.update(DATABASE_URL=options.database, AMQP_URL=options.broker)
    print(f"seed {options.seed}", flush=True)
    place = ("server", "AMQP_URL")
    with (
        tempfile.TemporaryDirectory() as folder,
        faults.project_in(place, Path(folder)) as project,
    ):
        return soak(project, options.minutes * 60, options.rate, options.seed)


def soak(project: Project, seconds: float, rate: float, seed: int) -> int:
    """Run for some seconds and print the result; return the exit code."""
    run = Soak(project, random.Random(seed))  # noqa: S311 -- no secret
    ledger = faults.Ledger()
    begin = time.monotonic()
    with faults.flow(project, ledger, rate):
        run.run(seconds)
    lasted = time.monotonic() - begin
    ended = project.tasks.filter(state__in=["SUCCESS", "FAILURE"])
    with suppress(AssertionError):
        wait_for(lambda: ended.count() >= len(ledger.sent), 120)
    run.end()
    count = ledger.count(project)
    print(f"{lasted:.0f} s, {len(ledger.sent) / lasted:.0f} tasks/s", end=", ")
    print(f"{ledger.events} events")
    print(", ".join(f"{name} {number}" for name, number in count.items()))
    print("Faults:", ", ".join(f"{k} {n}" for k, n in run.faults.most_common()))
    print("Exit codes:", dict(run.exits))
    rows = CameraState.objects.using(project.database.alias)
    for counter in COUNTERS:
        print(f"{counter} {sum(rows.values_list(counter, flat=True))}", end="; ")
    print(f"\nRuns of cameras: {rows.count()}, peak memory {run.peak // 1024} MB")
    failed = count["wrong"] or count["missing"] or set(run.exits) - {0, -SIGKILL}
    print("FAILED" if failed else "Nothing was lost.")
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
