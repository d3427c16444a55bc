"""A database that is away, and what is to be saved all the same."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from django.db import OperationalError, connection

from django_celery_monitor.models import TaskState
from tests.cameras import started, succeeded
from tests.events import received, worker_event


class Outage:
    """Has statements fail while it is a context.

    ``fails`` says it of a statement, by its number, its text and its values.
    """

    def __init__(
        self,
        fails: Callable[[int, str, Any], bool] = lambda *_: True,
        error: type[Exception] = OperationalError,
    ) -> None:
        self.fails = fails
        self.error = error
        self.count = 0
        self.failed = 0
        self._wrapper: AbstractContextManager[None] = connection.execute_wrapper(self)

    def __call__(self, execute: Any, sql: str, params: Any, *args: Any) -> Any:
        self.count += 1
        if self.fails(self.count, sql, params):
            self.failed += 1
            raise self.error("the database is away")
        return execute(sql, params, *args)

    def __enter__(self) -> Outage:
        self._wrapper.__enter__()
        return self

    def __exit__(self, *args: Any) -> None:
        self._wrapper.__exit__(*args)


class Before:
    """Does something before the first statement that begins in a way."""

    def __init__(self, beginning: str, what: Callable[[], object]) -> None:
        self.beginning = beginning
        self.what: Callable[[], object] | None = what

    def __call__(self, execute: Any, sql: str, *arguments: Any) -> Any:
        if self.what is not None and sql.startswith(self.beginning):
            what, self.what = self.what, None
            what()
        return execute(sql, *arguments)


def kill_connection(connection: Any) -> None:
    """Have the database server end a connection of Django's, by another one."""
    raw = connection.connection
    statement = (
        f"SELECT pg_terminate_backend({raw.info.backend_pid}, 5000)"
        if connection.vendor == "postgresql"
        else f"KILL {raw.thread_id()}"
    )
    with connection._nodb_cursor() as cursor:
        cursor.execute(statement)


def refusal(number: int) -> Callable[[], None]:
    """Return what refuses a statement with an error number of MariaDB's."""

    def refuse() -> None:
        raise OperationalError(number, "as MariaDB has it")

    return refuse


def life_of(*uuids: str) -> list[dict[str, Any]]:
    """Return events of a worker and of tasks that succeed."""
    tasks = [
        event
        for uuid in uuids
        for event in (received(uuid=uuid), started(uuid=uuid), succeeded(uuid=uuid))
    ]
    return [worker_event(), *tasks]


def rows() -> set[tuple[Any, ...]]:
    columns = ("task_id", "state", "name", "result", "worker__hostname")
    return set(TaskState.objects.values_list(*columns))


def saved(*uuids: str) -> set[tuple[Any, ...]]:
    """Return what ``rows`` returns when all of ``life_of`` is saved."""
    about = ("SUCCESS", "proj.tasks.add", "4", "celery@one")
    return {(uuid, *about) for uuid in uuids}
