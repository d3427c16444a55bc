"""The bodies of messages: read as kombu would, where that may be faster too."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kombu.exceptions import ContentDisallowed, DecodeError
from kombu.message import Message
from kombu.utils.json import dumps

from django_celery_monitor.receiver import JSON, decode

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)
TYPES = st.sampled_from([bytes, memoryview, str])


def message(body: Any, content_type: str = JSON, accept: Any = (JSON,)) -> Message:
    return Message(
        body,
        accept=accept,
        content_type=content_type,
        content_encoding="utf-8",
        channel=None,
    )


def as_type(text: str, kind: type) -> Any:
    return text if kind is str else kind(text.encode())


@given(VALUES, TYPES)
def test_a_body_is_what_kombu_reads_in_it(value: Any, kind: type) -> None:
    one, other = (message(as_type(json.dumps(value), kind)) for _ in range(2))
    assert decode(one) == other.decode()


@given(st.uuids() | st.datetimes() | st.decimals(allow_nan=False), TYPES)
def test_values_of_other_types_come_as_such(value: Any, kind: type) -> None:
    assert decode(message(as_type(dumps([value]), kind))) == [value]


@pytest.mark.parametrize("accept", [(), ("application/x-yaml",)])
def test_what_is_not_accepted_is_refused(accept: tuple[str, ...]) -> None:
    with pytest.raises(ContentDisallowed):
        decode(message(b"{}", accept=accept))


def test_pickle_is_refused() -> None:
    with pytest.raises(ContentDisallowed):
        decode(
            message(b"cos\nsystem\n.", content_type="application/x-python-serialize")
        )


@pytest.mark.parametrize("body", [b"{", b"\xff", b"[" * 100_000])
def test_what_is_no_json_is_an_error(body: bytes) -> None:
    with pytest.raises((ValueError, RecursionError, DecodeError)):
        decode(message(body))


def test_an_empty_body_stays_empty() -> None:
    assert decode(message(b"")) == b""
