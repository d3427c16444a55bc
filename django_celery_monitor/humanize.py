"""Dates as people say them: "2 minutes ago", "yesterday at 23:10", "in 3 weeks"."""

from __future__ import annotations

from datetime import datetime, timedelta
from datetime import timezone as datetime_timezone
from typing import NamedTuple

from django.utils import timezone
from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import ngettext_lazy


class Unit(NamedTuple):
    """A unit of time: its size and its words for the past and the future."""

    size: float
    past: Promise
    future: Promise

    def say(self, n: int, *, future: bool) -> str:
        """Return ``n`` of this unit in the active language."""
        return str((self.future if future else self.past) % {"n": n})


# Sizes in seconds.
SECOND = Unit(
    1,
    ngettext_lazy("%(n)d second ago", "%(n)d seconds ago", "n"),
    ngettext_lazy("in %(n)d second", "in %(n)d seconds", "n"),
)
MINUTE = Unit(
    60,
    ngettext_lazy("%(n)d minute ago", "%(n)d minutes ago", "n"),
    ngettext_lazy("in %(n)d minute", "in %(n)d minutes", "n"),
)
HOUR = Unit(
    60 * 60,
    ngettext_lazy("%(n)d hour ago", "%(n)d hours ago", "n"),
    ngettext_lazy("in %(n)d hour", "in %(n)d hours", "n"),
)
CLOCK = (HOUR, MINUTE, SECOND)

# Sizes in days.
DAY = Unit(
    1,
    ngettext_lazy("%(n)d day ago", "%(n)d days ago", "n"),
    ngettext_lazy("in %(n)d day", "in %(n)d days", "n"),
)
WEEK = Unit(
    7,
    ngettext_lazy("%(n)d week ago", "%(n)d weeks ago", "n"),
    ngettext_lazy("in %(n)d week", "in %(n)d weeks", "n"),
)
MONTH = Unit(
    # Twelve to the year, or 360 days would be 12 months.
    365 / 12,
    ngettext_lazy("%(n)d month ago", "%(n)d months ago", "n"),
    ngettext_lazy("in %(n)d month", "in %(n)d months", "n"),
)
YEAR = Unit(
    365,
    ngettext_lazy("%(n)d year ago", "%(n)d years ago", "n"),
    ngettext_lazy("in %(n)d year", "in %(n)d years", "n"),
)
CALENDAR = (YEAR, MONTH, WEEK, DAY)


def pluralize_year(n: int) -> str:
    """Return ``n`` years ago in the active language."""
    return YEAR.say(n, future=False)


def pluralize_month(n: int) -> str:
    """Return ``n`` months ago in the active language."""
    return MONTH.say(n, future=False)


def pluralize_week(n: int) -> str:
    """Return ``n`` weeks ago in the active language."""
    return WEEK.say(n, future=False)


def pluralize_day(n: int) -> str:
    """Return ``n`` days ago in the active language."""
    return DAY.say(n, future=False)


def naturaldate(
    date: datetime | None,
    include_seconds: bool = False,  # noqa: FBT001, FBT002 - callers may be positional
) -> str:
    """Return how long ago ``date`` was, or how far ahead it is, as people say it.

    ========================  =====================================================
    distance                  text
    ========================  =====================================================
    below 1 second            just now
    below 1 minute            3 seconds ago, in 3 seconds (``include_seconds``),
                              else just now, in less than a minute
    below 1 hour              3 minutes ago, in 3 minutes
    the same day              3 hours ago, in 3 hours
    the next day              yesterday at 23:10, tomorrow at 23:10
    below 7 days              3 days ago, in 3 days
    below 31 days             3 weeks ago, in 3 weeks
    below 365 days            3 months ago, in 3 months
    from there on             3 years ago, in 3 years
    ========================  =====================================================

    Days are those of the calendar in the current time zone, and numbers are
    rounded down. A naive ``date`` is a time in ``TIME_ZONE``; ``None`` gives an
    empty string.
    """
    if date is None:
        return ""
    if timezone.is_naive(date):
        date = timezone.make_aware(date, timezone.get_default_timezone())
    now = datetime.now(datetime_timezone.utc)
    future = date > now
    seconds = abs(now - date) // timedelta(seconds=1)
    if seconds < MINUTE.size and not include_seconds:
        return _("in less than a minute") if future and seconds else _("just now")
    local = _localtime(date)
    days = abs((_localtime(now).date() - local.date()).days)
    if days == 0 or seconds < HOUR.size:
        return _largest(CLOCK, seconds, future=future)
    if days == 1:
        text = _("tomorrow at %(time)s") if future else _("yesterday at %(time)s")
        return text % {"time": f"{local:%H:%M}"}
    return _largest(CALENDAR, days, future=future)


def _largest(units: tuple[Unit, ...], amount: int, *, future: bool) -> str:
    """Return ``amount`` in the first of ``units`` of which it holds at least one."""
    for unit in units:
        if amount >= unit.size:
            return unit.say(int(amount // unit.size), future=future)
    return _("just now")


def _localtime(value: datetime) -> datetime:
    """Return the aware ``value`` in the current time zone."""
    try:
        return timezone.localtime(value)
    except OverflowError:
        # The zone cannot express the first and the last day of the calendar, and
        # so far away a day makes no difference.
        return value
