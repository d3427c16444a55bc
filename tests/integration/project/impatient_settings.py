"""The settings of the project, with little patience for a database that is locked."""

from tests.integration.project.settings import *  # noqa: F403 -- settings are one list
from tests.integration.project.settings import DATABASES

CELERY_MONITOR_FLUSH_TIMEOUT = 0.5

if "OPTIONS" in DATABASES["default"]:
    DATABASES["default"]["OPTIONS"]["timeout"] = 0.2
