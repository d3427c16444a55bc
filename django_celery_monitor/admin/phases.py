"""How long a task waited and ran, as a bar and in words."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from typing import NamedTuple

from celery import states
from django.utils.functional import Promise
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from django_celery_monitor.models import TaskState
from django_celery_monitor.utils import exact_microseconds, from_microseconds

from . import display

#: The times in the life of a task between which it waits and runs.
SENT, RECEIVED, STARTED, END = range(4)

#: What lies between two times. Where none is known between them, one stands for all.
TITLES = {
    (SENT, RECEIVED): _("Queue wait"),
    (RECEIVED, STARTED): _("Worker wait"),
    (STARTED, END): _("Run"),
    (SENT, STARTED): _("Sent to started"),
    (RECEIVED, END): _("Received to end"),
    (SENT, END): _("Sent to end"),
}
#: What a task does that has come so far, and the class of the style sheet for it.
DOING = {
    SENT: (_("Queue wait"), "queue"),
    RECEIVED: (_("Worker wait"), "worker"),
    STARTED: (_("Run"), "run"),
    END: (_("Wait for the next attempt"), "queue"),
}
#: What is said of a time that is missing between others.
MISSING = {
    SENT: _("No event told when it was sent."),
    RECEIVED: _("No event told when it was received."),
    STARTED: _("No event told when it started."),
}
#: Which time the time of a state is.
STATE_MARKS = {
    states.PENDING: SENT,
    states.RECEIVED: RECEIVED,
    states.STARTED: STARTED,
    **dict.fromkeys((*states.READY_STATES, states.RETRY, states.REJECTED), END),
}

#: The states of a task whose attempt is over and that is tried again.
LEFT_OFF = {states.RETRY, states.REJECTED}

#: Units of the whole bar, and the least that a phase has of them.
BAR, SLIVER = 1000, 6


class Mark(NamedTuple):
    """A time in the life of a task, and the exact instant in microseconds."""

    when: datetime
    us: int


@dataclass(frozen=True)
class Phase:
    """A part of the life of a task: it waits in the queue, in the worker, or runs."""

    title: str | Promise
    #: The class of the style sheet is ``celery-monitor-phase-<kind>``.
    kind: str
    begin: Mark
    end: Mark
    #: Whether it has not ended: ``end`` is now.
    lasts: bool = False
    note: str | Promise = ""

    @property
    def seconds(self) -> float:
        """How long it took; negative where the clocks of two machines disagree."""
        return (self.end.us - self.begin.us) / 1_000_000

    @property
    def disagrees(self) -> bool:
        """Whether it ended before it began."""
        return self.end.us < self.begin.us

    @property
    def length(self) -> str:
        """How long it took, in words."""
        return duration(self.seconds)

    @property
    def begins(self) -> str:
        """When it began, to the millisecond."""
        return display.exact(self.begin.when, "milliseconds")

    @property
    def ends(self) -> str:
        """When it ended, to the millisecond."""
        return display.exact(self.end.when, "milliseconds")


def marks_of(task: TaskState) -> dict[int, Mark]:
    """Return the times that are known of the latest attempt, ``SENT`` of the first."""
    known = {
        SENT: (task.sent_at, task.sent_us),
        RECEIVED: (task.received_at, task.received_us),
        STARTED: (task.started_at, task.started_us),
        END: (task.finished_at, task.tstamp_us),
    }
    mark = STATE_MARKS.get(task.state)
    if mark is not None and known[mark][0] is None:
        known[mark] = (task.tstamp, task.tstamp_us)
    marks = {
        mark: Mark(when, exact_microseconds(when, us) or 0)
        for mark, (when, us) in known.items()
        if when is not None
    }
    if RECEIVED in marks and STARTED in marks:
        again = task.retries or task.state == states.RECEIVED
        if again and marks[STARTED].us < marks[RECEIVED].us:
            # It has started in an earlier attempt, and not yet in this one.
            del marks[STARTED]
    return marks


def phases_of(task: TaskState) -> list[Phase]:
    """Return the phases of ``task`` as far as its times are known."""
    marks = marks_of(task)
    if not marks:
        return []
    order = sorted(marks)
    phases = [
        Phase(
            TITLES[first, second],
            DOING[first][1],
            marks[first],
            marks[second],
            note=note_of(task, first, marks[first], marks[second]),
        )
        for first, second in pairwise(order)
    ]
    last = order[-1]
    if last != END or (task.finished_at is None and task.state in LEFT_OFF):
        us = round(time.time() * 1_000_000)
        title, kind = DOING[last]
        now = Mark(from_microseconds(us), us)
        note = note_of(task, last, marks[last])
        phases.append(Phase(title, kind, marks[last], now, lasts=True, note=note))
    return phases


def note_of(
    task: TaskState, which: int, begin: Mark, end: Mark | None = None
) -> str | Promise:
    """Return what is to be known about the phase that begins with a time.

    ``end`` is None where it lasts.
    """
    if which == SENT and task.retries > (task.state == states.RETRY):
        return _("with all earlier attempts")
    if which in {RECEIVED, END} and task.eta is not None:
        eta = exact_microseconds(task.eta, None) or 0
        # One that is later than the end is the next attempt's.
        if begin.us < eta <= (eta if end is None else end.us):
            text = gettext("not before its ETA, %(eta)s")
            return text % {"eta": display.exact(task.eta)}
    return ""


def missing(task: TaskState) -> list[str | Promise]:
    """Return what is to be said of times before the last one that are not known."""
    marks = marks_of(task)
    return [
        text
        for mark, text in MISSING.items()
        if mark not in marks and marks and mark < max(marks)
    ]


def bar(phases: list[Phase]) -> SafeString:
    """Return ``phases`` as a bar; one of negative length has no place in it."""
    lengths = [max(phase.seconds, 0) for phase in phases]
    total = sum(lengths)
    if not total:
        return SafeString("")
    widths = [
        max(SLIVER, round(BAR * length / total)) if length else 0 for length in lengths
    ]
    return format_html(
        '<svg class="celery-monitor-phase-bar" viewBox="0 0 {} 20" width="100%"'
        ' height="20" preserveAspectRatio="none" aria-hidden="true">{}</svg>',
        sum(widths),
        format_html_join(
            "",
            '<rect class="celery-monitor-phase-{}" x="{}" width="{}" height="20">'
            "<title>{}: {}</title></rect>",
            (
                (phase.kind, sum(widths[:i]), widths[i], phase.title, phase.length)
                for i, phase in enumerate(phases)
                if widths[i]
            ),
        ),
    )


def duration(seconds: float) -> str:
    """Return a number of seconds as people say it."""
    if abs(seconds) < 60:
        return display.seconds(seconds) or ""
    sign = "-" if seconds < 0 else ""
    minutes, rest = divmod(int(abs(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        text = gettext("%(days)d d %(hours)d h") % {"days": days, "hours": hours}
    elif hours:
        text = gettext("%(hours)d h %(minutes)d min")
        text %= {"hours": hours, "minutes": minutes}
    else:
        text = gettext("%(minutes)d min %(seconds)d s")
        text %= {"minutes": minutes, "seconds": rest}
    return sign + text
