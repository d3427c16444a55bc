"""Tests of dates as people say them."""

from __future__ import annotations

import gettext
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING
from unittest import mock
from zoneinfo import ZoneInfo

import pytest
import time_machine
from django.utils import translation
from django.utils.timezone import override as override_timezone
from django.utils.translation import trans_real

from django_celery_monitor.humanize import (
    naturaldate,
    pluralize_day,
    pluralize_month,
    pluralize_week,
    pluralize_year,
)

if TYPE_CHECKING:
    from pytest_django import Settings

UTC = timezone.utc
NOW = datetime(2024, 7, 10, 12, 0, tzinfo=UTC)
SECOND = timedelta(seconds=1)
MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
MICROSECOND = timedelta(microseconds=1)


@pytest.fixture(params=[True, False], ids=["aware", "naive"])
def use_tz(request: pytest.FixtureRequest, settings: Settings) -> None:
    settings.USE_TZ = request.param


def at(now: datetime, date: datetime | None, *, include_seconds: bool = False) -> str:
    """Return what ``naturaldate`` says of ``date`` when it is ``now``."""
    with time_machine.travel(now, tick=False):
        return naturaldate(date, include_seconds=include_seconds)


def test_none_is_empty() -> None:
    assert naturaldate(None) == ""


@pytest.mark.usefixtures("use_tz")
class TestDistance:
    @pytest.mark.parametrize(
        ("distance", "past", "future"),
        [
            (0 * SECOND, "just now", "just now"),
            (SECOND - MICROSECOND, "just now", "just now"),
            (SECOND, "just now", "in less than a minute"),
            (MINUTE - MICROSECOND, "just now", "in less than a minute"),
            (MINUTE, "1 minute ago", "in 1 minute"),
            (2 * MINUTE - MICROSECOND, "1 minute ago", "in 1 minute"),
            (2 * MINUTE, "2 minutes ago", "in 2 minutes"),
            (HOUR - MICROSECOND, "59 minutes ago", "in 59 minutes"),
            (HOUR, "1 hour ago", "in 1 hour"),
            (2 * HOUR - MICROSECOND, "1 hour ago", "in 1 hour"),
            (2 * HOUR, "2 hours ago", "in 2 hours"),
            (12 * HOUR - MICROSECOND, "11 hours ago", "in 11 hours"),
            (DAY, "yesterday at 12:00", "tomorrow at 12:00"),
            (2 * DAY, "2 days ago", "in 2 days"),
            (6 * DAY, "6 days ago", "in 6 days"),
            (7 * DAY, "1 week ago", "in 1 week"),
            (13 * DAY, "1 week ago", "in 1 week"),
            (14 * DAY, "2 weeks ago", "in 2 weeks"),
            (30 * DAY, "4 weeks ago", "in 4 weeks"),
            (31 * DAY, "1 month ago", "in 1 month"),
            (60 * DAY, "1 month ago", "in 1 month"),
            (61 * DAY, "2 months ago", "in 2 months"),
            (364 * DAY, "11 months ago", "in 11 months"),
            (365 * DAY, "1 year ago", "in 1 year"),
            (729 * DAY, "1 year ago", "in 1 year"),
            (730 * DAY, "2 years ago", "in 2 years"),
            (3650 * DAY, "10 years ago", "in 10 years"),
        ],
    )
    def test_thresholds(self, distance: timedelta, past: str, future: str) -> None:
        assert at(NOW, NOW - distance) == past
        assert at(NOW, NOW + distance) == future

    @pytest.mark.parametrize(
        ("distance", "past", "future"),
        [
            (0 * SECOND, "just now", "just now"),
            (SECOND - MICROSECOND, "just now", "just now"),
            (SECOND, "1 second ago", "in 1 second"),
            (2 * SECOND - MICROSECOND, "1 second ago", "in 1 second"),
            (2 * SECOND, "2 seconds ago", "in 2 seconds"),
            (MINUTE - MICROSECOND, "59 seconds ago", "in 59 seconds"),
            (MINUTE, "1 minute ago", "in 1 minute"),
        ],
    )
    def test_seconds(self, distance: timedelta, past: str, future: str) -> None:
        assert at(NOW, NOW - distance, include_seconds=True) == past
        assert at(NOW, NOW + distance, include_seconds=True) == future

    def test_include_seconds_is_the_second_argument(self) -> None:
        with time_machine.travel(NOW, tick=False):
            assert naturaldate(NOW - 5 * SECOND, True) == "5 seconds ago"  # noqa: FBT003 - 1.1.2's way

    @pytest.mark.parametrize("time_zone", ["Asia/Tokyo", "America/New_York"])
    def test_ends_of_the_calendar(self, settings: Settings, time_zone: str) -> None:
        settings.TIME_ZONE = time_zone
        assert at(NOW, datetime.max.replace(tzinfo=UTC)) == "in 7980 years"
        assert at(NOW, datetime.min.replace(tzinfo=UTC)) == "2024 years ago"
        assert at(NOW, datetime(9999, 12, 31, 23, 59)) == "in 7980 years"
        assert at(NOW, datetime(1, 1, 1)) == "2024 years ago"


