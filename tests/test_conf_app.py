"""Which Celery app the settings are read from."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from celery import Celery, _state
from django.apps import apps

from django_celery_monitor import conf
from tests.celery import app as tests_app


def in_thread(function: Callable[[], Any]) -> Any:
    """Return what ``function`` returns in a thread that has no current app."""
    results: list[Any] = []
    thread = threading.Thread(target=lambda: results.append(function()))
    thread.start()
    thread.join(timeout=20)
    (result,) = results
    return result


@pytest.fixture
def no_app(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make as if no app had ever been created, in any thread."""
    monkeypatch.setattr(_state, "default_app", None)
    monkeypatch.setattr("celery._state._tls.current_app", None)


def test_current_app_is_the_projects() -> None:
    assert conf.get_app() is tests_app
    assert not conf.is_fallback(tests_app)


@pytest.mark.usefixtures("no_app")
def test_app_is_the_projects_in_every_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Celery's own current app is the importing thread's alone."""
    monkeypatch.setattr(apps.get_app_config("celery_monitor"), "celery_app", tests_app)
    tests_app.set_current()
    assert in_thread(lambda: conf.is_fallback(_state.get_current_app()))
    assert in_thread(conf.get_app) is tests_app


@pytest.mark.usefixtures("no_app")
def test_current_app_of_a_thread_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    app = Celery("conf", set_as_current=False)
    monkeypatch.setattr(apps.get_app_config("celery_monitor"), "celery_app", tests_app)
    monkeypatch.setattr("celery._state._tls.current_app", app)
    assert conf.get_app() is app


@pytest.mark.usefixtures("no_app")
def test_without_any_app_it_is_celerys_fallback(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(apps.get_app_config("celery_monitor"), "celery_app", None)
    app = conf.get_app()
    assert app.main == "default"
    assert conf.is_fallback(app)
    assert conf.get("monitor_task_success_expires") == timedelta(days=1)


@pytest.mark.usefixtures("no_app")
def test_fallback_with_a_broker_is_as_good_as_any(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CELERY_BROKER_URL", "memory://")
    monkeypatch.setattr(apps.get_app_config("celery_monitor"), "celery_app", None)
    assert not conf.is_fallback(conf.get_app())


def test_app_of_the_project_that_is_called_default_is_none() -> None:
    assert not conf.is_fallback(Celery("default", broker=None, set_as_current=True))
    tests_app.set_current()
