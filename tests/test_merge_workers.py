"""The merge of what is seen of a worker."""

from __future__ import annotations

from typing import Any

from django_celery_monitor.merge import merge_worker
from tests.attempts import Columns


def heard(us: int | None = None, offline: int | None = None, **fields: Any) -> Columns:
    """Return a row of a worker that told of itself with its last heartbeat."""
    row = {"last_heartbeat": us, "last_heartbeat_us": us, "pid": None, "freq": None}
    told = us if fields else None
    row = {**row, "offline_at": offline, "offline_at_us": offline, "told_us": told}
    return {**row, **fields}


def test_newer_heartbeat_brings_everything() -> None:
    changes = merge_worker(heard(5, pid=1, freq=2.0), heard(6, pid=2, freq=2.0))
    assert changes == {
        "last_heartbeat": 6,
        "last_heartbeat_us": 6,
        "told_us": 6,
        "pid": 2,
    }


def test_older_heartbeat_brings_nothing() -> None:
    assert merge_worker(heard(5, pid=1), heard(4, pid=2)) == {}


def test_of_two_words_at_the_same_time_the_greater_counts() -> None:
    one, two = heard(5, pid=1), heard(5, pid=2)
    assert merge_worker(two, one) == {}
    assert merge_worker(one, two) == {"pid": 2}


def test_what_is_said_together_stays_together() -> None:
    """What a newer word leaves out is not what an older one said."""
    changes = merge_worker(heard(5, pid=1, freq=2.0), heard(6, pid=2))
    assert changes["freq"] is None


def test_sign_of_life_from_a_task_leaves_what_the_worker_said() -> None:
    changes = merge_worker(heard(5, pid=1), heard(6))
    assert changes == {"last_heartbeat": 6, "last_heartbeat_us": 6}


def test_going_offline_only_moves_forward() -> None:
    assert merge_worker(heard(5, 7), heard(offline=6)) == {}
    assert merge_worker(heard(5, 7), heard(offline=8)) == {
        "offline_at": 8,
        "offline_at_us": 8,
    }


def test_first_seen_only_moves_back() -> None:
    row = {**heard(5), "first_seen": 3}
    assert merge_worker(row, {"first_seen": 4}) == {}
    assert merge_worker(row, {"first_seen": 2}) == {"first_seen": 2}


def test_how_often_a_row_is_written_changes_with_the_rest() -> None:
    row = {**heard(5), "update_freq": 60}
    assert merge_worker(row, {**heard(5), "update_freq": 30}) == {}
    changes = merge_worker(row, {**heard(6), "update_freq": 30})
    assert changes["update_freq"] == 30