@pytest.mark.usefixtures("use_tz")
class TestDays:
    @pytest.mark.parametrize(
        ("now", "date", "text"),
        [
            # 00:30 is 15:30 UTC on the day before: UTC's midnight is far away.
            ("00:30 10", "23:30 9", "yesterday at 23:30"),
            ("00:30 10", "23:31 9", "59 minutes ago"),
            ("01:00 10", "00:00 10", "1 hour ago"),
            ("01:00 10", "23:59 9", "yesterday at 23:59"),
            ("23:59 10", "00:00 10", "23 hours ago"),
            ("23:59 10", "00:00 9", "yesterday at 00:00"),
            ("00:00 10", "23:59 8", "2 days ago"),
            ("09:30 10", "08:30 10", "1 hour ago"),
            ("00:00 10", "23:59 10", "in 23 hours"),
            ("23:30 10", "00:29 11", "in 59 minutes"),
            ("23:30 10", "00:30 11", "tomorrow at 00:30"),
            ("00:00 10", "23:59 11", "tomorrow at 23:59"),
            ("23:59 10", "00:00 12", "in 2 days"),
        ],
    )
    @pytest.mark.parametrize("time_zone", ["Asia/Tokyo", "America/New_York"])
    def test_midnight_is_local(
        self, settings: Settings, time_zone: str, now: str, date: str, text: str
    ) -> None:
        settings.TIME_ZONE = time_zone
        local_now, local_date = (
            datetime.strptime(f"{value} 07 2024", "%H:%M %d %m %Y").replace(
                tzinfo=ZoneInfo(time_zone)
            )
            for value in (now, date)
        )
        assert at(local_now, local_date) == text
        assert at(local_now, local_date.astimezone(UTC)) == text
        # A naive time is a time in TIME_ZONE.
        assert at(local_now, local_date.replace(tzinfo=None)) == text

    def test_current_time_zone_comes_before_the_default(
        self, settings: Settings
    ) -> None:
        settings.TIME_ZONE = "UTC"
        now = datetime(2024, 7, 10, 16, 30, tzinfo=UTC)
        assert at(now, datetime(2024, 7, 10, 14, 30)) == "2 hours ago"
        with override_timezone("Asia/Tokyo"):
            assert at(now, datetime(2024, 7, 10, 14, 30)) == "yesterday at 23:30"

    @pytest.mark.parametrize(
        ("now", "date", "text"),
        [
            # 2024-03-10 has 23 hours: 2:00 EST is 3:00 EDT.
            ("2024-03-10T03:30-04:00", "2024-03-10T01:30-05:00", "1 hour ago"),
            ("2024-03-10T23:30-04:00", "2024-03-10T00:00-05:00", "22 hours ago"),
            ("2024-03-11T00:00-04:00", "2024-03-10T00:00-05:00", "yesterday at 00:00"),
            ("2024-03-11T23:00-04:00", "2024-03-09T23:30-05:00", "2 days ago"),
            # 2024-11-03 has 25 hours: 2:00 EDT is 1:00 EST.
            ("2024-11-03T01:30-05:00", "2024-11-03T01:30-04:00", "1 hour ago"),
            ("2024-11-03T23:30-05:00", "2024-11-03T00:00-04:00", "24 hours ago"),
            ("2024-11-03T23:30-05:00", "2024-11-02T23:45-04:00", "yesterday at 23:45"),
            ("2024-11-03T00:00-04:00", "2024-11-03T23:30-05:00", "in 24 hours"),
        ],
    )
    def test_daylight_saving(
        self, settings: Settings, now: str, date: str, text: str
    ) -> None:
        settings.TIME_ZONE = "America/New_York"
        new_york = ZoneInfo(settings.TIME_ZONE)
        instant = datetime.fromisoformat(date)
        assert at(datetime.fromisoformat(now), instant) == text
        assert at(datetime.fromisoformat(now), instant.astimezone(new_york)) == text


