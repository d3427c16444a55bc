"""The list of tasks, as the admin knows it."""

from __future__ import annotations

from functools import partial
from typing import Any, ClassVar

from django.contrib import admin
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.core.paginator import Paginator
from django.db.models import QuerySet
from django.http import HttpRequest
from django.urls import URLPattern, path
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from django_celery_monitor.models import TaskState

from . import bounds, columns, display, export
from .base import ModelMonitor
from .bounded import TaskList
from .filters import (
    RecentFilter,
    RetriedFilter,
    RuntimeFilter,
    StateFilter,
    StuckFilter,
    TimeFilter,
    WorkerFilter,
)
from .paths import with_id

#: What keeps in mind on a request whether there are hidden tasks.
HIDDEN = "_celery_monitor_hidden"


def some_are_hidden(request: HttpRequest) -> bool:
    """Return whether there are tasks that are marked as expired, asked once a request.

    There are none unless the project marks them: cleaning up deletes what has expired.
    """
    asked = vars(request)
    if HIDDEN not in asked:
        asked[HIDDEN] = TaskState.objects.marked().order_by().exists()
    return bool(asked[HIDDEN])


class TaskListMonitor(ModelMonitor):
    """The list of tasks: its columns, filters, search and export."""

    list_display = columns.DEFAULT
    list_display_links = (display.name,)
    list_filter: ClassVar[Any] = (
        StateFilter,
        TimeFilter,
        StuckFilter,
        RetriedFilter,
        RuntimeFilter,
        ("name", RecentFilter),
        ("queue", RecentFilter),
        ("worker", WorkerFilter),
    )
    # What an index has in order.
    sortable_by = (display.tstamp,)
    show_facets = admin.ShowFacets.NEVER
    list_per_page = 50
    change_list_template = "django_celery_monitor/task_list.html"
    list_select_related = ("worker",)
    search_help_text = _(
        "Words, or the beginning of an id. state:FAILURE name:invoice worker:w1"
        " queue:slow args:foo kwargs:order_id=42 result:timeout exception:ValueError"
        ' look in one field. "Double quotes" hold words together, OR is an alternative,'
        " and a word after - must not match."
    )
    search_fields = ("name", "task_id", "args", "kwargs", "worker__hostname")

    def get_queryset(self, request: HttpRequest) -> QuerySet[TaskState]:
        """Return the tasks that have not expired."""
        tasks: QuerySet[TaskState] = super().get_queryset(request)
        # Without the condition, indexes have all that counting takes.
        return tasks.filter(hidden=False) if some_are_hidden(request) else tasks

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[TaskState], search_term: str
    ) -> tuple[QuerySet[TaskState], bool]:
        """Return the tasks whose ids begin with ``search_term``, to choose one of.

        Django asks for it where another model refers to tasks; the list has a search of
        its own.
        """
        if search_term:
            queryset = queryset.filter(pk__in=with_id(queryset, search_term))
        return queryset, False

    def get_paginator(
        self, request: HttpRequest, queryset: Any, *args: Any, **kwargs: Any
    ) -> Paginator[Any]:
        """Return what counts and cuts; of tasks to choose one of, the newest alone."""
        match = request.resolver_match
        if match is not None and match.url_name == "autocomplete":
            queryset = queryset[: bounds.COUNTED]
        return super().get_paginator(request, queryset, *args, **kwargs)

    def get_list_display(self, request: HttpRequest) -> Any:
        """Return the columns that are set, unless a subclass has its own."""
        if self.list_display is columns.DEFAULT:
            return columns.chosen()
        return super().get_list_display(request)

    def get_list_display_links(self, request: HttpRequest, list_display: Any) -> Any:
        """Return the columns that lead to the page of a task: the first, if need be."""
        links = super().get_list_display_links(request, list_display)
        if links and not set(links) & set(list_display):
            return list_display[:1]
        return links

    def get_urls(self) -> list[URLPattern]:
        """Return the addresses of the pages, with that of the export."""
        view = self.admin_site.admin_view(partial(export.export, self))
        name = f"{self.opts.app_label}_{self.opts.model_name}_export"
        return [path("export/", view, name=name), *super().get_urls()]

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[TaskList]:
        """Return the class of the list."""
        return TaskList

    def action_checkbox(self, obj: TaskState) -> SafeString:
        """Return the checkbox of a row.

        It is Django's own without a template, which is a quarter of the time of a page.
        """
        label = gettext("Select this object for an action - {}").format(obj)
        return format_html(
            '<input type="checkbox" name="{}" value="{}" class="action-select"'
            ' aria-label="{}">',
            ACTION_CHECKBOX_NAME,
            obj.pk,
            label,
        )
