"""The indexes that the admin's queries use, in place of those they make needless."""

import django.db.models.deletion
from django.db import migrations, models

from ._operations import AddIndexOnline, RemoveColumnIndex


class Migration(migrations.Migration):
    """Add indexes of two columns and remove those of their first column alone."""

    # CREATE INDEX CONCURRENTLY cannot run in a transaction.
    atomic = False

    dependencies = [("celery_monitor", "0004_columns")]

    operations = [
        AddIndexOnline(
            "taskstate",
            models.Index(fields=["state", "tstamp"], name="celery_monitor_task_state"),
        ),
        AddIndexOnline(
            "taskstate",
            models.Index(fields=["name", "tstamp"], name="celery_monitor_task_name"),
        ),
        AddIndexOnline(
            "taskstate",
            models.Index(
                fields=["worker", "tstamp"], name="celery_monitor_task_worker"
            ),
        ),
        AddIndexOnline(
            "taskstate",
            models.Index(fields=["root_id"], name="celery_monitor_task_root"),
        ),
        RemoveColumnIndex(
            "taskstate",
            "state",
            models.CharField(
                choices=[
                    ("FAILURE", "FAILURE"),
                    ("PENDING", "PENDING"),
                    ("RECEIVED", "RECEIVED"),
                    ("REJECTED", "REJECTED"),
                    ("RETRY", "RETRY"),
                    ("REVOKED", "REVOKED"),
                    ("STARTED", "STARTED"),
                    ("SUCCESS", "SUCCESS"),
                ],
                max_length=64,
                verbose_name="state",
            ),
        ),
        RemoveColumnIndex(
            "taskstate",
            "name",
            models.CharField(max_length=255, null=True, verbose_name="name"),
        ),
        RemoveColumnIndex(
            "taskstate",
            "worker",
            models.ForeignKey(
                db_index=False,
                null=True,
                on_delete=django.db.models.deletion.SET_NULL,
                to="celery_monitor.workerstate",
                verbose_name="worker",
            ),
        ),
    ]
