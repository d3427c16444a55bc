"""The rows: which tasks were about which objects, and what sent them."""

from __future__ import annotations

from typing import Any

from django.contrib.contenttypes.models import ContentType
from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from django_celery_monitor.models import TaskState

from .fields import ObjectForeignKey, ObjectIdField
from .registry import ROLE_LENGTH


class Source(models.TextChoices):
    """What kind of thing sent a task."""

    REQUEST = "request", _("Request")
    COMMAND = "command", _("Management command")
    BEAT = "beat", _("Celery beat")
    TASK = "task", _("Task")


class TaskObjectLinkQuerySet(models.QuerySet["TaskObjectLink"]):
    """Queries of links."""

    def for_object(self, obj: models.Model) -> TaskObjectLinkQuerySet:
        """Return the links of an object."""
        # Its own database has the ids that the links have been given.
        content_type = ContentType.objects.get_for_model(obj)
        # The text of a UUID, as an object may have it, says not how it is stored.
        field: Any = obj._meta.pk
        key = field.to_python(obj.pk)
        return self.filter(content_type_id=content_type.pk, object_id=key)


class TaskObjectLink(models.Model):
    """A task that was about an object.

    It may be written before the task has a row, and says so of a task that has none
    any more; nothing in the database ties the two together.
    """

    task = models.ForeignKey(
        TaskState,
        verbose_name=_("task"),
        to_field="task_id",
        related_name="object_links",
        # Whoever deletes tasks deletes their links first, without loading either.
        on_delete=models.DO_NOTHING,
        db_constraint=False,
        # The unique constraint begins with it.
        db_index=False,
    )
    content_type = models.ForeignKey(
        ContentType,
        verbose_name=_("content type"),
        # The project's content types may be in another database, which has no table
        # of links. These go with their tasks.
        on_delete=models.DO_NOTHING,
        db_constraint=False,
        # The index of an object begins with it.
        db_index=False,
    )
    object_id = ObjectIdField(_("object ID"), max_length=255)
    content_object = ObjectForeignKey("content_type", "object_id")
    role = models.CharField(
        _("role"),
        max_length=ROLE_LENGTH,
        blank=True,
        help_text=_("The parameters of the task that tell the object."),
    )
    source = models.CharField(
        _("sent by"), max_length=16, choices=Source.choices, null=True, blank=True
    )
    source_name = models.CharField(
        _("name of the sender"),
        max_length=255,
        null=True,
        blank=True,
        help_text=_(
            "The path of the request, or the name of the command, the entry of the"
            " schedule or the task."
        ),
    )
    # No foreign key: users may be in another database, and are deleted.
    user_id = models.CharField(_("user ID"), max_length=255, null=True, blank=True)
    username = models.CharField(_("user"), max_length=255, null=True, blank=True)
    created_at = models.DateTimeField(
        _("created at"), default=timezone.now, editable=False
    )

    objects = TaskObjectLinkQuerySet.as_manager()

    class Meta:
        """Options of the model."""

        verbose_name = _("task of an object")
        verbose_name_plural = _("tasks of objects")
        constraints = (
            # An index of MySQL has room for 3,072 bytes, four for each character.
            models.UniqueConstraint(
                fields=["task", "content_type", "object_id", "role"],
                name="celery_monitor_link_unique",
            ),
        )
        indexes = (
            models.Index(
                fields=["content_type", "object_id", "id"],
                name="celery_monitor_link_object",
            ),
        )

    def __str__(self) -> str:
        """Return the ids of task and object."""
        values: tuple[Any, ...] = (self.task_id, self.content_type_id, self.object_id)
        return "{}: {} {}".format(*values)
