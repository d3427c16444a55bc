"""Time-zone conversions and building blocks for the admin."""

from __future__ import annotations

import ast
import pprint
import re
from collections.abc import Callable
from datetime import datetime, timedelta
from datetime import timezone as datetime_timezone
from typing import Any, TypeVar, overload

from django.conf import settings
from django.db.models.expressions import Combinable
from django.utils import timezone
from django.utils.functional import Promise
from django.utils.html import escape, format_html, format_html_join
from django.utils.safestring import SafeString

T = TypeVar("T")
Function = TypeVar("Function", bound=Callable[..., Any])

EPOCH = datetime(1970, 1, 1, tzinfo=datetime_timezone.utc)
MICROSECOND = timedelta(microseconds=1)

# Characters. Celery cuts its own reprs at 1,024 unless told otherwise, and the
# parser of a much longer hostile text could exhaust the stack.
PRETTY_MAXLEN = 2_000

# pprint looks at all that a container holds once for each container around it, so
# that hostile nesting would cost a good part of a second without a limit to its look.
PRETTY_MAXDEPTH = 10


def make_aware(value: datetime) -> datetime:
    """Return a naive ``value`` in the time zone of ``TIME_ZONE`` under ``USE_TZ``.

    An aware ``value`` is returned unchanged, and so is every value under
    ``USE_TZ = False``.
    """
    if settings.USE_TZ and timezone.is_naive(value):
        return timezone.make_aware(value, timezone.get_default_timezone())
    return value


@overload
def correct_awareness(value: datetime) -> datetime: ...
@overload
def correct_awareness(value: T) -> T: ...
def correct_awareness(value: object) -> object:
    """Return a datetime as Django stores it: aware exactly if ``USE_TZ`` is on.

    The time zone of a naive datetime is ``TIME_ZONE``. Whatever is not a
    datetime, ``None`` included, is returned unchanged.

    Raises :exc:`OverflowError` for an aware datetime so close to
    ``datetime.min`` or ``datetime.max`` that ``TIME_ZONE`` cannot express it.
    """
    if not isinstance(value, datetime):
        return value
    if settings.USE_TZ or timezone.is_naive(value):
        return make_aware(value)
    return timezone.make_naive(value, timezone.get_default_timezone())


def fromtimestamp(value: float) -> datetime:
    """Return the datetime of ``value`` seconds since 1970-01-01 00:00 UTC.

    It is aware, in UTC, under ``USE_TZ``; otherwise naive, in the time zone of
    ``TIME_ZONE`` whatever that of the operating system. It is rounded to the
    nearest whole microsecond.

    Raises :exc:`OverflowError` for infinity and for a time outside the years 1
    to 9999, :exc:`ValueError` for NaN.
    """
    return from_microseconds(round(value * 1_000_000))


def from_microseconds(value: int) -> datetime:
    """Return the datetime of ``value`` microseconds since 1970-01-01 00:00 UTC.

    It is what ``fromtimestamp`` returns, for a time that is exact.
    """
    when = EPOCH + value * MICROSECOND
    return when if settings.USE_TZ else correct_awareness(when)


def to_microseconds(value: datetime) -> int:
    """Return a datetime as whole microseconds since 1970-01-01 00:00 UTC.

    The time zone of a naive datetime is ``TIME_ZONE``.
    """
    if timezone.is_naive(value):
        value = timezone.make_aware(value, timezone.get_default_timezone())
    return (value - EPOCH) // MICROSECOND


def exact_microseconds(value: datetime | None, exact: int | None) -> int | None:
    """Return ``value`` in microseconds since the epoch, or None for None.

    ``exact`` is the same instant as it was stored beside ``value``. It tells which
    of two instants a naive time in the hour that daylight saving repeats is, and is
    ignored where it no longer belongs to ``value``.
    """
    if value is None:
        return None
    if exact is not None and fromtimestamp(exact / 1_000_000) == value:
        return exact
    return to_microseconds(value)


