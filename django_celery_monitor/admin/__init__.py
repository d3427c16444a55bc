"""The section "Celery Monitor" of Django's admin: tasks, workers and their actions."""

from .base import ModelMonitor, MonitorList
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
