"""How many events a second go from a broker into committed rows.

The reference, in the same run and from the same broker: Celery's own Receiver, which
does nothing with what it takes. A publisher in a process of its own sends the events
of real workers as fast as they are taken, those of workers in lists. Usage: ``python -m
benchmarks.intake [--tasks 75000] [--together 2] [--broker redis://...]``;
``DATABASE_URL`` names the database.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import resource
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

from celery import Celery
from celery.events.event import get_exchange
from celery.events.receiver import EventReceiver

from benchmarks.rows import use
from benchmarks.setup import database, events
from django_celery_monitor.camera import Camera
from django_celery_monitor.models import TaskState

#: Events that a worker sends together: 2 on average where its queue is never empty,
#: counted with 2 and 8 processes and with 20 threads. 24 is the most that it sends.
TOGETHER = 2

#: Events that are under way at a time: what Redis holds for a subscriber, and
#: RabbitMQ for a consumer, has a limit.
UNDER_WAY = 20_000

#: Events after which a receiver tells the publisher how many it has taken.
TOLD_AFTER = 100
PIPELINE = 100


def app_for(broker: str, name: str) -> Celery:
    """Return a Celery app with an exchange of events of its own."""
    app = Celery(name, broker=broker, set_as_current=False)
    app.conf.event_exchange = f"{name}.events"
    return app


def messages(tasks: int, together: int) -> Iterator[tuple[str, Any]]:
    """Yield routing keys and bodies: clients send one event, workers a list."""
    waiting: list[Any] = []
    for told in events(tasks):
        yield "task.sent", told[0]
        waiting += told[1:]
        while len(waiting) >= together:
            yield "task.multi", waiting[:together]
            del waiting[:together]
    if waiting:
        yield "task.multi", waiting


def publish(
    broker: str, name: str, tasks: int, together: int, ready: Any, taken: Any
) -> None:
    """Send the events of some tasks, never too many more than are taken."""
    encoded = [
        (key, json.dumps(body), len(body) if isinstance(body, list) else 1)
        for key, body in messages(tasks, together)
    ]
    app = app_for(broker, name)
    with app.connection_for_write() as connection:
        exchange = get_exchange(connection, app.conf.event_exchange)
        producer = connection.Producer(exchange=exchange)
        send = _sender(producer)
        ready.wait()
        # Redis subscribes a moment after the receiver is ready, and keeps nothing.
        time.sleep(1)
        sent = 0
        for key, body, count in encoded:
            while sent - taken.value > UNDER_WAY:
                time.sleep(0.001)
            send(key, body)
            sent += count
        send("", None)


def _sender(producer: Any) -> Callable[[str, str | None], None]:
    """Return what sends a body by a routing key; None sends what is held back."""
    channel, name = producer.channel, producer.exchange.name
    message = {"content_type": "application/json", "content_encoding": "utf-8"}
    if producer.connection.transport.driver_type != "redis":

        def publish(key: str, body: str | None) -> None:
            if body is not None:
                producer.publish(body, routing_key=key, delivery_mode=1, **message)

        return publish

    # One command at a time would be slower than any receiver.
    pipe = channel.client.pipeline(transaction=False)

    def pipeline(key: str, body: str | None) -> None:
        if body is not None:
            prepared = channel.prepare_message(body, **message)
            channel._inplace_augment_message(prepared, name, key)
            topic = channel._get_publish_topic(name, key)
            pipe.publish(topic, json.dumps(prepared))
        if body is None or len(pipe) >= PIPELINE:
            pipe.execute()

    return pipeline


def consume(
    broker: str, name: str, tasks: int, how: str, ready: Any, taken: Any, results: Any
) -> None:
    """Take all events; put into ``results`` how long it took and what became of it."""
    app = app_for(broker, name)
    if how == "bare":
        results.put(_bare(app, tasks, ready, taken))
        return
    with database() as made:
        use(made.alias)
        results.put(_camera(app, tasks, ready, taken))


def _bare(app: Celery, tasks: int, ready: Any, taken: Any) -> dict[str, Any]:
    """Take events with Celery's receiver and do nothing with them."""
    times: list[float] = []
    seen = 0

    def handle(event: Any) -> None:
        nonlocal seen
        seen += 1
        if seen == 1 or seen == 4 * tasks:
            times.append(time.perf_counter())
        if not seen % TOLD_AFTER:
            taken.value = seen

    class Bare(EventReceiver):
        def on_consume_ready(self, *args: Any, **kwargs: Any) -> None:
            ready.set()

    with app.connection_for_read() as connection:
        receiver: Any = Bare(connection, app=app, handlers={"*": handle})
        for _ in receiver.consume(limit=None):
            if len(times) == 2:
                break
    return {"seconds": times[1] - times[0], "rows": None}


