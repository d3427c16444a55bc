"""A camera that a test can watch, hold, and kill between two statements."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from django.db.backends.signals import connection_created

from django_celery_monitor.camera import Camera


class Watched(Camera):
    """The camera, which tells by files in the working folder, and is told.

    ``received-<pid>`` has the number of events that it received. While there is a
    file ``hold`` it takes no shot. Once there is ``die-<pid>`` it kills itself as
    soon as it has inserted tasks and before it commits them.
    """

    def install(self) -> None:
        """Start as ever, and begin to tell."""
        super().install()
        connection_created.connect(self._watch_statements, weak=False)
        threading.Thread(target=self._tell, daemon=True).start()

    def capture(self) -> None:
        """Save what was seen, unless the test holds the camera; but always at last."""
        if self._ends or not Path("hold").exists():
            super().capture()

    def _tell(self) -> None:
        path = Path(f"received-{os.getpid()}")
        while True:
            new = path.with_suffix(".new")
            new.write_text(str(self.counters.received))
            new.replace(path)
            time.sleep(0.05)

    def _watch_statements(self, connection: Any, **_: Any) -> None:
        if self._execute not in connection.execute_wrappers:
            connection.execute_wrappers.append(self._execute)

    def _execute(self, execute: Callable[..., Any], sql: str, *arguments: Any) -> Any:
        result = execute(sql, *arguments)
        inserts = sql.startswith("INSERT") and "_taskstate" in sql
        if inserts and Path(f"die-{os.getpid()}").exists():
            os.kill(os.getpid(), signal.SIGKILL)
        return result
