"""What is tracked: tasks, the models they are registered for, how objects are found."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from inspect import Signature
from threading import RLock
from typing import TYPE_CHECKING, Any, TypeVar

from celery import Task
from celery.local import Proxy
from django.apps import apps
from django.core.exceptions import ImproperlyConfigured, ObjectDoesNotExist
from django.db.models import Model
from django.utils.module_loading import module_has_submodule

from django_celery_monitor import conf
from django_celery_monitor.sanitize import fit_identifier

from .arguments import (
    IdQuery,
    by_name,
    check_id_query,
    clean_key,
    find_key,
    lookups_of,
    signature_of,
)

if TYPE_CHECKING:
    from django_celery_monitor.managers import TaskStateQuerySet

logger = logging.getLogger(__name__)

_T = TypeVar("_T")

#: Characters of a role.
ROLE_LENGTH = 200

#: The module of an app that has its tasks, as Celery looks for it.
TASKS = "tasks"


@dataclass(frozen=True)
class FromModel:
    """A value that a launch takes from the object.

    ``path`` is the name of a field or an attribute, or several that lead there over
    relations, with dots: ``customer.email``.
    """

    path: str

    def resolve(self, obj: Model) -> Any:
        """Return the value for ``obj``, None where a relation leads to nothing.

        Raises AttributeError where the path does not exist.
        """
        value: Any = obj
        for name in self.path.split("."):
            if value is None:
                return None
            try:
                value = getattr(value, name)
            except ObjectDoesNotExist:
                return None
        return value


@dataclass(frozen=True, eq=False)
class Registration:
    """One task registered for one model.

    ``launch_args`` and ``launch_kwargs`` are None where none were given.
    """

    registered: Any
    model: type[Model]
    id_query: IdQuery = None
    launch_args: tuple[Any, ...] | None = None
    launch_kwargs: Mapping[str, Any] | None = None
    hidden: bool = False

    @cached_property
    def task_name(self) -> str:
        """The name by which Celery knows the task."""
        return str(self.registered.name)

    @property
    def task(self) -> Any:
        """The task of the project's Celery app, in whatever thread."""
        return conf.get_app().tasks.get(self.task_name, self.registered)

    @cached_property
    def signature(self) -> Signature:
        """The signature of the task's own function."""
        return signature_of(self.registered)

    @cached_property
    def lookups(self) -> Mapping[str, str]:
        """The parameters that have the values of the lookups, ``pk`` or fields."""
        return lookups_of(self.id_query, self.signature)

    @cached_property
    def finds_by_key(self) -> bool:
        """Whether an argument is the primary key, so that nothing is looked up."""
        return self.id_query is None or isinstance(self.id_query, str)

    @cached_property
    def role(self) -> str:
        """The names of the parameters that tell the object."""
        return fit_identifier(", ".join(self.lookups.values()), ROLE_LENGTH)

    def object_id(
        self, args: Sequence[Any] | None, kwargs: Mapping[str, Any] | None
    ) -> Any | None:
        """Return the primary key of the object that a call is about; None: of none.

        Asks the database as ``find`` does.
        """
        values = self.values(args, kwargs)
        return None if values is None else self.find(values)

    def values(
        self, args: Sequence[Any] | None, kwargs: Mapping[str, Any] | None
    ) -> dict[str, Any] | None:
        """Return the values of the lookups in a call; None: it tells no object."""
        try:
            given = by_name(self.signature, args, kwargs)
            values = {lookup: given[name] for lookup, name in self.lookups.items()}
        except (TypeError, KeyError) as exc:
            logger.debug("Arguments of %s tell no object: %s", self.task_name, exc)
            return None
        return values or None

    def find(self, values: Mapping[str, Any]) -> Any | None:
        """Return the primary key of the object that ``values`` are of; None: of none.

        Asks the database, where the project's router writes the model, if ``id_query``
        names fields, and raises DatabaseError when it cannot tell.
        """
        if self.finds_by_key:
            return clean_key(self.model, values["pk"])
        return find_key(self.model, values)


