"""The camera as a whole: what it takes in, when it shoots, starts, ends, cleans up."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from typing import Any
from unittest import mock

import pytest
from celery import Celery
from celery.events.snapshot import Polaroid
from django.core.exceptions import ImproperlyConfigured
from django.db import OperationalError, connection
from django.db.models.signals import post_save
from django.test.utils import CaptureQueriesContext

from django_celery_monitor.camera import FIRST_CLEANUP, WORKER_UPDATE_FREQ, Camera
from django_celery_monitor.models import TaskState, WorkerState
from django_celery_monitor.receiver import Receiver
from django_celery_monitor.reconnecting import Reconnecting
from django_celery_monitor.retention import Purged, Retention
from django_celery_monitor.utils import fromtimestamp
from tests.cameras import FakeTimer, at, make, started, succeeded
from tests.events import NOW, feed, received, sent, task_event, worker_event
from tests.factories import TaskStateFactory


@pytest.fixture(autouse=True)
def _clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let the tests take place soon after their events, with no receiver at work."""
    monkeypatch.setattr(Reconnecting, "consuming", None)
    with at(60):
        yield


@pytest.fixture
def camera() -> Camera:
    camera: Camera = make()
    return camera


@pytest.fixture
def state(camera: Camera) -> Any:
    return camera.state


@pytest.fixture
def app(camera: Camera) -> Celery:
    """Return the camera's Celery app, whose settings are this test's own."""
    return camera.app


@pytest.fixture
def timer(camera: Any) -> FakeTimer:
    found: FakeTimer = camera.timer
    return found


# The class


def test_camera_is_what_celery_expects(camera: Camera, state: Any) -> None:
    assert isinstance(camera, Polaroid)
    assert (camera.state, camera.freq) == (state, 2.0)
    assert Camera.clear_after is True
    assert Camera.worker_update_freq == WORKER_UPDATE_FREQ == 60


def test_models_are_properties(camera: Camera) -> None:
    assert camera.TaskState is TaskState
    assert camera.WorkerState is WorkerState


# Intake


def test_receiver_of_the_app_counts_for_the_camera(camera: Any, app: Celery) -> None:
    receiver = app.events.Receiver(app.connection_for_read())
    assert isinstance(receiver, Receiver)
    assert receiver.counters is camera.counters
    assert receiver.outbox is camera.outbox
    others = make().app.events.Receiver
    assert others.counters is not camera.counters


def test_events_are_merged_as_they_come(camera: Camera, state: Any) -> None:
    feed([received(), started(), received(uuid="id-2"), worker_event()], state)
    assert len(camera.outbox) == 2
    assert camera.counters.merged == 1
    assert not state.tasks  # Celery's own account of them is not kept
    assert not state.workers


def test_values_that_are_made_fit_are_counted(camera: Camera, state: Any) -> None:
    feed([received(retries="many"), succeeded(result="\ud800")], state)
    assert camera.counters.made_fit == 2
    feed([worker_event(sw_ident="\ud800")], state)
    assert camera.counters.made_fit == 3


def test_other_events_are_ignored(camera: Camera, state: Any) -> None:
    feed([{**task_event("task-"), "type": "project-custom"}], state)
    assert not camera.outbox


@pytest.mark.django_db
def test_clock_that_is_ahead_does_not_outlast_what_follows(
    camera: Camera, state: Any, app: Celery
) -> None:
    receiver = app.events.Receiver(app.connection_for_read())
    events = [
        started(at=NOW + 10**6),
        task_event("task-retried", at=NOW + 62, exception="E()"),
    ]
    for seconds, event in enumerate(events, 61):
        with at(seconds):
            state.event(receiver.event_from_message(event)[1])
            camera.capture()
    row = TaskState.objects.get()
    assert (row.state, row.tstamp) == ("RETRY", fromtimestamp(NOW + 62))
    assert row.started_at == fromtimestamp(NOW + 61)


# Signals


@pytest.mark.django_db
def test_signals_are_sent(camera: Camera, state: Any) -> None:
    sent_signals: list[tuple[str, Any]] = []

    def shutter(sender: Any, **kwargs: Any) -> None:
        sent_signals.append(("shutter", sender))

    def cleanup(sender: Any, **kwargs: Any) -> None:
        sent_signals.append(("cleanup", sender))

    Camera.shutter_signal.connect(shutter)
    Camera.cleanup_signal.connect(cleanup)
    try:
        camera.capture()
        camera.cleanup()
    finally:
        Camera.cleanup_signal.disconnect(cleanup)
        Camera.shutter_signal.disconnect(shutter)
    assert sent_signals == [("shutter", state), ("cleanup", state)]


