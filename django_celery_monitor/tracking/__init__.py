"""The task tracker: the tasks of one object, for each object of a project's models."""

from django.core.checks import Tags, register

from .checks import check_installed
from .registry import FromModel, task_tracker

__all__ = ["FromModel", "task_tracker"]

# Here, since the app that would register it may be the one that is missing.
register(check_installed, Tags.compatibility)
