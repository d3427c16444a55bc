"""The settings of the project, which has the tasks of its orders tracked."""

from tests.integration.project.settings import *  # noqa: F403 -- settings are one list

INSTALLED_APPS = [
    "django.contrib.contenttypes",
    "django_celery_monitor",
    "django_celery_monitor.tracking",
    "tests.integration.project.tracked",
]
CELERY_IMPORTS = ["tests.integration.project.tracked.tasks"]
CELERY_TASK_SEND_SENT_EVENT = False
