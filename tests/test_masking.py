"""Secrets that are masked, in any spelling and in time."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from time import process_time
from typing import Any

import pytest
from celery.utils.saferepr import saferepr
from hypothesis import given
from hypothesis import strategies as st

from django_celery_monitor.conf import SECRET_KEYS
from django_celery_monitor.masking import MASK
from django_celery_monitor.sanitize import Sanitizer
from tests.sanitizers import LIMIT, masked, sanitizer

STAYS = [
    "",
    "wrong password given",
    "(1, 'a token of my esteem', [2])",
    "KeyError: 'password'",
    "KeyError('password',)",
    "password=",
    "{'password': None, \"token\": null}",
    "{'discard': 1, 'cardinality': 'x', 'wildcard': '*', 'secretary': 'Ada'}",
    "jwt.exceptions.InvalidTokenError: Signature has expired",
    '  File "/srv/app/token.py", line 3, in get_token\n    raise InvalidToken',
    "secret://vault and token::method",
    "redis://localhost:6379/0 and http://[::1]:8000/ and https://host/a:b@c",
    "docker://image:latest is there",
    "http://host:8000",
    "http://host:8000: refused (http://host:8000), or http://host:8000.",
]

MASKED = {
    # a dict's repr
    "{'password': 'hunter2', 'x': 1}": "{'password': '********', 'x': 1}",
    "{'x': 1, 'TOKEN': \"hunter2\"}": "{'x': 1, 'TOKEN': \"********\"}",
    "{'secret': b'hunter2'}": "{'secret': b'********'}",
    "{b'secret': 'hunter2'}": "{b'secret': '********'}",
    "{'card': 4111111111111111, 'x': 1}": "{'card': ********, 'x': 1}",
    "{'password': ''}": "{'password': '********'}",
    "{'token': True }": "{'token': ******** }",
    "{'cvv': {'a': ['hunter2', (1,)]}, 'x': 1}": "{'cvv': ********, 'x': 1}",
    "{'cookie': <Jar a, b>, 'x': 1}": "{'cookie': ********, 'x': 1}",
    "{'token': Secret('hunter2', 2), 'x': 1}": "{'token': ********, 'x': 1}",
    "{'token': 'hun'\n          'ter2', 'x': 1}": "{'token': '********', 'x': 1}",
    "{'token': 'hun'ter2', 'x': 1}": "{'token': '********', 'x': 1}",
    "{'token': '''hunter2 ' '''}": "{'token': '''********'''}",
    # the name of the key
    "{'X-Api-Key': 'hunter2'}": "{'X-Api-Key': '********'}",
    "{'user_password': 'hunter2'}": "{'user_password': '********'}",
    "{'accessToken': 'hunter2'}": "{'accessToken': '********'}",
    "{'Api Key (old)': 'hunter2'}": "{'Api Key (old)': '********'}",
    "{'private.key': 'hunter2'}": "{'private.key': '********'}",
    "{'creditCard': 'hunter2'}": "{'creditCard': '********'}",
    "{'İcard': 'hunter2'}": "{'İcard': '********'}",
    # JSON
    '{"token": "hunter2", "x": 1}': '{"token": "********", "x": 1}',
    '{"token":"hunter2","x":1}': '{"token":"********","x":1}',
    '{\n  "card" : 4111\n}': '{\n  "card" : ********\n}',
    # strings in strings
    '"{\\"token\\": \\"hunter2\\", \\"x\\": 1}"': (
        '"{\\"token\\": \\"********\\", \\"x\\": 1}"'
    ),
    "'{\\'password\\': \\'hunter2\\'}'": "'{\\'password\\': \\'********\\'}'",
    "{'a': \"{'password': 'hunter2'}\"}": "{'a': \"{'password': '********'}\"}",
    '"{\\"token\\": \\"hunter2", "x": 1': '"{\\"token\\": \\"********", "x": 1',
    # calls, assignments, pairs
    "Client(token='hunter2', x=1)": "Client(token='********', x=1)",
    "Client(token=hunter2, x=1)": "Client(token=********, x=1)",
    "Client(token=Token(1, 'hunter2'))": "Client(token=********)",
    "<Client token=hunter2>": "<Client token=********>",
    "environ['DB_PASSWORD'] = 'hunter2'": "environ['DB_PASSWORD'] = '********'",
    "WHERE token = 'hunter2' AND x": "WHERE token = '********' AND x",
    "[('Authorization', 'hunter2')]": "[('Authorization', '********')]",
    "token=(hun ter2": "token=********",
    "secret=-----BEGIN KEY-----\nhunter2\n-----END KEY----- x": "secret=******** x",
    "secret=-----BEGIN KEY-----\nhunter2\n": "secret=********",
    # headers
    "401\nAuthorization: Bearer hunter2\nX: y": "401\nAuthorization: ********\nX: y",
    'Authorization: Digest a="b", c="hunter2"\r\nX': "Authorization: ********\r\nX",
    "HTTPError('Cookie: id=hunter2; Path=/')": "HTTPError('Cookie: ********')",
    "Authorization=Bearer hunter2\nx": "Authorization=********\nx",
    "card number: 4111 1111\nx": "card number: ********\nx",
    "token: 'hunter2' hunter2\nx": "token: ********\nx",
    "token: 'hunter2'\nx": "token: '********'\nx",
    "token: {a: 1,\n hunter2}\nx": "token: ********\nx",
    "TokenError: password=hunter2": "TokenError: password=********",
    # URLs
    "GET /a?token=hunter2&x=1 200": "GET /a?token=********&x=1 200",
    "('https://h/a?token=hunter2', 1)": "('https://h/a?token=********', 1)",
    '"{\\"u\\": \\"h?token=hunter2\\"}"': '"{\\"u\\": \\"h?token=********\\"}"',
    "?next=%2F%3Ftoken%3Dhunter2": "?next=%2F%3Ftoken%3D********",
    "user[password]=hunter2&x=1": "user[password]=********&x=1",
    "token=hun'ter2 x": "token=******** x",
    "amqp://user:hunter2@host:5672//": "amqp://user:********@host:5672//",
    "redis://:hunt@er2@host/0": "redis://:********@host/0",
    "redis://:hunt/er2@host/0": "redis://:********@host/0",
    "['amqp://u:hunter2@h', 'a@b']": "['amqp://u:********@h', 'a@b']",
    "amqp:\\/\\/u:hunter2@h": "amqp:\\/\\/u:********@h",
    "https://token:hunter2@host/": "https://token:********@host/",
    # cut off
    "{'user': 'a', 'token': 'hunter2": "{'user': 'a', 'token': '********",
    "{'password': 'hunter2...', ...}": "{'password': '********', ...}",
    "{'card': 41111": "{'card': ********",
    "{'card': Card('hunt": "{'card': ********",
    "{'a': '{\"token\": \"hunt...', ...}": "{'a': '{\"token\": \"********",
    "('amqp://user:hunt...', ...)": "('amqp://user:********', ...)",
    "amqp://user:hunt": "amqp://user:********",
    # the end cannot be trusted
    "{'secret': 'a', 'x': 1, 'token': 'b": "{'secret': '********', 'x': 1, "
    "'token': '********",
    "{'token': b'a\"b', 'x': '\"token\": \"hunter2'}": (
        "{'token': b'********', 'x': '\"token\": \"********"
    ),
    "{'token': 'a\\\\', 'card': 'hunter2'}": "{'token': '********",
    '{"token": "a \'card\': \'" hunter2': '{"token": "********',
}


@pytest.mark.parametrize("text", STAYS)
def test_what_is_no_secret_stays(text: str) -> None:
    assert masked(text) == text


@pytest.mark.parametrize(("text", "expected"), MASKED.items())
def test_a_secret_is_masked(text: str, expected: str) -> None:
    fit = sanitizer()
    assert fit.text(text) == expected
    assert fit.text(expected) == expected
    assert fit.made_fit == 0


@pytest.mark.parametrize("word", SECRET_KEYS)
def test_every_word_is_secret_in_any_spelling(word: str) -> None:
    for key in (word, word.upper(), f"my-{word.replace('_', '-')}s", f"{word}_x"):
        assert masked(f"{{'{key}': 'hunter2'}}") == f"{{'{key}': '{MASK}'}}"


def test_words_of_ones_own() -> None:
    fit = Sanitizer(["Pass_Wort", "- "], LIMIT)
    assert fit.text("passwort=a token=b") == f"passwort={MASK} token=b"
    assert Sanitizer([], LIMIT).text("token=b ://u:p@h") == f"token=b ://u:{MASK}@h"


# What a repr, a dump, a call make of a secret: whatever is around it, the middle
# of it must never be seen, not even the beginning of that middle in a cut text.
MIDDLE = "Hunter2"
noise = st.text(st.sampled_from("ab1 ,;:='\"\\\n()[]{}<>&@/\0é\ud800"), max_size=8)
secrets = st.builds("{}{}{}".format, noise, st.just(MIDDLE), noise)
names = st.sampled_from(["password", "X-Api-Key", "accessToken", "card_no", "cvc2"])
nested = st.recursive(
    secrets | st.builds(Exception, secrets),
    lambda inner: (
        st.lists(inner, min_size=1, max_size=3)
        | st.tuples(inner, inner)
        | st.dictionaries(st.sampled_from("xyz"), inner, min_size=1)
    ),
    max_leaves=4,
)


def as_json(value: object) -> str:
    return json.dumps(value, default=str, ensure_ascii=False)


def as_call(value: object) -> str:
    arguments = ", ".join(f"{k}={v!r}" for k, v in value.items())  # type: ignore[attr-defined]
    return f"Client({arguments})"


writers = st.sampled_from(
    [repr, as_json, as_call, saferepr, lambda value: saferepr(value, maxlen=40)]
)
outer = st.sampled_from(
    [str, repr, as_json, lambda text: repr({"a": text, "b": 1}), lambda x: as_json([x])]
)


@given(names, nested, writers, outer, st.integers(0, 400), st.booleans())
def test_a_secret_never_appears(
    name: str,
    secret: Any,
    write: Callable[[object], str],
    wrap: Callable[[str], str],
    position: int,
    more: bool,
) -> None:
    key = name if write is not as_call else name.replace("-", "_")
    value = {
        "user": "ada",
        key: secret,
        **({"token": secret, "z": "y"} if more else {}),
    }
    for text in (wrap(write(value)), wrap(write(value))[:position]):
        stored = masked(text)
        assert "Hun" not in stored
        assert masked(stored) == stored


@given(secrets)
def test_a_password_in_a_url_never_appears(secret: str) -> None:
    word = re.sub(r"[\s'\"/]", "", secret)
    assert "Hun" not in masked(f"ValueError('amqp://ada:{word}@host//')")
    assert "Hun" not in masked(f"GET h://h/?token={word.replace('&', '%26')}&x=1")


@given(secrets, st.integers(0, 40))
def test_a_password_in_a_url_that_is_cut_off_never_appears(
    secret: str, position: int
) -> None:
    word = re.sub(r"[\s'\"/@]", "", secret)
    assert "Hun" not in masked(f"amqp://ada:{word}@host"[:position])
    assert "Hun" not in masked(f"('amqp://ada:{word}"[:position] + "...', ...)")


# How long it takes

HOSTILE = [
    *(
        "token",
        "token ",
        "token=(",
        "token=[x](",
        "token='",
        "token: 'a\n",
        "'token': ",
    ),
    *(
        "'token': {",
        "('token', ",
        "t-",
        "p_a_",
        "\\",
        "token\\",
        "token=\\",
        '"',
        "\\'",
    ),
    *("://", "://a", "://a:", "://a:b", "://a:b@", ":\\", "-----BEGIN", "token=<"),
    *("token=-----BEGIN ", "token=''' ", "token='a' ", "token: (", "token: a' ", " "),
    *("token=a'", "'token': '\\\\', ", "{'token': 'x', ", "token=(token='a'", "[[("),
]


@pytest.mark.parametrize("piece", HOSTILE)
@pytest.mark.parametrize("end", ["", " z", "' z", '"""'])
def test_time_grows_with_the_length_of_the_text(piece: str, end: str) -> None:
    def seconds(size: int) -> float:
        text = piece * (size // len(piece)) + end
        begin = process_time()
        Sanitizer(SECRET_KEYS, 10**9).text(text)
        return process_time() - begin

    # Eight times the text; were time to grow with its square, 64 times the time.
    short = min(seconds(8_000) for _ in range(3))
    assert min(seconds(64_000) for _ in range(3)) < 32 * max(short, 0.002)
