"""What the page of one task shows beside its columns, and the page of its tree."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from django.apps import apps
from django.contrib.admin import ModelAdmin
from django.contrib.admin.models import LogEntry
from django.contrib.admin.options import get_content_type_for_model
from django.contrib.admin.utils import quote, unquote
from django.core.exceptions import PermissionDenied
from django.db import models
from django.db.models import Max
from django.http import Http404, HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.functional import Promise
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from django_celery_monitor.models import TaskState

from . import display, phases, tree

if TYPE_CHECKING:
    from .base import ModelMonitor

#: Entries of the history that the page shows, and entries of the admin's whole log,
#: the newest ones, that are looked through for them: no index has them by object.
HISTORY, LOOKED_THROUGH = 10, 20_000

#: Tasks of one root that are looked at for children, and children that are listed.
LOOKED_AT, CHILDREN = 500, 20

#: Levels of the tree that have an indent of their own.
MOST_INDENT = 12


def context(
    monitor: ModelMonitor, request: HttpRequest, task: TaskState
) -> dict[str, Any]:
    """Return what the template of the page of ``task`` shows."""
    spans = phases.phases_of(task)
    relatives = Relatives(monitor, request, task)
    return {
        "state": display.colored_state(task),
        "name": display.name(task),
        "copy_id": display.copy_button(gettext("Copy the id"), text=task.task_id),
        "phases": spans,
        "bar": phases.bar(spans),
        "missing": phases.missing(task),
        "like": list(like(monitor, task)),
        "parent": relatives.parent(),
        "root": relatives.of(task.root_id),
        "children": relatives.children(),
        "is_root": task.root_id == task.task_id,
        "tree_url": url(monitor, "tree", task),
        "log": history(task),
        "tracked": tracked(monitor, request, task),
    }


def tracked(
    monitor: ModelMonitor, request: HttpRequest, task: TaskState
) -> dict[str, Any] | None:
    """Return what the tracker knows of ``task``, if it is installed."""
    if not apps.is_installed("django_celery_monitor.tracking"):
        return None
    from django_celery_monitor.tracking.admin import objects

    return objects.context(monitor.admin_site, request, task)


def url(
    monitor: ModelAdmin[TaskState], page: str, task: TaskState | None = None
) -> str:
    """Return the address of a page of ``task``, or of the list."""
    opts = monitor.opts
    return reverse(
        f"admin:{opts.app_label}_{opts.model_name}_{page}",
        args=[] if task is None else [quote(task.pk)],
        current_app=monitor.admin_site.name,
    )


def like(monitor: ModelMonitor, task: TaskState) -> list[tuple[str | Promise, str]]:
    """Return titles and addresses of lists of tasks that are like ``task``."""
    name = {"name": task.name} if task.name else {"name__isnull": "True"}
    lists: list[tuple[str | Promise, dict[str, Any]]] = [
        (_("Tasks of this name"), name),
        (_("Tasks of this name and state"), {**name, "state__exact": task.state}),
    ]
    if task.exception:
        lists.append((_("Tasks with this exception"), {"exception": task.exception}))
    if task.worker_id is not None:
        lists.append((_("Tasks on this worker"), {"worker__id__exact": task.worker_id}))
    return [
        (title, f"{url(monitor, 'changelist')}?{urlencode(lookups)}")
        for title, lookups in lists
    ]


class Relatives:
    """The root and the parent of a task, if there are rows, and its children."""

    def __init__(
        self, monitor: ModelMonitor, request: HttpRequest, task: TaskState
    ) -> None:
        ids = {task.root_id, task.parent_id} - {None, "", task.task_id}
        self._monitor = monitor
        self._task = task
        tasks = monitor.get_queryset(request)
        self._tasks = tasks.only("task_id", "name", "state", "parent_id", "hidden")
        self._rows = {row.task_id: row for row in self._tasks.filter(task_id__in=ids)}

    def of(self, task_id: str | None) -> dict[str, Any] | None:
        """Return what a template shows of the task with this id."""
        return self._shown(task_id, self._rows.get(task_id)) if task_id else None

    def parent(self) -> dict[str, Any] | None:
        """Return what it shows of the task that sent this one."""
        # Anybody may send a task that says to be its own parent.
        is_own = self._task.parent_id == self._task.task_id
        return None if is_own else self.of(self._task.parent_id)

    def children(self) -> list[dict[str, Any]]:
        """Return what it shows of the tasks that this one sent or was run again as.

        No index has the parent: the first tasks of the same root are looked at, by
        root alone, as ``tree.around`` says.
        """
        root = self._task.root_id or self._task.task_id
        manager: models.Manager[TaskState] = type(self._task)._default_manager
        alike = manager.using(self._tasks.db).filter(root_id=root).order_by()
        family = alike.values_list("pk", "parent_id")[:LOOKED_AT]
        own = (self._task.pk, self._task.task_id)
        keys = [k for k, parent in family if parent == own[1] and k != own[0]]
        rows = self._tasks.filter(pk__in=keys[:CHILDREN]) if keys else ()
        return [self._shown(row.task_id, row) for row in rows]

    def _shown(self, task_id: str, row: TaskState | None) -> dict[str, Any]:
        return {
            "task_id": task_id,
            "row": row,
            "state": row and display.colored_state(row),
            "name": row and display.name(row),
            "url": row and url(self._monitor, "change", row),
        }


def history(task: TaskState) -> list[LogEntry]:
    """Return what was last done to ``task`` in the admin, the newest first."""
    newest = LogEntry.objects.aggregate(pk=Max("pk"))["pk"]
    if newest is None:
        return []
    entries = LogEntry.objects.filter(
        # Not by a subquery, for which MariaDB reads the whole table.
        pk__gt=newest - LOOKED_THROUGH,
        content_type=get_content_type_for_model(task),
        object_id=str(task.pk),
    )
    return list(entries.prefetch_related("user").order_by("-pk")[:HISTORY])


def tree_view(
    monitor: ModelMonitor, request: HttpRequest, object_id: str
) -> HttpResponse:
    """Show the tree of tasks around one of them."""
    if not monitor.has_view_permission(request):
        raise PermissionDenied
    task: TaskState | None = monitor.get_object(request, unquote(object_id))
    if task is None:
        raise Http404
    if not monitor.has_view_permission(request, task):
        raise PermissionDenied
    nodes, more = tree.around(monitor.get_queryset(request), task)
    return TemplateResponse(
        request,
        "django_celery_monitor/task_tree.html",
        {
            **monitor.admin_site.each_context(request),
            "title": _("Workflow"),
            "subtitle": str(task),
            "opts": monitor.opts,
            "media": monitor.media,
            "original": task,
            "task_url": url(monitor, "change", task),
            "nodes": [
                {
                    "task_id": node.task_id,
                    "level": node.depth + 1,
                    "indent": min(node.depth, MOST_INDENT),
                    "row": node.task,
                    "circular": node.circular,
                    "is_this": node.task_id == task.task_id,
                    "state": node.task and display.colored_state(node.task),
                    "name": node.task and display.name(node.task),
                    "runtime": node.task and display.runtime(node.task),
                    "url": node.task and url(monitor, "change", node.task),
                }
                for node in nodes
            ],
            "more": more,
            "most": tree.MOST,
        },
    )
