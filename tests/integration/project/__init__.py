"""A small Celery project on Django, run by the integration tests in real processes."""
