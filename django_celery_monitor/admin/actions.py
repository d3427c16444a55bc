"""Actions that tell the workers something, once the user has confirmed it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from django import forms
from django.contrib import messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.admin.utils import model_ngettext
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils.translation import gettext as _

from . import broker
from .base import ModelMonitor

if TYPE_CHECKING:
    from celery.app.control import Control
    from django.utils.functional import Promise
    from kombu import Connection

#: How many rows a confirmation page lists.
MAX_LISTED = 100


@dataclass(frozen=True)
class Command:
    """What an action tells the workers, and how it speaks about it to the user."""

    #: Sends it, for these rows, over this connection to the broker.
    send: Callable[[Control, Sequence[Any], Connection], object]
    title: Promise
    #: What it does and, where one might wish to know, what it does not.
    explanation: Promise
    #: For the user, with the ``count`` of what was hit.
    done: Promise
    #: For the history of each row.
    log: str | Promise


def confirmed(request: HttpRequest) -> bool:
    """Return whether the user has seen the confirmation page and agreed."""
    return "confirmed" in request.POST


def run(
    monitor: ModelMonitor,
    request: HttpRequest,
    queryset: QuerySet[Any],
    command: Command,
) -> HttpResponse | None:
    """Ask whether ``command`` is to be sent for these rows and, once told so, do it."""
    if not confirmed(request):
        return confirm(monitor, request, queryset, command)
    send(monitor, request, list(queryset), command)
    return None


def send(
    monitor: ModelMonitor,
    request: HttpRequest,
    rows: list[Any],
    command: Command,
    count: int | None = None,
) -> None:
    """Send ``command`` for ``rows``; leave a message and an entry in each history.

    ``count`` is how many things were hit where that is not the number of rows.
    """
    # No destination at all is every worker: never send a command for no rows.
    if not rows:
        nothing_selected(monitor, request)
        return
    try:
        with broker.connect() as (control, connection):
            command.send(control, rows, connection)
    except broker.BrokerError as exc:
        text = _("The workers were not told, the message broker failed: %(error)s")
        monitor.message_user(request, text % {"error": exc}, messages.ERROR)
        return
    LogEntry.objects.log_actions(
        cast("int", request.user.pk), rows, CHANGE, str(command.log)
    )
    text = command.done % {"count": len(rows) if count is None else count}
    monitor.message_user(request, text, messages.SUCCESS)


def nothing_selected(monitor: ModelMonitor, request: HttpRequest) -> None:
    """Say that there is nothing to do."""
    text = _("Nothing was done: none of the selected rows is left.")
    monitor.message_user(request, text, messages.WARNING)


def confirm(
    monitor: ModelMonitor,
    request: HttpRequest,
    queryset: QuerySet[Any],
    command: Command,
    *,
    template: str | None = None,
    **context: Any,
) -> HttpResponse | None:
    """Return the page that lists what ``command`` would hit and asks for consent.

    Its form comes back to the action that the user chose, with the same rows
    selected, or with "all that match" if that was chosen.
    """
    count = queryset.count()
    if not count:
        nothing_selected(monitor, request)
        return None
    rows = list(queryset[:MAX_LISTED])
    across = forms.BooleanField().to_python(request.POST.get("select_across"))
    # The admin asks for one selected row at least, though it does not look at it.
    selected = [rows[0].pk] if across else queryset.values_list("pk", flat=True)
    return TemplateResponse(
        request,
        template or monitor.confirmation_template,
        {
            **monitor.admin_site.each_context(request),
            "title": command.title,
            "subtitle": None,
            "opts": monitor.opts,
            "media": monitor.media,
            "explanation": command.explanation,
            "count": count,
            "objects_name": model_ngettext(monitor.opts, count),
            "listed": [(row.pk, *monitor.describe(row)) for row in rows],
            "more": count - len(rows),
            "select_across": across,
            "action_checkbox_name": ACTION_CHECKBOX_NAME,
            "selected": selected,
            "action": chosen_action(request),
            "cancel_url": request.get_full_path(),
            **context,
        },
    )


def chosen_action(request: HttpRequest) -> str:
    """Return the name of the action that is running.

    There is a list of actions above the rows and may be one below; this finds the
    right one the way the admin does.
    """
    chosen = request.POST.getlist("action")
    try:
        return chosen[int(request.POST.get("index", 0))]
    except ValueError:
        return chosen[0]
    except IndexError:
        return chosen[-1]
