"""The application of the task tracker."""

from __future__ import annotations

from django.apps import AppConfig, apps
from django.core import checks
from django.utils.translation import gettext_lazy as _


class TrackingConfig(AppConfig):
    """Django's configuration of the task tracker."""

    name = "django_celery_monitor.tracking"
    label = "celery_monitor_tracking"
    verbose_name = _("Task Tracker")
    #: What the migrations create, whatever the project's own default is.
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Register the checks, listen for tasks, and add to the pages of the admin."""
        from . import checks as tracking_checks
        from . import pool, provenance, publishing, worker

        for check in (
            tracking_checks.check_registrations,
            tracking_checks.check_databases,
        ):
            checks.register(check, checks.Tags.compatibility)
        for module in (pool, provenance, publishing, worker):
            module.connect()
        if apps.is_installed("django.contrib.admin"):
            from .admin import button

            button.install()
