"""Tests of the time-zone conversions and of the building blocks for the admin."""

from __future__ import annotations

import ast
import os
import re
import time
from collections.abc import Callable, Iterator
from datetime import date, datetime, timedelta, timezone
from html import unescape
from types import SimpleNamespace
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import pytest
from django.contrib.admin.utils import display_for_value, label_for_field
from django.contrib.auth.models import User
from django.utils.html import escape
from django.utils.safestring import SafeString, mark_safe
from django.utils.timezone import override as override_timezone
from django.utils.translation import gettext_lazy
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


class TestDecorators:
    def test_action_sets_attributes(self) -> None:
        def revoke() -> None: ...

        decorated = utils.action("Revoke", allowed_permissions=("control",))(revoke)
        assert decorated is revoke
        assert vars(revoke) == {
            "short_description": "Revoke",
            "allowed_permissions": ("control",),
        }

    def test_display_field_sets_attributes(self) -> None:
        def state() -> None: ...

        decorated = utils.display_field("State", "state", boolean=True)(state)
        assert decorated is state
        assert vars(state) == {
            "short_description": "State",
            "admin_order_field": "state",
            "allow_tags": True,
            "boolean": True,
        }

    def test_allow_tags_is_the_third_argument(self) -> None:
        def state() -> None: ...

        utils.display_field("State", "state", False)(state)  # noqa: FBT003 - 1.1.2's way
        assert vars(state)["allow_tags"] is False


def render(
    value: object, *, width: int = 16, maxlen: int = 64, pretty: bool = False
) -> str:
    """Return what the admin's list gets for ``value``."""
    column = utils.fixedwidth("args", width=width, maxlen=maxlen, pretty=pretty)
    return column(SimpleNamespace(args=value))


def heading(column: Callable[[object], str]) -> str:
    """Return what the admin puts above ``column``."""
    return str(label_for_field(column, User))


def shown(html: str) -> str:
    """Return the escaped text inside the element, its break opportunities removed."""
    found = re.fullmatch(r"<code [^<>]*>(.*)</code>", html, re.DOTALL)
    assert found, html
    return found[1].replace("<wbr>", "")


def read(html: str) -> object:
    """Return the Python literal that is shown."""
    return ast.literal_eval(unescape(shown(html)))


class TestFixedwidth:
    def test_column(self) -> None:
        column = utils.fixedwidth("email")
        assert heading(column) == "email"
        assert vars(column)["admin_order_field"] == "email"
        assert column.__name__ == "email"

    @pytest.mark.parametrize("name", ["UUID", gettext_lazy("UUID")])
    def test_name_heads_the_column(self, name: str) -> None:
        column = utils.fixedwidth("task_id", name=name)
        assert heading(column) == "UUID"
        assert vars(column)["admin_order_field"] == "task_id"

    def test_html(self) -> None:
        html = utils.fixedwidth("args", pt=9)(SimpleNamespace(args="(1, 2)"))
        assert isinstance(html, SafeString)
        assert html == (
            '<code class="celery-monitor-fixedwidth celery-monitor-pt-9">(1, 2)</code>'
        )

    @pytest.mark.parametrize("value", [None, ""])
    @pytest.mark.parametrize("pretty", [True, False])
    def test_nothing_is_the_empty_value_of_the_admin(
        self, value: str | None, pretty: bool
    ) -> None:
        assert display_for_value(render(value, pretty=pretty), "-") == "-"

    def test_a_missing_attribute_is_an_error(self) -> None:
        with pytest.raises(AttributeError, match="kwargs"):
            utils.fixedwidth("kwargs")(SimpleNamespace(args="()"))

    @pytest.mark.parametrize(
        ("value", "text"),
        [
            (0, "0"),
            (False, "False"),
            (1.5, "1.5"),
            ([], "[]"),
            ((1, 2), "(1, 2)"),
            ({"a": 1}, "{'a': 1}"),
            (b"\xff", r"b'\xff'"),
            (datetime(2024, 7, 1), "2024-07-01 00:00:00"),
            ("'a repr'", "'a repr'"),
            ("日本語 🎉", "日本語 🎉"),
            ("cafe\u0301", "cafe\u0301"),
            ("&amp;", "&amp;"),
            ("two\n\n lines\r\n", "two\n\n lines\r\n"),
            ("100% {0} {}", "100% {0} {}"),
        ],
    )
    @pytest.mark.parametrize("pretty", [True, False])
    def test_value_is_not_garbled(self, value: object, text: str, pretty: bool) -> None:
        assert shown(render(value, pretty=pretty)) == escape(text)

    @pytest.mark.parametrize("pretty", [True, False])
    @pytest.mark.parametrize("maxlen", [10, 64])
    @pytest.mark.parametrize("mark", [str, mark_safe])
    def test_html_is_escaped(self, mark: type[str], maxlen: int, pretty: bool) -> None:
        value = mark("""['"><script>alert("x" & 'y')</script>']""")
        html = render(value, maxlen=maxlen, pretty=pretty)
        tags = re.findall(r"<[^>]*>", html)
        assert tags[0].startswith("<code ")
        assert set(tags[1:]) <= {"<wbr>", "</code>"}
        assert "&lt;scr" in html

    def test_maxlen_is_not_cut(self) -> None:
        html = render("x" * 64)
        assert shown(html) == "x" * 64
        assert "title" not in html

    @pytest.mark.parametrize("length", [65, 100_000])
    def test_more_than_maxlen_is_cut(self, length: int) -> None:
        html = render("x" * length)
        assert shown(html) == "x" * 63 + "…"
        assert f' title="{"x" * length}"' in html

    def test_wide_characters_count_as_one(self) -> None:
        assert shown(render("語" * 5, maxlen=5)) == "語" * 5
        assert shown(render("語" * 6, maxlen=5)) == "語" * 4 + "…"

    def test_title_is_escaped(self) -> None:
        html = render("""'"<b>&""", maxlen=3)
        assert ' title="&#x27;&quot;&lt;b&gt;&amp;"' in html

    def test_smallest_maxlen_and_width(self) -> None:
        assert shown(render("xy", maxlen=1)) == "…"
        assert ">x<wbr>y<" in render("xy", width=1)

    @pytest.mark.parametrize(
        ("text", "html"),
        [
            ("abcd", "abcd"),
            ("abcde", "abcd<wbr>e"),
            ("abcdefgh", "abcd<wbr>efgh"),
            ("ab\ncdef", "ab\n<wbr>cdef"),
            ("abcd\nefgh", "abcd\n<wbr>efgh"),
            ("abc<&", "abc&lt;<wbr>&amp;"),
        ],
    )
    def test_line_may_break_after_width(self, text: str, html: str) -> None:
        assert f">{html}</code>" in render(text, width=4)

    @pytest.mark.parametrize(("width", "maxlen"), [(0, 64), (-1, 64), (16, 0)])
    def test_sizes_without_room_are_an_error(self, width: int, maxlen: int) -> None:
        with pytest.raises(ValueError, match="at least 1"):
            utils.fixedwidth("args", width=width, maxlen=maxlen)


