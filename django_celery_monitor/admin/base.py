"""What the pages of tasks and of workers have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from django.contrib import admin
from django.contrib.admin.views.main import ChangeList
from django.db.models import Model
from django.http import HttpRequest, HttpResponse

if TYPE_CHECKING:
    from django.utils.functional import Promise

    BaseAdmin = admin.ModelAdmin[Any]
else:
    BaseAdmin = admin.ModelAdmin


class MonitorList(ChangeList):
    """A list of rows under a title of its own."""

    model_admin: ModelMonitor

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.title = str(self.model_admin.list_page_title)


class ModelMonitor(BaseAdmin):
    """The pages of a model whose rows only a camera writes.

    Nobody may change a row, superusers included. ``can_add`` and ``can_delete``
    say whether those who have the permission may add and delete rows, and
    ``control_permission`` names the permission that actions need.
    """

    list_page_title: str | Promise = ""
    detail_title: str | Promise = ""
    can_add = False
    can_delete = True
    control_permission = ""
    confirmation_template = "django_celery_monitor/confirm_action.html"

    # The stubs of the admin know of no callables in these.
    list_display: Any
    readonly_fields: ClassVar[Any]
    fieldsets: ClassVar[Any]

    # A second count, of all rows, on every page of the list.
    show_full_result_count = False

    class Media:
        """The style sheet."""

        css = {"all": ("django_celery_monitor/style.css",)}  # noqa: RUF012

    def describe(self, row: Any) -> tuple[str, str]:
        """Return the state of ``row`` and its name for a confirmation page."""
        return "", str(row)

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        """Return the class of the list."""
        return MonitorList

    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        """Show the page of one row under ``detail_title``."""
        context = {"title": self.detail_title, **(extra_context or {})}
        return super().change_view(request, object_id, form_url, context)

    # What there is to add is the columns, not how a page shows them.

    def get_fieldsets(self, request: HttpRequest, obj: Model | None = None) -> Any:
        """Return ``fieldsets`` for the page of a row, the columns to add one."""
        if obj is None:
            return [(None, {"fields": self.get_fields(request)})]
        return super().get_fieldsets(request, obj)

    def get_readonly_fields(
        self, request: HttpRequest, obj: Model | None = None
    ) -> Any:
        """Return ``readonly_fields``, none of them to add a row."""
        return () if obj is None else super().get_readonly_fields(request, obj)

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Return whether the user may add rows."""
        return self.can_add and super().has_add_permission(request)

    def has_change_permission(
        self, request: HttpRequest, obj: Model | None = None
    ) -> bool:
        """Return False: rows say what happened."""
        return False

    def has_delete_permission(
        self, request: HttpRequest, obj: Model | None = None
    ) -> bool:
        """Return whether the user may delete rows."""
        return self.can_delete and super().has_delete_permission(request, obj)

    def has_control_permission(self, request: HttpRequest) -> bool:
        """Return whether the user may use the actions that talk to workers."""
        return request.user.has_perm(self.control_permission)
