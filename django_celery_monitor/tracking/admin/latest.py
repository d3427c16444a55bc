"""The newest tasks of many objects."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.db.models import IntegerField, Model, Value

from django_celery_monitor.admin import newest
from django_celery_monitor.tracking.models import TaskObjectLinkQuerySet

#: Objects that one query asks for: SQLite takes no more than 500 branches.
AT_ONCE = 200


def latest_states(
    links: TaskObjectLinkQuerySet, objects: Sequence[Model]
) -> dict[Model, str]:
    """Return the state of the newest task of each of ``objects`` that has any.

    However many tasks an object has, the index leads to its newest.
    """
    states: dict[Model, str] = {}
    for begin in range(0, len(objects), AT_ONCE):
        branches: list[Any] = [
            links.for_object(obj)
            .annotate(place=Value(place, IntegerField()))
            .order_by("-pk")
            for place, obj in enumerate(objects[begin : begin + AT_ONCE], begin)
        ]
        found = newest.first_of_each(branches, "place", "task__state")
        states.update({objects[place]: state for place, state in found})
    return states
