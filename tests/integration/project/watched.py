"""A camera that a test can watch, hold, and kill between two statements."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from django.db.backends.signals import connection_created

from django_celery_monitor.camera import Camera


class Watched(Camera):
    """The camera, which tells by files in the working folder, and is told.

    ``told-<pid>`` has the number of events that it received, how many of them were
    about tasks, and how often it could not save. While there is a file ``hold`` it
    takes no shot. Once there is ``die-<pid>`` it kills itself when it has written tasks
    and is about to commit them.
    """

    _saves_tasks = False
    _about_tasks = 0

    def install(self) -> None:
        """Start as ever, and begin to tell."""
        super().install()
        connection_created.connect(self._watch_statements, weak=False)
        threading.Thread(target=self._tell, daemon=True).start()

    def capture(self) -> None:
        """Save what was seen, unless the test holds the camera; but always at last."""
        if self._ends or not Path("hold").exists():
            super().capture()

    def _on_event(self, event: Mapping[str, Any]) -> None:
        super()._on_event(event)
        self._about_tasks += event["type"].startswith("task-")

    def _tell(self) -> None:
        path = Path(f"told-{os.getpid()}")
        while True:
            new = path.with_suffix(".new")
            counted = self.counters
            told = (counted.received, self._about_tasks, counted.retried)
            new.write_text(" ".join(map(str, told)))
            new.replace(path)
            time.sleep(0.05)

    def _watch_statements(self, connection: Any, **_: Any) -> None:
        if self._execute in connection.execute_wrappers:
            return
        connection.execute_wrappers.append(self._execute)
        commit = connection.commit

        def die_or_commit() -> None:
            if self._saves_tasks and Path(f"die-{os.getpid()}").exists():
                os.kill(os.getpid(), signal.SIGKILL)
            self._saves_tasks = False
            commit()

        connection.commit = die_or_commit

    def _execute(self, execute: Callable[..., Any], sql: str, *arguments: Any) -> Any:
        # No COPY comes by here, but the read that locks the rows does.
        self._saves_tasks |= "_taskstate" in sql
        return execute(sql, *arguments)
