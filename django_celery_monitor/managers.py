"""The vocabulary of queries: how rows are saved, marked as expired and purged."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from celery import states
from django.db import IntegrityError, OperationalError, models, transaction
from django.db.models import Q
from django.utils import timezone

from .bulk import Table
from .links import LinkedQuerySet
from .merge import ABOUT, ROUTE, merge_task, merge_worker
from .utils import to_microseconds

if TYPE_CHECKING:
    from .models import Row, TaskState, WorkerState

_M = TypeVar("_M", bound="Row")
_Columns = Mapping[str, Any]
_Join = Callable[[_Columns, _Columns], dict[str, Any]]

#: Stands for the hostname of a worker that is none of a batch's; no event has it.
OTHER_WORKER = "\0"

#: What PostgreSQL and MySQL call a deadlock.
DEADLOCK_STATE, DEADLOCK_NUMBER = "40P01", 1213

#: Workers that are looked at, the last heard of first, to tell which are alive.
MOST_ALIVE = 10_000

#: How often a row may come and go under a save before the save fails.
JOIN_TRIES = 10


@dataclass
class Written:
    """What a bulk save wrote: the keys of the rows that are new or changed."""

    created: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.created) + len(self.changed)


class ExtendedQuerySet(models.QuerySet[_M]):
    """Queries that both models share."""

    def select_for_update_or_create(
        self, defaults: Mapping[str, Any] | None = None, **kwargs: Any
    ) -> tuple[_M, bool]:
        """Lock the row that matches ``kwargs`` and update it, or create it.

        ``defaults`` are the values to set; callables among them are called. All
        of it is one transaction on the database that the router names. Returns
        the object and whether it was created.
        """
        return self.update_or_create(defaults=defaults, **kwargs)

    def _join(
        self,
        merge: Callable[[Mapping[str, Any], Mapping[str, Any]], dict[str, Any]],
        seen: Mapping[str, Any],
        defaults: Mapping[str, Any],
        **key: Any,
    ) -> _M:
        """Merge ``seen`` into the row that ``key`` names, locked; else create it."""
        using = self.select_for_update().db
        rows = self.using(using)
        alone = not transaction.get_connection(using).in_atomic_block
        for tries_left in reversed(range(JOIN_TRIES)):
            try:
                with transaction.atomic(using=using):
                    row = rows.select_for_update().filter(**key).first()
                    if row is not None:
                        row.update(merge(row.columns(), seen), using=using)
                        return row
                # Not in the same transaction: on MySQL those that come too late to
                # insert would each share a lock on the row, and wait for each other.
                row, created = rows.get_or_create(**key, defaults=defaults)
            except IntegrityError:  # noqa: PERF203 -- the database takes longer
                # Another writer's row was in the way, and is purged since.
                if not tries_left:
                    raise
            except OperationalError as error:
                # One of those that wait for each other has to begin anew.
                if not (tries_left and alone and is_deadlock(error)):
                    raise
            else:
                if created:
                    return row
        msg = f"{key} is created and deleted over and over."
        raise OperationalError(msg)

    def _join_many(
        self,
        unique: str,
        seen: Mapping[str, _Columns],
        merge: _Join,
        new: _Columns,
    ) -> Written:
        """Merge each of ``seen`` into the row that its key names, or insert it.

        All of it is one locking read in the order of the keys and at most one
        statement that inserts and one that updates; ``new`` has the columns that
        an inserted row begins with. A row that says it all already is not written.
        Where another writer was the first to insert a row, all of it is done once
        more.
        Raises IntegrityError when a row is refused, whoever else writes.
        """
        using = self.select_for_update().db
        table = Table(self.model, using)
        names = [column.attname for column in table.fields]
        *_, write_time = names
        empty = {**dict.fromkeys(names), **new}
        refused = -1
        for _ in range(JOIN_TRIES):
            inserts: dict[str, list[Any]] = {}
            updates: dict[str, list[Any]] = {}
            changed = {write_time}
            try:
                with transaction.atomic(using=using):
                    stored = self._locked(table, unique, sorted(seen))
                    now = {write_time: timezone.now()}
                    for key in sorted(seen):
                        if (row := stored.get(key)) is None:
                            # The columns come first, in their order.
                            values = {**empty, **seen[key], unique: key, **now}
                            inserts[key] = list(values.values())[: len(names)]
                        elif changes := merge(row, seen[key]):
                            updates[key] = list({**row, **changes, **now}.values())
                            changed.update(changes)
                    table.update(list(updates.values()), changed)
                    table.insert(list(inserts.values()))
            except IntegrityError:
                # A row that another writer has inserted is there by now.
                if len(stored) <= refused:
                    raise
                refused = len(stored)
                continue
            return Written(list(inserts), list(updates))
        msg = f"{len(seen)} rows are created and deleted over and over."
        raise OperationalError(msg)

    def _locked(
        self, table: Table, unique: str, keys: list[str]
    ) -> dict[str, dict[str, Any]]:
        """Return rows by their keys, all but the time of the write, and lock them."""
        names = [column.attname for column in table.fields[:-1]]
        rows = self.using(table.using).select_for_update().order_by(unique)
        found = rows.filter(**{f"{unique}__in": table.any_of(keys)}).values_list(*names)
        columns = (dict(zip(names, values, strict=True)) for values in found)
        return {row[unique]: self.model.exact(row) for row in columns}


class WorkerStateQuerySet(ExtendedQuerySet["WorkerState"]):
    """Queries of workers."""

    def alive(self) -> list[WorkerState]:
        """Return the workers that are alive, the last heard of first."""
        heard_of = self.filter(last_heartbeat__isnull=False).order_by("-last_heartbeat")
        return [worker for worker in heard_of[:MOST_ALIVE] if worker.is_alive()]

    def update_heartbeat(
        self,
        hostname: str,
        heartbeat: datetime | None,
        update_freq: float,
        defaults: Mapping[str, Any] | None = None,
    ) -> WorkerState:
        """Save that the worker was alive at ``heartbeat``; None: it went offline.

        The row is written at most once in ``update_freq`` seconds, but at once
        when the worker comes or goes. ``defaults`` are further columns to save
        with it; ``offline_at`` among them says when it went offline (now unless
        given). An older heartbeat never replaces a newer one.
        """
        seen = {"update_freq": update_freq, **(defaults or {})}
        if heartbeat is not None:
            seen["last_heartbeat"] = heartbeat
            seen.setdefault("last_heartbeat_us", to_microseconds(heartbeat))
        else:
            seen.setdefault("offline_at", timezone.now())
        if (offline_at := seen.get("offline_at")) is not None:
            seen.setdefault("offline_at_us", to_microseconds(offline_at))
        if any(seen.get(column) is not None for column in ABOUT):
            seen.setdefault("told_us", seen.get("last_heartbeat_us"))
        row = self.using(self.select_for_update().db).filter(hostname=hostname).first()
        if row is not None and not row.is_due(seen, update_freq):
            return row
        return self._join(
            merge_worker,
            seen,
            {**seen, "first_seen": timezone.now()},
            hostname=hostname,
        )

    def join_many(self, seen: Mapping[str, _Columns]) -> Written:
        """Save what was observed of many workers, by hostname, in one transaction."""
        return self._join_many("hostname", seen, merge_worker, {})


class TaskStateQuerySet(  # type: ignore[override] # of each base's as_manager
    LinkedQuerySet["TaskState"], ExtendedQuerySet["TaskState"]
):
    """Queries of tasks."""

    def active(self) -> TaskStateQuerySet:
        """Return the tasks that have not expired."""
        return self.filter(hidden=False)

    def marked(self) -> TaskStateQuerySet:
        """Return the tasks that are marked as expired."""
        # SQLite does not use the index for a condition that is the column alone.
        return self.filter(hidden__in=[True])

    def expired(
        self, states: Collection[str], expires: timedelta | float
    ) -> TaskStateQuerySet:
        """Return the tasks in one of ``states`` that are older than ``expires``.

        ``expires`` is a timedelta or a number of seconds. Age counts from the time
        of the state or from the ETA, whichever is later. Where ``states`` has
        PENDING, every state that Celery does not know counts as one of them.
        """
        if not isinstance(expires, timedelta):
            expires = timedelta(seconds=expires)
        limit = timezone.now() - expires
        return self.filter(
            _in_states(states),
            Q(eta=None) | Q(eta__lte=limit),
            tstamp__lte=limit,
        )

    def expire_by_states(
        self, states: Collection[str], expires: timedelta | float | None
    ) -> int | None:
        """Mark what ``expired`` returns as hidden; return how many rows.

        Returns None, and marks nothing, when ``expires`` is None.
        """
        if expires is None:
            return None
        return self.active().expired(states, expires).update(hidden=True)

    def purge(self) -> int:
        """Delete the tasks that are marked as expired; return how many."""
        return self.marked().delete()[0]

    def update_state(
        self, state: str, task_id: str, defaults: Mapping[str, Any] | None = None
    ) -> TaskState:
        """Merge one observation into the row of the task; return the row.

        ``defaults`` are the columns that were observed. What they say about the
        outcome counts only where ``state`` and ``tstamp`` (now unless given) are
        later than the row's own, in the order of ``merge.rank``. A row that
        says it all already is not written.
        """
        seen = {"tstamp": timezone.now(), **(defaults or {}), "state": state}
        seen.setdefault("tstamp_us", to_microseconds(seen["tstamp"]))
        if any(seen.get(column) is not None for column in ROUTE):
            seen.setdefault("route_retries", seen.get("retries") or 0)
        worker = seen.pop("worker", None)
        worker_id = None if worker is None else worker.pk
        return self._join(
            _merge_by_id,
            {**seen, "worker": worker_id},
            {**seen, "worker_id": worker_id},
            task_id=task_id,
        )

    def join_many(
        self, seen: Mapping[str, _Columns], workers: Mapping[str, int]
    ) -> Written:
        """Save what was observed of many tasks, by task id, in one transaction.

        ``workers`` has the primary key of the row of every worker in ``seen``.
        Raises IntegrityError when a row is refused.
        """
        with_ids = {
            key: {**columns, "worker_id": workers.get(columns.get("worker") or "")}
            for key, columns in seen.items()
        }
        new = {"hidden": False, "retries": 0}
        return self._join_many("task_id", with_ids, self.merge_with(workers), new)

    def merge_with(self, workers: Mapping[str, int]) -> _Join:
        """Return what merges an observation into the columns of a row.

        It returns the columns that change. Workers are hostnames in observations and
        primary keys in rows; ``workers`` has those of the observations.
        """
        hostnames: dict[Any, str | None] = {pk: name for name, pk in workers.items()}
        hostnames[None] = None

        def merge(stored: _Columns, seen: _Columns) -> dict[str, Any]:
            pk = stored["worker_id"]
            if pk not in hostnames and stored["tstamp_us"] == seen["tstamp_us"]:
                # Hostnames decide between equals, as they do in memory.
                hostnames[pk] = self._hostname(pk)
            worker = hostnames.get(pk, OTHER_WORKER)
            changes = merge_task({**stored, "worker": worker}, seen)
            if "worker" in changes:
                found = workers.get(changes.pop("worker"))
                # A worker that has no row is known anew each time.
                if found != pk:
                    changes["worker_id"] = found
            return changes

        return merge

    def _hostname(self, pk: int) -> str:
        """Return the hostname of a worker that tasks of this database have."""
        workers = self.model._meta.get_field("worker").related_model
        rows = workers._default_manager.using(self.select_for_update().db)
        return str(rows.values_list("hostname", flat=True).get(pk=pk))


def is_deadlock(error: OperationalError) -> bool:
    """Return whether a database has ended a transaction for the sake of another."""
    state = getattr(error.__cause__, "sqlstate", None)
    return state == DEADLOCK_STATE or error.args[:1] == (DEADLOCK_NUMBER,)


def _merge_by_id(stored: _Columns, seen: _Columns) -> dict[str, Any]:
    changes = merge_task({**stored, "worker": stored["worker_id"]}, seen)
    if "worker" in changes:
        changes["worker_id"] = changes.pop("worker")
    return changes


def _in_states(names: Collection[str]) -> Q:
    """Return the condition for a set of states, custom ones with the pending."""
    condition = Q(state__in=names)
    if states.PENDING in names:
        condition |= ~Q(state__in=states.ALL_STATES | {states.REJECTED})
    return condition
