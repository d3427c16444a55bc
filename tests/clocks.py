"""Times as Django stores them, with ``USE_TZ`` and without."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from zoneinfo import ZoneInfo

EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
BERLIN = ZoneInfo("Europe/Berlin")


def in_utc(us: int) -> datetime:
    """Return a time as Django stores it under ``USE_TZ``."""
    return EPOCH + timedelta(microseconds=us)


def in_berlin(us: int) -> datetime:
    """Return a time as Django stores it without, in the zone of Berlin."""
    return in_utc(us).astimezone(BERLIN).replace(tzinfo=None)
