"""What each setting may be, and what becomes of it."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from celery import Celery
from django.core.exceptions import ImproperlyConfigured

from django_celery_monitor import conf
from tests.configured import DURATIONS, NAMES, django_app

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
