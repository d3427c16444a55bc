"""The pages of tasks."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.forms import Script
from django.http import HttpRequest, HttpResponse
from django.urls import URLPattern, path
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _
from django.views.decorators.http import require_safe

from django_celery_monitor.merge import Phase, phase
from django_celery_monitor.models import TaskState

from . import display, task_page, texts
from .task_actions import TaskActions
from .task_list import TaskListMonitor

#: Columns that a page shows in its own way.
TIMES = {
    name: display.field(TaskState, name, display.exact_time)
    for name in (
        "tstamp",
        "sent_at",
        "received_at",
        "started_at",
        "finished_at",
        "eta",
        "expires",
    )
}
#: The same for texts, each of which can be long: actions do not read them.
TEXTS = {name: texts.field(name) for name in ("args", "kwargs", "result", "traceback")}
RUNTIME = display.field(TaskState, "runtime", display.seconds)
ATTEMPTS = display.field(TaskState, "attempts", texts.attempts)


@admin.register(TaskState)
class TaskMonitor(TaskActions, TaskListMonitor):
    """The pages of tasks."""

    list_page_title: str | Promise = _("Tasks")
    detail_title: str | Promise = _("Task detail")
    live_detail = True

    change_form_template = "django_celery_monitor/task_page.html"

    readonly_fields = (
        display.colored_state,
        display.name,
        RUNTIME,
        *TIMES.values(),
        *TEXTS.values(),
        ATTEMPTS,
    )
    fieldsets = (  # type: ignore[assignment]
        (
            _("Outcome"),
            {
                "fields": (
                    "exception",
                    TEXTS["result"],
                    TEXTS["traceback"],
                    ATTEMPTS,
                    "retries",
                    RUNTIME,
                    "worker",
                )
            },
        ),
        (
            _("Call"),
            {
                "fields": (
                    TEXTS["args"],
                    TEXTS["kwargs"],
                    "queue",
                    "exchange",
                    "routing_key",
                )
            },
        ),
        (_("Times"), {"fields": tuple(TIMES.values())}),
    )

    class Media:
        """The scripts."""

        js = (
            Script("django_celery_monitor/copy.js", defer=True),
            Script("django_celery_monitor/tree.js", defer=True),
        )

    def get_urls(self) -> list[URLPattern]:
        """Return the addresses, among them that of a task's tree."""

        def tree(request: HttpRequest, object_id: str) -> HttpResponse:
            return task_page.tree_view(self, request, object_id)

        view = self.admin_site.admin_view(require_safe(tree))
        name = f"{self.opts.app_label}_{self.opts.model_name}_tree"
        return [path("<path:object_id>/tree/", view, name=name), *super().get_urls()]

    def render_change_form(
        self,
        request: HttpRequest,
        context: dict[str, Any],
        add: bool = False,  # noqa: FBT001, FBT002 - as Django has it
        change: bool = False,  # noqa: FBT001, FBT002
        form_url: str = "",
        obj: TaskState | None = None,
    ) -> HttpResponse:
        """Show the page of a task with what is no column of it."""
        if obj is not None:
            context["page"] = task_page.context(self, request, obj)
        return super().render_change_form(request, context, add, change, form_url, obj)

    def describe(self, row: TaskState) -> tuple[str, str]:
        """Return the state, and name and id."""
        return display.colored_state(row), f"{display.name(row)} {row.task_id}"

    def is_unfinished(self, row: TaskState) -> bool:  # type: ignore[override]
        """Return whether the task may still get another state."""
        return phase(row.columns()) not in {Phase.NOT_RUN, Phase.FINISHED}