class TaskTracker:
    """The tasks that are registered for models."""

    def __init__(self) -> None:
        #: What went wrong when the tasks of an app were imported, by module.
        self.failures: dict[str, Exception] = {}
        self._registrations: list[Registration] = []
        # Tasks whose names are not asked for yet: that may have Celery read its
        # configuration, and set up all tasks, too early for an import.
        self._unnamed: list[Registration] = []
        self._by_name: dict[str, tuple[Registration, ...]] = {}
        self._discovered = False
        # Not one for both: what is being imported may send a task.
        self._discovering, self._naming = RLock(), RLock()

    def register(
        self,
        model_class: type[Model],
        id_query: IdQuery = None,
        launch_args: Sequence[Any] | None = None,
        launch_kwargs: Mapping[str, Any] | None = None,
        hidden: bool = False,  # noqa: FBT001, FBT002 -- as it is called
    ) -> Callable[[_T], _T]:
        """Return a decorator that registers a task for the objects of a model.

        It goes above ``@shared_task`` or ``@app.task`` and leaves the task as it is.
        ``id_query`` says how the arguments of a call tell the object:

        - None: the first argument by position is the primary key;
        - a string: the parameter of this name is;
        - a list or tuple: the object is looked up by these fields, by the values of
          the parameters of the same names;
        - a dictionary: the same, with lookups as keys and parameters as values.

        ``launch_args`` and ``launch_kwargs`` are what the admin launches the task
        with, values or ``FromModel``. ``hidden`` tasks are not offered there.

        Raises TypeError for what is no model, no task or no ``id_query``, and
        ImproperlyConfigured for a model that has no rows or no single key.
        """
        check_model(model_class)
        check_id_query(id_query)

        def decorate(task: _T) -> _T:
            # The class of a proxy is asked for: its instance would be evaluated.
            if not issubclass(type(task), (Proxy, Task)):
                msg = (
                    f"{task!r} is no task: @task_tracker.register"
                    f"({model_class.__name__}) belongs above @shared_task or @app.task."
                )
                raise TypeError(msg)
            registration = Registration(
                task,
                model_class,
                id_query,
                None if launch_args is None else tuple(launch_args),
                None if launch_kwargs is None else dict(launch_kwargs),
                hidden,
            )
            self._unnamed.append(registration)
            self._registrations.append(registration)
            return task

        return decorate

    def registrations(self, task_name: str) -> tuple[Registration, ...]:
        """Return what a task is registered for, nothing for a task that is not."""
        if self._unnamed:
            self._name()
        return self._by_name.get(task_name, ())

    def registrations_for(self, model: type[Model]) -> tuple[Registration, ...]:
        """Return what is registered for a model, in the order of registering.

        For a proxy that is what is registered for the models it stands for, too.
        """
        concrete = model._meta.concrete_model
        return tuple(
            registration
            for registration in self._registrations
            if issubclass(model, registration.model)
            and registration.model._meta.concrete_model is concrete
        )

    def models(self) -> tuple[type[Model], ...]:
        """Return the models that tasks are registered for."""
        return tuple(dict.fromkeys(r.model for r in self._registrations))

    def __iter__(self) -> Iterator[Registration]:
        """Iterate over all registrations, in the order of registering."""
        return iter(tuple(self._registrations))

    def tasks_for(self, obj: Model) -> TaskStateQuerySet:
        """Return the tasks of an object."""
        from django_celery_monitor.models import TaskState

        return TaskState.objects.for_object(obj)

    def discover(self) -> None:
        """Import the tasks of all installed apps, once.

        An app whose tasks cannot be imported is logged, and left to the system
        checks: the others keep their pages.
        """
        with self._discovering:
            if self._discovered:
                return
            self._discovered = True
            for config in apps.get_app_configs():
                module = f"{config.name}.{TASKS}"
                if config.module and module_has_submodule(config.module, TASKS):
                    try:
                        import_module(module)
                    except Exception as exc:
                        logger.exception("Cannot import %s", module)
                        self.failures[module] = exc

    def _name(self) -> None:
        """Sort what is registered by the names of the tasks."""
        with self._naming:
            while self._unnamed:
                # It leaves the list last: who finds the list empty finds it sorted.
                registration = self._unnamed[0]
                try:
                    name = registration.task_name
                except Exception:
                    # Whoever sends another task must not be told.
                    logger.exception("A task that is registered cannot be had")
                else:
                    self._by_name[name] = (*self._by_name.get(name, ()), registration)
                del self._unnamed[0]


def check_model(model: Any) -> None:
    """Raise an error unless ``model`` has objects that a link can lead to."""
    if not (isinstance(model, type) and issubclass(model, Model)):
        msg = f"task_tracker.register() takes a model, not {model!r}."
        raise TypeError(msg)
    name, meta = f"{model.__module__}.{model.__qualname__}", model._meta
    if meta.abstract:
        msg = f"Tasks cannot be registered for {name}: the model is abstract."
        raise ImproperlyConfigured(msg)
    if meta.swapped:
        msg = f"Tasks cannot be registered for {name}: {meta.swapped} replaces it."
        raise ImproperlyConfigured(msg)
    if len(meta.pk_fields) > 1:
        msg = f"Tasks cannot be registered for {name}: its primary key is composite."
        raise ImproperlyConfigured(msg)


#: The project's tracker.
task_tracker = TaskTracker()
