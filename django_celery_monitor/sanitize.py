"""Values from untrusted events, made fit for the database; secrets masked."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from functools import lru_cache
from hashlib import sha256
from math import isfinite, isnan
from typing import TYPE_CHECKING, Literal

from . import conf
from .masking import MASK, Masker

if TYPE_CHECKING:
    from celery import Celery

#: What ends a text that was cut, or begins one whose end was kept.
CUT_END, CUT_START = "… [cut]", "[cut] …"
#: What stands in place of a text that the project's own mask failed on.
MASK_FAILED = "[not stored: monitor_mask failed]"

#: How many hexadecimal digits of a SHA-256 digest end an overlong identifier.
_DIGEST = 32
#: Characters of a text that is remembered with its mask, and how many texts are.
_SHORT, _SHORT_TEXTS = 250, 4_096
_CUT = re.compile(f"…[0-9a-f]{{{_DIGEST}}}$")
# PostgreSQL refuses NUL; a lone surrogate cannot be encoded for any database; and what
# turns the direction of writing has a text read as another one. Python's repr escapes
# all of them.
_REFUSED, _TURNING = "\0\ud800-\udfff", "\u202a-\u202e\u2066-\u2069"
_UNSTORED = re.compile(f"[{_REFUSED}]")
_UNFIT = re.compile(f"[{_REFUSED}{_TURNING}]")


class Sanitizer:
    """Makes values fit for every database and masks secrets in texts.

    ``secret_keys`` are the words in the names of keys whose values are secrets,
    ``max_text`` is how many characters of a text are kept, and ``mask``, a callable
    (text) -> text, masks in place of the rules that are built in. ``made_fit``
    counts the values that had to be changed, those that were only masked excluded.
    """

    def __init__(
        self,
        secret_keys: Collection[str],
        max_text: int,
        mask: Callable[[str], str] | None = None,
    ) -> None:
        self.made_fit = 0
        self._max_text = max_text
        self._custom_mask = mask
        self._masker = Masker(secret_keys)
        # The same arguments come with task-sent and task-received, "{}" with many.
        self._fit_short = lru_cache(_SHORT_TEXTS)(self._fit)

    @classmethod
    def from_settings(cls, app: Celery | None = None) -> Sanitizer:
        """Return one that the settings of ``app`` describe, the project's by default.

        Raises ImproperlyConfigured, naming the setting, when one cannot be used.
        """
        keys = conf.get("monitor_secret_keys", app)
        extra = conf.get("monitor_extra_secret_keys", app)
        return cls(
            (*keys, *extra),
            conf.get("monitor_max_text_length", app),
            conf.get("monitor_mask", app),
        )

    def identifier(self, value: str, max_length: int = 255) -> str:
        """Return a name or an id made fit, as ``fit_identifier`` does."""
        fit = fit_identifier(value, max_length)
        self.made_fit += fit is not value and fit != value
        return fit

    def text(self, value: str, keep: Literal["start", "end"] = "start") -> str:
        """Return a text made fit, its secrets masked, and no longer than is kept.

        A longer one keeps its start, or its end, and says that it was cut.
        """
        short = self._custom_mask is None and len(value) <= _SHORT
        fit, changed = (self._fit_short if short else self._fit)(value, keep)
        self.made_fit += changed
        return fit

    def _fit(self, value: str, keep: Literal["start", "end"]) -> tuple[str, bool]:
        """Return what ``text`` does, and whether more than a secret has changed."""
        fit = value
        if not (value.isascii() and "\0" not in value):
            fit = _UNFIT.sub(_escape, value)
        changed = fit is not value and fit != value
        if self._custom_mask is not None:
            masked = self._mask_as_told(fit)
            changed |= masked is None
            fit = MASK_FAILED if masked is None else masked
        else:
            fit = self._mask(fit)
        if len(fit) > self._max_text:
            return self._cut(fit, keep), True
        return fit, changed

    def integer(self, value: object, low: int = 0, high: int = 2**31 - 1) -> int | None:
        """Return a whole number between ``low`` and ``high``, the nearest one.

        None stays None; what is not a number is None.
        """
        if type(value) is int and low <= value <= high:
            return value
        if value is None:
            return None
        self.made_fit += 1
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            return None
        if isinstance(value, float) and isnan(value):
            return None
        nearest = int(max(low, min(high, value)))
        self.made_fit -= nearest == value
        return nearest

    def number(self, value: object) -> float | None:
        """Return a finite number; None for what is none."""
        if type(value) is float and isfinite(value):
            return value
        if value is None:
            return None
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            try:
                number = float(value)
            except OverflowError:
                number = float("inf")
            if isfinite(number):
                return number
        self.made_fit += 1
        return None

    def _mask_as_told(self, text: str) -> str | None:
        """Return what the project's own mask makes of ``text``; None: it failed."""
        try:
            masked = self._custom_mask(text)  # type: ignore[misc] # asked before
        except Exception:  # noqa: BLE001 -- whatever it is, nothing is stored unmasked
            return None
        return _UNFIT.sub(_escape, masked) if isinstance(masked, str) else None

    def _mask(self, text: str) -> str:
        """Return ``text`` masked by the rules that are built in."""
        # The sign of a cut is no part of a value that was cut off.
        body = text.removesuffix(CUT_END)
        return self._masker.mask(body) + text[len(body) :]

    def _cut(self, text: str, keep: Literal["start", "end"]) -> str:
        """Return as much of ``text`` as is kept, with the sign of a cut."""
        mask = self._mask if self._custom_mask is None else str
        # Masked once more, as what is left may end or begin within a value; with
        # room for the one mask that this can make whole.
        room = max(0, self._max_text - len(CUT_END))
        size = max(0, room - len(MASK))
        if keep == "end":
            kept = mask(text[len(text) - size :])
            cut = CUT_START + (kept if len(kept) <= room else "")
        else:
            kept = mask(text[:size])
            cut = (kept if len(kept) <= room else "") + CUT_END
        return cut[: self._max_text]


def fit_identifier(value: str, max_length: int = 255) -> str:
    """Return a name or an id, the same for the same value, made fit.

    A value of more than ``max_length`` characters keeps its beginning and ends with
    an ellipsis and a digest of it all.
    """
    return _shortened(value, max_length, _UNFIT)


def fit_key(value: str, max_length: int) -> str:
    """Return the text of a primary key, made fit for the database alone."""
    return _shortened(value, max_length, _UNSTORED)


def _shortened(value: str, max_length: int, unfit: re.Pattern[str]) -> str:
    """Return ``value`` without what ``unfit`` matches, and no longer than may be."""
    if len(value) <= max_length and value.isascii() and "\0" not in value:
        return value
    fit = unfit.sub(_escape, value)
    if len(fit) > max_length:
        digest = sha256(value.encode("utf-8", "surrogatepass")).hexdigest()
        tail = f"…{digest[:_DIGEST]}"[-max_length:]
        fit = fit[: max_length - len(tail)] + tail
    return fit


def was_cut(value: str, max_length: int = 255) -> bool:
    """Return whether a name or an id is what ``fit_identifier`` makes of a longer one.

    Nobody else knows it by that.
    """
    return len(value) == max_length and _CUT.search(value) is not None


def _escape(found: re.Match[str]) -> str:
    """Return a character that is not stored as Python would write it."""
    code = ord(found[0])
    return f"\\u{code:04x}" if code else "\\x00"
