"""Django settings of the tests.

Environment: ``DATABASE_URL`` (see ``tests/databases.py``; SQLite in memory unless
set), ``MONITOR_USE_TZ`` (``0`` switches ``USE_TZ`` off) and ``MONITOR_AUTO_FIELD``
(``DEFAULT_AUTO_FIELD``; Django's own default unless set).
"""

import os

from tests.databases import database, sqlite

SECRET_KEY = "not a secret: tests only"
ALLOWED_HOSTS = ["*"]

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django_celery_monitor",
    "django_celery_monitor.tracking",
    "tests.tracked",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
ROOT_URLCONF = "tests.urls"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]
STATIC_URL = "/static/"

DATABASES = {
    "default": database(os.environ.get("DATABASE_URL", "sqlite:///:memory:")),
    "other": sqlite(":memory:"),
}
DATABASE_ROUTERS: list[str] = []
if "MONITOR_AUTO_FIELD" in os.environ:
    DEFAULT_AUTO_FIELD = os.environ["MONITOR_AUTO_FIELD"]

USE_TZ = os.environ.get("MONITOR_USE_TZ", "1") != "0"
TIME_ZONE = "UTC"
LANGUAGE_CODE = "en-us"

# The real hasher is slow by design, and the tests create many users.
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]

# Celery itself lets the variable CELERY_BROKER_URL win over this setting: that is
# how the integration tests point real processes at another broker.
CELERY_BROKER_URL = "memory://"
CELERY_WORKER_SEND_TASK_EVENTS = True
CELERY_TASK_SEND_SENT_EVENT = True