@pytest.mark.django_db
def test_listeners_hear_once_of_each_row_that_is_written(
    camera: Camera, state: Any, caplog: pytest.LogCaptureFixture
) -> None:
    heard: list[tuple[str, bool]] = []

    def saved(instance: Any, created: bool, **kwargs: Any) -> None:
        if isinstance(instance, TaskState):
            assert instance.pk is not None
            heard.append((instance.state, created))

    def fails(instance: Any, **kwargs: Any) -> None:
        if isinstance(instance, TaskState):
            raise OperationalError("of the listener's own")

    post_save.connect(saved)
    post_save.connect(fails)
    try:
        feed([sent(), sent(uuid="id-2"), sent(uuid="id-3")], state)
        camera.capture()
        assert heard == [("PENDING", True)] * 3
        assert "of the listener's own" in caplog.text
        heard.clear()
        feed([task_event("task-rejected", at=NOW + 1), sent()], state)
        feed([sent(uuid="id-2"), sent(uuid="id-4")], state)
        camera.capture()
        camera.capture()
    finally:
        post_save.disconnect(fails)
        post_save.disconnect(saved)
    assert sorted(heard) == [("PENDING", True), ("REJECTED", False)]
    assert TaskState.objects.count() == 4
    assert camera.counters.saved == 6  # and the worker
    assert camera.counters.retried == 0


# When a shot is taken


@pytest.mark.django_db
def test_maximum_rate_puts_a_shot_off_and_loses_nothing() -> None:
    camera = make(maxrate="1/h")
    camera.capture()
    feed([received(), succeeded(), worker_event()], camera.state)
    camera.capture()
    assert not TaskState.objects.exists()
    assert len(camera.outbox) == 1

    camera.cancel()
    assert TaskState.objects.get().state == "SUCCESS"
    assert WorkerState.objects.exists()


def test_worker_row_says_how_late_it_may_be() -> None:
    camera = make(maxrate="1/h")
    assert camera._saver.update_freq == pytest.approx(60 + 3600)


@pytest.mark.usefixtures("signal_handlers")
def test_timer_is_told_when_to_shoot_and_when_to_clean(
    camera: Camera, timer: FakeTimer
) -> None:
    camera.install()
    own = (camera.capture, camera.cleanup)
    assert [call for call in timer.calls if call[2] in own] == [
        ("repeatedly", 2.0, camera.capture),
        ("repeatedly", 3600.0, camera.cleanup),
        ("after", FIRST_CLEANUP, camera.cleanup),
    ]


@pytest.mark.usefixtures("signal_handlers")
@pytest.mark.django_db
def test_last_shot_stops_the_timer(
    camera: Camera, state: Any, timer: FakeTimer
) -> None:
    with camera:
        feed([received(), succeeded()], state)
        assert not any(entry.canceled for entry in timer.entries)
    own = (camera.capture, camera.cleanup)
    for entry, call in zip(timer.entries, timer.calls, strict=True):
        assert entry.canceled or call[2] not in own
    assert TaskState.objects.get().state == "SUCCESS"


@pytest.mark.django_db
def test_camera_that_was_not_installed_can_be_cancelled(
    camera: Camera, state: Any
) -> None:
    feed([received()], state)
    camera.cancel()
    assert TaskState.objects.exists()


def test_last_shot_waits_for_the_one_in_flight() -> None:
    log: list[str] = []
    shooting, go_on = threading.Event(), threading.Event()

    class Slow(Camera):
        """A camera whose first shot takes until it may go on."""

        def on_shutter(self, state: Any) -> None:
            log.append(f"begin {sorted(state.tasks)}")
            if not shooting.is_set():
                shooting.set()
                assert go_on.wait(timeout=20)
            log.append("end")

    camera = make(Slow)
    camera._reporter = mock.Mock()  # it would write its row
    feed([received(), started()], camera.state)
    shot = threading.Thread(target=camera.capture)
    last = threading.Thread(target=camera.cancel)
    shot.start()
    assert shooting.wait(timeout=20)
    # A shot under way never keeps the receiver waiting.
    feed([received(uuid="id-2")], camera.state)
    last.start()
    go_on.set()
    for thread in (shot, last):
        thread.join(timeout=20)
    assert log == ["begin ['id-1']", "end", "begin ['id-2']", "end"]


