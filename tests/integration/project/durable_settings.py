"""The settings of the project, with a queue that outlives the camera."""

from tests.integration.project.settings import *  # noqa: F403 -- settings are one list
from tests.integration.project.settings import NAME

CELERY_MONITOR_DURABLE_QUEUE = f"{NAME}.durable"
