"""Django settings of the project.

Environment: ``DATABASE_URL`` and ``MONITOR_USE_TZ`` (see ``tests/settings.py``),
``CELERY_BROKER_URL``, ``PROJECT_DIR`` (where a file-system broker and the ledger
are) and ``PROJECT_NAME``, which keeps the queues of two runs on one broker apart.
"""

import os
from pathlib import Path

from tests.databases import database

SECRET_KEY = "not a secret: tests only"
INSTALLED_APPS = ["django_celery_monitor"]
DATABASES = {"default": database(os.environ["DATABASE_URL"])}
USE_TZ = os.environ.get("MONITOR_USE_TZ", "1") != "0"
TIME_ZONE = "UTC"

PROJECT_DIR = Path(os.environ["PROJECT_DIR"])

NAME = os.environ["PROJECT_NAME"]
CELERY_BROKER_URL = os.environ["CELERY_BROKER_URL"]
CELERY_TASK_DEFAULT_QUEUE = NAME
CELERY_EVENT_EXCHANGE = f"{NAME}.events"
CELERY_EVENT_QUEUE_PREFIX = f"{NAME}.events"
CELERY_CONTROL_EXCHANGE = f"{NAME}.control"
CELERY_TASK_SEND_SENT_EVENT = True
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True

if CELERY_BROKER_URL.startswith("filesystem:"):
    CELERY_BROKER_TRANSPORT = "tests.integration.project.broker:Transport"
    CELERY_BROKER_TRANSPORT_OPTIONS = {
        "data_folder_in": str(PROJECT_DIR / "messages"),
        "data_folder_out": str(PROJECT_DIR / "messages"),
        "control_folder": str(PROJECT_DIR / "control"),
        "polling_interval": 0.05,
    }
