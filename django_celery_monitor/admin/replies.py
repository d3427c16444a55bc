"""What workers answer to a command, for which nobody waits long."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.text import Truncator
from django.utils.translation import gettext, ngettext
from kombu.exceptions import ContentDisallowed, DecodeError

from django_celery_monitor.sanitize import Sanitizer

if TYPE_CHECKING:
    from celery.app.control import Control
    from kombu import Connection

#: Seconds that an answer may take, and by default all answers to an action.
TIMEOUT = 2

#: Messages that are looked at for an answer: whoever floods is not waited for.
MOST_MESSAGES = 10_000

#: Answers that a message shows, and characters of each.
MOST_SHOWN = 20
LONGEST = 200


class _EnoughError(Exception):
    """There is nothing left to wait for, or no time left."""


@dataclass(frozen=True)
class Reply:
    """What a worker said to a command: that it did it, or why it did not."""

    hostname: str
    text: str
    ok: bool

    @classmethod
    def read(cls, hostname: str, answer: object) -> Reply:
        """Return what the ``answer`` of a worker, which may be anything, says."""
        ok, said = True, answer
        if isinstance(answer, dict):
            ok = "error" not in answer
            said = answer.get("ok" if ok else "error", answer)
        fit = Sanitizer.from_settings().text
        name, text = (
            Truncator(fit(str(value)[: LONGEST * 2])).chars(LONGEST)
            for value in (hostname, said)
        )
        return cls(name, text, ok)


class Conversation:
    """Commands to workers, and what these answer.

    ``destination`` names the workers that are told, all of them if it is None, and
    ``awaited`` those that should answer: by default, the ones that are told.
    ``patience`` is how many seconds all the answers may take.
    """

    def __init__(
        self,
        control: Control,
        connection: Connection,
        destination: Sequence[str] | None = None,
        awaited: Iterable[str] = (),
        *,
        patience: float | None = None,
    ) -> None:
        self.control = control
        self.connection = connection
        self.destination = destination
        self.awaited = frozenset(awaited or destination or ())
        #: Whether an answer was asked for at all.
        self.asked = False
        #: Why an answer cannot be read, nor those after it; "" where all can be.
        self.unreadable = ""
        #: What each worker said to the last command that it answered.
        self.replies: dict[str, Reply] = {}
        self._deadline = time.monotonic() + (patience or TIMEOUT)

    def tell(self, command: str, **arguments: Any) -> None:
        """Send a command that workers do not answer."""
        self.control.broadcast(
            command, arguments, self.destination, connection=self.connection
        )

    def ask(self, command: str, **arguments: Any) -> dict[str, Any]:
        """Send a command; return the answer of each worker that is in time.

        Commands that come when the time is up are sent all the same. An answer that is
        not written as the project's settings allow ends the answers.
        """
        self.asked = True
        answers: dict[str, Any] = {}
        remaining = self._deadline - time.monotonic()
        if remaining <= 0:
            self.tell(command, **arguments)
            return answers

        def take(body: object) -> None:
            if isinstance(body, dict):
                answers.update(body)
            if self.awaited and answers.keys() >= self.awaited:
                raise _EnoughError
            if time.monotonic() > self._deadline:
                raise _EnoughError

        try:
            self.control.broadcast(
                command,
                arguments,
                self.destination,
                connection=self.connection,
                reply=True,
                timeout=min(remaining, TIMEOUT),
                # A limit as low as the number of workers would count late answers
                # to somebody else's command, too.
                limit=MOST_MESSAGES,
                callback=take,
            )
        except _EnoughError:
            pass
        except (ContentDisallowed, DecodeError) as error:
            # The workers have been told all the same.
            self.unreadable = Sanitizer.from_settings().text(str(error)[:LONGEST])
        self.replies.update(
            (name, Reply.read(name, answers[name])) for name in sorted(answers, key=str)
        )
        return answers

    def silent(self) -> list[str]:
        """Return the names of those that should have answered and did not."""
        return sorted(self.awaited - self.replies.keys())

    def no_answer(self) -> str:
        """Return why nobody can tell what a worker answered; "" where it is silent."""
        if not self.unreadable:
            return ""
        text = gettext("An answer cannot be read: %(error)s")
        return text % {"error": self.unreadable}


def listed(title: str, items: Iterable[str]) -> SafeString:
    """Return a message: ``title``, and some of the ``items`` below it."""
    items = list(items)
    more = len(items) - MOST_SHOWN
    shown = items[:MOST_SHOWN]
    if more > 0:
        shown.append(ngettext("and %(count)d more", "and %(count)d more", more))
        shown[-1] %= {"count": more}
    if not shown:
        return format_html("{}", title)
    return format_html(
        '{}<ul class="celery-monitor-replies">{}</ul>',
        title,
        format_html_join("", "<li>{}</li>", ((item,) for item in shown)),
    )
