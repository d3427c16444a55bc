"""Records the event streams in this folder from real workers on real brokers.

    python -m tests.streams.record amqp://localhost/streams redis://localhost/9

The virtual host and the Redis database must be nobody else's: the exchanges and
queues have Celery's own names. Recording takes two minutes; with names of streams
after the addresses, only those are recorded anew. ``rejected_alone`` is recorded by
name, with Celery 5.5. None of this is part of the tests, which read the files.
"""

from __future__ import annotations

import re
import sys
from typing import Any

import celery

from tests.streams.brokers import Broker
from tests.streams.derive import derive, write
from tests.streams.scenes import SCENES, Scene, worker

#: Where the files say that the code of the project is.
PLACE = "/srv/project"


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
