"""The task tracker in Django's admin."""

from .inline import RecentTasksInline
from .model_admin import TrackedModelAdmin

__all__ = ["RecentTasksInline", "TrackedModelAdmin"]
