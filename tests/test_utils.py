"""Conversions of times between zones, aware and naive."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from datetime import date, datetime, timedelta, timezone
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import pytest
from django.utils.timezone import override as override_timezone
from hypothesis import given
from hypothesis import strategies as st

from django_celery_monitor import utils

if TYPE_CHECKING:
    from pytest_django import Settings


UTC = timezone.utc
NOON = datetime(2024, 7, 1, 12, 0)
# 01:30 in New York, the first and the second time (the clock goes back at 2:00).
REPEATED_US = (1_730_611_800_000_000, 1_730_615_400_000_000)


@pytest.fixture
def tokyo(settings: Settings) -> None:
    settings.USE_TZ = True
    settings.TIME_ZONE = "Asia/Tokyo"


@pytest.fixture
def naive_tokyo(settings: Settings) -> None:
    settings.USE_TZ = False
    settings.TIME_ZONE = "Asia/Tokyo"


@pytest.fixture
def naive_new_york(settings: Settings) -> None:
    settings.USE_TZ = False
    settings.TIME_ZONE = "America/New_York"


@pytest.fixture
def os_in_honolulu(naive_tokyo: None) -> Iterator[None]:
    """Tokyo in the settings, another zone in the operating system."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(os.environ, "TZ", "Pacific/Honolulu")
        time.tzset()
        yield
    time.tzset()


class TestMakeAware:
    @pytest.mark.usefixtures("tokyo")
    def test_naive_is_a_time_in_time_zone(self) -> None:
        value = utils.make_aware(NOON)
        assert value.tzinfo == ZoneInfo("Asia/Tokyo")
        assert value == datetime(2024, 7, 1, 3, 0, tzinfo=UTC)

    @pytest.mark.usefixtures("tokyo")
    def test_aware_is_unchanged(self) -> None:
        value = NOON.replace(tzinfo=UTC)
        assert utils.make_aware(value) is value

    @pytest.mark.usefixtures("naive_tokyo")
    @pytest.mark.parametrize("value", [NOON, NOON.replace(tzinfo=UTC)])
    def test_without_use_tz_all_is_unchanged(self, value: datetime) -> None:
        assert utils.make_aware(value) is value


class TestCorrectAwareness:
    @pytest.mark.usefixtures("tokyo")
    def test_naive_becomes_aware_under_use_tz(self) -> None:
        assert utils.correct_awareness(NOON) == datetime(2024, 7, 1, 3, 0, tzinfo=UTC)

    @pytest.mark.usefixtures("naive_tokyo")
    def test_aware_becomes_naive_without_use_tz(self) -> None:
        value = utils.correct_awareness(NOON.replace(tzinfo=UTC))
        assert value == datetime(2024, 7, 1, 21, 0)

    @pytest.mark.usefixtures("naive_tokyo")
    def test_naive_is_unchanged_without_use_tz(self) -> None:
        assert utils.correct_awareness(NOON) is NOON

    @pytest.mark.usefixtures("tokyo")
    def test_aware_is_unchanged_under_use_tz(self) -> None:
        value = NOON.replace(tzinfo=UTC)
        assert utils.correct_awareness(value) is value

    @pytest.mark.parametrize("value", [None, "2024-07-01", 1.5, date(2024, 7, 1)])
    @pytest.mark.parametrize("use_tz", [True, False])
    def test_anything_else_is_unchanged(
        self, settings: Settings, value: object, use_tz: bool
    ) -> None:
        settings.USE_TZ = use_tz
        assert utils.correct_awareness(value) is value

    @pytest.mark.parametrize("use_tz", [True, False])
    def test_the_current_time_zone_does_not_matter(
        self, settings: Settings, use_tz: bool
    ) -> None:
        settings.TIME_ZONE = "Asia/Tokyo"
        settings.USE_TZ = use_tz
        value = NOON if use_tz else NOON.replace(tzinfo=UTC)
        expected = utils.correct_awareness(value)
        with override_timezone("America/New_York"):
            assert utils.correct_awareness(value) == expected

    @pytest.mark.usefixtures("naive_tokyo")
    def test_the_end_of_the_calendar_overflows(self) -> None:
        with pytest.raises(OverflowError):
            utils.correct_awareness(datetime.max.replace(tzinfo=UTC))


class TestFromTimestamp:
    @pytest.mark.usefixtures("tokyo")
    def test_is_utc_under_use_tz(self) -> None:
        value = utils.fromtimestamp(1_700_000_000.123456)
        assert value == datetime(2023, 11, 14, 22, 13, 20, 123456, tzinfo=UTC)
        assert value.tzinfo is UTC

    @pytest.mark.usefixtures("naive_tokyo")
    def test_is_local_without_use_tz(self) -> None:
        value = utils.fromtimestamp(1_700_000_000)
        assert value == datetime(2023, 11, 15, 7, 13, 20)

    @pytest.mark.usefixtures("os_in_honolulu")
    def test_the_zone_of_the_operating_system_does_not_matter(self) -> None:
        assert time.localtime(0).tm_hour == 14
        assert utils.fromtimestamp(0) == datetime(1970, 1, 1, 9, 0)

    @pytest.mark.usefixtures("naive_new_york")
    def test_both_repeated_hours_have_the_same_local_time(self) -> None:
        first, second = (utils.fromtimestamp(us / 1_000_000) for us in REPEATED_US)
        assert first == second == datetime(2024, 11, 3, 1, 30)

    @pytest.mark.usefixtures("tokyo")
    @given(st.integers(min_value=-(10**15), max_value=4 * 10**15))
    def test_is_exact_to_the_microsecond(self, us: int) -> None:
        expected = utils.EPOCH + timedelta(microseconds=us)
        assert utils.fromtimestamp(us / 1_000_000) == expected

    @pytest.mark.parametrize("value", [float("inf"), float("-inf"), 1e12, -1e12, 1e300])
    def test_what_no_datetime_holds_overflows(self, value: float) -> None:
        with pytest.raises(OverflowError):
            utils.fromtimestamp(value)

    def test_nan_is_a_value_error(self) -> None:
        with pytest.raises(ValueError, match="NaN"):
            utils.fromtimestamp(float("nan"))


class TestMicroseconds:
    @pytest.mark.usefixtures("tokyo")
    @pytest.mark.parametrize("value", [NOON, datetime(2024, 7, 1, 3, tzinfo=UTC)])
    def test_naive_and_aware_agree(self, value: datetime) -> None:
        assert utils.to_microseconds(value) == 1_719_802_800_000_000

    @pytest.mark.usefixtures("tokyo")
    @given(st.integers(min_value=-(10**15), max_value=4 * 10**15))
    def test_is_the_inverse_of_fromtimestamp(self, us: int) -> None:
        assert utils.to_microseconds(utils.fromtimestamp(us / 1_000_000)) == us

    def test_none_has_none(self) -> None:
        assert utils.exact_microseconds(None, 1) is None

    @pytest.mark.usefixtures("naive_new_york")
    @pytest.mark.parametrize("exact", REPEATED_US)
    def test_exact_tells_the_repeated_hours_apart(self, exact: int) -> None:
        value = datetime(2024, 11, 3, 1, 30)
        assert utils.exact_microseconds(value, exact) == exact

    @pytest.mark.usefixtures("naive_new_york")
    @pytest.mark.parametrize("exact", [None, REPEATED_US[0] + 1])
    def test_exact_of_another_time_is_ignored(self, exact: int | None) -> None:
        value = datetime(2024, 11, 3, 1, 30)
        assert utils.exact_microseconds(value, exact) == REPEATED_US[0]