# Starting


@pytest.fixture
def signal_handlers() -> Iterator[None]:
    """Give back the handlers that a camera replaces."""
    handlers = {s: signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)}
    yield
    for signum, handler in handlers.items():
        signal.signal(signum, handler)


@pytest.mark.usefixtures("signal_handlers")
@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_signals_end_the_command_in_good_order(camera: Camera, signum: int) -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    camera.install()
    with pytest.raises(SystemExit) as ended:
        signal.raise_signal(signum)
    assert ended.value.code == 0
    # A second one does not interrupt the last shot.
    signal.raise_signal(signal.SIGTERM)
    signal.raise_signal(signal.SIGINT)


@pytest.mark.usefixtures("signal_handlers")
@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_handlers_of_others_stay(camera: Camera, signum: int) -> None:
    def handler(*args: Any) -> None:
        """Handle the signal in the host's own way."""

    signal.signal(signum, handler)
    camera.install()
    assert signal.getsignal(signum) is handler


@pytest.mark.usefixtures("signal_handlers")
def test_camera_in_a_thread_leaves_signals_alone(
    camera: Camera, timer: FakeTimer
) -> None:
    before = [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)]
    thread = threading.Thread(target=camera.install)
    thread.start()
    thread.join(timeout=20)
    assert len(timer.calls) >= 3
    assert [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)] == before


