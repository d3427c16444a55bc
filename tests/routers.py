"""Database routers: the monitor's tables on a database of their own."""

from typing import Any

from django.db.models import Model

LABELS = {"celery_monitor", "celery_monitor_tracking"}


class MonitorRouter:
    """Route the models of the monitor to the alias "other"."""

    def db_for_read(self, model: type[Model], **hints: Any) -> str | None:
        """Return the alias that a model is read from; None: no opinion."""
        return "other" if model._meta.app_label in LABELS else None

    def db_for_write(self, model: type[Model], **hints: Any) -> str | None:
        """Return the alias that a model is written to; None: no opinion."""
        return self.db_for_read(model)


class ReplicaRouter:
    """Route reads to "default" as if it were a replica, which lags behind."""

    def db_for_read(self, model: type[Model], **hints: Any) -> str | None:
        """Return the alias that a model is read from; None: no opinion."""
        return "default" if model._meta.app_label in LABELS else None

    def db_for_write(self, model: type[Model], **hints: Any) -> str | None:
        """Return the alias that a model is written to; None: no opinion."""
        return "other" if model._meta.app_label in LABELS else None
