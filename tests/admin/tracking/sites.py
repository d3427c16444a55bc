"""Sites whose pages of orders differ in all that a project may change."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.contrib import admin
from django.db.models import Model, QuerySet
from django.http import HttpRequest, HttpResponse
from django.template import Context
from django.template.response import TemplateResponse
from django.urls import path

from django_celery_monitor.admin import TaskMonitor
from django_celery_monitor.models import TaskState
from django_celery_monitor.tracking.admin import RecentTasksInline, TrackedModelAdmin
from tests.tracked.models import Customer, Order, Parcel, UrgentOrder, Warehouse

if TYPE_CHECKING:
    ModelAdmin = admin.ModelAdmin[Order]
    TasksAdmin = admin.ModelAdmin[TaskState]
else:
    ModelAdmin = TasksAdmin = admin.ModelAdmin

#: A site for each way to make the pages of orders, by name.
SITES: dict[str, admin.AdminSite] = {}


def site(name: str) -> Any:
    """Return a decorator that registers a ``ModelAdmin`` on a site of its own."""

    def decorate(model_admin: type[Any]) -> Any:
        made = SITES[name] = admin.AdminSite(name=name)
        made.register(Order, model_admin)
        return model_admin

    return decorate


@site("plain")
class PlainAdmin(ModelAdmin):
    """Is as Django makes it, on a site without tasks."""


SITES["plain"].register([Customer, Parcel, UrgentOrder, Warehouse])


@site("more_tools")
class MoreToolsAdmin(ModelAdmin):
    """Has a template with tools of its own."""

    change_form_template = "tracked/more_tools.html"


@site("own_tools")
class OwnToolsAdmin(ModelAdmin):
    """Has a template without a place for tools."""

    change_form_template = "tracked/own_tools.html"


@site("bare")
class BareAdmin(ModelAdmin):
    """Has a page that is not Django's."""

    change_form_template = "tracked/bare.html"


@site("form_alone")
class FormAloneAdmin(ModelAdmin):
    """Has a page with hardly anything."""

    change_form_template = "tracked/form_alone.html"


@site("rendered")
class RenderedAdmin(ModelAdmin):
    """Makes its page without Django's function for it."""

    def render_change_form(
        self, request: HttpRequest, context: Any, *args: Any, **kwargs: Any
    ) -> HttpResponse:
        """Return the page."""
        return TemplateResponse(request, ["nothing.html", "tracked/bare.html"], context)


class Engine:
    """A template of another engine."""

    def render(self, context: Context | None, request: HttpRequest) -> str:
        """Return a page."""
        return '<main id="content-main">Jinja</main>'


@site("engine")
class EngineAdmin(ModelAdmin):
    """Has a template of another engine."""

    def render_change_form(
        self, request: HttpRequest, context: Any, *args: Any, **kwargs: Any
    ) -> HttpResponse:
        """Return the page."""
        template: Any = Engine()
        return TemplateResponse(request, template, context)


@site("inlines")
class InlinesAdmin(TrackedModelAdmin):
    """Has the column and the inline."""

    list_display = ("__str__", "reference", "last_task_state")
    list_editable = ("reference",)
    inlines = (RecentTasksInline,)


SITES["inlines"].register(TaskState, TaskMonitor)
SITES["inlines"].register(Warehouse, TrackedModelAdmin, inlines=[RecentTasksInline])


@site("no_urls")
class NoUrlsAdmin(ModelAdmin):
    """Has the addresses of its own pages alone."""

    def get_urls(self) -> list[Any]:
        """Return the addresses."""
        view = self.admin_site.admin_view(self.change_view)
        name = "tracked_order_change"
        return [
            path("", self.changelist_view, name="tracked_order_changelist"),
            path("<path:object_id>/history/", view, name="tracked_order_history"),
            path("<path:object_id>/delete/", view, name="tracked_order_delete"),
            path("<path:object_id>/change/", view, name=name),
        ]


@site("restricted")
class RestrictedAdmin(ModelAdmin):
    """Lists the orders of one account, for everybody else there are none."""

    def get_queryset(self, request: HttpRequest) -> QuerySet[Order]:
        """Return the orders of the account."""
        return super().get_queryset(request).filter(account_id=1)


class OwnTasks(TaskMonitor):
    """Shows the tasks of one name."""

    def get_queryset(self, request: HttpRequest) -> QuerySet[TaskState]:
        """Return the tasks."""
        return super().get_queryset(request).filter(name="tests.tracked.tasks.ship")


SITES["restricted"].register(TaskState, OwnTasks)


@site("own_tasks")
class OwnTasksAdmin(ModelAdmin):
    """Is as Django makes it, beside pages of tasks that are the project's own."""


class PlainTasks(TasksAdmin):
    """Shows the tasks of one name."""

    def get_queryset(self, request: HttpRequest) -> QuerySet[TaskState]:
        """Return the tasks."""
        return super().get_queryset(request).filter(name="tests.tracked.tasks.ship")


SITES["own_tasks"].register(TaskState, PlainTasks)


@site("objects")
class ObjectsAdmin(ModelAdmin):
    """Has permissions for each object, as django-guardian does: by its reference."""

    def _may(self, action: str, request: HttpRequest, obj: Model | None) -> bool:
        username = request.user.get_username()
        return obj is not None and f"{username}:{action}" in obj.reference  # type: ignore[attr-defined]

    def has_module_permission(self, request: HttpRequest) -> bool:
        """Return True."""
        return True

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Return whether the object says so."""
        return self._may("view", request, obj)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Return whether the object says so."""
        return self._may("change", request, obj)


urlpatterns = [
    path("admin/", admin.site.urls),
    *(path(f"{name}/", each.urls) for name, each in SITES.items()),
]
