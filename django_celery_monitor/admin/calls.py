"""What a task was called with, as far as that can be told."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable
from dataclasses import dataclass
from threading import BoundedSemaphore, Event, Thread
from typing import Any

from django.db import connections
from django.utils.translation import gettext as _

from django_celery_monitor import conf
from django_celery_monitor.models import TaskState
from django_celery_monitor.sanitize import CUT_END, CUT_START, MASK_FAILED, Sanitizer

from .literals import parse

logger = logging.getLogger(__name__)

#: Seconds that the result backend has for all that it is asked at a time. Its driver
#: may wait for longer, in a thread of its own, of which there are not many.
BACKEND_TIMEOUT = 2
_asking = BoundedSemaphore(4)

#: What texts were cut with: by Celery, and by the camera.
CUTS = ("...", CUT_START, CUT_END)

#: What stands for a secret: our own mask, and how others write theirs.
STARS = "***"

_BYTES = re.compile(r"""(?:^|[ (\[{,:])[bB]['"]""")


@dataclass(frozen=True)
class Arguments:
    """The arguments of a call, by position or by keyword."""

    #: Secrets in it are masked.
    text: str = ""
    value: Any = None
    #: Why the arguments are not known in full; "" where they are.
    problem: str = ""


@dataclass(frozen=True)
class Call:
    """All the arguments of a call."""

    args: Arguments
    kwargs: Arguments

    @property
    def problem(self) -> str:
        """Why the call is not known in full; "" where it is."""
        if self.args.problem:
            return _("the arguments are not complete: %(why)s") % {
                "why": self.args.problem
            }
        if self.kwargs.problem:
            return _("the keyword arguments are not complete: %(why)s") % {
                "why": self.kwargs.problem
            }
        return ""


def recall(tasks: Iterable[TaskState]) -> dict[int, Call]:
    """Return the calls of ``tasks`` by their keys.

    The result backend knows the arguments themselves, with ``result_extended``.
    What is stored of them is a text for people.
    """
    tasks = list(tasks)
    stored = _from_backend([task.task_id for task in tasks])
    sanitizer = Sanitizer.from_settings()
    calls = {}
    for task in tasks:
        meta = stored.get(task.task_id, {})
        calls[task.pk] = Call(
            _known(meta.get("args"), task.args, (list, tuple), sanitizer),
            _known(meta.get("kwargs"), task.kwargs, (dict,), sanitizer),
        )
    return calls


def read(text: str, types: tuple[type, ...]) -> Any:
    """Return the arguments that ``text`` is; raise ValueError, saying why it is none.

    ``types`` are those of arguments by position or by keyword.
    """
    value = parse(text)
    if not isinstance(value, types):
        raise ValueError(
            _("they are no dictionary") if dict in types else _("they are no list")
        )
    if isinstance(value, dict) and not all(isinstance(key, str) for key in value):
        raise ValueError(_("the keys have to be strings"))
    return value


def known(shown: Any, value: Any, sanitizer: Sanitizer) -> Arguments:
    """Return the arguments ``value`` with the text of ``shown``, secrets masked."""
    text = sanitizer.text(repr(shown))
    if text != repr(shown) and conf.get("monitor_mask"):
        # Nobody can tell what of it is a mask of the project's own.
        return Arguments(text, problem=_("secrets in them were masked"))
    return Arguments(text, value)


def _known(
    value: Any, text: str | None, types: tuple[type, ...], sanitizer: Sanitizer
) -> Arguments:
    """Return the arguments from the backend's ``value``, else from the stored text."""
    if isinstance(value, types):
        try:
            return known(value, value, sanitizer)
        except Exception:
            logger.debug("An argument cannot be shown", exc_info=True)
    if text is None:
        return Arguments(problem=_("no event has told them"))
    try:
        return Arguments(text, _read_stored(text, types))
    except ValueError as exc:
        return Arguments(text, problem=str(exc))


def _read_stored(text: str, types: tuple[type, ...]) -> Any:
    """Return the arguments that the stored ``text`` is; raise ValueError for none."""
    if any(cut in text for cut in CUTS):
        raise ValueError(_("their text was cut"))
    if STARS in text or text == MASK_FAILED or conf.get("monitor_mask"):
        raise ValueError(_("secrets in them were masked"))
    # Celery's repr escapes quotes and nothing else: what looks like an escape is
    # not one, and of bytes it shows what they would be as text or their digits.
    if "\\" in text.replace("\\'", "") or _BYTES.search(text):
        raise ValueError(_("their text can be read in more than one way"))
    return read(text, types)


def _from_backend(ids: list[str]) -> dict[str, dict[str, Any]]:
    """Return what the result backend knows of the tasks, as much as is told in time."""
    app = conf.get_app()
    found: dict[str, dict[str, Any]] = {}
    if not app.conf.result_backend or not _asking.acquire(blocking=False):
        return found
    late = Event()

    def ask() -> None:
        try:
            for task_id in ids:
                if late.is_set():
                    break
                meta = app.backend.get_task_meta(task_id, cache=False)
                if isinstance(meta, dict):
                    found[task_id] = meta
        except Exception:
            logger.info("The result backend cannot be asked", exc_info=True)
        finally:
            connections.close_all()
            _asking.release()

    thread = Thread(target=ask, daemon=True)
    thread.start()
    thread.join(BACKEND_TIMEOUT)
    late.set()
    return dict(found)
