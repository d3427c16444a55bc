"""A camera of the project's own."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from django_celery_monitor.camera import Camera

if TYPE_CHECKING:
    from django_celery_monitor.models import TaskState, WorkerState


class Picky(Camera):
    """A camera that saves additions alone, and marks what it saved."""

    def handle_task(
        self, uuid_task: tuple[str, Any], worker: WorkerState | None = None
    ) -> TaskState | None:
        """Save the task if it is an addition."""
        if not (uuid_task[1].name or "").endswith(".add"):
            return None
        row = super().handle_task(uuid_task, worker)
        if row is not None:
            type(row).objects.filter(pk=row.pk).update(kwargs="picked")
        return row


class Telling(Camera):
    """A camera that tells, by a file, when it is about to save a task."""

    def on_shutter(self, state: Any) -> None:
        """Create the file in the working folder, then save as ever."""
        if state.tasks:
            Path("shooting").touch()
        super().on_shutter(state)
