"""The primary key of any object, as text, and the relation that goes by it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any
from uuid import UUID

from django.contrib.contenttypes.fields import GenericForeignKey, GenericRelation
from django.db import models
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models.functions import Cast
from django.db.models.lookups import Exact
from django.db.models.sql.compiler import SQLCompiler
from django.db.models.sql.where import AND, WhereNode

from django_celery_monitor.sanitize import fit_key

if TYPE_CHECKING:
    _CharField = models.CharField[Any, Any]
else:
    _CharField = models.CharField


class ObjectIdField(_CharField):
    """The text of a primary key of any type, as the database itself writes it.

    So a ``GenericRelation`` can join it with the key. A UUID is the one type of key
    that databases write differently: PostgreSQL and MariaDB, which have a type for it,
    with dashes, others without. A text that is too long is cut and ends with a digest.
    """

    def get_prep_value(self, value: Any) -> Any:
        """Return a UUID as it is, the text of anything else."""
        if isinstance(value, UUID):
            return value
        text = super().get_prep_value(value)
        if isinstance(text, str) and self.max_length is not None:
            return fit_key(text, self.max_length)
        return text

    def get_db_prep_value(
        self,
        value: Any,
        connection: BaseDatabaseWrapper,
        prepared: bool = False,  # noqa: FBT001, FBT002 -- as Django has it
    ) -> Any:
        """Return the text of a UUID as the database writes it."""
        if not prepared:
            value = self.get_prep_value(value)
        if isinstance(value, UUID):
            return (
                str(value) if connection.features.has_native_uuid_field else value.hex
            )
        return value


class AsText(Cast):
    """The text of a value as the database writes it."""

    def as_mysql(
        self, compiler: SQLCompiler, connection: BaseDatabaseWrapper, **context: Any
    ) -> Any:
        """Return SQL whose text gives way to the collation of what it is compared to.

        The text of a cast has the collation of the connection and insists on it.
        """
        template = "CONCAT(%(expressions)s)"
        return self.as_sql(compiler, connection, template=template, **context)


@ObjectIdField.register_lookup
class ObjectIdExact(Exact):
    """Compares with the key of another table as text, as in ``OuterRef("pk")``."""

    def process_rhs(
        self, compiler: SQLCompiler, connection: BaseDatabaseWrapper
    ) -> Any:
        """Return the other side, as text if it is no value."""
        if self.rhs_is_direct_value() or self._is_text():
            return super().process_rhs(compiler, connection)
        return compiler.compile(AsText(self.rhs, models.CharField()))

    def _is_text(self) -> bool:
        """Return whether the other side is text, which is left as it is compared."""
        field = getattr(self.rhs, "output_field", None)
        return isinstance(
            getattr(field, "target_field", field), (models.CharField, models.TextField)
        )


class ObjectForeignKey(GenericForeignKey):
    """The object of a link."""

    def contribute_to_class(
        self, cls: type[models.Model], name: str, *args: Any, **options: Any
    ) -> None:
        """Add the field to the model, and have it match objects by their keys."""
        super().contribute_to_class(cls, name, *args, **options)
        # Up to Django 6.0 that is the field itself.
        descriptor: Any = getattr(cls, name)
        descriptor.get_prefetch_querysets = partial(
            _match_by_key, descriptor.get_prefetch_querysets
        )


def _match_by_key(
    prefetch: Callable[..., tuple[Any, ...]],
    instances: list[Any],
    querysets: list[Any] | None = None,
) -> tuple[Any, ...]:
    """Return what Django prefetches for links, matched by keys as Python writes them.

    Django compares the text of a link, where a UUID may have no dashes.
    """
    objects, _, key_of, *rest = prefetch(instances, querysets)

    def key_of_link(link: models.Model) -> tuple[str, Any]:
        text, model = key_of(link)
        return str(model._meta.pk.to_python(text)), model

    return objects, lambda obj: (str(obj.pk), type(obj)), key_of_link, *rest


class TaskRelation(GenericRelation):
    """A ``GenericRelation`` to the links of tasks that joins them by an index.

    Joins of a ``GenericRelation`` compare the text of a link with a key of another
    type: no index of links serves that, and MySQL compares numbers of more than 53
    bits by their first ones. This one compares the texts of both as well.
    """

    def __init__(
        self, to: Any = "celery_monitor_tracking.TaskObjectLink", **options: Any
    ) -> None:
        """Relate to the links of tasks; ``options`` are those of any relation."""
        super().__init__(to, **options)

    def get_extra_restriction(self, alias: str | None, remote_alias: str) -> WhereNode:
        """Return what a join asks for besides the keys: ``alias`` is the model's."""
        where: WhereNode = super().get_extra_restriction(alias, remote_alias)
        if alias is not None:
            object_id, key = self.related_fields[0]
            text = ObjectIdExact(object_id.get_col(remote_alias), key.get_col(alias))
            where.add(text, AND)
        return where
