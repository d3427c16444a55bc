"""Texts of plain values, read without running anything in them."""

from __future__ import annotations

import ast
import json
import re

from django.utils.translation import gettext as _

#: Characters of a text that is read, and how deep brackets may nest in it: Python's
#: parser can exhaust the stack on more.
LONGEST, DEEPEST = 10_000, 50

# What a plain value is made of. A number or a string may only be followed by what
# ends an item: everything that nests without brackets, such as 1+1+1, is left out.
_TOKEN = re.compile(
    r"""
      (?P<open>[\[({]) | (?P<close>[\])}]) | [,:\s]
    | (?: -?(?:\d|\.\d)[\w.]*(?:(?<=[eE])[-+]\d+)?
        | [bB]?(?: '(?:[^'\\\n]|\\.)*' | "(?:[^"\\\n]|\\.)*" )
        | True | False | None | true | false | null | set\(\)
      )(?=\s*(?:[,:\])}]|\Z))
    """,
    re.VERBOSE,
)


def parse(text: str) -> object:
    """Return the value that ``text`` is, as Python or as JSON writes it.

    Raises ValueError, which says why, for every text that is none.
    """
    if len(text) > LONGEST:
        raise ValueError(_("they are too long to be read"))
    _check(text)
    try:
        # JSON has escapes that mean something else to Python, not the other way.
        return json.loads(text)
    except ValueError:
        pass
    try:
        return ast.literal_eval(text.strip())
    except (MemoryError, RecursionError, SyntaxError, TypeError, ValueError) as exc:
        raise ValueError(_("they are not made of plain values")) from exc


def _check(text: str) -> None:
    """Raise ValueError unless ``text`` has the parts of plain values alone."""
    position = depth = 0
    while position < len(text):
        token = _TOKEN.match(text, position)
        if token is None:
            raise ValueError(_("they are not made of plain values"))
        depth += bool(token["open"]) - bool(token["close"])
        if depth > DEEPEST:
            raise ValueError(_("they are nested too deeply"))
        position = token.end()