def action(
    short_description: str | Promise, **kwargs: object
) -> Callable[[Function], Function]:
    """Return a decorator that describes an admin action.

    It sets ``short_description`` and each of ``kwargs`` (``allowed_permissions``
    for one) as attributes of the function.
    """
    return _with_attributes(short_description=short_description, **kwargs)


def display_field(
    short_description: str | Promise,
    admin_order_field: str | Combinable,
    allow_tags: bool = True,  # noqa: FBT001, FBT002 - callers may be positional
    **kwargs: object,
) -> Callable[[Function], Function]:
    """Return a decorator that describes a display function of the admin.

    It sets the arguments and each of ``kwargs`` as attributes of the function.
    Django no longer looks at ``allow_tags``: HTML is what the function builds
    with :func:`~django.utils.html.format_html`, and all else is escaped.
    """
    return _with_attributes(
        short_description=short_description,
        admin_order_field=admin_order_field,
        allow_tags=allow_tags,
        **kwargs,
    )


def _with_attributes(**attributes: object) -> Callable[[Function], Function]:
    """Return a decorator that sets ``attributes`` on a function."""

    def decorate(function: Function) -> Function:
        vars(function).update(attributes)
        return function

    return decorate


def fixedwidth(
    field: str,
    name: str | Promise | None = None,
    pt: int = 6,
    width: int = 16,
    maxlen: int = 64,
    pretty: bool = False,  # noqa: FBT001, FBT002 - callers may be positional
) -> Callable[[object], SafeString]:
    """Return a display function for ``list_display``: ``field`` in a fixed-width font.

    The column is headed ``name`` (the field unless given) and sorts by ``field``.
    ``pt`` is the text size: it selects the CSS class ``celery-monitor-pt-<pt>``.
    A line may break after every ``width`` characters. A text of more than
    ``maxlen`` characters is cut to that many, the last of them an ellipsis, and
    stands in full in the title. With ``pretty`` the text of a Python dict, list,
    tuple or set, if not very long, is laid out over several lines. ``None`` and
    the empty string give an empty string, for which the list shows its
    ``empty_value_display``.

    Raises :exc:`ValueError` if ``width`` or ``maxlen`` is less than 1.
    """
    if width < 1 or maxlen < 1:
        raise ValueError("width and maxlen must be at least 1")

    @display_field(name or field, field)
    def display(obj: object) -> SafeString:
        value = getattr(obj, field)
        if value is None or value == "":
            return SafeString("")
        text = str(value)
        laid_out = prettify(text, width) if pretty else text
        is_cut = len(laid_out) > maxlen
        shown = f"{laid_out[: maxlen - 1]}…" if is_cut else laid_out
        lines = re.findall(rf"[^\n]{{1,{width}}}\n?|\n", shown)
        return format_html(
            '<code class="celery-monitor-fixedwidth celery-monitor-pt-{}"{}>{}</code>',
            pt,
            # escape() trusts no value that calls itself safe.
            format_html(' title="{}"', escape(text)) if is_cut else "",
            format_html_join(SafeString("<wbr>"), "{}", ((line,) for line in lines)),
        )

    # The admin makes the CSS class of the column from it.
    display.__name__ = field
    return display


def prettify(text: str, width: int) -> str:
    """Return the text of a container over lines of ``width``, any other unchanged."""
    if len(text) > PRETTY_MAXLEN:
        return text
    try:
        value = ast.literal_eval(text)
        if not isinstance(value, (dict, list, tuple, set)):
            return text
        pretty = pprint.pformat(
            value, width=width, depth=PRETTY_MAXDEPTH, compact=True, sort_dicts=False
        )
        # Not so where the depth or Celery put "...", nor for numbers beyond a float.
        same = ast.literal_eval(pretty) == value
    except (MemoryError, RecursionError, SyntaxError, TypeError, ValueError):
        return text
    return pretty if same else text
