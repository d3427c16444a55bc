"""The application and what it does when Django starts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.apps import AppConfig
from django.core import checks
from django.utils.translation import gettext_lazy as _

if TYPE_CHECKING:
    from celery import Celery


class CeleryMonitorConfig(AppConfig):
    """Django's configuration of the Celery monitor."""

    name = "django_celery_monitor"
    label = "celery_monitor"
    verbose_name = _("Celery Monitor")
    #: What the migrations create, whatever the project's own default is.
    default_auto_field = "django.db.models.BigAutoField"

    #: The Celery app that was current when Django started, or None.
    celery_app: Celery | None = None

    def ready(self) -> None:
        """Remember the project's Celery app, and register the system checks."""
        from . import checks as monitor_checks
        from . import conf

        app = conf.get_app()
        self.celery_app = None if conf.is_fallback(app) else app
        for check in (monitor_checks.check_settings, monitor_checks.check_app):
            checks.register(check, checks.Tags.compatibility)
        checks.register(monitor_checks.check_sqlite, checks.Tags.database)
        checks.register(
            monitor_checks.check_events, checks.Tags.compatibility, deploy=True
        )
