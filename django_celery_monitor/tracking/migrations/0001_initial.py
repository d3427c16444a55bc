"""The table of links from tasks to objects."""

import django.utils.timezone
from django.db import migrations, models

import django_celery_monitor.tracking.fields


class Migration(migrations.Migration):
    """Create the table."""

    initial = True

    dependencies = [
        ("celery_monitor", "0006_cameras"),
        ("contenttypes", "0002_remove_content_type_name"),
    ]

    operations = [
        migrations.CreateModel(
            name="TaskObjectLink",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True,
                        primary_key=True,
                        serialize=False,
                        verbose_name="ID",
                    ),
                ),
                (
                    "object_id",
                    django_celery_monitor.tracking.fields.ObjectIdField(
                        max_length=255, verbose_name="object ID"
                    ),
                ),
                (
                    "role",
                    models.CharField(
                        blank=True,
                        help_text="The parameters of the task that tell the object.",
                        max_length=200,
                        verbose_name="role",
                    ),
                ),
                (
                    "source",
                    models.CharField(
                        blank=True,
                        choices=[
                            ("request", "Request"),
                            ("command", "Management command"),
                            ("beat", "Celery beat"),
                            ("task", "Task"),
                        ],
                        max_length=16,
                        null=True,
                        verbose_name="sent by",
                    ),
                ),
                (
                    "source_name",
                    models.CharField(
                        blank=True,
                        help_text=(
                            "The path of the request, or the name of the command, the"
                            " entry of the schedule or the task."
                        ),
                        max_length=255,
                        null=True,
                        verbose_name="name of the sender",
                    ),
                ),
                (
                    "user_id",
                    models.CharField(
                        blank=True, max_length=255, null=True, verbose_name="user ID"
                    ),
                ),
                (
                    "username",
                    models.CharField(
                        blank=True, max_length=255, null=True, verbose_name="user"
                    ),
                ),
                (
                    "created_at",
                    models.DateTimeField(
                        default=django.utils.timezone.now,
                        editable=False,
                        verbose_name="created at",
                    ),
                ),
                (
                    "content_type",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        on_delete=models.DO_NOTHING,
                        to="contenttypes.contenttype",
                        verbose_name="content type",
                    ),
                ),
                (
                    "task",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        on_delete=models.DO_NOTHING,
                        related_name="object_links",
                        to="celery_monitor.taskstate",
                        to_field="task_id",
                        verbose_name="task",
                    ),
                ),
            ],
            options={
                "verbose_name": "task of an object",
                "verbose_name_plural": "tasks of objects",
                "indexes": [
                    models.Index(
                        fields=["content_type", "object_id", "id"],
                        name="celery_monitor_link_object",
                    )
                ],
                "constraints": [
                    models.UniqueConstraint(
                        fields=("task", "content_type", "object_id", "role"),
                        name="celery_monitor_link_unique",
                    )
                ],
            },
        ),
    ]
