"""The page of an object's tasks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from functools import partial
from typing import Any, cast
from urllib.parse import urlencode

from django.contrib.admin import ModelAdmin
from django.forms import Media, Script
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils.translation import gettext_lazy as _
from django.views.decorators.http import require_safe

from django_celery_monitor import conf
from django_celery_monitor.admin import live
from django_celery_monitor.admin.left_out import without_id
from django_celery_monitor.merge import Phase, phase
from django_celery_monitor.models import TaskState
from django_celery_monitor.tracking import launch
from django_celery_monitor.tracking.registry import Registration

from . import rows
from .access import Tracked, find
from .history import History

#: Seconds between two refreshes of the page, or more if the setting says so.
INTERVAL = 5

#: The style sheet and the scripts.
MEDIA = Media(
    css={"all": ("django_celery_monitor/style.css",)},
    js=cast(
        "Any",
        (
            Script("django_celery_monitor/live.js", type="module"),
            Script("django_celery_monitor/copy.js", defer=True),
        ),
    ),
)

TEMPLATE = "django_celery_monitor/tracking/page.html"


def is_unfinished(task: TaskState) -> bool:
    """Return whether there may be something left of the task to revoke."""
    # The rest of the row does not matter, and is not read.
    told = {"state": task.state, "finished_at": task.finished_at}
    return phase(told) not in {Phase.NOT_RUN, Phase.FINISHED}


def view(
    model_admin: ModelAdmin[Any], request: HttpRequest, object_id: str
) -> HttpResponse:
    """Show the tasks of an object."""
    shown: HttpResponse = require_safe(_view)(request, model_admin, object_id)
    return shown


def _view(
    request: HttpRequest, model_admin: ModelAdmin[Any], object_id: str
) -> HttpResponse:
    tracked = find(model_admin, request, object_id)
    history = History(tracked, request.GET)
    interval = conf.get("monitor_refresh_interval")
    return live.answer(
        request,
        interval and max(interval, INTERVAL),
        history.facts,
        partial(render, tracked, history),
    )


def render(tracked: Tracked, history: History) -> TemplateResponse:
    """Return the page."""
    page = history.page
    monitor = tracked.monitor if tracked.may_open_tasks else None
    tasks = [
        {
            **rows.row(link, monitor, lambda name: history.query(sender=name)),
            "revoke": revoke_url(tracked, link.task),
        }
        for link in history.links()
    ]
    return TemplateResponse(
        tracked.request,
        TEMPLATE,
        {
            **context(tracked, _("Task Tracker")),
            "tasks": tasks,
            "ambiguous": ambiguous(tracked.registrations),
            "count": history.count,
            "is_cut": history.is_cut,
            "is_filtered": bool(history.chosen),
            "choices": list(history.choices()),
            "page": page,
            "pages": [
                (number, history.query(page=number) if number != page.number else "")
                if isinstance(number, int)
                else (number, "")
                for number in page.paginator.get_elided_page_range(page.number)
            ],
            "launches": launches(tracked),
        },
    )


def context(tracked: Tracked, title: Any) -> dict[str, Any]:
    """Return what the templates of all pages of the tracker need."""
    return {
        **tracked.model_admin.admin_site.each_context(tracked.request),
        "title": title,
        "subtitle": str(tracked.obj),
        "opts": tracked.model_admin.opts,
        "media": MEDIA,
        "original": tracked.obj,
        "tracker_url": tracked.url(),
        "has_view_permission": True,
    }


def launches(tracked: Tracked) -> list[tuple[str, str]]:
    """Return the names of the tasks that can be launched, each with its form."""
    if not tracked.may_launch:
        return []
    url = tracked.url("task_tracker_launch")
    offered = list(launch.offered(tracked.model_admin.model))
    with_role = ambiguous(offered)
    return [
        (
            f"{r.task_name} ({r.role})" if r.task_name in with_role else r.task_name,
            f"{url}?{urlencode({'task': r.task_name, 'role': r.role})}",
        )
        for r in offered
    ]


def ambiguous(registrations: Iterable[Registration]) -> set[str]:
    """Return the names of the tasks that are registered in more than one role."""
    names = Counter(registration.task_name for registration in registrations)
    return {name for name, number in names.items() if number > 1}


def revoke_url(tracked: Tracked, task: TaskState) -> str:
    """Return where a task is revoked, nothing if there is nothing to revoke."""
    if not (tracked.may_revoke and is_unfinished(task)) or without_id(task):
        return ""
    query = urlencode({"task": task.task_id})
    return f"{tracked.url('task_tracker_revoke')}?{query}"
