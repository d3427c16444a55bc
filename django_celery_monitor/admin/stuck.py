"""Which tasks are stuck: in flight for too long, or on a worker that is gone."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

from celery import states
from django.db.models import Q

from django_celery_monitor import conf
from django_celery_monitor.models import WorkerState
from django_celery_monitor.utils import correct_awareness

#: States in which nothing is waited for any more. A task that is REJECTED is waited for
#: if it went back to its queue: then it has not finished.
FINISHED = frozenset({states.SUCCESS, states.FAILURE, states.REVOKED, states.IGNORED})
#: States in which no worker has the task: any may be the next.
IN_QUEUE = frozenset({states.PENDING, states.RETRY, states.REJECTED})


def stuck() -> Q:
    """Return the condition of tasks that are stuck now."""
    # Before it is local time, of which an hour may be missing.
    utc = datetime.now(timezone.utc)
    now = correct_awareness(utc)
    limit = correct_awareness(utc - timedelta(seconds=conf.get("monitor_stuck_after")))
    waits = Q(eta__gt=limit)
    too_long = Q(tstamp__lt=limit) & ~waits
    orphaned = (
        Q(worker__isnull=False)
        & ~Q(state__in=IN_QUEUE)
        & ~Q(worker__in=WorkerState.objects.alive())
        & ~Q(eta__gt=now)
    )
    # A worker says that it drops such a task; a broker that does so says nothing.
    expired = Q(state=states.PENDING, expires__lte=now)
    in_flight = ~Q(state__in=FINISHED) & Q(finished_at__isnull=True)
    return in_flight & (too_long | orphaned) & ~expired
