"""What a subclass of the camera overrides, and the State that it is handed."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest
from celery.events.state import State, Worker

from django_celery_monitor.camera import Camera
from django_celery_monitor.models import TaskState, WorkerState
from tests.cameras import make, started, succeeded
from tests.events import NOW, feed, received, sent, worker_event

pytestmark = pytest.mark.usefixtures("soon_after")


@pytest.mark.django_db
def test_every_change_passes_through_what_a_subclass_overrides() -> None:
    calls: list[tuple[str, str]] = []

    class Custom(Camera):
        """A camera that sees everything that is saved."""

        def on_shutter(self, state: Any) -> None:
            calls.append(("on_shutter", type(state).__name__))
            super().on_shutter(state)

        def get_heartbeat(self, worker: Worker) -> datetime | None:
            calls.append(("get_heartbeat", worker.hostname))
            return super().get_heartbeat(worker)

        def handle_worker(self, hostname_worker: Any) -> WorkerState:
            calls.append(("handle_worker", hostname_worker[0]))
            return super().handle_worker(hostname_worker)

        def handle_task(self, uuid_task: Any, worker: Any = None) -> TaskState | None:
            calls.append(("handle_task", uuid_task[0]))
            return super().handle_task(uuid_task, worker)

        def update_task(
            self, state: str, task_id: str, defaults: Any = None
        ) -> TaskState | None:
            calls.append(("update_task", state))
            return super().update_task(state, task_id, {**defaults, "kwargs": "***"})

    camera = make(Custom)
    feed([worker_event(), received(), succeeded()], camera.state)
    camera.capture()
    assert calls == [
        ("on_shutter", "State"),
        ("handle_worker", "celery@one"),
        ("get_heartbeat", "celery@one"),
        ("handle_task", "id-1"),
        ("update_task", "SUCCESS"),
    ]
    assert TaskState.objects.get().kwargs == "***"


@pytest.mark.parametrize(
    "name", ["on_shutter", "handle_worker", "handle_task", "update_task"]
)
@pytest.mark.django_db
def test_one_override_is_enough(name: str) -> None:
    calls: list[str] = []

    def overridden(self: Camera, *args: Any, **kwargs: Any) -> Any:
        calls.append(name)
        return getattr(Camera, name)(self, *args, **kwargs)

    camera = make(type("Custom", (Camera,), {name: overridden}))
    feed([worker_event(), received(), succeeded()], camera.state)
    camera.capture()
    assert calls == [name]
    assert TaskState.objects.get().state == "SUCCESS"


@pytest.mark.django_db
def test_subclass_is_handed_a_state_of_its_own_with_what_changed() -> None:
    shots: list[Any] = []

    class Looking(Camera):
        """A camera that only looks."""

        def on_shutter(self, state: Any) -> None:
            shots.append(state)

    camera = make(Looking)
    feed([worker_event(), sent(), received(), started()], camera.state)
    feed([received(uuid="id-2"), succeeded(uuid="id-2")], camera.state)
    camera.capture()
    feed([succeeded(), received(uuid="id-3")], camera.state)
    camera.capture()
    camera.capture()
    first, second = shots
    assert all(isinstance(shot, State) for shot in shots)
    assert camera.state not in shots
    assert {i: t.state for i, t in first.itertasks()} == {
        "id-1": "STARTED",
        "id-2": "SUCCESS",
    }
    assert first.workers["celery@one"].pid == 4711
    assert (first.tasks["id-1"].sent, first.tasks["id-1"].queue) == (NOW, "celery")
    # A task in flight stays in the State, with all that was told of it.
    assert second.tasks["id-1"].name == "proj.tasks.add"
    assert {i: t.state for i, t in second.itertasks()} == {
        "id-1": "SUCCESS",
        "id-3": "RECEIVED",
    }
    assert len(list(second.tasks_by_time())) == 2
    # A subclass may look at whatever Celery documents.
    assert (first.event_count, first.task_count) == (6, 2)
    assert first.task_types() == ["proj.tasks.add"]
    assert len(first.tasks_by_worker["celery@one"]) == 2


@pytest.mark.django_db
def test_subclass_sees_who_called_whom() -> None:
    found: list[Any] = []

    class Looking(Camera):
        """A camera that only looks."""

        def on_shutter(self, state: Any) -> None:
            parent, child = state.tasks["id-1"], state.tasks["id-2"]
            found.extend([child.parent is parent, child.root is parent])
            found.append(list(parent.children) == [child])

    camera = make(Looking)
    feed([received(), received(uuid="id-2", parent_id="id-1")], camera.state)
    camera.capture()
    assert found == [True, True, True]


@pytest.mark.parametrize("calls_super", [True, False])
@pytest.mark.django_db
def test_state_does_not_grow_with_the_names_that_come_and_go(calls_super: bool) -> None:
    class Looking(Camera):
        """A camera that saves nothing."""

        def on_shutter(self, state: Any) -> None:
            if calls_super:
                super().on_shutter(state)

        def handle_worker(self, hostname_worker: Any) -> Any:
            return None

        def handle_task(self, uuid_task: Any, worker: Any = None) -> Any:
            return None

    camera = make(Looking)
    sizes = set()
    for number in range(1000):
        about = {"hostname": f"celery@{number}", "uuid": f"id-{number}"}
        name = f"proj.tasks.{number}"
        ended = worker_event("worker-offline", hostname=about["hostname"])
        feed([received(**about, name=name), succeeded(**about), ended], camera.state)
        if number % 100 == 99:
            camera.capture()
            state = camera.state
            kept = [state.tasks, state.workers, state.tasks_by_type]
            kept += [state.tasks_by_worker, state._seen_types, camera._left]
            sizes.add(tuple(map(len, kept)))
    assert len(sizes) == 1
    assert max(sizes.pop()) <= 1


@pytest.mark.django_db
def test_burst_beyond_the_bounds_of_a_state_is_handed_over_whole() -> None:
    seen: list[tuple[int, int, int]] = []

    class Looking(Camera):
        """A camera that only looks."""

        def on_shutter(self, state: Any) -> None:
            seen.append((len(state.tasks), len(state.workers), state.event_count))

    live = State(max_tasks_in_memory=10, max_workers_in_memory=10)
    camera = make(Looking, state=live)
    events = [received(uuid=f"{n}", hostname=f"celery@{n}") for n in range(25)]
    feed(events, camera.state)
    camera.capture()
    assert seen == [(25, 25, 25)]
