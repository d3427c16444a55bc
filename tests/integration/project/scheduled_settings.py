"""The settings of the project, which has a tracked task sent every second."""

from tests.integration.project.tracked_settings import *  # noqa: F403 -- one list

CELERY_BEAT_SCHEDULE = {
    "pay the first": {
        "task": "tests.integration.project.tracked.tasks.pay",
        "schedule": 1.0,
        "args": (1,),
    },
}
