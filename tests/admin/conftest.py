"""Users with permissions, and what workers hear of the admin's actions."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest
from django.contrib.auth.models import Permission
from django.test import Client
from kombu.transport import memory

from django_celery_monitor.admin import replies
from tests.celery import app
from tests.factories import TaskStateFactory, UserFactory, WorkerStateFactory

StaffClient = Callable[..., Client]
Messages = Callable[[str], list[dict[str, Any]]]
Heard = Callable[[], list[dict[str, Any]]]

TASKS = "/admin/celery_monitor/taskstate/"
WORKERS = "/admin/celery_monitor/workerstate/"

TASK_ACTIONS = (
    "revoke_tasks",
    "terminate_tasks",
    "kill_tasks",
    "rate_limit_tasks",
    "time_limit_tasks",
)
WORKER_ACTIONS = (
    "ping_nodes",
    "shutdown_nodes",
    "enable_events",
    "disable_events",
    "grow_pools",
    "shrink_pools",
    "restart_pools",
    "add_consumer",
    "cancel_consumer",
)
#: Where tasks are sent.
QUEUES = ("slow", "other", "celery")
#: What the forms of actions ask for.
ENTERED = {"rate_limit": "1/s", "soft": "1", "hard": "2", "n": "1", "queue": "slow"}
ALL_ACTIONS = [(TASKS, action) for action in TASK_ACTIONS] + [
    (WORKERS, action) for action in WORKER_ACTIONS
]


@pytest.fixture(autouse=True)
def _impatience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hardly wait for workers: in most tests there are none."""
    monkeypatch.setattr(replies, "TIMEOUT", 0.01)


@pytest.fixture
def staff(db: None) -> StaffClient:
    """Return a function that logs in a member of staff with these permissions."""

    def log_in(*codenames: str, **user: Any) -> Client:
        member = UserFactory.create(is_staff=True, **user)
        permissions = Permission.objects.filter(
            content_type__app_label__in=("celery_monitor", "tracked"),
            codename__in=codenames,
        )
        assert len(permissions) == len(codenames)
        member.user_permissions.set(permissions)
        client = Client()
        client.force_login(member)
        return client

    return log_in


@pytest.fixture
def superuser(staff: StaffClient) -> Client:
    """Return the client of a superuser."""
    return staff(is_superuser=True)


@pytest.fixture
def operator(staff: StaffClient) -> Client:
    """Return the client of somebody who may see and control all, and no more."""
    return staff(
        "view_taskstate", "view_workerstate", "control_tasks", "control_workers"
    )


@pytest.fixture
def runner(staff: StaffClient) -> Client:
    """Return the client of somebody who may see and run tasks."""
    return staff("view_taskstate", "run_tasks")


@pytest.fixture
def sent() -> Iterator[Messages]:
    """Return a function that returns what is in a queue: headers, args and kwargs."""
    with app.connection_for_write() as connection:
        channel: Any = connection.default_channel

        def messages(queue: str) -> list[dict[str, Any]]:
            found = []
            while (message := channel.basic_get(queue, no_ack=True)) is not None:
                args, kwargs, embed = json.loads(message.body)
                headers = message.headers
                found.append({**headers, "args": args, "kwargs": kwargs, **embed})
            return found

        # What tests have left that send tasks and do not look at them, even to a queue
        # that nobody has declared.
        for queue in QUEUES:
            channel.queue_purge(queue)
            channel.queue_delete(queue)
        yield messages
        for queue in QUEUES:
            channel.queue_delete(queue)


@pytest.fixture
def heard() -> Iterator[Heard]:
    """Return a function that returns what the workers were told since the last call."""
    with app.connection_for_write() as connection:
        queue = app.control.mailbox.get_queue("tests")(  # type: ignore[attr-defined]
            connection.default_channel
        )
        queue.declare()
        queue.purge()

        def messages() -> list[dict[str, Any]]:
            return [
                message.payload
                for message in iter(lambda: queue.get(no_ack=True), None)
            ]

        yield messages
        queue.delete()


def row_for(url: str, **fields: Any) -> Any:
    """Return a new row of the list at ``url``."""
    factory: Any = TaskStateFactory if url == TASKS else WorkerStateFactory
    return factory.create(**fields)


def post_action(client: Client, url: str, action: str, *rows: Any, **data: Any) -> Any:
    """Choose ``action`` for ``rows`` in the list at ``url``; return the response."""
    return client.post(
        url,
        {
            "action": action,
            "_selected_action": [row.pk for row in rows],
            "index": "0",
            "select_across": "0",
            **data,
        },
    )


def hidden_fields(html: str) -> dict[str, list[str]]:
    """Return the hidden fields of the form on a confirmation page."""
    fields: dict[str, list[str]] = {}
    for name, value in re.findall(
        r'<input type="hidden" name="([^"]+)" value="([^"]*)">', html
    ):
        fields.setdefault(name, []).append(value)
    return fields


def confirm(client: Client, url: str, page: Any, **data: Any) -> Any:
    """Send the form of the confirmation ``page`` as the browser would."""
    fields = hidden_fields(page.content.decode())
    return client.post(url, {**fields, **data}, follow=True)


def act(client: Client, url: str, action: str, *rows: Any, **data: Any) -> list[str]:
    """Choose and confirm ``action`` for ``rows``; return what the user is told."""
    page = post_action(client, url, action, *rows)
    return told(confirm(client, url, page, **data))


def told(response: Any) -> list[str]:
    """Return the messages on a page, without lists of workers."""
    return [
        str(message).partition("<ul")[0] for message in response.context["messages"]
    ]


class Workers:
    """Workers in threads that answer commands as a test says, and note them."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, str, dict[str, Any]]] = []
        #: How they write their answers; None: as the project's settings say.
        self.serializer: str | None = None
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []

    def start(self, hostname: str, **answers: Any) -> None:
        """Start a worker with its answer to each command that it knows."""

        def handler(command: str) -> Callable[..., Any]:
            def handle(state: object, **arguments: Any) -> Any:
                self.heard.append((hostname, command, arguments))
                return answers[command]

            return handle

        handlers = {command: handler(command) for command in answers}
        listening = threading.Event()

        def run() -> None:
            with app.connection_for_write() as connection:
                mailbox = app.control.mailbox(connection)  # type: ignore[attr-defined]
                mailbox.producer_pool = None
                mailbox.serializer = self.serializer or mailbox.serializer
                channel = connection.default_channel
                # What the last worker of this name was asked and has not answered.
                queue = mailbox.get_queue(hostname)(channel)
                queue.declare()
                queue.purge()
                mailbox.Node(hostname, handlers=handlers).listen(channel)
                listening.set()
                while not self._stop.is_set():
                    with suppress(TimeoutError):
                        connection.drain_events(timeout=0.005)

        thread = threading.Thread(target=run)
        thread.start()
        self._threads.append(thread)
        assert listening.wait(5)

    def end(self) -> None:
        """End all workers."""
        self._stop.set()
        for thread in self._threads:
            thread.join()


@pytest.fixture
def workers(monkeypatch: pytest.MonkeyPatch) -> Iterator[Workers]:
    """Return what starts workers, for whose answers there is time."""
    monkeypatch.setattr(replies, "TIMEOUT", 0.5)
    monkeypatch.setattr(memory.Transport, "polling_interval", 0.002)
    made = Workers()
    yield made
    made.end()
