"""Records the event streams in this folder from real workers on real brokers.

    python -m tests.streams.record amqp://localhost/streams redis://localhost/9

The virtual host and the Redis database must be nobody else's: the exchanges and
queues have Celery's own names. Recording takes two minutes; with names of streams
after the addresses, only those are recorded anew. ``rejected_alone`` is recorded by
name, with Celery 5.5. None of this is part of the tests, which read the files.
"""

from __future__ import annotations

import os
import re
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

import celery
from celery import Celery
from kombu import Connection, Consumer, Exchange, Queue

from tests.streams.derive import derive, write

Event = dict[str, Any]
#: Where the files say that the code of the project is.
PLACE = "/srv/project"


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


Play = Callable[[Broker], list[Event]]


@dataclass
class Scene:
    """How a stream comes about and what its row says."""

    about: str
    play: Play
    #: The type of the event that says the outcome; None: it is about a worker.
    outcome: str | None = None
    #: The columns that are not read off the events.
    columns: dict[str, Any] = field(default_factory=dict)
    redis: bool = False
    #: What the version of Celery begins with; any without it.
    celery_version: str = ""


SCENES: dict[str, Scene] = {}


def scene(
    about: str,
    outcome: str,
    *,
    redis: bool = False,
    celery_version: str = "",
    **columns: Any,
) -> Callable[[Play], Play]:
    """Register the function that plays a scene; its name is the file's."""

    def register(play: Play) -> Play:
        SCENES[play.__name__] = Scene(
            about, play, outcome, columns, redis, celery_version
        )
        return play

    return register


@scene("A task that succeeds.", "task-succeeded", state="SUCCESS", result="4")
def success(broker: Broker) -> list[Event]:
    with broker.worker("one@host", "one"):
        return broker.stream(broker.send("add", 2, 2, queue="one"), "task-succeeded")


@scene(
    "A task that is retried on another worker, by way of another queue, and on the"
    " first one again, where it succeeds.",
    "task-succeeded",
    state="SUCCESS",
    result="'arrived'",
    retries=2,
    queue="one",
)
def retries(broker: Broker) -> list[Event]:
    with broker.worker("one@host", "one"), broker.worker("two@host", "two"):
        task_id = broker.send("wander", ["two", "one"], queue="one")
        return broker.stream(task_id, "task-succeeded")


@scene(
    "A task that fails.",
    "task-failed",
    state="FAILURE",
    result="ValueError('no luck')",
    exception="ValueError",
)
def failure(broker: Broker) -> list[Event]:
    with broker.worker("one@host", "one"):
        return broker.stream(broker.send("fail", "no luck", queue="one"), "task-failed")


@scene(
    "A task that is terminated while it runs.",
    "task-revoked",
    state="REVOKED",
    result="TaskRevokedError('terminated')",
    exception="TaskRevokedError",
)
def terminated(broker: Broker) -> list[Event]:
    with broker.worker("one@host", "one"):
        task_id = broker.send("sleep", 600, queue="one")
        broker.saw(task_id, "task-started")
        broker.client.control.revoke(task_id, terminate=True)
        return broker.stream(task_id, "task-revoked")


@scene(
    "A task that is revoked while a worker holds it until its time.",
    "task-revoked",
    state="REVOKED",
    result="TaskRevokedError('revoked')",
    exception="TaskRevokedError",
)
def revoked_while_waiting(broker: Broker) -> list[Event]:
    with broker.worker("one@host", "one"):
        task_id = broker.send("add", 2, 2, queue="one", countdown=3)
        broker.saw(task_id, "task-received")
        broker.client.control.revoke(task_id)
        return broker.stream(task_id, "task-revoked")


@scene(
    "A task that is revoked before a worker receives it.",
    "task-revoked",
    state="REVOKED",
    result="TaskRevokedError('revoked')",
    exception="TaskRevokedError",
)
def revoked_before_receipt(broker: Broker) -> list[Event]:
    with broker.worker("one@host", "one"):
        task_id = str(uuid.uuid4())
        broker.client.control.revoke(task_id, reply=True, limit=1)
        broker.send("add", 2, 2, queue="one", task_id=task_id)
        return broker.stream(task_id, "task-revoked")


@scene(
    "A task that expires while a worker holds it until its time.",
    "task-revoked",
    state="REVOKED",
    result="TaskRevokedError('expired')",
    exception="TaskRevokedError",
)
def expired_while_waiting(broker: Broker) -> list[Event]:
    with broker.worker("one@host", "one"):
        task_id = broker.send("add", 2, 2, queue="one", countdown=2, expires=1)
        return broker.stream(task_id, "task-revoked")


@scene(
    "A task that has expired when a worker receives it. RabbitMQ would have dropped"
    " the message.",
    "task-revoked",
    state="REVOKED",
    result="TaskRevokedError('expired')",
    exception="TaskRevokedError",
    redis=True,
)
def expired_before_receipt(broker: Broker) -> list[Event]:
    task_id = broker.send("add", 2, 2, queue="one", expires=0.5)
    time.sleep(1)
    with broker.worker("one@host", "one"):
        return broker.stream(task_id, "task-revoked")


