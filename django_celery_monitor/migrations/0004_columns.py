"""The columns that version 2 adds, all of them nullable: no table is copied."""

from django.db import migrations, models


class Migration(migrations.Migration):
    """Add the columns."""

    dependencies = [
        ("celery_monitor", "0003_widen_columns"),
    ]

    operations = [
        migrations.AlterModelOptions(
            name="taskstate",
            options={
                "get_latest_by": "tstamp",
                "ordering": ("-tstamp",),
                "permissions": (
                    ("control_tasks", "Can control tasks"),
                    ("run_tasks", "Can run tasks"),
                ),
                "verbose_name": "task",
                "verbose_name_plural": "tasks",
            },
        ),
        migrations.AlterModelOptions(
            name="workerstate",
            options={
                "get_latest_by": "last_heartbeat",
                "ordering": ("-last_heartbeat",),
                "permissions": (("control_workers", "Can control workers"),),
                "verbose_name": "worker",
                "verbose_name_plural": "workers",
            },
        ),
        migrations.AddField(
            model_name="taskstate",
            name="attempts",
            field=models.JSONField(
                blank=True,
                help_text="What the newest retries said, oldest first.",
                null=True,
                verbose_name="attempts",
            ),
        ),
        migrations.AddField(
            model_name="taskstate",
            name="exception",
            field=models.CharField(
                blank=True,
                help_text="The type of the exception alone.",
                max_length=255,
                null=True,
                verbose_name="exception",
            ),
        ),
        migrations.AddField(
            model_name="taskstate",
            name="exchange",
            field=models.CharField(
                blank=True, max_length=255, null=True, verbose_name="exchange"
            ),
        ),
        migrations.AddField(
            model_name="taskstate",
            name="finished_at",
            field=models.DateTimeField(
                blank=True, null=True, verbose_name="finished at"
            ),
        ),
        migrations.AddField(
            model_name="taskstate",
            name="parent_id",
            field=models.CharField(
                blank=True,
                help_text="UUID of the task that sent this one.",
                max_length=255,
                null=True,
                verbose_name="parent",
            ),
        ),
        migrations.AddField(
            model_name="taskstate",
            name="queue",
            field=models.CharField(
                blank=True, max_length=255, null=True, verbose_name="queue"
            ),
        ),
        migrations.AddField(
            model_name="taskstate",
            name="received_at",
            field=models.DateTimeField(
                blank=True, null=True, verbose_name="received at"
            ),
        ),
        migrations.AddField(
            model_name="taskstate",
            name="root_id",
            field=models.CharField(
                blank=True,
                help_text="UUID of the first task of the workflow.",
                max_length=255,
                null=True,
                verbose_name="root",
            ),
        ),
        migrations.AddField(
            model_name="taskstate",
            name="routing_key",
            field=models.CharField(
                blank=True, max_length=255, null=True, verbose_name="routing key"
            ),
        ),
        migrations.AddField(
            model_name="taskstate",
            name="sent_at",
            field=models.DateTimeField(blank=True, null=True, verbose_name="sent at"),
        ),
        migrations.AddField(
            model_name="taskstate",
            name="started_at",
            field=models.DateTimeField(
                blank=True, null=True, verbose_name="started at"
            ),
        ),
        migrations.AddField(
            model_name="taskstate",
            name="tstamp_us",
            field=models.BigIntegerField(editable=False, null=True),
        ),
        # Django would give auto_now a value in every row, and copy the table on SQLite.
        migrations.SeparateDatabaseAndState(
            database_operations=[
                migrations.AddField(
                    model_name="taskstate",
                    name="updated_at",
                    field=models.DateTimeField(null=True),
                ),
            ],
            state_operations=[
                migrations.AddField(
                    model_name="taskstate",
                    name="updated_at",
                    field=models.DateTimeField(
                        auto_now=True, null=True, verbose_name="updated at"
                    ),
                ),
            ],
        ),
        migrations.AddField(
            model_name="workerstate",
            name="active",
            field=models.PositiveIntegerField(
                blank=True, null=True, verbose_name="active tasks"
            ),
        ),
        migrations.AddField(
            model_name="workerstate",
            name="first_seen",
            field=models.DateTimeField(
                blank=True, null=True, verbose_name="first seen"
            ),
        ),
        migrations.AddField(
            model_name="workerstate",
            name="freq",
            field=models.FloatField(
                blank=True,
                help_text="Seconds between two heartbeats of the worker.",
                null=True,
                verbose_name="heartbeat frequency",
            ),
        ),
        migrations.AddField(
            model_name="workerstate",
            name="last_heartbeat_us",
            field=models.BigIntegerField(editable=False, null=True),
        ),
        migrations.AddField(
            model_name="workerstate",
            name="loadavg",
            field=models.JSONField(blank=True, null=True, verbose_name="load average"),
        ),
        migrations.AddField(
            model_name="workerstate",
            name="offline_at",
            field=models.DateTimeField(
                blank=True,
                help_text="When the worker last said that it goes offline.",
                null=True,
                verbose_name="offline since",
            ),
        ),
        migrations.AddField(
            model_name="workerstate",
            name="offline_at_us",
            field=models.BigIntegerField(editable=False, null=True),
        ),
        migrations.AddField(
            model_name="workerstate",
            name="pid",
            field=models.PositiveBigIntegerField(
                blank=True, null=True, verbose_name="process id"
            ),
        ),
        migrations.AddField(
            model_name="workerstate",
            name="processed",
            field=models.PositiveBigIntegerField(
                blank=True, null=True, verbose_name="processed tasks"
            ),
        ),
        migrations.AddField(
            model_name="workerstate",
            name="sw_ident",
            field=models.CharField(
                blank=True, max_length=255, null=True, verbose_name="software"
            ),
        ),
        migrations.AddField(
            model_name="workerstate",
            name="sw_sys",
            field=models.CharField(
                blank=True, max_length=255, null=True, verbose_name="system"
            ),
        ),
        migrations.AddField(
            model_name="workerstate",
            name="sw_ver",
            field=models.CharField(
                blank=True, max_length=255, null=True, verbose_name="version"
            ),
        ),
        migrations.AddField(
            model_name="workerstate",
            name="update_freq",
            field=models.FloatField(
                editable=False,
                help_text="Longest time in seconds between two writes of this row.",
                null=True,
            ),
        ),
        migrations.AlterField(
            model_name="taskstate",
            name="runtime",
            field=models.FloatField(
                help_text="In seconds, if it succeeded.",
                null=True,
                verbose_name="execution time",
            ),
        ),
        migrations.AlterField(
            model_name="taskstate",
            name="state",
            field=models.CharField(
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
                db_index=True,
                max_length=64,
                verbose_name="state",
            ),
        ),
        migrations.AlterField(
            model_name="taskstate",
            name="tstamp",
            field=models.DateTimeField(
                db_index=True,
                help_text="When the event happened that the state comes from.",
                verbose_name="state since",
            ),
        ),
    ]
