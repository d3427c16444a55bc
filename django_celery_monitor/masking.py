"""Masks the values under secret keys, in texts of any kind."""

from __future__ import annotations

import re
from collections.abc import Collection
from enum import Enum
from typing import NamedTuple

#: What stands in place of a secret.
MASK = "********"

# What may stand between the letters of a word: X-Api-Key, api_key, "API key".
_GAP = "[-_ .]*"
# Longer English words that end or begin with a secret one.
_NOT_IN = {
    "card": "(?<!discard)(?<!wildcard)(?<!postcard)(?<!scorecard)(?<!flashcard)"
    "(?!inal|iac|io|igan|board)",
    "secret": "(?!ar[iy])",
    "token": "(?!i[sz])",
}

# A key: what may follow the word in its name, and what separates it from its value.
_NAME = re.compile(r"[\w.-]*")
_QUOTED = re.compile(r"[^'\"\\\n:=,{}%]{0,100}\\*[\"']\]?\s*(:|=>?|,)\s*")
_BARE = re.compile(
    r"(?: [\w.-]+)?(?:\]|%5[dD])?[ \t]*([+|:]?=[=>]?|:(?!//|:)|%3[aAdD])[ \t]*"
)
# The beginning of a pair, ('password', 'x'), up to the word.
_PAIR = re.compile(r"\(\s*[bu]?\\*[\"'][\w.-]*\Z")
# "InvalidTokenError: the message" names a class and not a key.
_CLASSES = ("Error", "Exception", "Warning")
# The name in "://name:password@host", unless it is a host and a port follows.
_PORT = r"\d{1,5}(?:[/?#\s'\"]|\.?\Z|\.\s|[,;:)\]}>\\]+(?:[\s'\"]|\Z))"
_USER = re.compile(rf"[^\s/?#@:'\"\[\]]*:(?!{_PORT})")

# The beginning of a value, and what tells that a quote ends one.
_STRING = re.compile(r"[bBuUrRfF]{0,2}(\\*)(\"\"\"|'''|\"|')")
_ADJACENT = re.compile(r"\s+[bBuUrRfF]{0,2}(\\*)(\"\"\"|'''|\"|')")
_SCHEME = re.compile(r"(?i:bearer|basic|digest|token|negotiate|apikey)[ \t]")
_ENDS = re.compile(r"[\s,:;)\]}\\]|\Z")
_ENDS_LINE = re.compile(r"\s*(?:[,:;)\]}]|\Z)")
_ENDS_STRING = re.compile(r"[ \t]*(?:[,:;)\]}\\'\"\n]|\Z)")
_ENDS_ITEM = re.compile(r"\s*(?:[,:)\]}>\\'\"]|\Z)")
# What to look at in a value without quotes: after a quoted key, and elsewhere.
_IN_REPR = re.compile(r"[,()\[\]{}<'\"]")
_IN_TEXT = re.compile(r"[\s&(\[{<'\"]")
_BRACKET = re.compile(r"[()\[\]{}<>'\"]")
_QUOTE = re.compile(r"['\"]")
_RUN_ENDS = re.compile(r"\s|['\"](?=[\s,:;)\]}]|\Z)")

# A hostile text of keys in keys could be read over and over: beyond so many times
# its length everything from the value at hand on is masked.
_MAX_READS = 8
# How often a text is masked until that changes nothing; two is the rule.
_MAX_ROUNDS = 5


class Masker:
    """Masks what stands under keys whose names contain one of ``words``."""

    def __init__(self, words: Collection[str]) -> None:
        patterns = sorted(filter(None, map(_word_pattern, words)))
        # Searched in lower-case texts: ignoring case is ten times slower.
        self._keys = re.compile("|".join([*patterns, r"(?P<url>:\\*/\\*/)"]))
        # Most texts have neither: a pattern of words alone is the fastest to search.
        self._has_key = re.compile("|".join(patterns or ["(?!)"])).search

    def mask(self, text: str) -> str:
        """Return ``text`` with the values of its secret keys masked."""
        if not (self._has_key(text.lower()) or "://" in text or ":\\" in text):
            return text
        # A mask may make a key of what was none: what is stored has to be the same
        # when it is masked again. Every round masks more, so the last one is near.
        for _ in range(_MAX_ROUNDS):
            masked = _replace(text, _secrets(text, self._keys))
            if masked == text:
                break
            text = masked
        return text


