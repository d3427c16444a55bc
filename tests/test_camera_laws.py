"""Laws of the camera: whatever comes, and whenever the database is away."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from django_celery_monitor.camera import Camera
from django_celery_monitor.guard import Poison
from django_celery_monitor.models import TaskState
from django_celery_monitor.utils import fromtimestamp
from tests.cameras import Rowwise, at, make, started, succeeded
from tests.events import NOW, feed, received, task_event, worker_event
from tests.outages import Outage

pytestmark = pytest.mark.usefixtures("soon_after")


VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(st.characters(codec=None), max_size=300),
    st.lists(st.integers() | st.text(max_size=3), max_size=3),
    st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
)
TYPES = st.sampled_from(
    [
        *("task-sent", "task-received", "task-started", "task-succeeded"),
        *("task-failed", "task-retried", "task-revoked", "task-rejected"),
        *("task-progress", "worker-heartbeat", "worker-offline", "worker-online"),
    ]
)
FIELDS = st.sampled_from(
    [
        *("uuid", "hostname", "timestamp", "local_received", "clock", "pid", "name"),
        *("args", "kwargs", "eta", "expires", "retries", "root_id", "parent_id"),
        *("result", "runtime", "exception", "traceback", "queue", "exchange"),
        *("routing_key", "requeue", "terminated", "freq", "active", "processed"),
        *("loadavg", "sw_ident", "sw_ver", "sw_sys", "state", "worker", "utcoffset"),
    ]
)


@pytest.mark.parametrize("cls", [Camera, Rowwise])
@pytest.mark.django_db
@given(
    st.lists(st.tuples(TYPES, st.dictionaries(FIELDS, VALUES, max_size=6)), max_size=4)
)
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_event_is_poison(cls: type[Camera], events: list[Any]) -> None:
    TaskState.objects.all().delete()
    camera = make(cls)
    receiver = camera.app.events.Receiver(camera.app.connection_for_read())
    expected = set()
    for number, (type_, fields) in enumerate(events):
        fields.pop("uuid", None)
        event = {**received(uuid=f"id-{number}"), "type": type_, **fields}
        try:
            event = receiver.event_from_message(event)[1]
        except Poison:
            continue
        feed([event], camera.state)
        if type_.startswith("task-"):
            expected.add(f"id-{number}")
    camera.capture()
    assert set(TaskState.objects.values_list("task_id", flat=True)) == expected
    assert camera.counters.quarantined == 0
    assert not camera.outbox


LIFE = [
    *(worker_event(), received(), started()),
    *(task_event("task-retried", at=NOW + 3, exception="E()"),),
    *(received(at=NOW + 4, retries=1), started(at=NOW + 5), succeeded(at=NOW + 6)),
    *(received(uuid="id-2"), started(uuid="id-2"), worker_event(at=NOW + 7)),
]


@pytest.mark.django_db(transaction=True)
@given(
    st.permutations([*LIFE, *LIFE]),
    st.sets(st.integers(1, 19)),
    st.lists(st.integers(1, 12), min_size=20, max_size=20),
)
@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_rows_do_not_depend_on_when_shots_are_taken_and_which_fail(
    events: list[Any], shots: set[int], lasts: list[int]
) -> None:
    TaskState.objects.all().delete()
    camera = make()
    for number, event in enumerate(events):
        feed([event], camera.state)
        if number in shots:
            # Within a shot the database goes away, and does not come back.
            last = lasts[number]
            with at(60 + 100 * number), Outage(lambda n, *_, last=last: n > last):
                camera.capture()
    camera.cancel()
    rows = TaskState.objects.order_by("task_id").values_list(
        *("state", "retries", "result", "worker__hostname", "started_at", "attempts")
    )
    first, second = rows
    assert first[:4] == ("SUCCESS", 1, "4", "celery@one")
    assert first[4] == fromtimestamp(NOW + 5)
    assert [a["exception"] for a in first[5]] == ["E()"]
    assert second[:4] == ("STARTED", 0, None, "celery@one")
    assert not camera.outbox
