"""Values made fit for the database: identifiers, numbers, texts that are cut."""

from __future__ import annotations

import math
import re
from typing import Any

import pytest
from celery import Celery
from django.core.exceptions import ImproperlyConfigured
from hypothesis import example, given
from hypothesis import strategies as st

from django_celery_monitor.masking import MASK
from django_celery_monitor.sanitize import CUT_END, CUT_START, MASK_FAILED, Sanitizer
from tests.sanitizers import sanitizer

# Identifiers


@pytest.mark.parametrize(
    "value", ["", "c0ffee", "proj.tasks.añadir", "w" * 255, "worker@host 😀"]
)
def test_a_fit_identifier_stays(value: str) -> None:
    fit = sanitizer()
    assert fit.identifier(value) == value
    assert fit.made_fit == 0


def test_characters_that_no_database_takes_are_shown() -> None:
    fit = sanitizer()
    assert fit.identifier("a\0b\ud800c\udfff") == r"a\x00b\ud800c\udfff"
    assert fit.text("a\0b\ud800c\udfff") == r"a\x00b\ud800c\udfff"
    assert fit.made_fit == 2


def test_an_overlong_identifier_keeps_its_beginning_and_ends_with_a_digest() -> None:
    fit = sanitizer()
    value = fit.identifier("proj.tasks." + "x" * 300)
    assert len(value) == 255
    assert re.fullmatch(r"proj\.tasks\.x+…[0-9a-f]{32}", value)
    assert fit.identifier("CUSTOM" * 20, 64).startswith("CUSTOMCUSTOM")
    assert len(fit.identifier("CUSTOM" * 20, 64)) == 64
    assert len(fit.identifier("CUSTOM" * 20, 8)) == 8
    assert fit.made_fit == 4


@given(st.text(), st.sampled_from([64, 255]))
def test_an_identifier_is_fit_and_made_so_once(value: str, length: int) -> None:
    once = sanitizer().identifier(value * 20, length)
    again = sanitizer()
    assert again.identifier(once, length) == once
    assert again.made_fit == 0
    assert len(once) <= length
    assert "\0" not in once.encode().decode()


@given(st.text(min_size=1), st.text(min_size=1))
def test_overlong_identifiers_that_begin_alike_differ(one: str, other: str) -> None:
    fit = sanitizer()
    same = fit.identifier("x" * 260 + one) == fit.identifier("x" * 260 + other)
    assert same == (one == other)


# Numbers


@pytest.mark.parametrize(
    ("value", "expected", "counted"),
    [
        (None, None, 0),
        (3, 3, 0),
        (3.0, 3, 0),
        (2.5, 2, 1),
        (-1, 0, 1),
        (2**31, 2**31 - 1, 1),
        (10**400, 2**31 - 1, 1),
        (math.inf, 2**31 - 1, 1),
        (math.nan, None, 1),
        (True, None, 1),
        ("3", None, 1),
        ([], None, 1),
    ],
)
def test_integer(value: object, expected: int | None, counted: int) -> None:
    fit = sanitizer()
    assert fit.integer(value) == expected
    assert fit.made_fit == counted


def test_integer_within_bounds_of_its_own() -> None:
    assert sanitizer().integer(2**40, 0, 2**63 - 1) == 2**40
    assert sanitizer().integer(1, 5, 9) == 5


@pytest.mark.parametrize(
    ("value", "expected", "counted"),
    [
        (None, None, 0),
        (0.5, 0.5, 0),
        (3, 3.0, 0),
        (10**400, None, 1),
        (math.inf, None, 1),
        (-math.inf, None, 1),
        (math.nan, None, 1),
        (True, None, 1),
        ("0.5", None, 1),
    ],
)
def test_number(value: object, expected: float | None, counted: int) -> None:
    fit = sanitizer()
    assert fit.number(value) == expected
    assert fit.made_fit == counted


# Any text

pieces = st.sampled_from(
    [
        *(
            "password",
            "token",
            "Authorization",
            "api-key",
            "discard",
            "TokenError",
            "x",
        ),
        *(": ", ":", "=", " = ", ", ", "&", "@", "://", "%3D", ";", " ", "\n", "\r\n"),
        *("'", '"', "\\'", '\\"', "\\\\'", "\\", "'''", "b'", "(", ")", "[", "]", "{"),
        *("}", "<", ">", "a", "b c", "None", "...", MASK, CUT_END, CUT_START, "8000"),
        *("Bearer ", "-----BEGIN K-----", "-----END K-----", "\0", "\ud800", "İ", "ß"),
    ]
)
hostile = st.lists(pieces, max_size=30).map("".join)


