"""Event streams as untrusted clients and workers may send them, for hypothesis."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from tests.events import NOW, received, sent, task_event, worker_event

Event = dict[str, Any]

HOSTS = ("celery@one", "celery@two")

#: Few values, so that events often say the same or nearly the same.
times = st.integers(0, 4).map(lambda seconds: NOW + seconds)
hosts = st.sampled_from([*HOSTS, None])
texts = st.sampled_from(["", "a", "b", "B", "ä", None])
etas = st.sampled_from([None, "2026-03-02T10:01:00+00:00", "2026-03-02T12:00:00+02:00"])

#: What a field may have that should have been something else.
poison = st.one_of(
    st.none(),
    st.booleans(),
    st.sampled_from([-1, 0, 2**31, 2**63, 10**400, 1e20, -1e308]),
    st.sampled_from([float("nan"), float("inf"), float("-inf")]),
    st.sampled_from(["", "\0", "\ud800", "x" * 70_000, "password='x'", "1e5"]),
    st.lists(st.integers(), max_size=2),
    st.dictionaries(st.text(max_size=2), st.none(), max_size=2),
)

_calls = st.fixed_dictionaries(
    {"at": times, "retries": st.integers(0, 2)},
    optional={
        "name": st.sampled_from(["proj.add", "proj.mul", None]),
        "args": texts,
        "kwargs": texts,
        "eta": etas,
        "expires": etas,
        "root_id": texts,
        "parent_id": st.sampled_from(["", "id-0", "id-1", None]),
    },
)
_routes = st.fixed_dictionaries({}, optional={"queue": texts, "exchange": texts})
_errors = st.fixed_dictionaries(
    {"at": times, "hostname": hosts},
    optional={
        "exception": st.just("OSError('a')") | texts,
        "traceback": texts,
        # What the tracker tells of a retry, and events do not.
        "attempt": st.integers(0, 2),
    },
)
_ended = st.fixed_dictionaries(
    {"at": times, "hostname": hosts},
    optional={"result": texts, "runtime": st.sampled_from([0.0, 0.1 + 0.2, None])},
)
_flags = st.fixed_dictionaries(
    {"at": times, "hostname": hosts},
    optional={n: st.booleans() for n in ("terminated", "expired", "requeue")},
)

#: One event of the task ``id-1``.
task_events: st.SearchStrategy[Event] = st.one_of(
    st.builds(lambda call, route: sent(**call, **route), _calls, _routes),
    st.builds(lambda call, host: received(**call, hostname=host), _calls, hosts),
    st.builds(
        lambda at, host: task_event("task-started", at=at, hostname=host), times, hosts
    ),
    st.builds(
        lambda type_, fields: task_event(type_, **fields),
        st.sampled_from(["task-retried", "task-failed"]),
        _errors,
    ),
    st.builds(lambda fields: task_event("task-succeeded", **fields), _ended),
    st.builds(
        lambda type_, fields: task_event(type_, **fields),
        st.sampled_from(["task-revoked", "task-rejected"]),
        _flags,
    ),
    st.builds(
        lambda type_, at, host: task_event(type_, at=at, hostname=host),
        # States of a project's own, some of which Celery uses too.
        st.sampled_from(["task-progress", "task-SUCCESS", "task-REJECTED"]),
        times,
        hosts,
    ),
)
task_streams = st.lists(task_events, min_size=1, max_size=8)

_about = {
    "pid": st.sampled_from([None, 0, 1, 2]),
    "freq": st.sampled_from([None, 2, 2.5, 1e20]),
    "active": st.sampled_from([None, 0, 10]),
    "processed": st.sampled_from([None, 9, 10]),
    "loadavg": st.sampled_from([None, [], [0.5, 1.0, 1e20], [0.5, 10.0, 2.0]]),
    "sw_ver": st.sampled_from([None, "", "5.7.0"]),
}

#: One event of the worker ``celery@one``, its clock as far back as clocks go.
worker_events: st.SearchStrategy[Event] = st.builds(
    lambda type_, at, about: worker_event(type_, at=at, received=NOW + 9, **about),
    st.sampled_from(["worker-online", "worker-heartbeat", "worker-offline"]),
    times | st.just(0.0),
    st.fixed_dictionaries({}, optional=_about),
)
worker_streams = st.lists(worker_events, min_size=1, max_size=8)
