"""A shop that leaves its work to Celery and watches it in Django's admin."""

from shop.celery import app as celery_app

__all__ = ["celery_app"]