def _camera(app: Celery, tasks: int, ready: Any, taken: Any) -> dict[str, Any]:
    """Take events with the camera, until all rows are committed."""
    state = app.events.State()
    camera = Camera(state, app=app, freq=1.0)
    counters = camera.counters
    began = 0.0

    class Timed(app.events.Receiver):  # type: ignore[name-defined, misc]
        def on_consume_ready(self, *args: Any, **kwargs: Any) -> None:
            ready.set()

        def _receive(self, body: Any, message: Any) -> None:
            nonlocal began
            if not began:
                began = time.perf_counter()
            super()._receive(body, message)
            if counters.received - taken.value >= TOLD_AFTER:
                taken.value = counters.received

    with app.connection_for_read() as connection, camera:
        receiver = Timed(connection, handlers={"*": state.event})
        for _ in receiver.consume():
            if counters.received >= 4 * tasks:
                break
    seconds = time.perf_counter() - began
    lost = 4 * tasks - counters.received + counters.dropped + counters.quarantined
    usage = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    right = TaskState.objects.filter(state="SUCCESS").exclude(queue=None).count()
    return {"seconds": seconds, "rows": right, "lost": lost, "peak MiB": usage}


def measure(broker: str, tasks: int, together: int, how: str) -> dict[str, Any]:
    """Return what ``consume`` found, with a publisher in another process."""
    spawn = multiprocessing.get_context("spawn")
    ready, taken, results = (
        spawn.Event(),
        spawn.Value("q", 0, lock=False),
        spawn.Queue(),
    )
    name = f"bench{uuid.uuid4().hex[:8]}"
    arguments = (broker, name, tasks)
    sender = spawn.Process(target=publish, args=(*arguments, together, ready, taken))
    taker = spawn.Process(target=consume, args=(*arguments, how, ready, taken, results))
    sender.start()
    taker.start()
    found: dict[str, Any] = results.get(timeout=3600)
    taker.join()
    sender.join()
    return found


def main() -> None:
    """Print events a second, with the camera and without."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", type=int, default=75_000)
    parser.add_argument("--together", type=int, default=TOGETHER)
    parser.add_argument("--broker", default="redis://127.0.0.1:6379/0")
    options = parser.parse_args()
    tasks, together = options.tasks, options.together
    database_name = os.environ.get("DATABASE_URL", "sqlite").partition(":")[0]
    print(f"{database_name}, {together} events of a worker in a message")
    reference = measure(options.broker, tasks, together, "bare")
    found = measure(options.broker, tasks, together, "camera")
    for name, one in (("bare receiver", reference), ("camera", found)):
        speed = 4 * tasks / one["seconds"]
        print(
            f"  {options.broker.partition(':')[0]:6}{name:14}{speed:10,.0f} events/s"
            f"{reference['seconds'] / one['seconds']:7.2f} of the bare receiver  {one}"
        )
    if found["rows"] != tasks or found["lost"]:
        raise SystemExit(f"{found['rows']} of {tasks} rows are right")


if __name__ == "__main__":
    main()
