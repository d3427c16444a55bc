"""Django settings of the example; see README.rst for the environment variables."""

import os
from pathlib import Path

import dj_database_url

BASE_DIR = Path(__file__).resolve().parent.parent
DATA_DIR = Path(os.environ.get("DEMO_DIR", BASE_DIR / "var")).resolve()
# Django's own checks open the database, before any command could make its folder.
DATA_DIR.mkdir(parents=True, exist_ok=True)

DEBUG = True
SECRET_KEY = "not a secret: it runs on your own machine only"  # noqa: S105
ALLOWED_HOSTS = ["127.0.0.1", "localhost"]

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django_celery_monitor",
    "django_celery_monitor.tracking",
    "shop",
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
    # Tracked tasks know which request has sent them, and whose it was.
    "django_celery_monitor.tracking.middleware.ProvenanceMiddleware",
]
ROOT_URLCONF = "shop.urls"
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
STATIC_URL = "static/"
USE_TZ = True
TIME_ZONE = "UTC"

DATABASES = {
    "default": dj_database_url.config(default=f"sqlite:///{DATA_DIR}/db.sqlite3")
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
if DATABASES["default"]["ENGINE"] == "django.db.backends.sqlite3":
    # The camera and the web server write at the same time: readers go on reading
    # (WAL), and a writer waits its turn instead of failing in mid-transaction.
    DATABASES["default"]["OPTIONS"] = {
        "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;",
        "transaction_mode": "IMMEDIATE",
        "timeout": 20,
    }

# What only counts while the demo runs; `manage.py demo` starts it afresh.
RUN_DIR = DATA_DIR / "run"

CELERY_BROKER_URL = os.environ.get("CELERY_BROKER_URL", "filesystem://localhost")
if CELERY_BROKER_URL.startswith("filesystem:"):
    # No server needed: every message is a file in one folder.
    CELERY_BROKER_TRANSPORT = "shop.broker:Transport"
    CELERY_BROKER_TRANSPORT_OPTIONS = {
        # Strings, as a worker that is asked for its statistics tells of them in JSON.
        "data_folder_in": str(RUN_DIR / "messages"),
        "data_folder_out": str(RUN_DIR / "messages"),
        "control_folder": str(RUN_DIR / "control"),
        "polling_interval": 0.2,
    }
CELERY_RESULT_BACKEND = f"file://{RUN_DIR}/results"

# What the monitor lives on: the workers' events, and an event for each task sent,
# which tells its queue and how long it waited there.
CELERY_WORKER_SEND_TASK_EVENTS = True
CELERY_TASK_SEND_SENT_EVENT = True

# The one worker of the queue "slow" is busy most of the time, so that tasks can be
# seen waiting. Taking one task at a time leaves the others in the queue.
CELERY_TASK_ROUTES = {
    "shop.tasks.build_report": {"queue": "slow"},
    "shop.tasks.sync_stock": {"queue": "slow"},
}
CELERY_WORKER_PREFETCH_MULTIPLIER = 1

# The time between two runs in seconds, the task and what it is called with.
CELERY_BEAT_SCHEDULE = {
    "succeed": {"schedule": 3, "task": "shop.tasks.send_receipt", "args": (1001,)},
    "fail": {"schedule": 10, "task": "shop.tasks.charge_card", "args": (1002,)},
    "take long": {"schedule": 20, "task": "shop.tasks.build_report", "args": (4,)},
    "track": {"schedule": 12, "task": "shop.tasks.ask_for_review", "args": (1002,)},
    "group and retry": {"schedule": 15, "task": "shop.tasks.sync_warehouses"},
    "chain": {"schedule": 15, "task": "shop.tasks.fulfil_order", "args": (1003,)},
    "chord": {"schedule": 30, "task": "shop.tasks.count_visits"},
    "revoke": {"schedule": 25, "task": "shop.tasks.cancel_order", "args": (1004,)},
    "run later": {
        "schedule": 15,
        "task": "shop.tasks.remind_customer",
        "args": ("ada@example.com",),
        "options": {"countdown": 30},
    },
    "expire": {
        "schedule": 25,
        "task": "shop.tasks.offer_discount",
        "kwargs": {"percent": 20},
        "options": {"countdown": 6, "expires": 3},
    },
}
