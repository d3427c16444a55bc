"""Times and values of observations, whatever the events say them with."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import time_machine
from hypothesis import example, given, settings
from hypothesis import strategies as st

from django_celery_monitor.masking import MASK
from django_celery_monitor.merge import TASK, WORKER, phase
from django_celery_monitor.models import TaskState, WorkerState
from django_celery_monitor.observation import MAX_ATTEMPT_TEXT
from django_celery_monitor.sanitize import CUT_END, CUT_START
from django_celery_monitor.utils import fromtimestamp
from tests.events import NOW, received, sent, task_event, worker_event
from tests.observations import MAX_TEXT, US, Event, observe, observer
from tests.strategies import poison

# Time


def test_time_in_the_future_is_when_it_was_received() -> None:
    ahead = observe(task_event("task-succeeded", at=4_000_000_000.0, received=NOW))
    assert ahead["tstamp_us"] == NOW * US
    assert ahead["finished_at"] == fromtimestamp(NOW)


def test_time_in_the_past_is_the_events_own() -> None:
    seen = observe(task_event("task-succeeded", at=NOW - 86_400, received=NOW))
    assert seen["tstamp_us"] == (NOW - 86_400) * US


def test_time_is_in_whole_microseconds() -> None:
    seen = observe(task_event("task-started", at=NOW + 0.1234567))
    assert seen["tstamp_us"] == NOW * US + 123_457


@given(
    st.floats() | st.integers() | poison,
    st.none() | st.floats(NOW, NOW + 9) | st.just(0),
)
def test_time_is_never_later_than_the_receipt(timestamp: Any, arrived: Any) -> None:
    event = task_event("task-started")
    with time_machine.travel(NOW + 5, tick=False):
        seen = observe({**event, "timestamp": timestamp, "local_received": arrived})
    assert 0 <= seen["tstamp_us"] <= round((arrived or NOW + 5) * US)
    assert seen["tstamp"] == fromtimestamp(seen["tstamp_us"] / US)


@pytest.mark.parametrize("use_tz", [True, False])
def test_the_hour_that_is_repeated_is_two_hours(settings: Any, use_tz: bool) -> None:
    settings.USE_TZ, settings.TIME_ZONE = use_tz, "Europe/Berlin"
    first = datetime(2026, 10, 25, 0, 30, tzinfo=timezone.utc).timestamp()
    one, two = (
        observe(task_event("task-started", at=at)) for at in (first, first + 3600)
    )
    assert two["tstamp_us"] - one["tstamp_us"] == 3600 * US
    assert (one["tstamp"] == two["tstamp"]) is not use_tz


@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin", "Asia/Kolkata"])
@pytest.mark.parametrize("use_tz", [True, False])
def test_times_are_as_django_stores_them(
    settings: Any, zone: str, use_tz: bool
) -> None:
    settings.USE_TZ, settings.TIME_ZONE = use_tz, zone
    seen = observe(received(eta="2026-03-02T12:00:00+02:00"))
    for column in ("eta", "tstamp", "received_at"):
        aware = datetime(2026, 3, 2, 10, tzinfo=timezone.utc)
        naive = aware.astimezone(ZoneInfo(zone)).replace(tzinfo=None)
        assert seen[column] == (aware if use_tz else naive)


@pytest.mark.parametrize(
    "eta",
    [
        *("", "soon", "0000-00-00T00:00:00", "9999-12-31T23:59:59-12:00", "\ud800"),
        *("0001-01-01T00:00:00+14:00", 5, 1e20, True, [], {}, "2026-03-02T10:00+99:99"),
    ],
)
def test_time_that_is_none_is_left_out_and_counted(eta: Any) -> None:
    observing = observer()
    _, seen = observing.task(received(eta=eta))
    assert seen.get("eta") is None
    assert observing.fit.made_fit == 1


# Values


def test_secrets_are_masked_wherever_they_are() -> None:
    secret = "hunter2"
    call = received(kwargs=f"{{'password': '{secret}'}}", args=f"('token={secret}',)")
    error = f"ValueError(\"password='{secret}'\")"
    retry = task_event("task-retried", exception=error, traceback=f"token={secret}")
    result = task_event("task-succeeded", result=f"{{'token': '{secret}'}}")
    for event in (call, {**call, "type": "task-sent"}, retry, result):
        text = repr(observe(event))
        assert secret not in text
        assert MASK in text


def test_long_texts_are_cut_at_the_end_that_says_less() -> None:
    long = "x" * MAX_TEXT + "y"
    seen = observe(task_event("task-retried", exception=long, traceback=long))
    assert seen["result"].endswith(CUT_END)
    assert seen["traceback"].startswith(CUT_START)
    assert seen["traceback"].endswith("y")
    assert max(len(seen["result"]), len(seen["traceback"])) <= MAX_TEXT
    (attempt,) = seen["attempts"]
    assert {len(attempt["exception"]), len(attempt["traceback"])} == {MAX_ATTEMPT_TEXT}
    assert attempt["traceback"].endswith("y")


def test_overlong_ids_are_told_apart() -> None:
    one, two = (observer().task(received(uuid="i" * 300 + end)) for end in "ab")
    assert len(one[0]) == len(two[0]) == 255
    assert one[0] != two[0]
    # As another task names it.
    child = observe(received(uuid="child", parent_id="i" * 300 + "a"))
    assert child["parent_id"] == one[0]


@pytest.mark.parametrize(
    ("retries", "expected"),
    [(2**31 - 1, 2**31 - 1), (2**31, 2**31 - 1), (1e20, 2**31 - 1), (-1, 0)],
)
def test_number_that_no_column_takes_is_the_nearest(
    retries: Any, expected: int
) -> None:
    assert observe(received(retries=retries))["retries"] == expected


FIELDS = (
    *("uuid", "hostname", "name", "args", "kwargs", "eta", "expires", "retries"),
    *("root_id", "parent_id", "queue", "exchange", "routing_key", "result"),
    *("runtime", "exception", "traceback", "terminated", "expired", "requeue"),
    "pid",
)
TYPES = [
    f"task-{subject}"
    for subject in (
        *("sent", "received", "started", "succeeded", "failed", "retried"),
        *("revoked", "rejected", "progress"),
    )
]
events = st.builds(
    lambda type_, fields: {
        **sent(),
        **fields,
        "type": type_,
        # The receiver lets no event pass whose id is no text.
        "uuid": fields.get("uuid") if isinstance(fields.get("uuid"), str) else "id-1",
    },
    st.sampled_from(TYPES),
    st.dictionaries(st.sampled_from(FIELDS), poison | st.text(), max_size=4),
)


@pytest.mark.django_db
@given(events)
@settings(max_examples=150)
def test_whatever_a_task_event_says_a_row_takes_it(event: Event) -> None:
    task_id, seen = observer().task(event)

    assert seen.keys() <= set(TASK)
    assert "\0" not in repr(seen)
    repr(seen).encode()
    phase(seen)
    TaskState.objects.all().delete()
    TaskState.objects.join_many({task_id: seen}, {})
    # And gives back what it took.
    assert len(TaskState.objects.join_many({task_id: seen}, {})) == 0
    row = TaskState.objects.get(task_id=task_id)
    for field in TaskState._meta.concrete_fields:
        if isinstance(text := getattr(row, field.attname), str) and field.max_length:
            assert len(text) <= field.max_length


ABOUT = (
    *("hostname", "pid", "freq", "active", "processed", "loadavg"),
    *("sw_ident", "sw_ver", "sw_sys", "timestamp"),
)


@pytest.mark.django_db
@given(
    st.sampled_from(["worker-heartbeat", "worker-online", "worker-offline"]),
    st.dictionaries(st.sampled_from(ABOUT), poison | st.text(), max_size=4),
)
@example("worker-heartbeat", {"loadavg": [30_142_011_763_850_750, 1e300, -0.5]})
@settings(max_examples=150)
def test_whatever_a_worker_event_says_a_row_takes_it(
    type_: str, fields: dict[str, Any]
) -> None:
    hostname, seen = observer().worker({**worker_event(type_), **fields})

    assert seen.keys() <= set(WORKER)
    WorkerState.objects.all().delete()
    WorkerState.objects.join_many({hostname: seen})
    assert len(WorkerState.objects.join_many({hostname: seen})) == 0
    assert WorkerState.objects.get().hostname == hostname
