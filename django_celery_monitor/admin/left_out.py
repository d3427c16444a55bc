"""The tasks that an action leaves out, and why."""

from __future__ import annotations

from collections.abc import Mapping

from django.contrib import messages
from django.http import HttpRequest
from django.utils.translation import gettext

from django_celery_monitor.models import TaskState
from django_celery_monitor.sanitize import was_cut

from .base import ModelMonitor
from .replies import listed


def leave_out(
    monitor: ModelMonitor, request: HttpRequest, reasons: Mapping[TaskState, str]
) -> list[TaskState]:
    """Tell the user which tasks are left out, those with a reason; return these."""
    left_out = [task for task, why in reasons.items() if why]
    if left_out:
        title = gettext("These tasks are left out:")
        lines = [f"{task_line(task)}: {reasons[task]}" for task in left_out]
        monitor.message_user(request, listed(title, lines), messages.WARNING)
    return left_out


def without_name(task: TaskState) -> str:
    """Return why no worker knows the name of a task; "" if they do."""
    if not task.name:
        return gettext("its name is unknown")
    return gettext("its name was cut") if was_cut(task.name) else ""


def without_id(task: TaskState) -> str:
    """Return why no worker knows the id of a task; "" if they do."""
    return gettext("its id was cut") if was_cut(task.task_id) else ""


def task_line(task: TaskState) -> str:
    """Return name and id of a task."""
    return f"{task.name or gettext('unknown')} {task.task_id}"
