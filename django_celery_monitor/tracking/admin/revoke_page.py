"""The page that asks whether a task of an object is to be revoked."""

from __future__ import annotations

from typing import Any

from django.contrib.admin import ModelAdmin
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from django_celery_monitor.admin import actions, display, task_commands
from django_celery_monitor.admin.left_out import without_id
from django_celery_monitor.models import TaskState

from .access import Tracked, find
from .page import context

TEMPLATE = "django_celery_monitor/tracking/revoke.html"


#: What the user may choose, by the value of the button.
COMMANDS = {"revoke": task_commands.REVOKE, "terminate": task_commands.TERMINATE}


def view(
    model_admin: ModelAdmin[Any], request: HttpRequest, object_id: str
) -> HttpResponse:
    """Ask whether a task is to be revoked and, once told so, tell the workers."""
    tracked = find(model_admin, request, object_id)
    if not tracked.may_revoke:
        raise PermissionDenied
    task = find_task(tracked, request.GET.get("task", ""))
    command = request.POST.get("command")
    if command in COMMANDS:
        revoke(tracked, task, command)
        return HttpResponseRedirect(tracked.url())
    return TemplateResponse(
        request,
        TEMPLATE,
        {
            **context(tracked, _("Revoke task")),
            "task": task,
            "state": display.colored_state(task),
        },
    )


def find_task(tracked: Tracked, task_id: str) -> TaskState:
    """Return a task of the object; raise Http404 if no worker knows one by this id."""
    link = None
    if "\0" not in task_id:
        link = (
            tracked.links.filter(task__task_id=task_id).select_related("task").first()
        )
    if link is None or without_id(link.task):
        raise Http404
    return link.task


def revoke(tracked: Tracked, task: TaskState, command: str) -> None:
    """Tell the workers a command about a task, and leave entries in both histories."""
    request = tracked.request
    if not actions.tell(tracked.commands, request, [task], COMMANDS[command]):
        return
    said = {"name": display.name(task), "task_id": task.task_id}
    if command == "revoke":
        text = gettext("Told the workers to revoke %(name)s %(task_id)s.")
    else:
        text = gettext("Told the workers to terminate %(name)s %(task_id)s (SIGTERM).")
    tracked.model_admin.log_change(request, tracked.obj, text % said)
