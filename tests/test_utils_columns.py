"""The building blocks for columns of the admin."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable
from datetime import datetime
from html import unescape
from types import SimpleNamespace

import pytest
from django.contrib.admin.utils import display_for_value, label_for_field
from django.contrib.auth.models import User
from django.utils.html import escape
from django.utils.safestring import SafeString, mark_safe
from django.utils.translation import gettext_lazy
from hypothesis import given
from hypothesis import strategies as st

from django_celery_monitor import utils


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