class TestPretty:
    @pytest.mark.parametrize(
        "value", [{"b": 1, "a": [1, 2, 3, 4, 5]}, "{'b': 1, 'a': [1, 2, 3, 4, 5]}"]
    )
    def test_container_is_laid_out_in_its_own_order(self, value: object) -> None:
        text = shown(render(value, pretty=True))
        assert text == escape("{'b': 1,\n 'a': [1, 2, 3,\n       4, 5]}")

    def test_not_pretty_unless_asked(self) -> None:
        assert "\n" not in render({"b": 1, "a": [1, 2, 3, 4, 5]})

    def test_cut_after_the_layout_with_the_text_itself_in_the_title(self) -> None:
        text = str(["one", "twelve", "three"])
        html = render(text, pretty=True, maxlen=12)
        assert shown(html) == escape("['one',\n 't") + "…"
        assert f' title="{escape(text)}"' in html

    @pytest.mark.parametrize(
        "text",
        [
            # Celery's saferepr cuts so.
            "(1, 2, 'a long text', ...)",
            "{'a': 'a long text', ...}",
            "[1e999, 'a long text']",
            "'a long text that only looks like a container: [1, 2]'",
            "<Task: proj.tasks.add>",
            "{[]: 'unhashable', 'a': 'long'}",
            "__import__('os').system('true')",
            # A warning of Python's parser, which is an error here.
            r"['\d', 'an invalid escape sequence']",
            "['a NUL \0', 'and more text']",
            "-" * 1_900 + "1",
            "(" * 900 + ")" * 900,
            "[" + "1, " * 1_000 + "]",
        ],
    )
    def test_anything_else_is_plain(self, text: str) -> None:
        html = render(text, pretty=True, maxlen=10_000)
        assert shown(html) == escape(text)

    @pytest.mark.parametrize("depth", [5, 10, 20, 190])
    @pytest.mark.parametrize("items", ["1, " * 500, "'a long text', 'and another'"])
    @pytest.mark.parametrize("width", [16, 1_000])
    def test_nesting_is_kept(self, depth: int, items: str, width: int) -> None:
        text = "[" * depth + items + "]" * depth
        html = render(text, pretty=True, width=width, maxlen=1_000_000)
        assert read(html) == ast.literal_eval(text)

    def test_longest_text_that_is_laid_out(self) -> None:
        text = str(["x" * (utils.PRETTY_MAXLEN - 7), 1])
        assert len(text) == utils.PRETTY_MAXLEN
        assert "\n" in render(text, pretty=True, maxlen=10_000)
        text = str(["x" * (utils.PRETTY_MAXLEN - 6), 1])
        assert "\n" not in render(text, pretty=True, maxlen=10_000)

    @given(
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.text() | st.binary(),
            lambda children: (
                st.lists(children)
                | st.dictionaries(st.text(), children)
                | st.lists(children).map(tuple)
            ),
            max_leaves=10,
        )
    )
    def test_laid_out_text_reads_back_as_the_value(self, value: object) -> None:
        column = utils.fixedwidth("args", maxlen=100_000, pretty=True)
        assert read(column(SimpleNamespace(args=repr(value)))) == value