@pytest.mark.usefixtures("signal_handlers")
def test_django_is_set_up_before_the_timer_runs(
    camera: Camera, timer: FakeTimer, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls_before: list[int] = []
    monkeypatch.setattr("django.setup", lambda: calls_before.append(len(timer.calls)))
    camera.install()
    assert calls_before == [0]
    assert timer.calls


def test_camera_sets_django_up_in_a_process_that_has_not() -> None:
    program = """
from unittest.mock import MagicMock

from celery.events.state import State
from django.apps import apps

import tests.celery
from django_celery_monitor.camera import Camera

camera = Camera(State(), timer=MagicMock())
assert not apps.ready
camera.install()
assert apps.ready
assert camera.TaskState.objects is not None
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        env={**os.environ, "DJANGO_SETTINGS_MODULE": "tests.settings"},
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "name",
    [
        "monitor_task_success_expires",
        "monitor_task_error_expires",
        "monitor_task_pending_expires",
    ],
)
@pytest.mark.usefixtures("signal_handlers")
def test_wrong_setting_ends_the_command(
    camera: Camera, app: Celery, timer: FakeTimer, name: str
) -> None:
    app.conf[name] = "a week"
    with pytest.raises(ImproperlyConfigured, match=name):
        camera.install()
    assert not timer.calls


# Cleaning up


def test_expiry_has_three_sets_and_defaults(camera: Camera) -> None:
    assert [(set(names), expires) for names, expires in camera.expire_task_states] == [
        ({"SUCCESS"}, timedelta(days=1)),
        ({"FAILURE", "RETRY", "REVOKED"}, timedelta(days=3)),
        ({"PENDING", "RECEIVED", "STARTED", "REJECTED"}, timedelta(days=5)),
    ]


def test_expiry_follows_the_settings(camera: Camera, app: Celery) -> None:
    app.conf.monitor_task_success_expires = 60
    app.conf.monitor_task_error_expires = None
    app.conf.monitor_task_pending_expires = timedelta(hours=2)
    times = [expires for _, expires in camera.expire_task_states]
    assert times == [timedelta(minutes=1), None, timedelta(hours=2)]


def test_expiry_follows_the_older_names(camera: Camera, app: Celery) -> None:
    app.conf.monitors_expire_success = timedelta(minutes=1)
    app.conf.monitors_expire_error = timedelta(minutes=2)
    app.conf.monitors_expire_pending = None
    with pytest.warns(DeprecationWarning, match="monitors_expire_"):
        times = [expires for _, expires in camera.expire_task_states]
    assert times == [timedelta(minutes=1), timedelta(minutes=2), None]


def ages(*days: float) -> dict[str, datetime]:
    """Return the time that was so many days ago, by its number of days."""
    return {f"{day}": fromtimestamp(NOW + 60 - day * 86400) for day in days}


@pytest.mark.django_db
def test_cleanup_deletes_what_has_expired_and_counts(camera: Camera) -> None:
    for state in ("SUCCESS", "FAILURE", "RETRY", "STARTED", "PROGRESS", "IGNORED"):
        for days, tstamp in ages(0.9, 1.1, 2.9, 3.1, 4.9, 5.1).items():
            TaskStateFactory.create(
                state=state, task_id=f"{state}-{days}", tstamp=tstamp
            )
    expected = {
        *("SUCCESS-0.9", "FAILURE-0.9", "FAILURE-1.1", "FAILURE-2.9"),
        *("RETRY-0.9", "RETRY-1.1", "RETRY-2.9"),
        *(
            f"{state}-{days}"
            for state in ("STARTED", "PROGRESS", "IGNORED")
            for days in (0.9, 1.1, 2.9, 3.1, 4.9)
        ),
    }
    assert camera.on_cleanup() == 36 - len(expected)
    assert set(TaskState.objects.values_list("task_id", flat=True)) == expected
    assert camera.on_cleanup() == 0


@pytest.mark.django_db
def test_cleanup_keeps_for_ever_what_does_not_expire(
    camera: Camera, app: Celery
) -> None:
    app.conf.monitor_task_success_expires = None
    app.conf.monitor_task_error_expires = timedelta(0)
    kept = TaskStateFactory.create(tstamp=fromtimestamp(0))
    TaskStateFactory.create(state="FAILURE", tstamp=fromtimestamp(NOW + 59))
    assert camera.on_cleanup() == 1
    assert TaskState.objects.get() == kept


@pytest.mark.django_db
def test_cleanup_keeps_a_task_that_waits_for_its_eta(camera: Camera) -> None:
    TaskStateFactory.create(
        state="RECEIVED",
        tstamp=fromtimestamp(NOW - 30 * 86400),
        eta=datetime(2027, 1, 1, tzinfo=timezone.utc)
        if fromtimestamp(0).tzinfo
        else datetime(2027, 1, 1),
    )
    assert camera.on_cleanup() == 0


@pytest.mark.django_db
def test_cleanup_can_be_overridden() -> None:
    class Thorough(Camera):
        """A camera that keeps nothing."""

        def on_cleanup(self) -> int:  # type: ignore[override]
            self.TaskState.objects.update(hidden=True)
            return super().on_cleanup()

    TaskStateFactory.create()
    make(Thorough).cleanup()
    assert not TaskState.objects.exists()


@pytest.mark.django_db
def test_cleanup_in_the_timer_ends_for_the_next_shot_and_goes_on_after_it(
    camera: Camera, timer: FakeTimer, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[float | None] = []

    def run(self: Retention, seconds: float | None = None, **kwargs: Any) -> Purged:
        given.append(seconds)
        return Purged(1, 0, done=len(given) > 1)

    monkeypatch.setattr(Retention, "run", run)
    camera.cleanup()
    assert timer.calls == [("after", 1.0, camera.cleanup)]
    camera.cleanup()
    assert len(timer.calls) == 1
    assert camera.on_cleanup() == 1  # called by somebody else, it takes its time
    assert given == [1.0, 1.0, None]


@pytest.mark.django_db
def test_cleanup_waits_while_the_database_is_away(
    camera: Camera, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Retention, "run", mock.Mock(side_effect=OperationalError))
    camera.cleanup()
    assert "cleanup waits" in caplog.text


@pytest.mark.django_db
def test_cleanup_forgets_workers_that_are_long_gone(
    camera: Camera, state: Any, app: Celery
) -> None:
    app.conf.monitor_worker_expires = timedelta(days=2)
    feed([worker_event(hostname="celery@gone"), received()], state)
    camera.capture()
    with at(86400 * 3):
        camera.cleanup()
    assert [row.hostname for row in WorkerState.objects.all()] == ["celery@one"]


# A database of its own


@pytest.mark.django_db(databases={"default", "other"})
def test_router_names_the_database(camera: Camera, state: Any, settings: Any) -> None:
    settings.DATABASE_ROUTERS = ["tests.routers.MonitorRouter"]
    feed([worker_event(), received(), succeeded(uuid="id-2")], state)
    with CaptureQueriesContext(connection) as queries:
        camera.capture()
        camera.update_task("FAILURE", "id-3", {"retries": 1})
        camera.on_cleanup()
    assert len(queries) == 0
    assert TaskState.objects.using("other").count() == 2
    assert WorkerState.objects.using("other").count() == 1