class TestPluralize:
    @pytest.mark.parametrize(
        ("pluralize", "unit"),
        [
            (pluralize_year, "year"),
            (pluralize_month, "month"),
            (pluralize_week, "week"),
            (pluralize_day, "day"),
        ],
    )
    def test_plural_forms(self, pluralize: Callable[[int], str], unit: str) -> None:
        assert pluralize(0) == f"0 {unit}s ago"
        assert pluralize(1) == f"1 {unit} ago"
        assert pluralize(2) == f"2 {unit}s ago"
        assert pluralize(21) == f"21 {unit}s ago"


class Polish(gettext.NullTranslations):
    """A language with three plural forms; it names the form it was asked for."""

    def gettext(self, message: str) -> str:
        return f"pl({message})"

    def ngettext(self, msgid1: str, msgid2: str, n: int) -> str:
        form = "one" if n == 1 else "few" if n in {2, 3, 4} else "many"
        return f"{form}({msgid2})"


@pytest.fixture
def _polish() -> Iterator[None]:
    with mock.patch.object(trans_real, "translation", return_value=Polish()):
        translation.activate("pl")
    yield
    translation.deactivate()


@pytest.mark.usefixtures("_polish")
class TestTranslation:
    @pytest.mark.parametrize(
        ("pluralize", "unit"),
        [
            (pluralize_year, "years"),
            (pluralize_month, "months"),
            (pluralize_week, "weeks"),
            (pluralize_day, "days"),
        ],
    )
    def test_language_has_its_own_plural_forms(
        self, pluralize: Callable[[int], str], unit: str
    ) -> None:
        assert pluralize(1) == f"one(1 {unit} ago)"
        assert pluralize(2) == f"few(2 {unit} ago)"
        assert pluralize(5) == f"many(5 {unit} ago)"

    @pytest.mark.parametrize(
        ("distance", "past", "future"),
        [
            (0 * SECOND, "pl(just now)", "pl(just now)"),
            (3 * SECOND, "few(3 seconds ago)", "few(in 3 seconds)"),
            (MINUTE, "one(1 minutes ago)", "one(in 1 minutes)"),
            (5 * HOUR, "many(5 hours ago)", "many(in 5 hours)"),
            (DAY, "pl(yesterday at 12:00)", "pl(tomorrow at 12:00)"),
            (4 * DAY, "few(4 days ago)", "few(in 4 days)"),
            (7 * DAY, "one(1 weeks ago)", "one(in 1 weeks)"),
            (100 * DAY, "few(3 months ago)", "few(in 3 months)"),
            (2000 * DAY, "many(5 years ago)", "many(in 5 years)"),
        ],
    )
    def test_every_text(self, distance: timedelta, past: str, future: str) -> None:
        assert at(NOW, NOW - distance, include_seconds=True) == past
        assert at(NOW, NOW + distance, include_seconds=True) == future

    def test_less_than_a_minute(self) -> None:
        assert at(NOW, NOW + SECOND) == "pl(in less than a minute)"