class _Style(Enum):
    """How a value is written, by what comes before it."""

    REPR = "'key': value, as in a repr or in JSON"
    ASSIGNED = "key=value, as in a call or in a query string"
    LINE = "key: value, as in a header"
    URL = "://user:value@host"


class _Value(NamedTuple):
    """Where the value of a secret key is, and the quotes that stay around the mask."""

    start: int
    end: int
    opening: str = ""
    closing: str = ""


def _word_pattern(word: str) -> str:
    """Return a pattern that finds ``word``, "" for one without a letter."""
    letters = re.sub(_GAP, "", word.lower())
    pattern = _GAP.join(map(re.escape, letters))
    return pattern + _NOT_IN.get(letters, "")


def _secrets(text: str, keys: re.Pattern[str]) -> list[_Value]:
    """Return where the secrets are, in the order of ``text`` and without overlaps.

    Where the end of one cannot be told it is the end of the text.
    """
    # One character for each, which str.lower does not promise for this letter only.
    lowered = text.replace("\u0130", "i").lower()
    values: list[_Value] = []
    size, done, position, reads = len(text), 0, 0, 0
    while done < size and (found := keys.search(lowered, position)):
        position, start, style = _find_value(text, found)
        if style is None:
            continue
        within = found.start() < done
        if start < done and not _is_structured(text, start, style):
            continue
        value, read = _measure(text, start, style)
        reads += read - start
        hostile = reads > _MAX_READS * size
        if within:
            # A key in a value, with a value that ends behind it: the end of the
            # first was the wrong one, as some reprs do not escape what they should.
            if value.end > done or hostile:
                last = values.pop()
                values.append(_Value(last.start, size, last.opening))
                break
        elif hostile:
            values.append(_Value(start, size))
            break
        elif text[start : value.end] not in {"", "None", "null"}:
            values.append(value)
            done = value.end
    return values


def _replace(text: str, values: list[_Value]) -> str:
    """Return ``text`` with the mask in place of ``values``."""
    parts: list[str] = []
    done = 0
    for value in values:
        parts += (text[done : value.start], value.opening, MASK, value.closing)
        done = value.end
    return "".join((*parts, text[done:]))


def _find_value(text: str, found: re.Match[str]) -> tuple[int, int, _Style | None]:
    """Return where to go on, where the value of a key begins, and its style.

    The style is None where the word that was ``found`` is not in the name of a key.
    """
    if found.lastgroup == "url":
        user = _USER.match(text, found.end())
        return found.end(), user.end() if user else 0, _Style.URL if user else None
    name = _NAME.match(text, found.end())
    end = name.end() if name else found.end()
    if separator := _QUOTED.match(text, end):
        if separator[1] != ",":
            return separator.end(), separator.end(), _Style.REPR
        if _PAIR.search(text, max(0, found.start() - 64), found.start()):
            return separator.end(), separator.end(), _Style.REPR
    elif separator := _BARE.match(text, end):
        if separator[1] != ":":
            return separator.end(), separator.end(), _Style.ASSIGNED
        if not text.endswith(_CLASSES, found.start(), end):
            return separator.end(), separator.end(), _Style.LINE
    return end, 0, None


def _is_structured(text: str, start: int, style: _Style) -> bool:
    """Return whether what looks like a key within a value is more than prose."""
    if style is _Style.ASSIGNED:
        return text[start : start + 1] in "([{" or bool(_STRING.match(text, start))
    return style is _Style.REPR


def _measure(text: str, start: int, style: _Style) -> tuple[_Value, int]:
    """Return the value that begins at ``start``, and how far it was read to."""
    if style is _Style.URL:
        return _password(text, start)
    read = start
    if string := _STRING.match(text, start):
        read, closing = _string_end(text, string)
        if style is not _Style.LINE or _ENDS_STRING.match(text, read):
            return _Value(start, read, string[0], closing), read
    if style is _Style.REPR:
        end = _repr_end(text, start)
    elif style is _Style.LINE or _SCHEME.match(text, start):
        end = _line_end(text, start)
    else:
        end = _word_end(text, start)
    return _Value(start, end), max(read, end)


