"""The settings of the project, one of them wrong."""

from tests.integration.project.settings import *  # noqa: F403 -- settings are one list

CELERY_MONITOR_TASK_ERROR_EXPIRES = "three days"
