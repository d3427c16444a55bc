"""Brokers that a test may freeze, cut off and restart."""

from __future__ import annotations

import selectors
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import pytest


def free_port() -> int:
    """Return a port of this machine that nobody listens on."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


class RedisServer:
    """A Redis server of the test's own, on 127.0.0.1."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.popen: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """The URL for Celery."""
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        """Start, and return when it answers."""
        self.popen = subprocess.Popen(
            [
                *("redis-server", "--port", str(self.port), "--bind", "127.0.0.1"),
                *("--save", "", "--appendonly", "no", "--dir", str(self.folder)),
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.STDOUT,
        )
        deadline = time.monotonic() + 10
        while not self.answers():
            assert time.monotonic() < deadline, "Redis does not start"
            time.sleep(0.05)

    def answers(self) -> bool:
        """Return whether the server accepts a connection."""
        try:
            socket.create_connection(("127.0.0.1", self.port), 1).close()
        except OSError:
            return False
        return True

    def stop(self) -> None:
        """End the server and cut off who is connected."""
        if self.popen is not None:
            self.popen.kill()
            self.popen.wait()
            self.popen = None

    def freeze(self) -> None:
        """Let the server do nothing, its connections stay."""
        assert self.popen is not None
        self.popen.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let the server go on."""
        assert self.popen is not None
        self.popen.send_signal(signal.SIGCONT)


@contextmanager
def redis_server(folder: Path) -> Iterator[RedisServer]:
    """Return a Redis server that is not started; skip the test where there is none."""
    if shutil.which("redis-server") is None:
        pytest.skip("redis-server is not installed")
    server = RedisServer(folder)
    try:
        yield server
    finally:
        server.stop()


class Proxy:
    """A way to a server that can be refused, cut and frozen, on 127.0.0.1."""

    def __init__(self, url: str, default_port: int) -> None:
        self._parts = urlsplit(url)
        self._to = (self._parts.hostname or "", self._parts.port or default_port)
        self.port = free_port()
        self.frozen = False
        self._listener: socket.socket | None = None
        self._pairs: dict[socket.socket, socket.socket] = {}
        self._lock = threading.Lock()
        self._ends = False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        """The URL of the server by this way."""
        login, at, _ = self._parts.netloc.rpartition("@")
        netloc = f"{login}{at}127.0.0.1:{self.port}"
        return urlunsplit(self._parts._replace(netloc=netloc))

    def start(self) -> None:
        """Accept connections."""
        self._listener = socket.create_server(("127.0.0.1", self.port))

    def stop(self) -> None:
        """Cut all connections and refuse new ones."""
        with self._lock:
            if self._listener is not None:
                self._listener.close()
                self._listener = None
            for sock in self._pairs:
                sock.close()
            self._pairs.clear()

    def freeze(self) -> None:
        """Pass nothing on; connections stay, and are accepted by the system."""
        self.frozen = True

    def thaw(self) -> None:
        """Go on, with what has waited first."""
        self.frozen = False

    def end(self) -> None:
        """Close everything."""
        self._ends = True
        self._thread.join()
        self.stop()

    def _run(self) -> None:
        while not self._ends:
            with self._lock, selectors.SelectSelector() as selector:
                if self._listener is not None:
                    selector.register(self._listener, selectors.EVENT_READ)
                for sock in self._pairs:
                    selector.register(sock, selectors.EVENT_READ)
                ready = [] if self.frozen else selector.select(0.02)
                for key, _ in ready:
                    assert isinstance(key.fileobj, socket.socket)
                    self._pass_on(key.fileobj)
            time.sleep(0.02 if not ready else 0)

    def _pass_on(self, sock: socket.socket) -> None:
        if sock is self._listener:
            near, _ = sock.accept()
            far = socket.create_connection(self._to)
            self._pairs |= {near: far, far: near}
            return
        other = self._pairs.get(sock)
        if other is None:
            return
        with suppress(OSError):
            if data := sock.recv(65_536):
                other.sendall(data)
                return
        for end in (sock, other):
            del self._pairs[end]
            end.close()


@contextmanager
def proxy(url: str, default_port: int) -> Iterator[Proxy]:
    """Return a way to the server at ``url`` that does not yet accept anything."""
    way = Proxy(url, default_port)
    try:
        yield way
    finally:
        way.end()
