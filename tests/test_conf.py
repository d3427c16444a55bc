"""The settings, read from the Celery app of the project."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from celery import Celery, _state
from django.apps import apps
from django.core.exceptions import ImproperlyConfigured

from django_celery_monitor import conf
from tests.celery import app as tests_app

NAMES = list(conf.SETTINGS)
DURATIONS = [name for name in NAMES if name.endswith("_expires")]
SECONDS = [
    "monitor_flush_timeout",
    "monitor_durable_queue_ttl",
    "monitor_stuck_after",
]
COUNTS = [
    "monitor_outbox_max_tasks",
    "monitor_outbox_max_bytes",
    "monitor_max_text_length",
    "monitor_durable_queue_max_length",
    "monitor_durable_prefetch",
    "monitor_max_selected",
    "monitor_max_exported",
    "monitor_tracker_page_size",
    "monitor_tracker_max_page_size",
]
INTERVAL = "monitor_refresh_interval"
LISTS = ["monitor_secret_keys", "monitor_extra_secret_keys"]
OLDER = list(conf.DEPRECATED)


@pytest.fixture
def app() -> Celery:
    """Return a Celery app that is configured without Django."""
    return Celery("conf", set_as_current=False)


def django_app(**settings: Any) -> Celery:
    """Return an app that reads the upper-case names of Django's settings."""
    app = Celery("conf", set_as_current=False)
    upper = {name.upper(): value for name, value in settings.items()}
    app.config_from_object(SimpleNamespace(**upper), namespace="CELERY")
    return app


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


def accepted(name: str, value: object) -> Any:
    """Return what becomes of a value, the same in both forms of configuration."""
    app = Celery("conf", set_as_current=False)
    app.conf[name] = value
    found = conf.get(name, app)
    assert found == conf.get(name, django_app(**{f"celery_{name}": value}))
    return found


def refused(name: str, value: object) -> bool:
    """Return whether a value is an error that begins with the name of the setting."""
    app = Celery("conf", set_as_current=False)
    app.conf[name] = value
    with pytest.raises(ImproperlyConfigured, match=rf"^{name}\b"):
        conf.get(name, app)
    return True


@pytest.mark.parametrize("name", SECONDS)
def test_seconds_are_a_number_or_a_timedelta(name: str) -> None:
    assert accepted(name, timedelta(minutes=2)) == 120
    assert accepted(name, 5) == 5
    assert accepted(name, 0.5) == 0.5
    for value in (None, "5", True, -1, 1e300, float("nan"), timedelta(-1)):
        assert refused(name, value)


@pytest.mark.parametrize("name", COUNTS)
def test_count_is_a_positive_whole_number(name: str) -> None:
    assert accepted(name, 1) == 1
    assert accepted(name, 65_535) == 65_535
    for value in (None, "5", True, 0, -1, 1.5, [5]):
        assert refused(name, value)


def test_queue_keeps_something() -> None:
    assert accepted("monitor_flush_timeout", 0) == 0
    assert refused("monitor_durable_queue_ttl", 0)


def test_interval_is_nothing_or_a_second() -> None:
    assert accepted(INTERVAL, 0) == 0
    assert accepted(INTERVAL, 1) == 1
    assert accepted(INTERVAL, timedelta(minutes=1)) == 60
    for value in (None, "5", True, -1, 0.5, float("nan"), timedelta(milliseconds=1)):
        assert refused(INTERVAL, value)


def test_nothing_is_stuck_at_once() -> None:
    assert accepted("monitor_stuck_after", timedelta(minutes=1)) == 60
    assert refused("monitor_stuck_after", 0)


def test_prefetch_has_16_bits() -> None:
    assert accepted("monitor_outbox_max_tasks", 10**9) == 10**9
    assert refused("monitor_durable_prefetch", 65_536)


@pytest.mark.parametrize("name", LISTS)
def test_names_are_a_collection_of_texts(name: str) -> None:
    assert accepted(name, ["pin", "tan"]) == ("pin", "tan")
    assert accepted(name, ("pin",)) == ("pin",)
    assert set(accepted(name, {"pin", "tan"})) == {"pin", "tan"}
    assert accepted(name, []) == ()
    for value in (None, "pin", ["pin", 5], [""], {"pin": "tan"}, 5):
        assert refused(name, value)


def test_columns_are_some_of_those_that_there_are() -> None:
    name = "monitor_list_columns"
    assert accepted(name, ["time", "name"]) == ("time", "name")
    assert accepted(name, ("id",)) == ("id",)
    for value in (None, [], "name", {"name"}, ["name", "name"], ["nam"], [5], [["id"]]):
        assert refused(name, value)


def upper(text: str) -> str:
    """Mask nothing."""
    return text.upper()


def test_mask_is_a_callable_or_where_to_find_one() -> None:
    assert accepted("monitor_mask", None) is None
    assert accepted("monitor_mask", upper) is upper
    assert accepted("monitor_mask", f"{__name__}.upper") is upper
    for value in (
        *("upper", "nowhere.upper", f"{__name__}.lower", f"{__name__}.NAMES"),
        *("", 5, ["a.b"]),
    ):
        assert refused("monitor_mask", value)


def test_durable_queue_is_a_name_that_a_broker_takes() -> None:
    name = "monitor_durable_queue"
    assert accepted(name, None) is None
    assert accepted(name, "monitor") == "monitor"
    assert accepted(name, "é" * 127) == "é" * 127
    for value in ("", "é" * 128, 5, True, ["monitor"]):
        assert refused(name, value)


def test_durable_queue_is_classic_or_quorum() -> None:
    name = "monitor_durable_queue_type"
    assert accepted(name, "classic") == "classic"
    assert accepted(name, "quorum") == "quorum"
    for value in (None, "", "stream", True, 5):
        assert refused(name, value)


def test_every_setting_is_of_a_kind() -> None:
    kinds = [*DURATIONS, *SECONDS, *COUNTS, *LISTS]
    others = [
        INTERVAL,
        "monitor_list_columns",
        "monitor_mask",
        "monitor_durable_queue",
        "monitor_durable_queue_type",
    ]
    assert sorted([*kinds, *others]) == sorted(NAMES)


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


# The app


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
def test_current_app_of_a_thread_comes_first(
    app: Celery, monkeypatch: pytest.MonkeyPatch
) -> None:
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


def test_app_of_the_project_that_is_called_default_is_none(app: Celery) -> None:
    assert not conf.is_fallback(Celery("default", broker=None, set_as_current=True))
    tests_app.set_current()
