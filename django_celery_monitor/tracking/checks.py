"""System checks: what is registered wrongly, found before a task is sent."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from inspect import Parameter
from typing import Any

from django.apps import apps
from django.core import checks
from django.core.exceptions import FieldDoesNotExist, FieldError
from django.db import router
from django.db.models import F, Model

from .registry import FromModel, Registration, TaskTracker, task_tracker

#: The checks of one registration, by what is wrong with it.
PARAMETER = "celery_monitor_tracking.E003"
LOOKUP = "celery_monitor_tracking.E004"
PATH = "celery_monitor_tracking.E005"
TWICE = "celery_monitor_tracking.E006"


def check_installed(**kwargs: Any) -> list[checks.CheckMessage]:
    """Check that the app is installed where tasks are registered."""
    if apps.is_installed("django_celery_monitor.tracking"):
        return []
    return [
        checks.Error(
            f"Tasks are registered for {model._meta.label}, but the task tracker is"
            " not installed: nothing of them is recorded.",
            hint='Add "django_celery_monitor.tracking" to INSTALLED_APPS.',
            id="celery_monitor_tracking.E001",
        )
        for model in task_tracker.models()[:1]
    ]


def check_registrations(
    tracker: TaskTracker = task_tracker, **kwargs: Any
) -> list[checks.CheckMessage]:
    """Import the tasks of all apps, and check what they register."""
    tracker.discover()
    messages: list[checks.CheckMessage] = [
        checks.Error(
            f"{module} cannot be imported: {type(exc).__name__}: {exc}.",
            hint="What it registers is not tracked in this process.",
            id="celery_monitor_tracking.E002",
        )
        for module, exc in tracker.failures.items()
    ]
    for registration in tracker:
        messages.extend(_check_parameters(registration))
        messages.extend(_check_lookups(registration))
        messages.extend(_check_paths(registration))
    messages.extend(_check_twice(tracker))
    return messages


def check_databases(**kwargs: Any) -> list[checks.CheckMessage]:
    """Check that links are where the tasks are, and relations to them too."""
    from django_celery_monitor.models import TaskState

    from .models import TaskObjectLink

    messages: list[checks.CheckMessage] = []
    used = _database(TaskState)
    if _database(TaskObjectLink) != used:
        messages.append(
            checks.Error(
                "The database router separates the links of tasks from the tasks.",
                hint="Route celery_monitor_tracking as you do celery_monitor.",
                obj=TaskObjectLink,
                id="celery_monitor_tracking.E007",
            )
        )
    messages.extend(
        checks.Warning(
            f"The relation {field.name} leads to the links of tasks, which are in"
            " another database: it cannot be joined, nor can objects be deleted.",
            hint="Take the relation away; task_tracker.tasks_for() needs none.",
            obj=model,
            id="celery_monitor_tracking.W001",
        )
        for model in apps.get_models()
        for field in model._meta.private_fields
        if field.related_model is TaskObjectLink and _database(model) != used
    )
    return messages


def _database(model: type[Model]) -> tuple[str, str]:
    return router.db_for_read(model), router.db_for_write(model)


def _error(
    registration: Registration, problem: str, hint: str, check_id: str
) -> checks.CheckMessage:
    label = registration.model._meta.label
    return checks.Error(
        f"{registration.task_name}, registered for {label}: {problem}",
        hint=hint,
        obj=registration.model,
        id=check_id,
    )


def _check_parameters(registration: Registration) -> Iterator[checks.CheckMessage]:
    """Check that the task has the parameters that are named."""
    signature = registration.signature
    takes = f"It takes {signature}."
    if not registration.lookups:
        problem = "the task takes no argument by position that could be the key."
        yield _error(registration, problem, f"{takes} Give id_query.", PARAMETER)
    kinds = {parameter.kind for parameter in signature.parameters.values()}
    for name in registration.lookups.values():
        if name not in signature.parameters and Parameter.VAR_KEYWORD not in kinds:
            problem = f"the task has no parameter {name!r}, which id_query names."
            yield _error(registration, problem, takes, PARAMETER)
    try:
        signature.bind_partial(
            *(registration.launch_args or ()), **(registration.launch_kwargs or {})
        )
    except TypeError as exc:
        problem = f"launch_args and launch_kwargs do not fit: {exc}."
        yield _error(registration, problem, takes, PARAMETER)


def _check_lookups(registration: Registration) -> Iterator[checks.CheckMessage]:
    """Check that the model can be looked up as ``id_query`` says."""
    if registration.finds_by_key:
        return
    for lookup in registration.lookups:
        if problem := _unfit(registration.model, lookup):
            said = f"id_query names {lookup!r}, which the model has not."
            yield _error(registration, said, problem, LOOKUP)


def _unfit(model: type[Model], lookup: str) -> str:
    """Return why a model cannot be looked up so, "" where it can."""
    try:
        model._base_manager.filter(**{lookup: F("pk")})
    except FieldError as exc:
        return str(exc)
    return ""


def _check_paths(registration: Registration) -> Iterator[checks.CheckMessage]:
    """Check that what a launch takes from an object is there."""
    values = [
        *(registration.launch_args or ()),
        *(registration.launch_kwargs or {}).values(),
    ]
    for value in values:
        if isinstance(value, FromModel) and (missing := _missing(registration, value)):
            problem = f"FromModel({value.path!r}): {missing}."
            hint = "Name a field or an attribute, and relations on the way with dots."
            yield _error(registration, problem, hint, PATH)


def _missing(registration: Registration, value: FromModel) -> str:
    """Return what of a path does not exist, as far as models can tell; "" for none."""
    model: Any = registration.model
    for name in value.path.split("."):
        if not hasattr(model, name):
            return f"{model._meta.label} has no {name!r}"
        try:
            field = model._meta.get_field(name)
        except FieldDoesNotExist:
            return ""
        if field.related_model is None:
            return ""
        model = field.related_model
    return ""


def _check_twice(tracker: TaskTracker) -> Iterator[checks.CheckMessage]:
    """Check that no task is registered for a model twice in the same way."""
    seen: Counter[Any] = Counter()
    for registration in tracker:
        key = registration.task_name, registration.model, registration.role
        seen[key] += 1
        if seen[key] == 2:
            problem = f"it is registered twice, by {registration.role!r}."
            hint = "Remove one of the decorators, or give them different id_query."
            yield _error(registration, problem, hint, TWICE)
