"""Tests of django-celery-monitor; importing them sets up their Celery app."""

from tests.celery import app as celery_app

__all__ = ["celery_app"]
