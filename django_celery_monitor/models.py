"""The rows: what is known about each worker and each task."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, ClassVar

from celery import states
from celery.events.state import heartbeat_expires
from django.db import models, router
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from .camera_state import CameraState
from .links import deleted_with
from .managers import TaskStateQuerySet, WorkerStateQuerySet
from .merge import merge_worker
from .utils import exact_microseconds

__all__ = [
    "ALL_STATES",
    "TASK_STATE_CHOICES",
    "CameraState",
    "TaskState",
    "WorkerState",
]

#: Every state that Celery's own events lead to.
ALL_STATES = sorted(states.ALL_STATES | {states.REJECTED})
TASK_STATE_CHOICES = [(state, state) for state in ALL_STATES]

#: Seconds: the heartbeat frequency that Celery assumes of a worker that tells none,
#: and the interval at which version 1 wrote a worker's row.
DEFAULT_HEARTBEAT_FREQ = 60
DEFAULT_UPDATE_FREQ = 60


class Row(models.Model):
    """What is stored of a thing that events tell about."""

    #: Times with a column of their own, ``_us``, for the exact instant.
    EXACT: ClassVar[tuple[str, ...]] = ()

    class Meta:
        """Options of the model."""

        abstract = True

    def columns(self) -> dict[str, Any]:
        """Return every column of the row and its value."""
        return self.exact(
            {f.attname: getattr(self, f.attname) for f in self._meta.fields}
        )

    @classmethod
    def exact(cls, columns: dict[str, Any]) -> dict[str, Any]:
        """Return ``columns`` with the exact instants of all that have them."""
        for name in cls.EXACT:
            exact = exact_microseconds(columns[name], columns[f"{name}_us"])
            columns[f"{name}_us"] = exact
        return columns

    def update(self, changes: Mapping[str, Any], using: str) -> None:
        """Write the columns that change, and none where nothing does."""
        if not changes:
            return
        for column, value in changes.items():
            setattr(self, column, value)
        touched = [f.name for f in self._meta.fields if getattr(f, "auto_now", False)]
        self.save(using=using, update_fields=[*changes, *touched])


class WorkerState(Row):
    """A worker and when it was last heard of."""

    EXACT: ClassVar[tuple[str, ...]] = ("last_heartbeat", "offline_at")

    hostname = models.CharField(_("hostname"), max_length=255, unique=True)
    last_heartbeat = models.DateTimeField(_("last heartbeat"), null=True, db_index=True)
    last_update = models.DateTimeField(_("last update"), auto_now=True)
    first_seen = models.DateTimeField(_("first seen"), null=True, blank=True)
    offline_at = models.DateTimeField(
        _("offline since"),
        null=True,
        blank=True,
        help_text=_("When the worker last said that it goes offline."),
    )
    pid = models.PositiveBigIntegerField(_("process id"), null=True, blank=True)
    freq = models.FloatField(
        _("heartbeat frequency"),
        null=True,
        blank=True,
        help_text=_("Seconds between two heartbeats of the worker."),
    )
    active = models.PositiveIntegerField(_("active tasks"), null=True, blank=True)
    processed = models.PositiveBigIntegerField(
        _("processed tasks"), null=True, blank=True
    )
    loadavg = models.JSONField(_("load average"), null=True, blank=True)
    sw_ident = models.CharField(_("software"), max_length=255, null=True, blank=True)
    sw_ver = models.CharField(_("version"), max_length=255, null=True, blank=True)
    sw_sys = models.CharField(_("system"), max_length=255, null=True, blank=True)
    update_freq = models.FloatField(
        null=True,
        editable=False,
        help_text=_("Longest time in seconds between two writes of this row."),
    )
    # The same instants in whole microseconds since the epoch: a naive local time
    # is two of them in the hour that daylight saving repeats.
    last_heartbeat_us = models.BigIntegerField(null=True, editable=False)
    offline_at_us = models.BigIntegerField(null=True, editable=False)
    # When the worker said what it says of itself, process id to system.
    told_us = models.BigIntegerField(null=True, editable=False)

    objects = WorkerStateQuerySet.as_manager()

    class Meta:
        """Options of the model."""

        verbose_name = _("worker")
        verbose_name_plural = _("workers")
        get_latest_by = "last_heartbeat"
        ordering = ("-last_heartbeat",)
        permissions = (("control_workers", _("Can control workers")),)

    def __str__(self) -> str:
        """Return the name by which Celery knows the worker."""
        return self.hostname

    @property
    def heartbeat_timestamp(self) -> float | None:
        """The last heartbeat in seconds since the epoch; None: there was none."""
        last = self.columns()["last_heartbeat_us"]
        return None if last is None else last / 1_000_000

    def is_offline(self) -> bool:
        """Return whether the worker went offline after its last heartbeat."""
        columns = self.columns()
        offline, last = columns["offline_at_us"], columns["last_heartbeat_us"]
        return offline is not None and (last is None or last <= offline)

    def is_alive(self) -> bool:
        """Return whether the worker was heard of lately and is not offline.

        It counts as alive for twice its own heartbeat frequency (Celery's rule)
        after its last heartbeat, plus the time that may pass before the camera
        writes the next one.
        """
        last = self.heartbeat_timestamp
        if last is None or self.is_offline():
            return False
        freq = DEFAULT_HEARTBEAT_FREQ if self.freq is None else self.freq
        interval = DEFAULT_UPDATE_FREQ if self.update_freq is None else self.update_freq
        return time.time() < heartbeat_expires(last, freq) + interval

    def is_due(self, seen: Mapping[str, Any], update_freq: float) -> bool:
        """Return whether ``seen``, columns just observed, is to be written now.

        That is when the worker came or went, and else ``update_freq`` seconds
        after the last write.
        """
        changes = merge_worker(self.columns(), seen)
        if "offline_at" in changes:
            return True
        if "last_heartbeat" not in changes:
            return False
        elapsed = (timezone.now() - self.last_update).total_seconds()
        return (
            self.is_offline()
            or "pid" in changes
            # The clock can go back: two cameras, or the end of daylight saving.
            or not 0 <= elapsed < update_freq
        )


class TaskState(Row):
    """A task: the join of every event that was seen about it."""

    EXACT: ClassVar[tuple[str, ...]] = ("tstamp",)

    state = models.CharField(_("state"), max_length=64, choices=TASK_STATE_CHOICES)
    task_id = models.CharField(_("UUID"), max_length=255, unique=True)
    name = models.CharField(_("name"), max_length=255, null=True)
    tstamp = models.DateTimeField(
        _("state since"),
        db_index=True,
        help_text=_("When the event happened that the state comes from."),
    )
    args = models.TextField(_("arguments"), null=True)
    kwargs = models.TextField(_("keyword arguments"), null=True)
    eta = models.DateTimeField(_("ETA"), null=True)
    expires = models.DateTimeField(_("expires"), null=True)
    result = models.TextField(_("result"), null=True)
    exception = models.CharField(
        _("exception"),
        max_length=255,
        null=True,
        blank=True,
        help_text=_("The type of the exception alone."),
    )
    traceback = models.TextField(_("traceback"), null=True)
    runtime = models.FloatField(
        _("execution time"), null=True, help_text=_("In seconds, if it succeeded.")
    )
    retries = models.IntegerField(_("number of retries"), default=0)
    attempts = models.JSONField(
        _("attempts"),
        null=True,
        blank=True,
        help_text=_("What the newest retries said, oldest first."),
    )
    worker = models.ForeignKey(
        WorkerState,
        verbose_name=_("worker"),
        null=True,
        on_delete=models.SET_NULL,
        # The index on worker and tstamp begins with it.
        db_index=False,
    )
    sent_at = models.DateTimeField(_("sent at"), null=True, blank=True)
    received_at = models.DateTimeField(_("received at"), null=True, blank=True)
    started_at = models.DateTimeField(_("started at"), null=True, blank=True)
    finished_at = models.DateTimeField(_("finished at"), null=True, blank=True)
    queue = models.CharField(_("queue"), max_length=255, null=True, blank=True)
    exchange = models.CharField(_("exchange"), max_length=255, null=True, blank=True)
    routing_key = models.CharField(
        _("routing key"), max_length=255, null=True, blank=True
    )
    root_id = models.CharField(
        _("root"),
        max_length=255,
        null=True,
        blank=True,
        help_text=_("UUID of the first task of the workflow."),
    )
    parent_id = models.CharField(
        _("parent"),
        max_length=255,
        null=True,
        blank=True,
        help_text=_("UUID of the task that sent this one."),
    )
    updated_at = models.DateTimeField(_("updated at"), auto_now=True, null=True)
    hidden = models.BooleanField(default=False, db_index=True, editable=False)
    # Which attempt queue, exchange and routing_key are of: they travel only in
    # task-sent.
    route_retries = models.IntegerField(null=True, editable=False)
    # tstamp in whole microseconds since the epoch, for the order of events: a
    # naive local time is two instants in the hour that daylight saving repeats.
    tstamp_us = models.BigIntegerField(null=True, editable=False)
    # The same of other times, only where they are naive.
    sent_us = models.BigIntegerField(null=True, editable=False)
    received_us = models.BigIntegerField(null=True, editable=False)
    started_us = models.BigIntegerField(null=True, editable=False)

    objects = TaskStateQuerySet.as_manager()

    class Meta:
        """Options of the model."""

        verbose_name = _("task")
        verbose_name_plural = _("tasks")
        get_latest_by = "tstamp"
        ordering = ("-tstamp",)
        indexes = (
            models.Index(fields=["state", "tstamp"], name="celery_monitor_task_state"),
            models.Index(fields=["name", "tstamp"], name="celery_monitor_task_name"),
            models.Index(
                fields=["worker", "tstamp"], name="celery_monitor_task_worker"
            ),
            models.Index(fields=["root_id"], name="celery_monitor_task_root"),
        )
        permissions = (
            ("control_tasks", _("Can control tasks")),
            ("run_tasks", _("Can run tasks")),
        )

    def __str__(self) -> str:
        """Return state, id, name and, if it has one, ETA of the task."""
        text = f"{self.state:<10} {self.task_id:<36} {self.name or _('unknown')}"
        return f"{text} eta:{self.eta}" if self.eta else text

    def delete(
        self,
        using: str | None = None,
        keep_parents: bool = False,  # noqa: FBT001, FBT002 -- as Django has it
    ) -> tuple[int, dict[str, int]]:
        """Delete the task, and with it the links that it has to objects."""
        using = using or router.db_for_write(type(self), instance=self)
        with deleted_with(type(self)._base_manager.filter(pk=self.pk), using):
            return super().delete(using, keep_parents)
