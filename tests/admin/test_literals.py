"""Texts of plain values."""

from __future__ import annotations

import json
import math
import time
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from django_celery_monitor.admin.literals import parse

plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**30), 10**30)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@given(plain | plain.map(lambda value: (value,)))
def test_what_python_writes_is_read(value: object) -> None:
    assert parse(repr(value)) == value


@given(plain)
def test_what_json_writes_is_read(value: object) -> None:
    assert parse(json.dumps(value)) == value


@given(st.text() | st.text(alphabet="()[]{}'\"\\,:.-+eE1bTrue nsx"))
def test_no_text_does_more_than_not_be_read(text: str) -> None:
    with suppress(ValueError):
        parse(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "[1, 2",
        "[x]",
        "[f()]",
        "[1].__class__",
        "[1 + 1]",
        "'a' 'b'",
        "f'{1}'",
        "lambda: 1",
        "[...]",
        "[<object>]",
        "NaN",
        "[Infinity]",
        "{1: 2, **{}}",
        "[not True]",
        "{[]: 1}",
        "[" * 51 + "]" * 51,
        "-" * 9_000 + "1",
        "1+" * 4_000 + "1",
        "a" + ".a" * 4_000,
        "9" * 9_000,
        "[" * 9_000,
        "(" * 9_000,
        "'" * 9_000,
        '"""' * 3_000,
        "\\" * 9_000,
        " " * 10_001,
        "[" + "1," * 5_000 + "]",
    ],
)
def test_what_is_no_plain_value_is_refused_at_once(text: str) -> None:
    started = time.monotonic()
    with pytest.raises(ValueError, match="they are"):
        parse(text)
    assert time.monotonic() - started < 10


def test_numbers_of_all_kinds() -> None:
    assert parse("[1e5, -2.5E-3, .5, 0x1f, 1_000]") == [1e5, -0.0025, 0.5, 31, 1000]
    assert math.copysign(1, parse("-0.0")) == -1  # type: ignore[arg-type]