def _password(text: str, start: int) -> tuple[_Value, int]:
    """Return the password in a URL, empty if there is none; and what was read."""
    if text.startswith(MASK, start):
        return _Value(start, start + len(MASK)), start
    stop = _RUN_ENDS.search(text, start)
    end = stop.start() if stop else len(text)
    at = text.rfind("@", start, end)
    if at >= 0:
        return _Value(start, at), end
    cut_off = end == len(text) or text.find("...", start, end) >= 0
    return _Value(start, end if cut_off else start), end


def _string_end(
    text: str, string: re.Match[str], *, in_group: bool = False
) -> tuple[int, str]:
    """Return the end of a string and what closes it, "" where nothing does.

    A string within strings is closed by its quote behind as many backslashes as
    there were when it was opened; behind fewer one of the outer strings ends.
    Behind more it may be the string's last character that is a backslash, which
    not every repr escapes: the string is read on. Within brackets that would lose
    count of them, and nothing can be told of the end.
    """
    depth, quote, position = len(string[1]), string[2], string.end()
    begin = position
    while (at := text.find(quote, position)) >= 0:
        slashes = at - _before_slashes(text, begin, at)
        if slashes < depth:
            return at - slashes, ""
        position = at + len(quote)
        # No repr goes on with a letter: a quote that should have been escaped.
        if slashes == depth and not text[position : position + 1].isalnum():
            more = _ADJACENT.match(text, position)
            if not (more and len(more[1]) == depth):
                return position, string[1] + string[2]
            quote, position = more[2], more.end()
            begin = position
        elif slashes > depth and in_group and _ENDS_ITEM.match(text, position):
            break
    return len(text), ""


def _before_slashes(text: str, start: int, end: int) -> int:
    """Return ``end`` without the backslashes that come before it."""
    while end > start and text[end - 1] == "\\":
        end -= 1
    return end


def _line_end(text: str, start: int) -> int:
    """Return the end of a value that takes up the rest of a line."""
    begin = _key_block_end(text, start)
    if text[start : start + 1] in {"(", "[", "{"}:
        begin = _group_end(text, start)
    end = text.find("\n", begin)
    end = end if end >= 0 else len(text)
    quote = _QUOTE.search(text, begin, end)
    # The line may be within a string: then that ends it, not quotes of its own.
    if quote and _ENDS_LINE.match(text, quote.end()):
        end = _before_slashes(text, begin, quote.start())
    while end > begin and text[end - 1].isspace():
        end -= 1
    return end


def _repr_end(text: str, start: int) -> int:
    """Return the end of a value without quotes in a dict's repr or in JSON."""
    position = start
    while token := _IN_REPR.search(text, position):
        if token[0] in ",)]}":
            return start + len(text[start : token.start()].rstrip())
        position = _skip(text, start, token)
    return max(position, start + len(text[start:].rstrip()))


def _word_end(text: str, start: int) -> int:
    """Return the end of a value without quotes in a call, a query or prose."""
    begin = position = _key_block_end(text, start)
    end = len(text)
    while token := _IN_TEXT.search(text, position):
        position = token.end()
        if token[0] in "([{<":
            begin = position = _group_end(text, token.start())
        elif token[0] not in "'\"" or _ENDS.match(text, position):
            end = _before_slashes(text, begin, token.start())
            break
    # What is left may be punctuation of what surrounds it.
    return max(begin, start + len(text[start:end].rstrip(",;)]}>'\"\\")))


def _group_end(text: str, start: int) -> int:
    """Return the end of what begins with the bracket at ``start``."""
    brackets = angles = 0
    position = start
    while token := _BRACKET.search(text, position):
        char, position = token[0], token.end()
        if char in "'\"":
            position = _skip(text, start, token)
        elif char in "<>":
            angles = max(0, angles + (1 if char == "<" else -1))
        else:
            brackets = max(0, brackets + (1 if char in "([{" else -1))
        if not (brackets or angles):
            return position
    return len(text)


def _skip(text: str, start: int, token: re.Match[str]) -> int:
    """Return the end of the string or of what is in brackets at ``token``."""
    if token[0] not in "'\"":
        return _group_end(text, token.start())
    string = _STRING.match(text, _before_slashes(text, start, token.start()))
    return _string_end(text, string, in_group=True)[0] if string else token.end()


def _key_block_end(text: str, start: int) -> int:
    """Return the end of a PEM block that begins at ``start``, or ``start``."""
    if not text.startswith("-----BEGIN", start):
        return start
    last = text.find("-----END", start)
    end = text.find("-----", last + 8) if last >= 0 else -1
    return end + 5 if end >= 0 else len(text)
