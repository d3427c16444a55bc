"""The settings, read from the Celery app of the project."""

from __future__ import annotations

from datetime import timedelta

import pytest
from celery import Celery
from django.core.exceptions import ImproperlyConfigured

from django_celery_monitor import conf
from tests.celery import app as tests_app
from tests.configured import DURATIONS, NAMES, OLDER, django_app


@pytest.fixture
def app() -> Celery:
    """Return a Celery app that is configured without Django."""
    return Celery("conf", set_as_current=False)


def test_defaults(app: Celery) -> None:
    assert {name: conf.get(name, app) for name in NAMES} == {
        "monitor_task_success_expires": timedelta(days=1),
        "monitor_task_error_expires": timedelta(days=3),
        "monitor_task_pending_expires": timedelta(days=5),
        "monitor_worker_expires": timedelta(days=30),
        "monitor_outbox_max_tasks": 200_000,
        "monitor_outbox_max_bytes": 256 * 1024**2,
        "monitor_flush_timeout": 30,
        "monitor_max_text_length": 64 * 1024,
        "monitor_secret_keys": conf.SECRET_KEYS,
        "monitor_extra_secret_keys": (),
        "monitor_mask": None,
        "monitor_durable_queue": None,
        "monitor_durable_queue_type": "classic",
        "monitor_durable_queue_ttl": timedelta(days=1).total_seconds(),
        "monitor_durable_queue_max_length": 1_000_000,
        "monitor_max_selected": 1_000,
        "monitor_refresh_interval": 3,
        "monitor_stuck_after": 3_600,
        "monitor_list_columns": conf.LIST_COLUMNS,
        "monitor_max_exported": 100_000,
        "monitor_tracker_page_size": 10,
        "monitor_tracker_max_page_size": 200,
        "monitor_durable_prefetch": 5_000,
    }


@pytest.mark.parametrize("name", NAMES)
def test_each_default_is_a_value_that_can_be_set(app: Celery, name: str) -> None:
    default = conf.SETTINGS[name].default
    app.conf[name] = default
    assert conf.get(name, app) == default


def test_each_name_has_one_older_name() -> None:
    assert conf.DEPRECATED == {
        "monitors_expire_success": "monitor_task_success_expires",
        "monitors_expire_error": "monitor_task_error_expires",
        "monitors_expire_pending": "monitor_task_pending_expires",
    }


@pytest.mark.parametrize("name", DURATIONS)
@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (timedelta(hours=2), timedelta(hours=2)),
        (90, timedelta(seconds=90)),
        (0.5, timedelta(milliseconds=500)),
        (0, timedelta(0)),
        (None, None),
    ],
)
def test_duration_is_a_timedelta_or_seconds_or_none(
    app: Celery, name: str, value: object, expected: timedelta | None
) -> None:
    app.conf[name] = value
    assert conf.get(name, app) == expected
    assert conf.get(name, django_app(**{f"celery_{name}": value})) == expected


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("name", [*DURATIONS, *OLDER])
@pytest.mark.parametrize(
    "value",
    ["1d", "3600", True, [1], {"days": 1}, 1e300, float("nan"), -1, timedelta(-1)],
)
def test_no_duration_is_an_error_that_names_the_setting(
    app: Celery, name: str, value: object
) -> None:
    app.conf[name] = value
    with pytest.raises(ImproperlyConfigured, match=rf"^{name}\b"):
        conf.get(conf.DEPRECATED.get(name, name), app)


@pytest.mark.parametrize("old", OLDER)
@pytest.mark.parametrize("value", [timedelta(hours=2), 7200, None])
def test_older_name_is_read_with_a_warning(
    app: Celery, old: str, value: object
) -> None:
    new = conf.DEPRECATED[old]
    expected = None if value is None else timedelta(hours=2)
    app.conf[old] = value
    for configured in (app, django_app(**{f"celery_{old}": value})):
        with pytest.warns(DeprecationWarning, match=f"{old}.*{new}"):
            assert conf.get(new, configured) == expected


@pytest.mark.parametrize("old", OLDER)
def test_documented_name_wins_without_a_warning(app: Celery, old: str) -> None:
    new = conf.DEPRECATED[old]
    app.conf.update({old: 1, new: None})
    assert conf.get(new, app) is None
    assert conf.get(new, django_app(**{f"celery_{old}": 1, f"celery_{new}": 2})) == (
        timedelta(seconds=2)
    )


def test_setting_that_is_not_asked_for_does_not_warn(app: Celery) -> None:
    app.conf.monitors_expire_success = 1
    assert conf.get("monitor_task_error_expires", app) == timedelta(days=3)


def test_settings_are_read_when_they_are_needed(app: Celery) -> None:
    name = "monitor_task_error_expires"
    assert conf.get(name, app) == timedelta(days=3)
    app.conf[name] = 60
    assert conf.get(name, app) == timedelta(minutes=1)


def test_without_an_app_the_projects_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(tests_app.conf, "monitor_task_error_expires", 60)
    assert conf.get("monitor_task_error_expires") == timedelta(minutes=1)


# Names


def test_deprecated_names(app: Celery) -> None:
    assert list(conf.deprecated_names(app)) == []
    app.conf.update(monitors_expire_error=1, monitors_expire_success=None)
    assert list(conf.deprecated_names(app)) == [
        ("monitors_expire_success", "monitor_task_success_expires"),
        ("monitors_expire_error", "monitor_task_error_expires"),
    ]


def test_names_that_are_read_are_known(app: Celery) -> None:
    assert list(conf.unknown_names(app)) == []
    app.conf.update(dict.fromkeys([*NAMES, *OLDER], 1))
    assert list(conf.unknown_names(app)) == []
    settings = {f"celery_{name}": 1 for name in [*NAMES, *OLDER]}
    assert list(conf.unknown_names(django_app(**settings))) == []


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("monitor_task_succes_expires", "monitor_task_success_expires"),
        ("monitor_tasks_error_expires", "monitor_task_error_expires"),
        ("monitor_pending_expires", "monitor_task_pending_expires"),
        ("monitors_task_pending_expire", "monitor_task_pending_expires"),
        ("monitor_0123456789", None),
    ],
)
def test_unknown_name_and_the_nearest(app: Celery, name: str, near: str | None) -> None:
    app.conf[name] = 1
    assert list(conf.unknown_names(app)) == [(name, near)]
    upper = f"CELERY_{name.upper()}"
    assert list(conf.unknown_names(django_app(**{upper: 1}))) == [(upper, near)]


def test_names_of_others_are_theirs() -> None:
    app = django_app(monitor_something=1, celery_worker_concurrency=1, monitors_x=2)
    assert list(conf.unknown_names(app)) == []


def test_known_name_without_the_namespace_is_pointed_at() -> None:
    """Nothing reads it there."""
    app = django_app(monitor_task_error_expires=1)
    assert list(conf.unknown_names(app)) == [
        ("MONITOR_TASK_ERROR_EXPIRES", "monitor_task_error_expires")
    ]
    assert conf.get("monitor_task_error_expires", app) == timedelta(days=3)
