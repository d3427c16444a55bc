"""The row of a camera: when it was watching, and what it counted."""

from __future__ import annotations

from datetime import datetime, timedelta

from django.db import models
from django.db.models import Case, F, OuterRef, Subquery, When
from django.db.models.functions import Coalesce
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

#: Shots that a camera may miss, and the seconds that it may be silent anyway,
#: before it no longer counts as watching.
MISSED_SHOTS = 3
MAX_SILENCE = 30


class CameraStateQuerySet(models.QuerySet["CameraState"]):
    """Queries of the runs of cameras."""

    def with_previous_end(self) -> CameraStateQuerySet:
        """Return the runs with ``previous_end``, after which nobody was watching.

        It is the latest end of all runs that began earlier: None for the first run,
        and while one of them may still be watching. One later than ``started_at``
        means that another camera was watching.
        """
        # A camera that is between two shots has not ended with the first of them.
        silent = timezone.now() - timedelta(seconds=MAX_SILENCE)
        last_seen = Case(When(last_shot__lte=silent, then="last_shot"))
        earlier = CameraState.objects.filter(started_at__lt=OuterRef("started_at"))
        ends = earlier.annotate(end=Coalesce("stopped_at", last_seen))
        latest = ends.order_by(F("end").desc(nulls_first=True)).values("end")[:1]
        return self.annotate(previous_end=Subquery(latest))


class CameraState(models.Model):
    """One run of a camera, from its start to its end, and what it counted."""

    hostname = models.CharField(_("hostname"), max_length=255)
    pid = models.PositiveBigIntegerField(_("process id"))
    version = models.CharField(
        _("version"), max_length=255, help_text=_("Of django-celery-monitor.")
    )
    freq = models.FloatField(
        _("interval"), help_text=_("Longest time in seconds between two shots.")
    )
    started_at = models.DateTimeField(_("started at"))
    last_shot = models.DateTimeField(
        _("last shot"), help_text=_("When the last shot began.")
    )
    last_commit = models.DateTimeField(
        _("last commit"),
        null=True,
        blank=True,
        help_text=_("When rows were last written to the database."),
    )
    stopped_at = models.DateTimeField(
        _("stopped at"),
        null=True,
        blank=True,
        help_text=_("Empty while the camera runs, and for ever if it was killed."),
    )
    lag = models.FloatField(
        _("lag"),
        default=0,
        help_text=_("Seconds from receiving an event to its commit, in the last shot."),
    )
    received = models.PositiveBigIntegerField(
        _("received"), default=0, help_text=_("Events that came from the broker.")
    )
    merged = models.PositiveBigIntegerField(
        _("merged"),
        default=0,
        help_text=_("Events that joined what was waiting about the same task already."),
    )
    saved = models.PositiveBigIntegerField(
        _("saved"), default=0, help_text=_("Rows that were written.")
    )
    retried = models.PositiveBigIntegerField(
        _("retried"),
        default=0,
        help_text=_("Writes that failed and were tried again."),
    )
    dropped = models.PositiveBigIntegerField(
        _("dropped"),
        default=0,
        help_text=_("Observations given up because too many were waiting."),
    )
    made_fit = models.PositiveBigIntegerField(
        _("made fit"),
        default=0,
        help_text=_("Values changed because the database would refuse them."),
    )
    quarantined = models.PositiveBigIntegerField(
        _("quarantined"),
        default=0,
        help_text=_("Rows that the database refused all the same."),
    )
    poison = models.PositiveBigIntegerField(
        _("poison"),
        default=0,
        help_text=_("Messages that were no events, and were skipped."),
    )
    reconnects = models.PositiveBigIntegerField(
        _("reconnects"),
        default=0,
        help_text=_("How often the connection to the broker was made anew."),
    )

    objects = CameraStateQuerySet.as_manager()

    class Meta:
        """Options of the model."""

        verbose_name = _("camera")
        verbose_name_plural = _("cameras")
        get_latest_by = "started_at"
        ordering = ("-started_at",)

    def __str__(self) -> str:
        """Return where the camera runs, or ran."""
        return f"{self.hostname} ({self.pid})"

    @property
    def ended_at(self) -> datetime:
        """When the camera was last known to watch."""
        return self.stopped_at or self.last_shot

    def is_watching(self) -> bool:
        """Return whether the camera runs, as far as its last shot tells.

        It was not stopped, and was not silent for three times its interval, 30
        seconds at least.
        """
        silence = timezone.now() - self.last_shot
        if timezone.is_naive(self.last_shot):
            # In the hour that daylight saving repeats, an hour ago is in the future.
            silence = abs(silence)
        limit = timedelta(seconds=max(MISSED_SHOTS * self.freq, MAX_SILENCE))
        return self.stopped_at is None and silence < limit