@given(hostile | st.text(), st.integers(1, 120), st.sampled_from(["start", "end"]))
@example("token='a' 'b' \"c\" d", 120, "start")
@example("://password:'", 21, "start")
@example("password%3D\0': password", 30, "start")
def test_a_text_is_fit_short_and_made_so_once(text: str, limit: int, keep: Any) -> None:
    fit = sanitizer(limit)
    once = fit.text(text, keep)
    assert len(once) <= limit
    assert "\0" not in once
    once.encode()
    assert fit.text(once, keep) == once


# Cutting


def test_an_overlong_text_is_cut_and_says_so() -> None:
    fit = sanitizer(40)
    assert fit.text("0123456789" * 4) == "0123456789" * 4
    start = fit.text("0123456789" * 5)
    assert start == ("0123456789" * 5)[:25] + CUT_END
    end = fit.text("0123456789" * 5, keep="end")
    assert end == CUT_START + ("0123456789" * 5)[-25:]
    assert fit.made_fit == 2


def test_a_secret_is_masked_before_the_text_is_cut() -> None:
    text = "{'password': 'hunter2" + "x" * 100 + "'}"
    assert sanitizer(40).text(text, keep="end") == f"{{'password': '{MASK}'}}"
    cut = sanitizer(40).text("x" * 10 + text + "y" * 100)
    assert cut.endswith(CUT_END)
    assert "hunt" not in cut


# A mask of the project's own


def test_a_mask_of_ones_own_replaces_the_rules() -> None:
    fit = sanitizer(mask=lambda text: text.replace("x", "-"))
    assert fit.text("password='x'") == "password='-'"
    assert fit.made_fit == 0


def test_what_a_mask_returns_is_made_fit_and_cut() -> None:
    fit = sanitizer(20, mask=lambda text: text + "\0" + "y" * 40)
    assert fit.text("x") == "x\\x00" + CUT_END


@pytest.mark.parametrize("answer", [None, b"x", 1 / 1])
def test_a_mask_that_returns_no_text_stores_nothing(answer: Any) -> None:
    fit = sanitizer(mask=lambda _: answer)
    assert fit.text("hunter2") == MASK_FAILED
    assert fit.made_fit == 1


def test_a_mask_that_raises_stores_nothing() -> None:
    def mask(text: str) -> str:
        raise ValueError(text)

    fit = sanitizer(mask=mask)
    assert fit.text("hunter2") == MASK_FAILED
    assert fit.made_fit == 1


# Settings


def test_from_settings() -> None:
    app = Celery("sanitize", set_as_current=False)
    assert Sanitizer.from_settings(app).text("token=a") == f"token={MASK}"
    app.conf.monitor_extra_secret_keys = ["pin_code"]
    assert Sanitizer.from_settings(app).text("token=a pinCode=b") == (
        f"token={MASK} pinCode={MASK}"
    )
    app.conf.monitor_secret_keys = ["pin"]
    app.conf.monitor_max_text_length = 30
    assert Sanitizer.from_settings(app).text("token=a pin=b") == f"token=a pin={MASK}"
    assert len(Sanitizer.from_settings(app).text("x" * 50)) <= 30
    app.conf.monitor_mask = "textwrap.dedent"
    assert Sanitizer.from_settings(app).text("  pin=b") == "pin=b"


def test_from_settings_names_what_is_wrong() -> None:
    app = Celery("sanitize", set_as_current=False)
    app.conf.monitor_extra_secret_keys = "token"
    with pytest.raises(ImproperlyConfigured, match="monitor_extra_secret_keys"):
        Sanitizer.from_settings(app)


def test_what_turns_the_direction_of_writing_is_shown() -> None:
    fit = sanitizer()
    assert fit.text("('\u202eevil\u202c',)") == r"('\u202eevil\u202c',)"
    assert fit.identifier("a\u2066b\u2069") == r"a\u2066b\u2069"
    assert fit.text("שלום \u200f") == "שלום \u200f"
    assert fit.made_fit == 2
