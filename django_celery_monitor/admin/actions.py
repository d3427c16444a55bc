"""Actions that tell the workers something, once the user has confirmed it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from django import forms
from django.contrib import messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.admin.templatetags.admin_urls import admin_urlname
from django.contrib.admin.utils import model_ngettext, quote
from django.contrib.contenttypes.models import ContentType
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _

from django_celery_monitor.models import WorkerState

from . import broker
from .base import ModelMonitor
from .replies import Conversation, listed

if TYPE_CHECKING:
    from django.utils.functional import Promise

#: How many rows a confirmation page lists.
MAX_LISTED = 100

#: The field of a form that says that the action was chosen on the page of its row.
FROM_PAGE = "from_page"


@dataclass(frozen=True)
class Question:
    """What a user is asked before an action does anything."""

    title: Promise
    #: What it does and, where one might wish to know, what it does not.
    explanation: Promise


@dataclass(frozen=True)
class Command(Question):
    """What an action tells the workers, and how it speaks about it to the user."""

    #: Sends it for these rows.
    send: Callable[[Conversation, Sequence[Any]], object]
    #: For the user, with the ``count`` of what was hit.
    done: Promise
    #: For the history of each row.
    log: str | Promise


def confirmed(request: HttpRequest) -> bool:
    """Return whether the user has seen the confirmation page and agreed."""
    return "confirmed" in request.POST


def check_control(monitor: ModelMonitor, request: HttpRequest) -> None:
    """Raise PermissionDenied unless the user may tell the workers something."""
    if not monitor.has_control_permission(request):
        raise PermissionDenied


def run(
    monitor: ModelMonitor,
    request: HttpRequest,
    queryset: QuerySet[Any],
    command: Command,
) -> HttpResponse | None:
    """Ask whether ``command`` is to be sent for these rows and, once told so, do it.

    Raises PermissionDenied: a project's own action may call one that asks for nothing.
    """
    check_control(monitor, request)
    if not confirmed(request):
        return confirm(monitor, request, queryset, command)
    return send(monitor, request, list(queryset), command)


def run_with_form(
    monitor: ModelMonitor,
    request: HttpRequest,
    queryset: QuerySet[Any],
    form: forms.Form,
    command: Callable[[Mapping[str, Any]], Command],
    *,
    template: str = "django_celery_monitor/confirm_form.html",
    count: int | None = None,
    **context: Any,
) -> HttpResponse | None:
    """Ask for what ``command`` needs to know, together with consent; then do it.

    ``command`` makes the command from what was entered, or from nothing to name it
    on the page; ``count`` is how many things are hit where those are not the rows.
    Raises PermissionDenied.
    """
    check_control(monitor, request)
    if form.is_valid():
        made = command(form.cleaned_data)
        return send(monitor, request, list(queryset), made, count)
    return confirm(
        monitor,
        request,
        queryset,
        command({}),
        template=template,
        form=form,
        **context,
    )


def send(
    monitor: ModelMonitor,
    request: HttpRequest,
    rows: list[Any],
    command: Command,
    count: int | None = None,
) -> HttpResponse | None:
    """Tell the workers; return a redirect to the page that the action comes from."""
    if not tell(monitor, request, rows, command, count):
        return None
    return back_to_page(monitor, request, rows)


def tell(
    monitor: ModelMonitor,
    request: HttpRequest,
    rows: Sequence[Any],
    command: Command,
    count: int | None = None,
) -> bool:
    """Send ``command`` for ``rows``; leave messages and an entry in each history.

    ``count`` is how many things were hit where that is not the number of rows.
    Returns whether it was sent.
    """
    # No destination at all is every worker: never send a command for no rows.
    if not rows:
        nothing_selected(monitor, request)
        return False
    told = monitor.destination(rows)
    awaited = told
    if awaited is None:
        awaited = [node.hostname for node in WorkerState.objects.alive()]
    try:
        with broker.connect() as (control, connection):
            conversation = Conversation(control, connection, told, awaited)
            command.send(conversation, rows)
    except broker.BrokerError as exc:
        text = _("The workers were not told, the message broker failed: %(error)s")
        monitor.message_user(request, text % {"error": exc}, messages.ERROR)
        return False
    history = {
        row: f"{command.log} {monitor.outcome(row, conversation)}".strip()
        for row in rows
    }
    log(request, history)
    done = command.done % {"count": len(rows) if count is None else count}
    for level, message in outcome(conversation, str(done)):
        monitor.message_user(request, message, level)
    return True


def outcome(conversation: Conversation, done: str) -> Iterator[tuple[int, str]]:
    """Yield what the user is told of it, each with its level."""
    if not conversation.asked:
        yield messages.SUCCESS, done
        return
    replies = conversation.replies.values()
    silent = conversation.silent()
    if why := conversation.no_answer():
        yield messages.WARNING, f"{done} {why}" if not replies else why
        # Who is silent cannot be told.
        silent = []
    elif not replies:
        text = _("%(done)s No worker has answered.") % {"done": done}
        yield messages.WARNING, listed(text, silent)
        return
    if agreed := [f"{r.hostname}: {r.text}" for r in replies if r.ok]:
        yield messages.SUCCESS, listed(done, agreed)
    if refused := [f"{r.hostname}: {r.text}" for r in replies if not r.ok]:
        yield messages.ERROR, listed(_("These workers refused:"), refused)
    if silent:
        yield messages.WARNING, listed(_("These workers did not answer:"), silent)


def log(request: HttpRequest, history: Mapping[Any, str]) -> None:
    """Leave an entry in the history of each row, in one query."""
    content_type = ContentType.objects.get_for_model(
        next(iter(history)), for_concrete_model=False
    )
    LogEntry.objects.bulk_create(
        LogEntry(
            user_id=cast("int", request.user.pk),
            content_type=content_type,
            object_id=row.pk,
            object_repr=str(row)[:200],
            action_flag=CHANGE,
            change_message=message,
        )
        for row, message in history.items()
    )


def back_to_page(
    monitor: ModelMonitor, request: HttpRequest, rows: Sequence[Any]
) -> HttpResponse | None:
    """Return a redirect to the page of the row that the action was chosen on."""
    if FROM_PAGE not in request.POST:
        return None
    return HttpResponseRedirect(page_url(monitor, rows[0]))


def page_url(monitor: ModelMonitor, row: Any) -> str:
    """Return the address of the page of ``row``."""
    return reverse(
        admin_urlname(monitor.opts, SafeString("change")),
        args=(quote(row.pk),),
        current_app=monitor.admin_site.name,
    )


def nothing_selected(monitor: ModelMonitor, request: HttpRequest) -> None:
    """Say that there is nothing to do."""
    text = _("Nothing was done: none of the selected rows is left.")
    monitor.message_user(request, text, messages.WARNING)


def confirm(
    monitor: ModelMonitor,
    request: HttpRequest,
    queryset: QuerySet[Any],
    question: Question,
    *,
    template: str | None = None,
    **context: Any,
) -> HttpResponse | None:
    """Return the page that lists what an action would hit and asks for consent.

    Its form comes back to the action that the user chose, with the same rows
    selected, or with "all that match" if that was chosen.
    """
    count = queryset.count()
    if not count:
        nothing_selected(monitor, request)
        return None
    rows = list(queryset[:MAX_LISTED])
    from_page = FROM_PAGE in request.POST
    across = forms.BooleanField().to_python(request.POST.get("select_across"))
    # The admin asks for one selected row at least, though it does not look at it.
    selected = [rows[0].pk] if across else queryset.values_list("pk", flat=True)
    return TemplateResponse(
        request,
        template or monitor.confirmation_template,
        {
            **monitor.admin_site.each_context(request),
            "title": question.title,
            "subtitle": None,
            "opts": monitor.opts,
            "media": monitor.media,
            "explanation": question.explanation,
            "count": count,
            "objects_name": model_ngettext(monitor.opts, count),
            "listed": [(row.pk, *monitor.describe(row)) for row in rows],
            "more": count - len(rows),
            "select_across": across,
            "action_checkbox_name": ACTION_CHECKBOX_NAME,
            "selected": selected,
            "action": chosen_action(request),
            "from_page": from_page,
            "cancel_url": (
                page_url(monitor, rows[0]) if from_page else request.get_full_path()
            ),
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
