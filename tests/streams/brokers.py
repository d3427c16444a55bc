"""A broker with real workers, and a listener that keeps their events."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import gettempdir
from typing import Any

from celery import Celery
from kombu import Connection, Consumer, Exchange, Queue

Event = dict[str, Any]


def wait_for(condition: Callable[[], object], seconds: float = 30) -> None:
    """Return once ``condition`` is true; raise TimeoutError when time is up."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not true in {seconds} seconds")
        time.sleep(0.02)


class Listener(threading.Thread):
    """Keeps every event that the broker sends, with the time of its arrival."""

    def __init__(self, url: str) -> None:
        super().__init__(daemon=True)
        self.url = url
        self.events: list[Event] = []
        self.listening = threading.Event()
        self.ending = threading.Event()

    def run(self) -> None:
        fanout = self.url.startswith("redis")
        exchange = Exchange("celeryev", type="fanout" if fanout else "topic")
        queue = Queue(
            f"celeryev.{uuid.uuid4()}", exchange, "#", auto_delete=True, durable=False
        )
        with (
            Connection(self.url) as connection,
            Consumer(connection, [queue], callbacks=[self.keep], no_ack=True),
        ):
            self.listening.set()
            while not self.ending.is_set():
                with suppress(TimeoutError):
                    connection.drain_events(timeout=0.1)

    def keep(self, body: Event | list[Event], message: object) -> None:
        """Keep an event, or the several that a worker sends in one message."""
        for event in body if isinstance(body, list) else [body]:
            self.events.append({**event, "local_received": time.time()})

    def of_task(self, task_id: str) -> list[Event]:
        """Return the events of a task in the order in which they happened."""
        found = [event for event in self.events if event.get("uuid") == task_id]
        return sorted(found, key=lambda event: event["timestamp"])

    def of_worker(self, hostname: str) -> list[Event]:
        """Return what a worker said of itself."""
        return [
            event
            for event in self.events
            if event["type"].startswith("worker-") and event["hostname"] == hostname
        ]


@dataclass
class Broker:
    """A broker, whoever works there, and what is heard of them."""

    url: str
    client: Celery = field(init=False)
    listener: Listener = field(init=False)
    log: Path = Path(gettempdir()) / "record_streams.log"

    @contextmanager
    def listen(self) -> Iterator[None]:
        """Listen to the events."""
        self.client = Celery("client", broker=self.url, set_as_current=False)
        self.client.conf.task_send_sent_event = True
        self.listener = Listener(self.url)
        self.listener.start()
        wait_for(self.listener.listening.is_set)
        yield
        self.listener.ending.set()
        self.listener.join(timeout=10)
        self.client.close()

    @contextmanager
    def worker(
        self, name: str, queues: str, **environment: str
    ) -> Iterator[subprocess.Popen[bytes]]:
        """Run a worker of one process on ``queues``; wait until it is online."""
        before = len(self.listener.of_worker(name))
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "celery", "-A", "tests.streams.project"),
                    *("worker", "-E", "-c", "1", "-n", name, "-Q", queues),
                    *("-l", "info", "--without-mingle", "--without-gossip"),
                ],
                env={**os.environ, "CELERY_BROKER_URL": self.url, **environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        try:
            wait_for(lambda: len(self.listener.of_worker(name)) > before)
            # Online comes before it listens to commands.
            wait_for(lambda: self.client.control.ping([name], timeout=0.5, limit=1))
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()

    def send(
        self, task: str, *args: Any, requeue: bool | None = None, **options: Any
    ) -> str:
        """Send a task; return its id."""
        kwargs = {} if requeue is None else {"requeue": requeue}
        task = f"proj.{task}"
        return str(self.client.send_task(task, args, kwargs, **options).id)

    def saw(self, task_id: str, *types: str) -> list[Event]:
        """Return the events of a task once those are there that end with ``types``."""

        def there() -> bool:
            seen = [event["type"] for event in self.listener.of_task(task_id)]
            return all(seen.count(type_) >= types.count(type_) for type_ in types)

        wait_for(there)
        return self.listener.of_task(task_id)

    def stream(self, task_id: str, *types: str) -> list[Event]:
        """Return all events of a task, a while after those called ``types``."""
        self.saw(task_id, *types)
        time.sleep(1.5)
        return self.listener.of_task(task_id)
