"""The documentation: what it names exists, and what exists is named."""

import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from celery import Celery
from django.db.models import Model

from django_celery_monitor import checks, conf
from django_celery_monitor.admin import ModelMonitor, TaskMonitor, WorkerMonitor
from django_celery_monitor.models import CameraState, TaskState, WorkerState
from django_celery_monitor.tracking import checks as tracking_checks

ROOT = Path(__file__).parent.parent
CHECKS = [checks, tracking_checks]
PAGES = [ROOT / "README.rst", ROOT / "CHANGELOG.rst", *(ROOT / "docs").glob("*.rst")]


def read(path: str) -> str:
    """Return the text of a file of the repository."""
    return (ROOT / path).read_text(encoding="utf-8")


def python_blocks(path: str) -> list[str]:
    """Return the Python code blocks of a page, each without its indentation."""
    blocks = []
    pattern = r"^( *)\.\. code-block:: python\n\n((?:\1 +.*\n|\n)+)"
    for indent, block in re.findall(pattern, read(path), re.MULTILINE):
        margin = len(indent) + 4
        blocks.append("\n".join(line[margin:] for line in block.splitlines()))
    return blocks


@pytest.mark.parametrize("name", conf.SETTINGS)
def test_every_setting_is_documented_under_both_names_with_its_default(
    name: str,
) -> None:
    entry = re.search(
        rf"^``{name}``\n    In Django's settings ``CELERY_{name.upper()}``. Default:\n"
        r"    (?:``(.+)``|the words below)\.$",
        read("docs/configuration.rst"),
        re.MULTILINE,
    )
    assert entry is not None
    if entry[1] is not None:
        default = eval(entry[1], {"timedelta": timedelta})  # noqa: S307 -- our own page
        assert default == conf.SETTINGS[name].default
    else:
        assert name == "monitor_secret_keys"


def test_every_secret_word_is_documented_and_no_other() -> None:
    entry = read("docs/configuration.rst").split("\n``monitor_secret_keys``\n")[1]
    entry = entry.split("\n``")[0]
    words = entry.split("default are")[1].split(".")[0]
    assert tuple(re.findall(r"``(\w+)``", words)) == conf.SECRET_KEYS


def test_every_deprecated_setting_is_documented_with_the_one_to_use() -> None:
    page = read("docs/configuration.rst")
    for old, new in conf.DEPRECATED.items():
        assert re.search(rf"^``{old}`` +``{new}``$", page, re.MULTILINE)


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_every_setting_that_the_pages_name_exists(path: Path) -> None:
    known = {*conf.SETTINGS, *conf.DEPRECATED}
    # One is misspelt on purpose, in the message of a check.
    known.add("monitor_task_sucess_expires")
    words = "|".join({name.split("_")[1] for name in known})
    pattern = rf"\b(?:CELERY_)?(monitors?_(?:{words})(?:_\w+)?)\b"
    named = re.findall(pattern, path.read_text(encoding="utf-8"), re.IGNORECASE)
    assert {name.lower() for name in named} <= known


def test_the_settings_of_the_readme_are_read() -> None:
    namespace: dict[str, Any] = {}
    for block in python_blocks("README.rst"):
        exec(block, namespace)  # noqa: S102 -- what a reader would paste
    app = Celery("readme", set_as_current=False)
    app.config_from_object(namespace, namespace="CELERY")

    assert "django_celery_monitor" in namespace["INSTALLED_APPS"]
    assert app.conf.worker_send_task_events
    assert app.conf.task_send_sent_event
    assert list(conf.unknown_names(app)) == []
    assert list(conf.deprecated_names(app)) == []
    changed = {
        name
        for name, setting in conf.SETTINGS.items()
        if conf.get(name, app) != setting.default
    }
    assert changed == {
        "monitor_task_success_expires",
        "monitor_task_error_expires",
    }


def test_every_check_is_documented_and_no_other() -> None:
    pattern = r"celery_monitor(?:_tracking)?\.[EW]\d{3}"
    documented = re.findall(
        rf"^``({pattern})``$", read("docs/checks.rst"), re.MULTILINE
    )
    sources = [Path(str(module.__file__)).read_text("utf-8") for module in CHECKS]
    assert sorted(documented) == sorted(set(re.findall(pattern, "".join(sources))))


@pytest.mark.parametrize(
    ("model", "title"),
    [
        (TaskState, "What a task's row says"),
        (WorkerState, "What a worker's row says"),
        (CameraState, "What a camera's row says"),
    ],
)
def test_every_column_is_documented(model: type[Model], title: str) -> None:
    section = read("docs/usage.rst").split(f"\n{title}\n")[1]
    table = section.split("\n\n===")[1].split("===\n\n")[0]
    documented = set(re.findall(r"^``(\w+)``  ", table, re.MULTILINE))
    assert documented == {field.name for field in model._meta.fields} - {"id"}


@pytest.mark.parametrize("model", [TaskState, WorkerState])
def test_every_permission_is_documented(model: type[Model]) -> None:
    page = read("docs/admin.rst")
    for codename, _ in model._meta.permissions:
        assert f"``celery_monitor.{codename}``" in page


@pytest.mark.parametrize("monitor", [TaskMonitor, WorkerMonitor])
def test_every_action_is_documented(monitor: type[ModelMonitor]) -> None:
    page = read("docs/admin.rst")
    assert monitor.actions
    for action in monitor.actions:
        assert f"``{action}``" in page


def test_every_make_target_that_the_pages_name_exists() -> None:
    targets = set(re.findall(r"^([a-z]+):", read("Makefile"), re.MULTILINE))
    text = "\n".join(path.read_text(encoding="utf-8") for path in PAGES)
    named = set(re.findall(r"\bmake ([a-z]+)\b(?=``|[ ][A-Z]+=)", text))
    assert {"test", "demo"} <= named
    assert named <= targets
