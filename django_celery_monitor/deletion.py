"""Deletion of many rows: in short transactions, beside whoever else writes."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from celery.utils.log import get_logger
from django.db import IntegrityError, OperationalError, connections, models, transaction
from django.db.models import F
from django.db.models.deletion import Collector

from .links import link_model

logger = get_logger(__name__)

#: Rows of a transaction: at first, at least, at most.
BATCH, SMALLEST, LARGEST = 500, 50, 2_000

#: Rows of a transaction where the rows are loaded, for a listener or a foreign key.
LARGEST_LOADED = 100

#: Seconds that a transaction should take. One of 0.2 is too long for a writer that
#: waits for it, so this leaves room for a batch that is much slower than the last.
TARGET = 0.05

#: The part of the time of a transaction for which others have the database after it.
REST = 0.25

#: How often a batch is tried that loses a deadlock or meets a locked database.
TRIES = 5

#: Parameters of a statement besides the keys, at most.
OTHER_PARAMETERS = 50


class Batch(NamedTuple):
    """Some rows that were found: what they are part of, and what each was like.

    ``columns`` are the names of the values in ``found``, which has them by key: a
    row with other values is no longer to be deleted. Where there are none, only a
    row that is not part of ``rows`` any more is kept; that suits small tables.
    ``links`` has the ids of the tasks among them that have links to objects, by key.
    """

    rows: models.QuerySet[Any]
    columns: tuple[str, ...]
    found: dict[Any, tuple[Any, ...]]
    links: Mapping[Any, str] = {}


class Deleter:
    """Deletes batches of rows, each in a transaction of its own.

    It chooses how many rows the next batch is to have so that no transaction holds
    its locks for long. Rows that another writer has locked are passed over where the
    database can tell, and a row that is no longer as it was found stays.
    """

    #: How many rows the next batch is to have.
    size: int

    def __init__(self, using: str) -> None:
        """Delete in the database with the alias ``using``."""
        self.using = using
        self.size = self._largest = BATCH

    def fit(self, rows: models.QuerySet[Any]) -> None:
        """Find out how many of ``rows`` a transaction may have."""
        self._largest = LARGEST
        if limit := connections[self.using].features.max_query_params:
            self._largest = min(self._largest, limit - OTHER_PARAMETERS)
        if not Collector(using=self.using).can_fast_delete(rows):
            # Django loads the rows, texts and all.
            self._largest = LARGEST_LOADED
        self.size = min(self.size, self._largest)

    def delete(self, batch: Batch) -> int:
        """Delete the rows of a batch that are still as found; return how many.

        The links that tasks have to objects go first.
        Raises OperationalError when the database cannot be used.
        """
        if not batch.found:
            return 0
        started = time.monotonic()
        try:
            deleted = self._retry(lambda: self._transaction(batch))
        except IntegrityError as exc:
            # A row of another app needs one of these: find out which, and keep it.
            keys = list(batch.found)
            if len(keys) == 1:
                logger.warning(
                    "Cannot delete %s %s: %s", batch.rows.model.__name__, keys[0], exc
                )
                return 0
            half = len(keys) // 2
            return sum(
                self.delete(batch._replace(found={pk: batch.found[pk] for pk in part}))
                for part in (keys[:half], keys[half:])
            )
        taken = time.monotonic() - started
        self._adapt(taken)
        time.sleep(min(taken, 1) * REST)
        return deleted

    def _adapt(self, taken: float) -> None:
        """Choose the next batch by the seconds that the last one has taken."""
        if taken > TARGET:
            self.size = max(self.size // 2, min(SMALLEST, self._largest))
        elif taken < TARGET / 3:
            self.size = min(self.size * 2, self._largest)

    def _transaction(self, batch: Batch) -> int:
        model = batch.rows.model
        rows = model._base_manager.using(self.using)
        with transaction.atomic(using=self.using):
            keys = self._lock(batch)
            self._delete_links([batch.links[k] for k in keys if k in batch.links])
            # One statement; where somebody listens or refers, Django loads the rows,
            # tells the listeners and deletes what depends on them.
            deleted = rows.filter(pk__in=keys).delete()[1]
        number: int = deleted.get(model._meta.label, 0)
        return number

    def _delete_links(self, task_ids: list[str]) -> None:
        """Delete the links that tasks have to objects."""
        if task_ids and (links := link_model()):
            rows = links._base_manager.using(self.using)
            rows.filter(task_id__in=task_ids).delete()

    def _lock(self, batch: Batch) -> list[Any]:
        """Lock the rows that are as they were found and that nobody else has.

        In the order of the keys, as every writer of the monitor locks. What was
        found is compared here and not asked for again: next to a condition on an
        indexed column a database may well not look the keys up.
        """
        features = connections[self.using].features
        model = batch.rows.model
        rows = model._base_manager.using(self.using)
        if not features.has_select_for_update:
            # SQLite has one lock. It waits for it where a transaction begins by
            # writing, if nothing but what was there; one that has read may not wait.
            name = model._meta.concrete_fields[1].attname
            rows.filter(pk=min(batch.found)).update(**{name: F(name)})
        if not batch.columns:
            rows = batch.rows
        locked = (
            rows.filter(pk__in=list(batch.found))
            .select_for_update(skip_locked=features.has_select_for_update_skip_locked)
            .order_by("pk")
            .values_list("pk", *batch.columns)
        )
        return [pk for pk, *said in locked if tuple(said) == batch.found[pk]]

    def _retry(self, delete: Callable[[], int]) -> int:
        connection = connections[self.using]
        for tries_left in reversed(range(TRIES)):
            try:
                return delete()
            except OperationalError:
                if connection.in_atomic_block or not tries_left:
                    raise
                connection.close_if_unusable_or_obsolete()
            # Apart from whoever else was in the deadlock.
            time.sleep(random.uniform(0.01, 0.1))  # noqa: S311
        raise AssertionError
