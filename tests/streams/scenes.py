"""How each stream comes about: what real workers are made to do."""

from __future__ import annotations

import os
import signal
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tests.streams.brokers import Broker, Event, wait_for

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
