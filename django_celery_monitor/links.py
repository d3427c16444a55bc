"""The links from tasks to objects, which are there where the tracker is installed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from django.apps import apps
from django.core.exceptions import ImproperlyConfigured
from django.db import models, transaction

if TYPE_CHECKING:
    from typing import Self

_M = TypeVar("_M", bound=models.Model)


#: Links that one statement deletes by their keys.
CHUNK = 500


def link_model() -> Any | None:
    """Return the model of the links; None: the tracker is not installed."""
    if not apps.is_installed("django_celery_monitor.tracking"):
        return None
    return apps.get_model("celery_monitor_tracking", "TaskObjectLink")


def linked_task_id(model: type[models.Model]) -> Any:
    """Return what in a query of ``model`` is the id of a task that has links.

    It is None for a task that has none, and for whatever is no task.
    """
    links = link_model()
    if links is None or links.task.field.related_model is not model:
        return models.Value(None, models.CharField())
    of_task = links._base_manager.filter(task_id=models.OuterRef("task_id"))
    return models.Subquery(of_task.values("task_id")[:1])


@contextmanager
def deleted_with(tasks: models.QuerySet[Any], using: str) -> Iterator[None]:
    """Delete the links of ``tasks`` with them, if the block deletes these.

    The links are found before and deleted after, since tasks may be chosen by them.
    """
    links = link_model()
    if links is None:
        yield
        return
    rows = links._base_manager.using(using)
    with transaction.atomic(using=using):
        of_tasks = rows.filter(task_id__in=tasks.using(using).values("task_id"))
        keys = list(of_tasks.values_list("pk", flat=True))
        yield
        for start in range(0, len(keys), CHUNK):
            rows.filter(pk__in=keys[start : start + CHUNK]).delete()


class LinkedQuerySet(models.QuerySet[_M]):
    """Queries of tasks that have links."""

    def for_object(self, obj: models.Model) -> Self:
        """Return the tasks that are about an object.

        Raises ImproperlyConfigured where the tracker is not installed.
        """
        links = link_model()
        if links is None:
            msg = (
                "The tasks of an object are known where django_celery_monitor.tracking"
                " is one of the INSTALLED_APPS."
            )
            raise ImproperlyConfigured(msg)
        of_object = links._default_manager.using(self.db).for_object(obj)
        return self.filter(task_id__in=of_object.values("task_id"))

    def delete(self) -> tuple[int, dict[str, int]]:
        """Delete the tasks, and with them the links that they have.

        Returns what Django does, of tasks alone.
        """
        with deleted_with(self, self.select_for_update().db):
            return super().delete()

    # As Django has it: no method of the manager, which would delete every row.
    delete.alters_data = True  # type: ignore[attr-defined]
    delete.queryset_only = True  # type: ignore[attr-defined]
