"""The section "Celery Monitor" of Django's admin: tasks, workers, cameras, actions."""

from .base import ModelMonitor, MonitorList
from .cameras import CameraMonitor
from .display import (
    NODE_STATE_COLORS,
    TASK_STATE_COLORS,
    colored_state,
    eta,
    name,
    node_state,
    tstamp,
)
from .tasks import TaskMonitor
from .workers import WorkerMonitor

__all__ = [
    "NODE_STATE_COLORS",
    "TASK_STATE_COLORS",
    "CameraMonitor",
    "ModelMonitor",
    "MonitorList",
    "TaskMonitor",
    "WorkerMonitor",
    "colored_state",
    "eta",
    "name",
    "node_state",
    "tstamp",
]
