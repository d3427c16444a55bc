"""How a camera starts and ends: its timer, its settings, the signals."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any
from unittest import mock

import pytest
from django.core.exceptions import ImproperlyConfigured

from django_celery_monitor.camera import FIRST_CLEANUP, Camera
from django_celery_monitor.models import TaskState
from tests.cameras import FakeTimer, make, started, succeeded
from tests.events import feed, received

pytestmark = pytest.mark.usefixtures("soon_after")


@pytest.fixture
def timer(camera: Any) -> FakeTimer:
    found: FakeTimer = camera.timer
    return found


@pytest.fixture
def signal_handlers() -> Iterator[None]:
    """Give back the handlers that a camera replaces."""
    handlers = {s: signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)}
    yield
    for signum, handler in handlers.items():
        signal.signal(signum, handler)


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
def test_last_shot_stops_the_timer(camera: Camera, timer: FakeTimer) -> None:
    with camera:
        feed([received(), succeeded()], camera.state)
        assert not any(entry.canceled for entry in timer.entries)
    own = (camera.capture, camera.cleanup)
    for entry, call in zip(timer.entries, timer.calls, strict=True):
        assert entry.canceled or call[2] not in own
    assert TaskState.objects.get().state == "SUCCESS"


@pytest.mark.django_db
def test_camera_that_was_not_installed_can_be_cancelled(
    camera: Camera,
) -> None:
    feed([received()], camera.state)
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
    # Within a destructor Python drops the exception: nothing is received all the same.
    receiver = camera.app.events.Receiver(camera.app.connection_for_read())
    assert list(receiver.consume()) == []


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
    camera: Camera, timer: FakeTimer, name: str
) -> None:
    camera.app.conf[name] = "a week"
    with pytest.raises(ImproperlyConfigured, match=name):
        camera.install()
    assert not timer.calls
