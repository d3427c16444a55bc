"""The arguments of a call, and the object that they are about."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Mapping, Sequence
from inspect import Parameter, Signature
from typing import Any

from django.core.exceptions import FieldError, ValidationError
from django.db import models, router

logger = logging.getLogger(__name__)

#: How the object of a call is found: None, the name of a parameter, the names of
#: fields that are parameters too, or lookups with the names of parameters.
IdQuery = str | Sequence[str] | Mapping[str, str] | None

#: Kinds of parameters that take an argument by position.
BY_POSITION = {
    Parameter.POSITIONAL_ONLY,
    Parameter.POSITIONAL_OR_KEYWORD,
    Parameter.VAR_POSITIONAL,
}


def check_id_query(id_query: Any) -> None:
    """Raise TypeError unless ``id_query`` is one."""
    if id_query is None or (isinstance(id_query, str) and id_query):
        return
    if isinstance(id_query, (list, tuple, Mapping)) and id_query:
        names = [*id_query, *getattr(id_query, "values", tuple)()]
        if all(isinstance(name, str) and name for name in names):
            return
    msg = (
        "id_query is None, the name of a parameter, names of fields or a dictionary"
        f" of lookups and names of parameters, not {id_query!r}."
    )
    raise TypeError(msg)


def signature_of(task: Any) -> Signature:
    """Return the signature of a task's own function, without the task itself."""
    return inspect.signature(task.run)


def first_parameter(signature: Signature) -> str | None:
    """Return the parameter that the first argument by position goes to, if any."""
    parameters = signature.parameters.values()
    return next((p.name for p in parameters if p.kind in BY_POSITION), None)


def lookups_of(id_query: IdQuery, signature: Signature) -> dict[str, str]:
    """Return the parameter that has the value of each lookup.

    The primary key alone is the lookup ``pk``. Nothing is returned where ``id_query``
    is None and the task takes no argument by position.
    """
    if id_query is None:
        first = first_parameter(signature)
        return {} if first is None else {"pk": first}
    if isinstance(id_query, str):
        return {"pk": id_query}
    if isinstance(id_query, Mapping):
        return dict(id_query)
    return {name: name for name in id_query}


def by_name(
    signature: Signature, args: Sequence[Any] | None, kwargs: Mapping[str, Any] | None
) -> dict[str, Any]:
    """Return the arguments of a call by the names of their parameters.

    Defaults are filled in. Of further arguments by position the first stands for the
    parameter that collects them; further ones by name keep their names. Raises
    TypeError where the arguments do not fit.
    """
    bound = signature.bind(*(args or ()), **(kwargs or {}))
    bound.apply_defaults()
    found: dict[str, Any] = {}
    for name, value in bound.arguments.items():
        kind = signature.parameters[name].kind
        if kind is Parameter.VAR_KEYWORD:
            found.update({key: v for key, v in value.items() if key not in found})
        elif kind is not Parameter.VAR_POSITIONAL:
            found[name] = value
        elif value:
            found[name] = value[0]
    return found


def clean_key(model: type[models.Model], value: Any) -> Any | None:
    """Return ``value`` as a primary key of ``model``; None for what can be none.

    An object of the model stands for its own key.
    """
    if isinstance(value, model):
        value = value.pk
    field: Any = model._meta.pk
    while field.remote_field is not None:
        # Validating a foreign key would ask the database.
        field = field.target_field
    try:
        return field.clean(value, None)
    except (ValidationError, TypeError, ValueError, OverflowError):
        logger.debug("%r is no key of %s", value, model._meta.label)
        return None


def find_key(model: type[models.Model], values: Mapping[str, Any]) -> Any | None:
    """Return the primary key of the one object that ``values`` are of, by lookup.

    None where there is none, or where there are several. Raises DatabaseError when
    the database cannot tell.
    """
    # What was just written may not have reached a replica, and a manager of the
    # project's own may hide objects.
    rows = model._base_manager.using(router.db_for_write(model))
    try:
        keys = rows.filter(**values).order_by().values_list("pk", flat=True)
        # A lookup over a relation may find one object several times.
        found = list(keys.distinct()[:2])
    except (FieldError, ValidationError, TypeError, ValueError, OverflowError) as exc:
        logger.warning("Cannot look for %s: %s", model._meta.label, exc)
        return None
    if len(found) == 1:
        return found[0]
    number = "several" if found else "no"
    logger.debug("There are %s %s by %s", number, model._meta.label, list(values))
    return None