@scene(
    "A task that rejects its message for good: a failure, says Celery 5.7.",
    "task-failed",
    state="FAILURE",
    result="reject requeue=False: not now",
)
def rejected(broker: Broker) -> list[Event]:
    with broker.worker("one@host", "one"):
        task_id = broker.send("reject", requeue=False, queue="one")
        return broker.stream(task_id, "task-rejected")


@scene(
    "A task that rejects its message for good: nothing more, says Celery 5.5.",
    "task-rejected",
    state="REJECTED",
    celery_version="5.5",
)
def rejected_alone(broker: Broker) -> list[Event]:
    return rejected(broker)


@scene(
    "A task that puts its message back and succeeds when it comes again.",
    "task-succeeded",
    state="SUCCESS",
    result="'taken'",
)
def requeued(broker: Broker) -> list[Event]:
    with broker.worker("one@host", "one"):
        task_id = broker.send("reject", requeue=True, queue="one")
        return broker.stream(task_id, "task-rejected", "task-succeeded")


@scene(
    "A task whose worker is killed and whose message goes to another one.",
    "task-succeeded",
    state="SUCCESS",
    result="'survived'",
    worker="two@host",
)
def redelivered(broker: Broker) -> list[Event]:
    with broker.worker("one@host", "one") as first:
        task_id = broker.send("survive", queue="one")
        broker.saw(task_id, "task-started")
        os.killpg(first.pid, signal.SIGKILL)
        first.wait()
        with broker.worker("two@host", "one"):
            return broker.stream(task_id, "task-succeeded")


@scene(
    "A task that succeeds, and a second copy of it that expires.",
    "task-succeeded",
    state="SUCCESS",
    result="4",
)
def second_copy_expires(broker: Broker) -> list[Event]:
    with broker.worker("one@host", "one"), broker.worker("two@host", "two"):
        task_id = broker.send("add", 2, 2, queue="one")
        broker.saw(task_id, "task-succeeded")
        again: dict[str, Any] = {"task_id": task_id, "countdown": 2, "expires": 1}
        broker.send("add", 2, 2, queue="two", **again)
        return broker.stream(task_id, "task-revoked")


@scene(
    "A task that tells of its work in a state of its own.",
    "task-succeeded",
    state="SUCCESS",
    result="'reported'",
)
def progress(broker: Broker) -> list[Event]:
    with broker.worker("one@host", "one"):
        return broker.stream(broker.send("report", queue="one"), "task-succeeded")


@scene(
    "A task on a worker whose time zone is Asia/Kolkata.",
    "task-succeeded",
    state="SUCCESS",
    result="4",
)
def other_zone(broker: Broker) -> list[Event]:
    with broker.worker("one@host", "one", TZ="Asia/Kolkata"):
        return broker.stream(broker.send("add", 2, 2, queue="one"), "task-succeeded")


def worker(broker: Broker) -> list[Event]:
    """Return what a worker says of itself from its start to its end."""
    before = len(broker.listener.of_worker("one@host"))
    with broker.worker("one@host", "one"):
        broker.stream(broker.send("add", 2, 2, queue="one"), "task-succeeded")
        time.sleep(4)
    wait_for(
        lambda: broker.listener.of_worker("one@host")[-1]["type"] == "worker-offline"
    )
    return broker.listener.of_worker("one@host")[before:]


# What is kept


def scrub(value: Any, pids: dict[int, int]) -> Any:
    """Return ``value`` without what only says where it was recorded."""
    if isinstance(value, dict):
        found = {key: scrub(item, pids) for key, item in value.items()}
        if isinstance(value.get("pid"), int):
            found["pid"] = pids.setdefault(value["pid"], 101 + len(pids))
        return found
    if isinstance(value, list):
        return [scrub(item, pids) for item in value]
    if isinstance(value, str):
        value = re.sub(
            r'File "[^"]*/(celery/|kombu/|tests/)', rf'File "{PLACE}/\1', value
        )
        if re.fullmatch(r"gen\d+@.*", value):
            pid = int(re.findall(r"\d+", value)[0])
            return f"gen{pids.setdefault(pid, 101 + len(pids))}@host"
    return value


def main(amqp: str, redis: str, *names: str) -> None:
    """Record the streams called ``names``, without any those of this Celery."""
    own = [name for name, scene in SCENES.items() if not scene.celery_version]
    for name in names or [*own, "worker"]:
        scene = SCENES.get(name, Scene("A worker that starts, works and ends.", worker))
        if not celery.__version__.startswith(scene.celery_version):
            raise SystemExit(f"{name} is to be recorded with {scene.celery_version}")
        broker = Broker(redis if scene.redis else amqp)
        with broker.listen():
            events = scrub(scene.play(broker), {})
        kind = "Redis" if scene.redis else "RabbitMQ"
        stream = {
            "about": scene.about,
            "recorded with": f"Celery {celery.__version__}, {kind}",
            "events": events,
            "outcome": scene.outcome,
            "columns": scene.columns,
        }
        write(name, stream)
        print(name, [event["type"] for event in events])  # noqa: T201
    derive()


if __name__ == "__main__":
    main(*sys.argv[1:])
