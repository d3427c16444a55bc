"""The application."""

from django.apps import AppConfig


class TrackedConfig(AppConfig):
    """An app of a project."""

    name = "tests.tracked"
    label = "tracked"
    default_auto_field = "django.db.models.BigAutoField"
