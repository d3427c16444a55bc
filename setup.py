"""Packaging of django-celery-monitor; the metadata is static."""

import re
from pathlib import Path

from setuptools import find_namespace_packages, setup

ROOT = Path(__file__).parent
PACKAGE = "django_celery_monitor"


def version() -> str:
    """Return the version as written, without importing Django or Celery."""
    text = (ROOT / PACKAGE / "__init__.py").read_text(encoding="utf-8")
    match = re.search(r'^__version__ = "([^"]+)"$', text, re.MULTILINE)
    if match is None:
        raise RuntimeError(f"{PACKAGE}/__init__.py has no __version__")
    return match[1]


setup(
    name="django-celery-monitor",
    version=version(),
    description="Celery monitoring in the Django admin",
    long_description=(ROOT / "README.rst").read_text(encoding="utf-8"),
    long_description_content_type="text/x-rst",
    author="The django-celery-monitor contributors",
    license_expression="BSD-3-Clause",
    license_files=["LICENSE", "AUTHORS"],
    keywords=["django", "celery", "monitoring", "events", "admin"],
    # The folders of templates, static files and translations count as packages.
    packages=find_namespace_packages(
        include=[PACKAGE, f"{PACKAGE}.*"], exclude=["*.__pycache__"]
    ),
    include_package_data=True,
    zip_safe=False,
    python_requires=">=3.10",
    install_requires=["Django>=5.2", "celery>=5.5"],
    extras_require={
        "postgresql": ["psycopg[binary]>=3.2"],
        "mysql": ["mysqlclient>=2.2.1"],
        "redis": ["celery[redis]"],
        "demo": ["dj-database-url>=2.3", "supervisor>=4.3"],
        "test": [
            "dj-database-url>=2.3",
            "factory-boy>=3.3.1",
            "hypothesis>=6.100",
            "polib>=1.2",
            "pytest>=8.3",
            "pytest-cov>=6.0",
            "pytest-django>=4.10",
            "pytest-randomly>=3.16",
            "pytest-timeout>=2.3",
            "pytest-xdist>=3.6",
            "supervisor>=4.3",
            "time-machine>=2.16",
        ],
        "browser": [
            "axe-playwright-python>=0.1.4",
            "pillow>=11.0",
            "playwright>=1.49",
        ],
        "docs": ["furo>=2024.8.6", "sphinx>=8.1"],
        "dev": [
            "build>=1.2",
            "celery-types>=0.23",
            "check-manifest>=0.50",
            "djade>=1.4",
            "django-stubs>=5.2",
            "mypy>=1.15",
            "ruff>=0.12",
            "setuptools>=77",
            "tox>=4.22",
            "twine>=6.1",
            "types-polib>=1.2",
        ],
    },
    classifiers=[
        "Development Status :: 4 - Beta",
        "Environment :: Web Environment",
        "Framework :: Celery",
        "Framework :: Django",
        "Framework :: Django :: 5.2",
        "Framework :: Django :: 6.0",
        "Framework :: Django :: 6.1",
        "Intended Audience :: Developers",
        "Intended Audience :: System Administrators",
        "Operating System :: OS Independent",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3 :: Only",
        "Programming Language :: Python :: 3.10",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Programming Language :: Python :: 3.14",
        "Topic :: System :: Distributed Computing",
        "Topic :: System :: Monitoring",
        "Typing :: Typed",
    ],
)
