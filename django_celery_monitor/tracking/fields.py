"""The primary key of any object, as text."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import UUID

from django.db import models
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models.functions import Cast
from django.db.models.lookups import Exact
from django.db.models.sql.compiler import SQLCompiler

from django_celery_monitor.sanitize import fit_identifier

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
            return fit_identifier(text, self.max_length)
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


@ObjectIdField.register_lookup
class ObjectIdExact(Exact):
    """Compares with the key of another table as text, as in ``OuterRef("pk")``."""

    def process_rhs(
        self, compiler: SQLCompiler, connection: BaseDatabaseWrapper
    ) -> Any:
        """Return the other side, as text if it is no value."""
        if self.rhs_is_direct_value():
            return super().process_rhs(compiler, connection)
        text = Cast(self.rhs, models.CharField())
        return compiler.compile(text.resolve_expression(compiler.query))
