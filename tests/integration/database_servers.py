"""Servers of databases that a test may crash, since nobody else uses them."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, ClassVar

import pytest

from tests.integration.brokers import free_port
from tests.integration.processes import wait_for


def program(*names: str) -> str:
    """Return the path of the newest program that one of the patterns finds."""
    for name in names:
        if found := shutil.which(name):
            return found
        if several := sorted(Path("/").glob(name.lstrip("/"))):
            return str(several[-1])
    pytest.skip(f"there is no {names[0]} to start a server with")


class Server(ABC):
    """A server of the test's own, which it may crash and start again."""

    URL: ClassVar[str]

    def __init__(self) -> None:
        # PostgreSQL refuses to run as root, and MariaDB wants to be told.
        self.user = "nobody" if os.geteuid() == 0 else None
        self.port = free_port()
        self.url = self.URL.format(port=self.port)
        self.popen: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Server:
        """Create the databases and start the server."""
        self.folder = Path(tempfile.mkdtemp(prefix="server"))
        if self.user is not None:
            shutil.chown(self.folder, self.user)
        self.run(self.create_command(), check=True)
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop the server and remove the databases."""
        self.crash()
        shutil.rmtree(self.folder, ignore_errors=True)

    def start(self) -> None:
        """Start the server; return when it can be connected to."""
        with (self.folder / "log").open("ab") as log:
            self.popen = subprocess.Popen(
                self.start_command(),
                cwd=self.folder,
                stdout=log,
                stderr=log,
                user=self.user,
            )
        wait_for(self.is_ready)

    def crash(self) -> None:
        """Stop the server in the middle of what it does."""
        if self.popen is not None:
            self.popen.kill()
            self.popen.wait(timeout=30)
            self.popen = None

    def run(self, command: Sequence[str], **options: Any) -> int:
        """Run a program in the folder of the databases; return its exit code."""
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        options = {"cwd": self.folder, "user": self.user, **quiet, **options}
        return subprocess.run(command, **options).returncode

    @abstractmethod
    def create_command(self) -> list[str]:
        """Return what creates the databases."""

    @abstractmethod
    def start_command(self) -> list[str]:
        """Return what is the server."""

    @abstractmethod
    def is_ready(self) -> bool:
        """Return whether the server answers."""


class PostgreSQL(Server):
    """A server of PostgreSQL."""

    URL = "postgres://postgres@127.0.0.1:{port}/postgres"
    PROGRAMS = "/usr/lib/postgresql/*/bin/"

    def create_command(self) -> list[str]:
        """Return what creates the databases."""
        initdb = program("initdb", f"{self.PROGRAMS}initdb")
        data = str(self.folder / "data")
        return [initdb, "-D", data, "-U", "postgres", "-A", "trust", "--no-sync"]

    def start_command(self) -> list[str]:
        """Return what is the server."""
        options = {
            "fsync": "off",
            "listen_addresses": "127.0.0.1",
            "port": self.port,
            "unix_socket_directories": self.folder,
        }
        return [
            program("postgres", f"{self.PROGRAMS}postgres"),
            *("-D", str(self.folder / "data")),
            *(f"--{name}={value}" for name, value in options.items()),
        ]

    def is_ready(self) -> bool:
        """Return whether the server answers."""
        ready = program("pg_isready", f"{self.PROGRAMS}pg_isready")
        return self.run([ready, "-h", "127.0.0.1", "-p", str(self.port)]) == 0

    def crash(self) -> None:
        """Stop the server in the middle of what it does, and all of its processes."""
        if self.popen is not None:
            self.popen.send_signal(signal.SIGQUIT)
            self.popen.wait(timeout=30)
            self.popen = None


class MariaDB(Server):
    """A server of MariaDB."""

    URL = "mysql://root@127.0.0.1:{port}/mysql"

    def create_command(self) -> list[str]:
        """Return what creates the databases."""
        install = program("mariadb-install-db", "mysql_install_db")
        return [
            *(install, "--no-defaults", f"--datadir={self.folder / 'data'}"),
            *("--auth-root-authentication-method=normal", "--skip-test-db"),
        ]

    def start_command(self) -> list[str]:
        """Return what is the server."""
        return [
            program("mariadbd", "/usr/sbin/mariadbd"),
            *("--no-defaults", f"--datadir={self.folder / 'data'}"),
            *("--bind-address=127.0.0.1", f"--port={self.port}"),
            *(
                f"--socket={self.folder / 'socket'}",
                f"--pid-file={self.folder / 'pid'}",
            ),
        ]

    def is_ready(self) -> bool:
        """Return whether the server accepts connections."""
        with closing(socket.socket()) as connection:
            return connection.connect_ex(("127.0.0.1", self.port)) == 0


SERVERS: dict[str, type[Server]] = {"postgresql": PostgreSQL, "mysql": MariaDB}
