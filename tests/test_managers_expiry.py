"""active, expired, expire_by_states and purge: what is old, and by which age."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
import time_machine
from celery import states

from django_celery_monitor.models import TaskState, WorkerState
from tests.events import NOW
from tests.factories import TaskStateFactory
from tests.rows import at

pytestmark = pytest.mark.django_db


def test_active_are_those_that_are_not_hidden() -> None:
    shown = TaskStateFactory.create()
    TaskStateFactory.create(hidden=True)
    assert list(TaskState.objects.active()) == [shown]
    assert list(TaskState.objects.filter(state="SUCCESS").active()) == [shown]


@pytest.mark.parametrize("expires", [timedelta(hours=1), 3600, 3600.0])
@pytest.mark.parametrize("keyword", [True, False])
@time_machine.travel(NOW, tick=False)
def test_expired_are_older_than_a_timedelta_or_seconds(
    expires: timedelta | float, keyword: bool
) -> None:
    old = TaskStateFactory.create(tstamp=at(-3601))
    TaskStateFactory.create(tstamp=at(-3599))
    TaskStateFactory.create(tstamp=at(-3601), state="FAILURE")
    if keyword:
        found = TaskState.objects.expired(states=["SUCCESS"], expires=expires)
    else:
        found = TaskState.objects.expired({"SUCCESS"}, expires)
    assert list(found) == [old]


@time_machine.travel(NOW, tick=False)
def test_age_counts_from_the_eta_where_that_is_later() -> None:
    TaskStateFactory.create(tstamp=at(-7200), eta=at(3600))
    TaskStateFactory.create(tstamp=at(-7200), eta=at(-60))
    TaskStateFactory.create(tstamp=at(-60), eta=at(-7200))
    waited = TaskStateFactory.create(tstamp=at(-7200), eta=at(-3700))
    assert list(TaskState.objects.expired({"SUCCESS"}, 3600)) == [waited]


@pytest.mark.parametrize("zone", ["UTC", "America/New_York", "Asia/Kolkata"])
@pytest.mark.parametrize("use_tz", [True, False])
@time_machine.travel(NOW, tick=False)
def test_age_is_right_in_every_time_zone(
    settings: Any, zone: str, use_tz: bool
) -> None:
    settings.TIME_ZONE, settings.USE_TZ = zone, use_tz
    old = TaskStateFactory.create(tstamp=at(-3601), worker=None)
    TaskStateFactory.create(tstamp=at(-3599), worker=None)
    assert list(TaskState.objects.expired({"SUCCESS"}, 3600)) == [old]


PENDING = states.UNREADY_STATES - states.EXCEPTION_STATES


@pytest.mark.parametrize(
    ("state", "names"),
    [
        ("SUCCESS", {"SUCCESS"}),
        ("FAILURE", states.EXCEPTION_STATES),
        ("RETRY", states.EXCEPTION_STATES),
        ("REVOKED", states.EXCEPTION_STATES),
        ("PENDING", PENDING),
        ("RECEIVED", PENDING),
        ("STARTED", PENDING),
        ("REJECTED", PENDING),
        ("IGNORED", PENDING),
        ("PROGRESS", PENDING),
    ],
)
@time_machine.travel(NOW, tick=False)
def test_each_state_expires_with_one_set_alone(
    state: str, names: frozenset[str]
) -> None:
    TaskStateFactory.create(state=state, tstamp=at(-1))
    sets = [{"SUCCESS"}, states.EXCEPTION_STATES, PENDING]
    assert [s for s in sets if TaskState.objects.expired(s, 0).exists()] == [names]


@time_machine.travel(NOW, tick=False)
def test_expire_by_states_marks_and_counts() -> None:
    old = TaskStateFactory.create(tstamp=at(-3601))
    new = TaskStateFactory.create(tstamp=at(-3599))
    assert TaskState.objects.expire_by_states({"SUCCESS"}, 3600) == 1
    old.refresh_from_db()
    new.refresh_from_db()
    assert (old.hidden, new.hidden) == (True, False)
    # What is marked already is not counted again.
    hour = timedelta(hours=1)
    assert TaskState.objects.expire_by_states(states={"SUCCESS"}, expires=hour) == 0


def test_rows_are_kept_for_ever_without_an_expiry() -> None:
    TaskStateFactory.create(tstamp=at(-(10**8)))
    assert TaskState.objects.expire_by_states({"SUCCESS"}, None) is None
    assert TaskState.objects.expire_by_states({"SUCCESS"}, expires=None) is None
    assert TaskState.objects.active().exists()


def test_purge_deletes_what_is_marked_and_counts() -> None:
    kept = TaskStateFactory.create()
    TaskStateFactory.create_batch(2, hidden=True, worker=kept.worker)
    assert TaskState.objects.purge() == 2
    assert list(TaskState.objects.all()) == [kept]
    assert TaskState.objects.purge() == 0
    assert WorkerState.objects.exists()
