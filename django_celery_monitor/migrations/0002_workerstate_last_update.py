"""The time of the last write of a worker, as version 1.1.0 added it."""

import django.utils.timezone
from django.db import migrations, models


class Migration(migrations.Migration):
    """Add the column last_update."""

    dependencies = [("celery_monitor", "0001_initial")]

    operations = [
        migrations.AddField(
            model_name="workerstate",
            name="last_update",
            field=models.DateTimeField(
                auto_now=True,
                default=django.utils.timezone.now,
                verbose_name="last update",
            ),
            preserve_default=False,
        ),
    ]
