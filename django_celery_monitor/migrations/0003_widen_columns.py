"""Ids of 64 bits, task ids and names of 255 characters; tasks outlive their worker."""

import django.db.models.deletion
from django.db import migrations, models

from ._operations import WidenColumns

BIG_ID = models.BigAutoField(
    auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
)


class Migration(migrations.Migration):
    """Widen the columns, and keep the tasks of a worker that is deleted."""

    dependencies = [("celery_monitor", "0002_workerstate_last_update")]

    operations = [
        WidenColumns(
            state_operations=[
                migrations.AlterField("workerstate", "id", BIG_ID),
                migrations.AlterField("taskstate", "id", BIG_ID),
                migrations.AlterField(
                    "taskstate",
                    "task_id",
                    models.CharField(max_length=255, unique=True, verbose_name="UUID"),
                ),
                migrations.AlterField(
                    "taskstate",
                    "name",
                    models.CharField(
                        db_index=True, max_length=255, null=True, verbose_name="name"
                    ),
                ),
                migrations.AlterField(
                    "taskstate",
                    "worker",
                    models.ForeignKey(
                        null=True,
                        on_delete=django.db.models.deletion.SET_NULL,
                        to="celery_monitor.workerstate",
                        verbose_name="worker",
                    ),
                ),
            ]
        ),
    ]
