"""What a task is launched with for an object."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.db.models import Model

from .registry import FromModel, Registration, task_tracker


def offered(model: type[Model]) -> Iterator[Registration]:
    """Yield what can be launched for the objects of a model."""
    for registration in task_tracker.registrations_for(model):
        if not registration.hidden:
            yield registration


def find(model: type[Model], task_name: str, role: str) -> Registration | None:
    """Return what is offered under this name of a task and role, if anything is."""
    for registration in offered(model):
        if (registration.task_name, registration.role) == (task_name, role):
            return registration
    return None


def arguments(
    registration: Registration, obj: Model
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return what ``registration`` launches its task with for ``obj``.

    What it does not say is what tells the object. Raises AttributeError where a
    ``FromModel`` names what the object does not have.
    """
    args, kwargs = registration.launch_args, registration.launch_kwargs
    if args is None and kwargs is None and registration.id_query is None:
        return (obj.pk,), {}
    given = {} if kwargs is None else {n: value(v, obj) for n, v in kwargs.items()}
    if args is not None:
        return tuple(value(item, obj) for item in args), given
    for lookup, parameter in registration.lookups.items():
        if parameter not in given:
            given[parameter] = column(obj, lookup)
    return (), given


def value(given: Any, obj: Model) -> Any:
    """Return a value as it was given, or the one that the object has."""
    return given.resolve(obj) if isinstance(given, FromModel) else given


def column(obj: Model, lookup: str) -> Any:
    """Return what finds ``obj`` by ``lookup``, of a relation the key."""
    found = FromModel(lookup.replace("__", ".")).resolve(obj)
    return found.pk if isinstance(found, Model) else found
