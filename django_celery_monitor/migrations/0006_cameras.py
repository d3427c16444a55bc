"""The table of cameras, and nullable columns: no table is copied."""

from django.db import migrations, models


class Migration(migrations.Migration):
    """Add the table and the columns."""

    dependencies = [
        ("celery_monitor", "0005_indexes"),
    ]

    operations = [
        migrations.CreateModel(
            name="CameraState",
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
                ("hostname", models.CharField(max_length=255, verbose_name="hostname")),
                ("pid", models.PositiveBigIntegerField(verbose_name="process id")),
                (
                    "version",
                    models.CharField(
                        help_text="Of django-celery-monitor.",
                        max_length=255,
                        verbose_name="version",
                    ),
                ),
                (
                    "freq",
                    models.FloatField(
                        help_text="Longest time in seconds between two shots.",
                        verbose_name="interval",
                    ),
                ),
                ("started_at", models.DateTimeField(verbose_name="started at")),
                (
                    "last_shot",
                    models.DateTimeField(
                        help_text="When the last shot began.", verbose_name="last shot"
                    ),
                ),
                (
                    "last_commit",
                    models.DateTimeField(
                        blank=True,
                        help_text="When rows were last written to the database.",
                        null=True,
                        verbose_name="last commit",
                    ),
                ),
                (
                    "stopped_at",
                    models.DateTimeField(
                        blank=True,
                        help_text=(
                            "Empty while the camera runs, and for ever if it was "
                            "killed."
                        ),
                        null=True,
                        verbose_name="stopped at",
                    ),
                ),
                (
                    "lag",
                    models.FloatField(
                        default=0,
                        help_text=(
                            "Seconds from receiving an event to its commit, in the "
                            "last shot."
                        ),
                        verbose_name="lag",
                    ),
                ),
                (
                    "received",
                    models.PositiveBigIntegerField(
                        default=0,
                        help_text="Events that came from the broker.",
                        verbose_name="received",
                    ),
                ),
                (
                    "merged",
                    models.PositiveBigIntegerField(
                        default=0,
                        help_text=(
                            "Events that joined what was waiting about the same task "
                            "already."
                        ),
                        verbose_name="merged",
                    ),
                ),
                (
                    "saved",
                    models.PositiveBigIntegerField(
                        default=0,
                        help_text="Rows that were written.",
                        verbose_name="saved",
                    ),
                ),
                (
                    "retried",
                    models.PositiveBigIntegerField(
                        default=0,
                        help_text="Writes that failed and were tried again.",
                        verbose_name="retried",
                    ),
                ),
                (
                    "dropped",
                    models.PositiveBigIntegerField(
                        default=0,
                        help_text=(
                            "Observations given up because too many were waiting."
                        ),
                        verbose_name="dropped",
                    ),
                ),
                (
                    "made_fit",
                    models.PositiveBigIntegerField(
                        default=0,
                        help_text=(
                            "Values changed because the database would refuse them."
                        ),
                        verbose_name="made fit",
                    ),
                ),
                (
                    "quarantined",
                    models.PositiveBigIntegerField(
                        default=0,
                        help_text="Rows that the database refused all the same.",
                        verbose_name="quarantined",
                    ),
                ),
                (
                    "poison",
                    models.PositiveBigIntegerField(
                        default=0,
                        help_text="Messages that were no events, and were skipped.",
                        verbose_name="poison",
                    ),
                ),
                (
                    "reconnects",
                    models.PositiveBigIntegerField(
                        default=0,
                        help_text=(
                            "How often the connection to the broker was made anew."
                        ),
                        verbose_name="reconnects",
                    ),
                ),
            ],
            options={
                "verbose_name": "camera",
                "verbose_name_plural": "cameras",
                "ordering": ("-started_at",),
                "get_latest_by": "started_at",
            },
        ),
        migrations.AddField(
            model_name="taskstate",
            name="route_retries",
            field=models.IntegerField(editable=False, null=True),
        ),
        migrations.AddField(
            model_name="workerstate",
            name="told_us",
            field=models.BigIntegerField(editable=False, null=True),
        ),
        migrations.AddField(
            model_name="taskstate",
            name="sent_us",
            field=models.BigIntegerField(editable=False, null=True),
        ),
        migrations.AddField(
            model_name="taskstate",
            name="received_us",
            field=models.BigIntegerField(editable=False, null=True),
        ),
        migrations.AddField(
            model_name="taskstate",
            name="started_us",
            field=models.BigIntegerField(editable=False, null=True),
        ),
    ]
