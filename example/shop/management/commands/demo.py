"""The command that runs the whole shop: workers, beat, camera and web server."""

import fcntl
import os
import shutil
import signal
import socket
import subprocess
import sys
from argparse import ArgumentParser
from collections.abc import Iterable
from contextlib import suppress
from decimal import Decimal
from pathlib import Path
from typing import Any, TextIO

from django.contrib.auth import get_user_model
from django.core.management import BaseCommand, CommandError, call_command
from django.db import connections

from shop.celery import app
from shop.models import Customer, Order
from shop.settings import BASE_DIR, CELERY_BROKER_URL, DATA_DIR, RUN_DIR

HOST = "127.0.0.1"


class Command(BaseCommand):
    """Prepare a database and a broker, then run what supervisord.conf lists."""

    help = "Run the demo until Ctrl-C or SIGTERM."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Take the port of the web server."""
        parser.add_argument("--port", type=int, default=8000)

    def handle(self, *, port: int, **options: Any) -> None:
        """Run the demo; raises CommandError if it cannot start."""
        require_free_port(port)
        with (DATA_DIR / "lock").open("w") as lock:
            require_alone(lock)
            prepare_folders()
            if CELERY_BROKER_URL.startswith("filesystem:"):
                bind_exchanges()
            prepare_database()
            open_shop()
            self.stdout.write(
                f"\nhttp://{HOST}:{port}/admin/  user admin, password admin."
                "  Ctrl-C ends the demo.\n\n"
            )
            sys.exit(run(port))


def require_free_port(port: int) -> None:
    """Raise CommandError if the web server could not listen on ``port``."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except (OSError, OverflowError) as error:
            raise CommandError(
                f"Port {port} cannot be used ({error}): try make demo PORT=8123"
            ) from error


def require_alone(lock: TextIO) -> None:
    """Raise CommandError if another demo runs on the same folder."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise CommandError(f"A demo already runs in {DATA_DIR}") from error


def prepare_folders() -> None:
    """Start from empty folders: what an earlier run left would only be in the way."""
    shutil.rmtree(RUN_DIR, ignore_errors=True)
    for folder in ("messages", "control", "results"):
        (RUN_DIR / folder).mkdir(parents=True)


def bind_exchanges() -> None:
    """Let the file-system broker know every exchange before the processes start.

    Processes that bind the first queue of an exchange at the same moment can lose a
    binding there, and would then never hear a thing.
    """
    with app.connection_for_write() as connection:
        channel = connection.default_channel
        for name in ("celery", "slow"):
            app.amqp.queues[name](channel).declare()
    for name in ("celeryev", "celery.pidbox", "reply.celery.pidbox"):
        (RUN_DIR / "control" / f"{name}.exchange").write_text("[]")


def prepare_database() -> None:
    """Create or migrate the database, with orders for the tasks to be about.

    The user admin has the password admin.
    """
    call_command("migrate", verbosity=0)
    users = get_user_model()._default_manager
    if not users.filter(username="admin").exists():
        users.create_superuser("admin", "admin@example.com", "admin")
    for number, name in enumerate(("Ada", "Grace", "Edsger", "Barbara"), 1001):
        email = f"{name.lower()}@example.com"
        customer, _ = Customer._default_manager.get_or_create(name=name, email=email)
        about = {"customer": customer, "total": Decimal("19.99") * (number - 1000)}
        Order._default_manager.get_or_create(pk=number, defaults=about)
    connections.close_all()


def open_shop() -> None:
    """Send one task of each kind: beat sends the first when their time has passed."""
    with app.connection_for_write() as connection:
        for entry in app.conf.beat_schedule.values():
            app.send_task(
                entry["task"],
                entry.get("args"),
                entry.get("kwargs"),
                connection=connection,
                **entry.get("options", {}),
            )


def run(port: int) -> int:
    """Run supervisor until it is asked to end or gives up; return an exit code.

    SIGINT, SIGTERM and SIGHUP (the terminal was closed) end the demo. Supervisor would
    take SIGHUP for a restart: in a session of its own it only gets the SIGTERM from
    here, and ends its processes in order.
    """
    ends = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    for signum in ends:
        signal.signal(signum, signal.default_int_handler)
    supervisor = subprocess.Popen(
        [sys.executable, "-m", "supervisor.supervisord", "-c", "supervisord.conf"],
        cwd=BASE_DIR,
        env={
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "PORT": str(port),
            "RUN_DIR": str(RUN_DIR),
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        text=True,
    )
    output: Iterable[str] = supervisor.stdout or ()
    code = 1
    try:
        relay(output)
    except (KeyboardInterrupt, OSError):
        code = 0
    finally:
        for signum in ends:
            signal.signal(signum, signal.SIG_IGN)
        supervisor.terminate()
        with suppress(OSError):
            relay(["The demo ends; the workers finish their tasks.\n"])
            relay(output)
        # Supervisor would die of a broken pipe and leave its processes behind.
        supervisor.communicate()
    return code


def relay(lines: Iterable[str]) -> None:
    """Print ``lines`` as they come; raise OSError when nobody reads them."""
    for line in lines:
        sys.stdout.write(line)
        sys.stdout.flush()
