"""The Celery app of the tests: nothing leaves the process."""

from celery import Celery

app = Celery("tests")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.set_current()
app.set_default()
