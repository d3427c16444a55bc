"""What people type into the search box of the list of tasks.

A search is words, each of which has to match. ``OR`` between two of them is an
alternative of all the words before it and all those after it; ``AND`` says what is so
anyway. A word after ``-`` must not match. ``field:value`` is looked for in one field
alone, everything else in several. Double quotes hold words together, and take their
meaning from ``OR``, ``AND``, ``-`` and ``:``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from django.core.exceptions import FieldDoesNotExist, ValidationError
from django.db.models import Q
from django.utils.translation import gettext

from django_celery_monitor.models import ALL_STATES, TaskState, WorkerState

from .paths import Path

#: Words that a search may have: each is looked for in every task that is looked at.
MOST_WORDS = 20
#: Workers that a word may name.
MOST_WORKERS = 100

#: A word, or the beginning of one whose quotes are not closed.
WORD = re.compile(
    r"""
    (?P<minus>-?)
    (?:(?P<field>[A-Za-z_]+):)?
    (?:"(?P<quoted>(?:[^"\\]|\\.)*)"(?=\s|$)|(?P<plain>[^\s"]\S*)|(?P<broken>"?))
    """,
    re.VERBOSE | re.DOTALL,
)

#: How fields of the admin's ``search_fields`` are compared, by what they begin with.
LOOKUPS = {"^": "istartswith", "=": "iexact", "@": "search"}


@dataclass(frozen=True)
class Word:
    """One word of a search."""

    value: str
    field: str = ""
    is_negative: bool = False


@dataclass(frozen=True)
class Search:
    """What a search finds, and what an index finds of it: None where none does."""

    condition: Q
    path: Path | None = None


def parse(text: str) -> list[list[Word]]:
    """Return the alternatives of a search, the words of each.

    Raises ValidationError, which says what is wrong with it.
    """
    alternatives: list[list[Word]] = [[]]
    number, joint, position = 0, "", 0
    text = text.strip()
    while position < len(text):
        match = WORD.match(text, position)
        # It matches the empty string too.
        assert match is not None  # noqa: S101
        position = match.end()
        while position < len(text) and text[position].isspace():
            position += 1
        if match[0] in {"AND", "OR"}:
            if joint or not alternatives[-1]:
                raise ValidationError(_lonely(match[0]))
            joint = match[0]
            if joint == "OR":
                alternatives.append([])
            continue
        joint = ""
        alternatives[-1].append(_word(match))
        number += 1
        if number > MOST_WORDS:
            raise ValidationError(
                gettext("A search has at most %(most)d words.") % {"most": MOST_WORDS}
            )
    if joint:
        raise ValidationError(_lonely(joint))
    return alternatives


def _lonely(joint: str) -> str:
    return gettext("%(word)s needs something to look for before and after it.") % {
        "word": joint
    }


def _word(match: re.Match[str]) -> Word:
    """Return what was matched as a word."""
    field, quoted = (match["field"] or "").lower(), match["quoted"]
    if field and field not in FIELDS:
        text = gettext(
            "There is no field “%(field)s”. The fields are %(fields)s. To look for the"
            " text itself, put it between double quotes."
        )
        raise ValidationError(text % {"field": field, "fields": ", ".join(FIELDS)})
    if match["broken"]:
        raise ValidationError(gettext("A double quote is not closed."))
    value = match["plain"] or re.sub(r"\\(.)", r"\1", quoted or "", flags=re.DOTALL)
    if not value:
        if field:
            text = gettext("Say what to look for after “%(field)s:”.")
            raise ValidationError(text % {"field": field})
        raise ValidationError(gettext("There is nothing to look for in a word."))
    return Word(value, field, bool(match["minus"]))


def quoted(text: str) -> str:
    """Return the search for a text as such."""
    escaped = re.sub(r'(["\\])', r"\\\1", text)
    return f'"{escaped}"'


def search(text: str, fields: Sequence[str]) -> Search:
    """Return what ``text`` finds; words without a field are looked for in ``fields``.

    Raises ValidationError, which says what is wrong with it.
    """
    found = Q()
    alternatives = parse(text)
    for words in alternatives:
        every = Q()
        for word in words:
            condition = _condition(word, fields)
            every &= ~condition if word.is_negative else condition
        found |= every
    only = alternatives[0][0] if text.strip() else Word("")
    alone = len(alternatives) == len(alternatives[0]) == 1 and not only.is_negative
    return Search(found, _path(only) if alone else None)


def _condition(word: Word, fields: Sequence[str]) -> Q:
    if word.field:
        return FIELDS[word.field](word.value)
    found = Q()
    for field in fields:
        lookup = LOOKUPS.get(field[0])
        name = f"{field[1:]}__{lookup}" if lookup else _with_lookup(field)
        found |= Q(**{name: word.value})
    return found


def _with_lookup(field: str) -> str:
    """Return how a field of ``search_fields`` is compared: as it says, if it does."""
    model: Any = TaskState
    for part in field.split("__"):
        try:
            related = model._meta.get_field(part).related_model
        except FieldDoesNotExist:
            # A lookup, or "pk" or a transform: Django knows.
            return field
        model = related or model
    return f"{field}__icontains"


def _path(word: Word) -> Path | None:
    """Return where an index has what ``word`` finds, in the order of time."""
    if word.field == "state":
        return Path("state", (_as_state(word.value),))
    if word.field == "name" and _is_name(word.value):
        return Path("name", (word.value,))
    if word.field == "worker":
        return Path("worker", tuple(_workers(word.value)))
    return None


def _contains(column: str) -> Callable[[str], Q]:
    def condition(value: str) -> Q:
        return Q(**{f"{column}__icontains": value})

    return condition


def _as_state(value: str) -> str:
    """Return ``value`` as Celery writes the state, if it is one of its own."""
    return value.upper() if value.upper() in ALL_STATES else value


def _state(value: str) -> Q:
    return Q(state=_as_state(value))


def _is_name(value: str) -> bool:
    return TaskState.objects.filter(name=value).order_by().exists()


def _name(value: str) -> Q:
    """Match the name that is given in full, or else all that contain it."""
    return Q(name=value) if _is_name(value) else Q(name__icontains=value)


def _workers(value: str) -> list[int]:
    """Return the keys of the worker of this name, or else of all that contain it."""
    workers = WorkerState.objects.order_by()
    exact = workers.filter(hostname=value).values_list("pk", flat=True)
    some = workers.filter(hostname__icontains=value).values_list("pk", flat=True)
    return list(exact) or list(some[:MOST_WORKERS])


def _worker(value: str) -> Q:
    return Q(worker__in=_workers(value))


def _kwargs(value: str) -> Q:
    """Match ``key=value`` as repr or JSON have it, all else as text."""
    key, equals, given = value.partition("=")
    if not equals or not key.isidentifier():
        return Q(kwargs__icontains=value)
    found = Q()
    texts = {f"'{key}': {given!r}", f'"{key}": "{given}"'}
    for quote in "'\"":
        texts |= {f"{quote}{key}{quote}: {given}{end}" for end in ",}"}
    for text in sorted(texts):
        found |= Q(kwargs__contains=text)
    return found


#: The fields that a word may name, and what it finds there.
FIELDS: dict[str, Callable[[str], Q]] = {
    "state": _state,
    "name": _name,
    "worker": _worker,
    "queue": _contains("queue"),
    "args": _contains("args"),
    "kwargs": _kwargs,
    "result": _contains("result"),
    "exception": _contains("exception"),
}


def message(error: ValidationError) -> str:
    """Return what ``error`` says in one text."""
    found: Any = error.messages
    return " ".join(found)
