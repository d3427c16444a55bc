"""Configuration of Sphinx."""

import sys
from pathlib import Path

import django
from django.conf import settings

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import django_celery_monitor

# autodoc imports the models and the admin.
settings.configure(
    INSTALLED_APPS=[
        "django.contrib.admin",
        "django.contrib.auth",
        "django.contrib.contenttypes",
        "django.contrib.messages",
        "django.contrib.sessions",
        "django_celery_monitor",
        "django_celery_monitor.tracking",
    ],
    USE_TZ=True,
)
django.setup()

project = "django-celery-monitor"
author = "The django-celery-monitor contributors"
project_copyright = author
release = django_celery_monitor.__version__
version = ".".join(release.split(".")[:2])

extensions = ["sphinx.ext.autodoc"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"django-celery-monitor {release}"
highlight_language = "none"

autodoc_member_order = "bysource"
autodoc_typehints = "signature"

nitpicky = True
# Other projects' names in signatures: the documentation is built without a network.
nitpick_ignore_regex = [
    (r"py:.*", r"(celery|collections|datetime|django|kombu|logging|types|typing)\..*"),
    # Imported for type checkers alone, and so without their module.
    (
        r"py:.*",
        "Celery|Connection|Control|Expiry|HttpRequest|Model|Promise|Row|Task|Worker"
        "|datetime|timedelta",
    ),
    # What Sphinx makes of a mapping in a mapping.
    (r"py:.*", r"dict\[str"),
    # How lists are bounded and workers are asked is no interface.
    (r"py:.*", r"(.*\.)?(BoundedPaginator|Conversation|TaskList)"),
    # Type variables.
    (r"py:.*", r"(.*\.)?(_M|_R|_T|T|Function)"),
]
