"""Processes that receive events from a broker, and what is sent to them."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from signal import SIGTERM
from typing import Any

from kombu import Connection, Exchange

from tests.events import task_event
from tests.integration.processes import ROOT, Process, wait_for


@dataclass
class Receiving:
    """A name on a broker, and the processes that receive there."""

    url: str
    folder: Path
    #: The broker without what stands between, to publish to.
    direct: str
    name: str = field(default_factory=lambda: f"receive{uuid.uuid4().hex[:8]}")
    processes: list[Process] = field(default_factory=list)

    def start(self, durable: str = "-", keep: str = "-1") -> Process:
        """Start a process that receives."""
        log = self.folder / f"receive{len(self.processes)}.log"
        with log.open("wb") as output:
            popen = subprocess.Popen(
                [
                    *(sys.executable, "-m", "tests.integration.project.receive"),
                    *(self.url, self.name, durable, keep),
                ],
                cwd=ROOT,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.processes.append(Process(log, popen))
        return self.processes[-1]

    def connected(self, process: Process, times: int = 1) -> None:
        """Return when a process has connected so many times."""
        wait_for(lambda: process.output().count("Connected to") >= times)
        if self.direct.startswith("redis"):
            # kombu subscribes when it begins to wait; it skips what is empty.
            wait_for(lambda: self.publish_frame("") > 0)

    def publish_frame(self, frame: str) -> int:
        """Publish what kombu makes messages of, on Redis; return to how many."""
        with Connection(self.direct) as connection:
            channel: Any = connection.default_channel
            topic = channel._get_publish_topic(self.name, "task.failed")
            return int(channel.client.publish(topic, frame))

    def exchange(self) -> Exchange:
        """Return the exchange of events."""
        kind = "fanout" if self.direct.startswith("redis") else "topic"
        return Exchange(self.name, type=kind)

    def publish(self, body: Any, content_type: str, encoding: str) -> None:
        """Publish a message as it is."""
        with Connection(self.direct) as connection:
            connection.Producer(exchange=self.exchange()).publish(
                body,
                routing_key="task.failed",
                delivery_mode=1,
                content_type=content_type,
                content_encoding=encoding or "utf-8",
            )

    def send(self, *uuids: str) -> None:
        """Publish an event about each task."""
        for task_id in uuids:
            body = json.dumps(task_event("task-failed", task_id))
            self.publish(body, "application/json", "utf-8")

    def received(self, process: Process) -> list[str]:
        """Return the ids that a process has received."""
        lines = process.output().splitlines()
        return [line.split()[1] for line in lines if line.startswith("event ")]

    def receives(self, process: Process, *uuids: str) -> None:
        """Return when a process has received these, sent before."""
        wait_for(lambda: set(uuids) <= set(self.received(process)))

    def works(self, process: Process, task_id: str) -> None:
        """Return when a process receives what is sent, again and again."""

        def comes() -> bool:
            self.send(task_id)
            time.sleep(0.1)
            return task_id in self.received(process)

        wait_for(comes)

    def stops(self, process: Process, within: float) -> None:
        """Have a process end by a signal; it must do so soon and in good order."""
        begin = time.monotonic()
        process.signal(SIGTERM)
        assert process.wait() == 0
        assert time.monotonic() - begin < within
        assert "Traceback" not in process.output()

    def end(self) -> None:
        """End the processes and remove the exchanges."""
        for process in self.processes:
            process.kill()
        if self.direct.startswith("redis"):
            return
        with suppress(OSError), Connection(self.direct) as connection:
            channel: Any = connection.default_channel
            channel.queue_delete(f"{self.name}.durable")
            for name in (self.name, f"{self.name}.control.pidbox"):
                channel.exchange_delete(name)


MakeReceiving = Callable[..., Receiving]
