"""Retention: rows whose time is over are deleted, a few at a time."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterable, Iterator
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from celery import states
from django.db import models, router
from django.db.models import Exists, OuterRef, Q
from django.utils import timezone

from . import conf
from .deletion import Batch, Deleter
from .links import link_model, linked_task_id

if TYPE_CHECKING:
    from celery import Celery

    from .managers import TaskStateQuerySet, WorkerStateQuerySet

    #: Sets of states and how long their rows are kept; None is for ever.
    Expiry = Iterable[tuple[Collection[str], timedelta | float | None]]

KNOWN_STATES = states.ALL_STATES | {states.REJECTED}

#: What tells whether a task has expired.
TASK_COLUMNS = ("state", "tstamp", "eta", "hidden")


class Purged(NamedTuple):
    """What a run has deleted, and whether it came to its end."""

    tasks: int
    workers: int
    done: bool


def task_expiry(
    app: Celery | None = None,
) -> tuple[tuple[frozenset[str], timedelta | None], ...]:
    """Return sets of states and how long their rows are kept; None is for ever.

    The last set has PENDING, with which every custom state expires. ``app`` is the
    Celery app to read, the project's by default. Raises ImproperlyConfigured when
    a setting cannot be used.
    """
    pending = states.UNREADY_STATES - states.EXCEPTION_STATES
    names = {
        "monitor_task_success_expires": frozenset({states.SUCCESS}),
        "monitor_task_error_expires": frozenset(states.EXCEPTION_STATES),
        "monitor_task_pending_expires": frozenset(pending),
    }
    return tuple((names[name], conf.get(name, app)) for name in names)


class Retention:
    """Deletes tasks that have expired and workers that are long gone.

    Each batch is a short transaction of its own. Rows that another writer has
    locked are left to the next run where the database can tell, and a row that was
    written since it was found is left to it too.
    """

    def __init__(
        self,
        expire_task_states: Expiry,
        worker_expires: timedelta | float | None = None,
        using: str | None = None,
    ) -> None:
        """Delete by these sets of states and how long each is kept.

        ``worker_expires`` is how long a worker stays that no task refers to; None
        is for ever. Both are a timedelta or seconds. ``using`` is the alias of the
        database, the router's by default.
        """
        from .models import TaskState, WorkerState

        self.using = using or router.db_for_write(TaskState)
        self._task_model, self._worker_model = TaskState, WorkerState
        self._expiry = tuple(expire_task_states)
        if isinstance(worker_expires, (int, float)):
            worker_expires = timedelta(seconds=worker_expires)
        self._worker_expires = worker_expires
        self._deleter = Deleter(self.using)
        #: What the last run has left to do.
        self._steps: Iterator[tuple[Any, int]] | None = None

    @classmethod
    def from_settings(
        cls, app: Celery | None = None, using: str | None = None
    ) -> Retention:
        """Return what deletes as the settings of ``app`` say.

        Raises ImproperlyConfigured when one of them cannot be used.
        """
        return cls(task_expiry(app), conf.get("monitor_worker_expires", app), using)

    def run(
        self, seconds: float | None = None, stop: Callable[[], bool] | None = None
    ) -> Purged:
        """Delete until nothing is left to delete; return what was deleted.

        No batch is begun once ``seconds`` have passed or ``stop()`` is true, and
        the run then counts as not done: the next one goes on from there. Raises
        OperationalError when the database cannot be used; what was deleted until
        then stays deleted.
        """
        deadline = None if seconds is None else time.monotonic() + seconds
        self._deleter.fit(self._tasks.all())
        # Where this one goes wrong, the next run begins anew.
        steps, self._steps = self._steps or self._all_steps(), None
        deleted: Counter[Any] = Counter()
        step: tuple[Any, int] | None = (None, 0)
        while step is not None:
            model, number = step
            deleted[model] += number
            late = deadline is not None and time.monotonic() >= deadline
            if late or (stop is not None and stop()):
                self._steps = steps
                break
            step = next(steps, None)
        tasks, workers = deleted[self._task_model], deleted[self._worker_model]
        return Purged(tasks, workers, done=step is None)

    def count(self) -> tuple[list[tuple[Collection[str], int]], int, int]:
        """Count what a run would delete, and delete nothing.

        Returns each set of states that expires with the number of its tasks, the
        number of tasks that are marked as expired, and the number of workers. The
        last counts those that no task refers to before the run.
        """
        tasks = [
            (names, self._tasks.active().expired(names, expires).count())
            for names, expires in self._expiry
            if expires is not None
        ]
        marked = self._tasks.marked().count()
        gone = 0 if self._worker_expires is None else self._gone_workers().count()
        return tasks, marked, gone

    # What to delete

    @property
    def _tasks(self) -> TaskStateQuerySet:
        return self._task_model.objects.using(self.using)

    @property
    def _workers(self) -> WorkerStateQuerySet:
        return self._worker_model.objects.using(self.using)

    def _task_batches(self) -> list[Iterator[Batch]]:
        expired = [
            self._expired_batches(names, expires)
            for names, expires in self._expiry
            if expires is not None
        ]
        return [self._marked_batches(), *expired]

    def _marked_batches(self) -> Iterator[Batch]:
        """Yield the tasks that are marked as expired, in the order of their keys."""
        yield from self._by_key(self._tasks.marked, TASK_COLUMNS)

    def _worker_batches(self) -> Iterator[Batch]:
        """Yield the workers that are long gone, in the order of their keys."""
        if self._worker_expires is not None:
            yield from self._by_key(self._gone_workers)

    def _gone_workers(self) -> models.QuerySet[Any]:
        """Return the workers that nothing was heard of and no task refers to."""
        limit = timezone.now() - (self._worker_expires or timedelta(0))
        tasks = self._tasks.filter(worker=OuterRef("pk"))
        return self._workers.filter(
            ~Exists(tasks),
            Q(last_heartbeat=None) | Q(last_heartbeat__lte=limit),
            Q(offline_at=None) | Q(offline_at__lte=limit),
            last_update__lte=limit,
        )

    def _link_batches(self) -> Iterator[Batch]:
        """Yield the links of tasks without a row, once none is to be expected.

        That is when any task would have expired. Links are walked through in the
        order in which they were written, as far as that.
        """
        links = link_model()
        kept = [
            expires if isinstance(expires, timedelta) else timedelta(seconds=expires)
            for _, expires in self._expiry
            if expires is not None
        ]
        if links is None or not kept:
            return
        limit = timezone.now() - max(kept)
        rows = links._base_manager.using(self.using)
        orphans = rows.filter(~Exists(self._tasks.filter(task_id=OuterRef("task_id"))))
        in_order = rows.order_by("pk").values_list("pk", "task_id", "created_at")
        last, more = 0, True
        while more:
            size = self._deleter.size
            walked = in_order.filter(pk__gt=last)[:size]
            old = {pk: task_id for pk, task_id, created in walked if created <= limit}
            tasks = self._tasks.filter(task_id__in=list(old.values()))
            known = set(tasks.values_list("task_id", flat=True))
            found = {pk: () for pk, task_id in old.items() if task_id not in known}
            yield Batch(orphans, (), found)
            more = len(old) == size
            last = max(old, default=last)

    def _by_key(
        self, rows: Callable[[], models.QuerySet[Any]], columns: tuple[str, ...] = ()
    ) -> Iterator[Batch]:
        left = rows()
        while batch := self._find(left.order_by("pk"), columns):
            yield batch
            left = rows().filter(pk__gt=max(batch.found))

    def _find(
        self, ordered: models.QuerySet[Any], columns: tuple[str, ...]
    ) -> Batch | None:
        """Return the first of ``ordered``, rows of one model, if there are any."""
        with_links = ordered.annotate(link=linked_task_id(ordered.model))
        values = with_links.values_list("pk", "link", *columns)
        rows = list(values[: self._deleter.size])
        found = {pk: tuple(said) for pk, _, *said in rows}
        links = {pk: link for pk, link, *_ in rows if link is not None}
        return Batch(ordered, columns, found, links) if found else None

    def _expired_batches(
        self, names: Collection[str], expires: timedelta | float
    ) -> Iterator[Batch]:
        """Yield the tasks of a set that have expired, the oldest of a state first."""
        for state in self._states(names):
            # There may be many states without any: each is a step of its own.
            yield Batch(self._tasks, (), {})

            def rows(state: str = state) -> models.QuerySet[Any]:
                return self._tasks.expired(names, expires).filter(state=state)

            yield from self._by_time(rows)

    def _by_time(self, rows: Callable[[], models.QuerySet[Any]]) -> Iterator[Batch]:
        """Yield tasks of one state, the oldest first, and none of them twice.

        By state and by time alone, which is the order of an index: a database that
        knows little about the table would sort what is left for each batch if it
        were to break ties, and read the rows of other states that are kept.
        """
        left = rows()
        while True:
            size = self._deleter.size
            batch = self._find(left.order_by("tstamp"), TASK_COLUMNS)
            if batch is None:
                return
            last = max(said[1] for said in batch.found.values())
            if len(batch.found) < size:
                yield batch
                return
            # More may have the time of the last one: they all come with the next.
            earlier = {pk: s for pk, s in batch.found.items() if s[1] < last}
            if earlier:
                yield batch._replace(found=earlier)
                left = rows().filter(tstamp__gte=last)
            else:
                same = partial(rows().filter, tstamp=last)
                yield from self._by_key(same, TASK_COLUMNS)
                left = rows().filter(tstamp__gt=last)

    def _states(self, names: Collection[str]) -> Iterator[str]:
        """Yield the states of a set, with PENDING the custom ones that there are."""
        yield from sorted(names)
        if states.PENDING not in names:
            return
        rows = self._tasks.order_by("state").values_list("state", flat=True)
        # One look into the index for each state; DISTINCT would read all of it.
        state = rows.first()
        while state is not None:
            if state not in KNOWN_STATES:
                yield state
            state = rows.filter(state__gt=state).first()

    def _all_steps(self) -> Iterator[tuple[Any, int]]:
        """Delete batch by batch; yield of what model, and how many it were."""
        # Workers after tasks: what was just deleted no longer refers to them.
        for model, sources in (
            (self._task_model, self._task_batches()),
            (self._worker_model, [self._worker_batches()]),
            (None, [self._link_batches()]),
        ):
            left = deque(sources)
            while left:
                source = left.popleft()
                if (batch := next(source, None)) is not None:
                    left.append(source)
                    yield model, self._deleter.delete(batch)
