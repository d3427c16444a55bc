"""What can be done to workers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils.functional import Promise
from django.utils.translation import gettext, ngettext
from django.utils.translation import gettext_lazy as _

from django_celery_monitor.models import WorkerState

from . import actions, newest, worker_commands
from .base import ModelMonitor
from .forms import PoolForm, QueueForm
from .inspection import InspectWorkers
from .replies import Conversation, listed

#: Tasks that a worker may have that is forgotten: each of them is written.
MOST_TASKS = 10_000

#: Workers whose tasks one query counts, each in a column of its own: PostgreSQL has
#: 1,664 columns at most, SQLite 2,000.
AT_A_TIME = 100


def with_many_tasks(nodes: Sequence[WorkerState]) -> list[str]:
    """Return the names of the workers that it would take long to forget."""
    found = []
    for first in range(0, len(nodes), AT_A_TIME):
        some = nodes[first : first + AT_A_TIME]
        tasks = [node.taskstate_set.all() for node in some]
        numbers = newest.counts(tasks, MOST_TASKS + 1)
        found += [
            node.hostname
            for node, number in zip(some, numbers, strict=True)
            if number > MOST_TASKS
        ]
    return found


class WorkerActions(InspectWorkers, ModelMonitor):
    """The actions on workers."""

    control_permission = "celery_monitor.control_workers"

    actions: Any = (
        "ping_nodes",
        "shutdown_nodes",
        "enable_events",
        "disable_events",
        "grow_pools",
        "shrink_pools",
        "restart_pools",
        "add_consumer",
        "cancel_consumer",
        "forget_nodes",
    )
    page_actions: ClassVar[Mapping[str, str | Promise]] = {
        "ping_nodes": _("Ping"),
        "shutdown_nodes": _("Shut down"),
        "enable_events": _("Enable events"),
        "disable_events": _("Disable events"),
        "grow_pools": _("Grow the pool"),
        "shrink_pools": _("Shrink the pool"),
        "restart_pools": _("Restart the pool"),
        "add_consumer": _("Add a consumer"),
        "cancel_consumer": _("Cancel a consumer"),
    }

    def destination(self, rows: Sequence[WorkerState]) -> list[str]:
        """Return the names by which the workers are addressed."""
        return [node.hostname for node in rows]

    def outcome(self, row: WorkerState, conversation: Conversation) -> str:
        """Return what the worker answered, for its history."""
        if not conversation.asked:
            return ""
        reply = conversation.replies.get(row.hostname)
        if reply is None:
            return conversation.no_answer() or gettext("It did not answer.")
        return gettext("It answered: %(answer)s") % {"answer": reply.text}

    @admin.action(permissions=["control"], description=_("Ping selected workers"))
    def ping_nodes(
        self, request: HttpRequest, queryset: QuerySet[WorkerState]
    ) -> HttpResponse | None:
        """Ask workers for a sign of life."""
        return actions.run(self, request, queryset, worker_commands.PING)

    @admin.action(permissions=["control"], description=_("Shut down selected workers"))
    def shutdown_nodes(
        self, request: HttpRequest, queryset: QuerySet[WorkerState]
    ) -> HttpResponse | None:
        """Tell workers to finish what they are doing and exit."""
        return actions.run(self, request, queryset, worker_commands.SHUTDOWN)

    @admin.action(
        permissions=["control"], description=_("Enable events of selected workers")
    )
    def enable_events(
        self, request: HttpRequest, queryset: QuerySet[WorkerState]
    ) -> HttpResponse | None:
        """Tell workers to send events about tasks."""
        return actions.run(self, request, queryset, worker_commands.ENABLE_EVENTS)

    @admin.action(
        permissions=["control"], description=_("Disable events of selected workers")
    )
    def disable_events(
        self, request: HttpRequest, queryset: QuerySet[WorkerState]
    ) -> HttpResponse | None:
        """Tell workers to send no more events about tasks."""
        return actions.run(self, request, queryset, worker_commands.DISABLE_EVENTS)

    @admin.action(
        permissions=["control"], description=_("Grow the pools of selected workers")
    )
    def grow_pools(
        self, request: HttpRequest, queryset: QuerySet[WorkerState]
    ) -> HttpResponse | None:
        """Tell workers to run more tasks at a time."""
        return self._run_with(PoolForm, worker_commands.pool_grow, request, queryset)

    @admin.action(
        permissions=["control"], description=_("Shrink the pools of selected workers")
    )
    def shrink_pools(
        self, request: HttpRequest, queryset: QuerySet[WorkerState]
    ) -> HttpResponse | None:
        """Tell workers to run fewer tasks at a time."""
        return self._run_with(PoolForm, worker_commands.pool_shrink, request, queryset)

    @admin.action(
        permissions=["control"], description=_("Restart the pools of selected workers")
    )
    def restart_pools(
        self, request: HttpRequest, queryset: QuerySet[WorkerState]
    ) -> HttpResponse | None:
        """Tell workers to replace the processes of their pools."""
        return actions.run(self, request, queryset, worker_commands.POOL_RESTART)

    @admin.action(
        permissions=["control"], description=_("Add a consumer to selected workers")
    )
    def add_consumer(
        self, request: HttpRequest, queryset: QuerySet[WorkerState]
    ) -> HttpResponse | None:
        """Tell workers to take tasks from another queue."""
        return self._run_with(
            QueueForm, worker_commands.add_consumer, request, queryset
        )

    @admin.action(
        permissions=["control"], description=_("Cancel a consumer of selected workers")
    )
    def cancel_consumer(
        self, request: HttpRequest, queryset: QuerySet[WorkerState]
    ) -> HttpResponse | None:
        """Tell workers to take no more tasks from a queue."""
        return self._run_with(
            QueueForm, worker_commands.cancel_consumer, request, queryset
        )

    @admin.action(
        permissions=["delete"],
        description=_("Forget selected workers that are offline"),
    )
    def forget_nodes(
        self, request: HttpRequest, queryset: QuerySet[WorkerState]
    ) -> HttpResponse | None:
        """Delete the rows of workers that are offline; their tasks stay."""
        if not self.has_delete_permission(request):
            raise PermissionDenied
        nodes = list(queryset)
        if living := [node.hostname for node in nodes if node.is_alive()]:
            title = gettext("These workers are online and cannot be forgotten:")
            self.message_user(request, listed(title, living), messages.WARNING)
        offline = [node for node in nodes if not node.is_alive()]
        if busy := with_many_tasks(offline):
            title = gettext("These workers have too many tasks to be forgotten:")
            self.message_user(request, listed(title, busy), messages.WARNING)
        gone = [node for node in offline if node.hostname not in busy]
        if nodes and not gone:
            return None
        chosen = queryset.filter(pk__in=[node.pk for node in gone])
        if not (gone and actions.confirmed(request)):
            return actions.confirm(self, request, chosen, worker_commands.FORGET)
        self.log_deletions(request, chosen)
        chosen.delete()
        text = ngettext(
            "%(count)d worker was forgotten.",
            "%(count)d workers were forgotten.",
            len(gone),
        )
        self.message_user(request, text % {"count": len(gone)}, messages.SUCCESS)
        return None

    def get_deleted_objects(self, objs: Any, request: HttpRequest) -> Any:
        """Return what would be deleted; a worker with too many tasks is protected."""
        *found, protected = super().get_deleted_objects(objs, request)
        busy = with_many_tasks(list(objs))
        text = gettext("%(worker)s, which has too many tasks to be forgotten")
        return *found, [*protected, *(text % {"worker": name} for name in busy)]

    def _run_with(
        self,
        form: type[forms.Form],
        command: Callable[[Mapping[str, Any]], actions.Command],
        request: HttpRequest,
        queryset: QuerySet[WorkerState],
    ) -> HttpResponse | None:
        """Ask for what ``command`` needs to know, and tell the workers."""
        entered = request.POST if actions.confirmed(request) else None
        return actions.run_with_form(self, request, queryset, form(entered), command)
