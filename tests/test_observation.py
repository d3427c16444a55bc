"""Events as observations: what each type says, whatever it says it with."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import time_machine
from celery import states
from hypothesis import given, settings
from hypothesis import strategies as st

from django_celery_monitor.masking import MASK
from django_celery_monitor.merge import TASK, WORKER, phase
from django_celery_monitor.models import TaskState, WorkerState
from django_celery_monitor.observation import (
    MAX_ATTEMPT_TEXT,
    Observer,
    exception_type,
    from_task,
)
from django_celery_monitor.sanitize import CUT_END, CUT_START, Sanitizer
from django_celery_monitor.utils import fromtimestamp
from tests.events import NOW, feed, received, sent, task_event, worker_event
from tests.strategies import poison, task_streams

Columns = dict[str, Any]
Event = dict[str, Any]

MAX_TEXT = 10_000
US = 1_000_000


def observer(max_text: int = MAX_TEXT) -> Observer:
    return Observer(Sanitizer(["password", "token"], max_text))


def observe(event: Event) -> Columns:
    """Return what ``event`` says of its task."""
    return observer().task(event)[1]


# Each type of event


@pytest.mark.parametrize(
    ("type_", "state"),
    [
        ("task-sent", states.PENDING),
        ("task-received", states.RECEIVED),
        ("task-started", states.STARTED),
        ("task-retried", states.RETRY),
        ("task-rejected", states.REJECTED),
        ("task-revoked", states.REVOKED),
        ("task-failed", states.FAILURE),
        ("task-succeeded", states.SUCCESS),
        ("task-progress", "PROGRESS"),
        ("task-half-way", "HALF-WAY"),
        ("task-" + "s" * 64, "S" * 64),
    ],
)
def test_state_of_each_type(type_: str, state: str) -> None:
    task_id, seen = observer().task(task_event(type_))
    assert task_id == "id-1"
    assert (seen["state"], seen["tstamp_us"]) == (state, NOW * US)
    assert seen["tstamp"] == fromtimestamp(NOW)


def test_overlong_state_is_cut_and_told_apart() -> None:
    one, two = (observe(task_event(f"task-{'s' * 70}{n}"))["state"] for n in "12")
    assert len(one) == len(two) == 64
    assert one != two


def test_sent() -> None:
    seen = observe(sent(queue="q", exchange="x", routing_key="k", retries=2))
    assert "worker" not in seen
    assert (seen["queue"], seen["exchange"], seen["routing_key"]) == ("q", "x", "k")
    assert seen["retries"] == seen["route_retries"] == 2
    assert seen["sent_at"] == seen["tstamp"]
    assert seen["name"] == "proj.tasks.add"


def test_received() -> None:
    seen = observe(
        received(eta="2026-03-02T12:00:00+02:00", expires="2026-03-02T11:00:00")
    )
    assert (seen["name"], seen["worker"]) == ("proj.tasks.add", "celery@one")
    assert (seen["args"], seen["kwargs"]) == ("(2, 2)", "{}")
    assert (seen["root_id"], seen.get("parent_id")) == ("id-1", None)
    assert seen["received_at"] == seen["tstamp"]
    assert seen["eta"] == fromtimestamp(NOW)
    # What tells no zone is in UTC.
    assert seen["expires"] == fromtimestamp(NOW + 3600)


def test_retry_is_not_its_own_parent() -> None:
    assert "parent_id" not in observe(received(parent_id="id-1"))
    assert observe(received(parent_id="up"))["parent_id"] == "up"


@pytest.mark.parametrize("name", [None, "", 5, ["proj.add"]])
def test_without_a_name_nothing_is_known_of_the_call(name: Any) -> None:
    seen = observe(received(name=name))
    assert not seen.keys() & {"name", "args", "kwargs", "retries", "root_id"}
    assert seen["received_at"] == seen["tstamp"]


def test_started() -> None:
    seen = observe(task_event("task-started"))
    assert seen["started_at"] == seen["tstamp"]


def test_success() -> None:
    seen = observe(task_event("task-succeeded", result="4", runtime=1.5))
    assert (seen["result"], seen["runtime"]) == ("4", 1.5)
    assert seen["finished_at"] == seen["tstamp"]
    assert not seen.keys() & {"exception", "traceback"}


def test_failure() -> None:
    error: Event = {"exception": "proj.errors.Bad('b', 3)", "traceback": "Traceback"}
    seen = observe(task_event("task-failed", **error))
    assert (seen["result"], seen["exception"]) == (
        error["exception"],
        "proj.errors.Bad",
    )
    assert seen["traceback"] == "Traceback"
    assert seen["finished_at"] == seen["tstamp"]
    assert "runtime" not in seen


def test_retry() -> None:
    error: Event = {"exception": "OSError('a')", "traceback": "Traceback"}
    seen = observe(task_event("task-retried", **error))
    assert (seen["result"], seen["exception"]) == ("OSError('a')", "OSError")
    assert seen["attempts"] == [{"timestamp": NOW * US, **error}]
    assert "finished_at" not in seen


def test_retry_that_says_nothing_is_an_attempt() -> None:
    (attempt,) = observe(task_event("task-retried"))["attempts"]
    assert (attempt["exception"], attempt["traceback"]) == ("", "")


@pytest.mark.parametrize(
    ("fields", "result"),
    [
        ({"terminated": True, "expired": False}, "TaskRevokedError('terminated')"),
        ({"expired": True, "terminated": False}, "TaskRevokedError('expired')"),
        ({}, "TaskRevokedError('revoked')"),
    ],
)
def test_revoked(fields: dict[str, Any], result: str) -> None:
    seen = observe(task_event("task-revoked", **fields))
    assert (seen["state"], seen["result"]) == ("REVOKED", result)
    assert seen["exception"] == "TaskRevokedError"
    assert seen["finished_at"] == seen["tstamp"]


@pytest.mark.parametrize(("requeue", "finished"), [(True, False), (False, True)])
def test_rejected_is_finished_unless_it_is_requeued(
    requeue: bool, finished: bool
) -> None:
    seen = observe(task_event("task-rejected", requeue=requeue))
    assert ("finished_at" in seen) is finished


@pytest.mark.parametrize(
    ("text", "type_"),
    [
        ("ValueError('x')", "ValueError"),
        ("ValueError()", "ValueError"),
        ("a.b.Fehlgeschlagen('ä')", "a.b.Fehlgeschlagen"),
        ("<Odd object at 0x7f>", None),
        ("", None),
        (None, None),
        ("E" * 300 + "()", "E" * 255),
    ],
)
def test_exception_type(text: str | None, type_: str | None) -> None:
    assert exception_type(text) == type_


# Workers


def test_heartbeat() -> None:
    hostname, seen = observer().worker(worker_event(at=NOW))
    assert hostname == "celery@one"
    assert seen["last_heartbeat_us"] == seen["told_us"] == NOW * US
    assert seen["last_heartbeat"] == seen["first_seen"] == fromtimestamp(NOW)
    assert (seen["pid"], seen["freq"], seen["active"]) == (4711, 2.0, 1)
    assert seen["loadavg"] == [0.5, 0.25, 0.1]
    assert "offline_at" not in seen


def test_going_offline_is_no_sign_of_life() -> None:
    _, seen = observer().worker(worker_event("worker-offline", at=NOW))
    assert (seen["offline_at"], seen["offline_at_us"]) == (
        fromtimestamp(NOW),
        NOW * US,
    )
    assert "last_heartbeat" not in seen


def test_worker_that_says_nothing_of_itself() -> None:
    _, seen = observer().worker(worker_event(pid=None))
    assert not seen.keys() & {"told_us", "pid", "freq"}


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


# A task of Celery's State, for a camera that handles tasks of its own


def of_state(*stream: Event) -> Columns:
    """Return what a State that has seen the events says of their one task."""
    (task,) = feed(stream).tasks.values()
    return from_task(observer(), task)


def test_task_of_a_state_says_what_its_events_said() -> None:
    seen = of_state(
        sent(at=NOW, retries=1, queue="q"),
        received(at=NOW + 1, retries=1, parent_id="up"),
        task_event("task-started", at=NOW + 2),
        task_event("task-succeeded", at=NOW + 3, result="4", runtime=1.5),
    )
    assert (seen["state"], seen["result"], seen["runtime"]) == ("SUCCESS", "4", 1.5)
    assert (seen["name"], seen["retries"], seen["queue"]) == ("proj.tasks.add", 1, "q")
    assert (seen["parent_id"], seen["worker"]) == ("up", "celery@one")
    times = ("sent_at", "received_at", "started_at", "finished_at")
    expected = [fromtimestamp(NOW + second) for second in range(4)]
    assert [seen[column] for column in times] == expected
    assert seen["tstamp_us"] == (NOW + 3) * US


def test_exception_of_a_failure_is_not_that_of_the_retry_before() -> None:
    seen = of_state(
        task_event("task-retried", at=NOW, exception="OSError('a')"),
        task_event("task-failed", at=NOW + 1, exception="KeyError('b')"),
    )
    assert (seen["state"], seen["exception"]) == ("FAILURE", "KeyError")
    assert not seen.get("attempts")


def test_state_of_its_own_is_kept() -> None:
    seen = of_state(
        task_event("task-started", at=NOW), task_event("task-progress", at=NOW + 1)
    )
    assert (seen["state"], seen["tstamp_us"]) == ("PROGRESS", (NOW + 1) * US)


def test_task_without_a_time_is_seen_now() -> None:
    task, _ = feed([]).get_or_create_task("id-1")
    task.state = "PROGRESS"
    with time_machine.travel(NOW, tick=False):
        assert from_task(observer(), task)["tstamp_us"] == NOW * US


@given(task_streams)
def test_every_task_of_a_state_can_be_saved(stream: list[Event]) -> None:
    seen = of_state(*stream)
    assert seen.keys() <= set(TASK)
    assert seen["tstamp"] <= fromtimestamp(NOW) + timedelta(seconds=4)
