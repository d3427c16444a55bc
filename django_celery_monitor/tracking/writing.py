"""Writes what was observed of a tracked task: its row, and the links to its objects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from celery import states
from celery.utils.log import get_logger
from django.contrib.contenttypes.models import ContentType
from django.db import (
    DatabaseError,
    IntegrityError,
    OperationalError,
    connections,
    models,
    router,
    transaction,
)
from django.db.models.constants import OnConflict
from django.db.models.sql import InsertQuery
from django.utils import timezone

from django_celery_monitor.managers import (
    JOIN_TRIES,
    TaskStateQuerySet,
    Written,
    is_deadlock,
)
from django_celery_monitor.merge import Phase, phase
from django_celery_monitor.models import TaskState, WorkerState
from django_celery_monitor.saver import UNUSABLE, announce

from .models import TaskObjectLink
from .provenance import Provenance
from .registry import Registration, task_tracker
from .time_limit import time_limit

logger = get_logger(__name__)

#: SQL and its parameters.
Statement = tuple[str, Sequence[Any]]

#: The primary keys of workers by hostname.
_worker_ids: dict[str, int] = {}

#: Rows of tasks that run here, as they were written last: unless somebody else has
#: written one since, what comes next need not read it again.
_running: dict[str, dict[str, Any]] = {}
MAX_RUNNING = 1_000

Columns = Mapping[str, Any]


@dataclass(frozen=True)
class Observed:
    """What was observed of a tracked task at one moment.

    ``seen`` are columns of its row. ``objects`` has for each registration of the task
    the values that tell the object, None where they tell none; it is empty where
    nothing is said of objects.
    """

    task_name: str
    task_id: str
    seen: dict[str, Any]
    objects: tuple[Mapping[str, Any] | None, ...] = ()
    provenance: Provenance | None = None


def write(observed: Observed) -> None:
    """Write what was observed, merged with what is known, and tell who listens.

    Takes two statements for a task that was just sent, besides the lookup of an
    object by other fields than its key. Raises DatabaseError when it cannot be
    written.
    """
    using = router.db_for_write(TaskState)
    links = _links(observed)
    alone = not connections[using].in_atomic_block
    for tries_left in reversed(range(JOIN_TRIES)):
        try:
            written = _write(observed, links, using)
        except IntegrityError:  # noqa: PERF203 -- the database takes longer
            # The worker may have been deleted since its key was read.
            if _worker_ids.pop(observed.seen.get("worker") or "", None) is None:
                raise
        except OperationalError as error:
            # One of those that wait for each other has to begin anew.
            if not (tries_left and alone and is_deadlock(error)):
                raise
        else:
            announce(TaskState, written)
            return
    msg = f"The worker of {observed.task_id!r} is created and deleted over and over."
    raise OperationalError(msg)


def _write(observed: Observed, links: Sequence[TaskObjectLink], using: str) -> Written:
    task_id, seen = observed.task_id, observed.seen
    workers = _workers(seen, using)
    # A worker's word is nearly always about a row that is there.
    is_sent = seen["state"] == states.PENDING
    new = [TaskState(task_id=task_id, **seen)] if is_sent else []
    # Before the outcome is written, what it builds upon is.
    with time_limit(using, durable=phase(seen) > Phase.IN_FLIGHT):
        # In this order always: two that wait for each other would both be too late.
        linked, created = insert_missing(using, links, new)
        if is_sent and linked < len(links) and observed.provenance is not None:
            # The worker was faster, and does not know who sent it.
            unknown = TaskObjectLink.objects.using(using).filter(
                task=task_id,  # type: ignore[misc] # it is the key of the task's row
                source_name=None,
            )
            unknown.update(**observed.provenance._asdict())
        if created:
            return Written(created=[task_id])
        row, written = _join(task_id, seen, workers, using)
    # The next attempt of a task that is retried may well run elsewhere.
    if row is not None and row["state"] == states.STARTED:
        _running[task_id] = row
        while len(_running) > MAX_RUNNING:
            _running.pop(next(iter(_running), ""), None)
    return written


# The row


def _join(
    task_id: str, seen: Columns, workers: Mapping[str, int], using: str
) -> tuple[dict[str, Any] | None, Written]:
    """Merge what was seen into the row of a task, or insert it.

    Returns the row, unless it is new.
    """
    rows = TaskState.objects.using(using)
    merge = rows.merge_with(workers)
    remembered = row = _running.pop(task_id, None)
    for _ in range(JOIN_TRIES):
        row = row or _read(rows, task_id)
        if row is None:
            if _insert_row(rows, task_id, seen, workers):
                return None, Written(created=[task_id])
        else:
            changes = merge(row, seen)
            if not changes and row is not remembered:
                return row, Written()
            if changes and _update(rows, row, changes):
                return row, Written(changed=[task_id])
            # Somebody else has written it meanwhile, or may have deleted it.
            row = None
    msg = f"The row of {task_id!r} is never as it was a moment ago."
    raise OperationalError(msg)


def _read(rows: TaskStateQuerySet, task_id: str) -> dict[str, Any] | None:
    found = list(rows.order_by().filter(task_id=task_id).values())
    return TaskState.exact(dict(found[0])) if found else None


def _insert_row(
    rows: TaskStateQuerySet, task_id: str, seen: Columns, workers: Mapping[str, int]
) -> bool:
    columns = {name: value for name, value in seen.items() if name != "worker"}
    worker_id = workers.get(seen.get("worker") or "")
    row = TaskState(**columns, task_id=task_id, worker_id=worker_id)
    try:
        # MySQL would ignore as well that the worker has no row any more.
        with transaction.atomic(using=rows.db):
            rows.bulk_create([row])
    except IntegrityError:
        if not rows.filter(task_id=task_id).exists():
            raise
        return False
    return True


def _update(rows: TaskStateQuerySet, row: dict[str, Any], changes: Columns) -> int:
    """Write the columns of a row that change, unless it is no longer as it was.

    Returns how many rows were written, and changes ``row`` too. So nobody waits for a
    lock, and whoever writes at the same time gives way to the other.
    """
    # The key of a worker that was deleted is taken out of rows without a word.
    names = ("id", "updated_at", "state", "worker_id")
    itself = rows.filter(**{name: row[name] for name in names})
    now = timezone.now()
    row.update(changes, updated_at=now)
    return itself.update(**changes, updated_at=now)


def insert_missing(using: str, *batches: Sequence[models.Model]) -> list[int]:
    """Insert the rows that are not there; return how many were new in each batch.

    It is one statement on PostgreSQL, and elsewhere one for each batch that has any.
    """
    statements = [_insert(using, rows) if rows else None for rows in batches]
    connection = connections[using]
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            return _execute_together(cursor, statements)
        if None in statements:
            return [_execute(cursor, statement) for statement in statements]
        with transaction.atomic(using=using, savepoint=False):
            return [_execute(cursor, statement) for statement in statements]


def _execute(cursor: Any, statement: Statement | None) -> int:
    if statement is None:
        return 0
    cursor.execute(*statement)
    return int(cursor.rowcount)


def _execute_together(cursor: Any, statements: Sequence[Statement | None]) -> list[int]:
    inserts: list[str] = []
    counts: list[str] = []
    values: list[Any] = []
    for number, statement in enumerate(statements):
        if statement is None:
            counts.append("0")
            continue
        inserts.append(f"new_{number} AS ({statement[0]} RETURNING 1)")
        counts.append(f"(SELECT count(*) FROM new_{number})")  # noqa: S608
        values.extend(statement[1])
    if not inserts:
        return [0] * len(statements)
    # What is counted first is inserted first.
    cursor.execute(f"WITH {', '.join(inserts)} SELECT {', '.join(counts)}", values)
    return list(cursor.fetchone())


def _insert(using: str, rows: Sequence[models.Model]) -> Statement:
    """Return the statement that inserts rows of one model, unless they are there."""
    model = type(rows[0])
    fields = [
        field
        for field in model._meta.concrete_fields
        if getattr(field, "auto_now", False)
        or any(getattr(row, field.attname) is not None for row in rows)
    ]
    query: Any = InsertQuery(model, on_conflict=OnConflict.IGNORE)
    query.insert_values(fields, rows)
    ((sql, params),) = query.get_compiler(using).as_sql()
    return sql, params


def _links(observed: Observed) -> list[TaskObjectLink]:
    """Return the links of a task to its objects, which are looked up if need be."""
    links = []
    about = observed.provenance._asdict() if observed.provenance else {}
    registrations = task_tracker.registrations(observed.task_name)
    for registration, values in zip(registrations, observed.objects, strict=False):
        if values is None or (key := _find(registration, values)) is None:
            continue
        content_type = ContentType.objects.get_for_model(registration.model)
        links.append(
            TaskObjectLink(
                task_id=observed.task_id,
                content_type_id=content_type.pk,
                object_id=key,
                role=registration.role,
                **about,
            )
        )
    return links


def _find(registration: Registration, values: Mapping[str, Any]) -> Any | None:
    if registration.finds_by_key:
        return registration.find(values)
    try:
        with time_limit(router.db_for_write(registration.model)):
            return registration.find(values)
    except UNUSABLE:
        raise
    except DatabaseError as error:
        # Another value may be one that the database takes.
        logger.warning("Cannot look for the object of a task: %s", error)
        return None


def _workers(seen: Mapping[str, Any], using: str) -> dict[str, int]:
    """Return the key of the worker's row by its hostname; make the row if need be."""
    hostname = seen.get("worker")
    if hostname is None:
        return {}
    if hostname not in _worker_ids:
        with time_limit(using):
            worker, _ = WorkerState.objects.using(using).get_or_create(
                hostname=hostname, defaults={"first_seen": seen["tstamp"]}
            )
        _worker_ids[hostname] = worker.pk
    return {hostname: _worker_ids[hostname]}
