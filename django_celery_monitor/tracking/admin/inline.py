"""The recent tasks of an object, on its own page."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.contrib.contenttypes.admin import GenericTabularInline
from django.contrib.contenttypes.forms import BaseGenericInlineFormSet
from django.db.models import QuerySet
from django.forms import Script
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _

from django_celery_monitor.models import TaskState
from django_celery_monitor.tracking.models import TaskObjectLink, TaskObjectLinkQuerySet

from . import rows
from .access import links_of, monitor_of

if TYPE_CHECKING:
    BaseFormSet = BaseGenericInlineFormSet[Any, Any]
    BaseInline = GenericTabularInline
else:
    BaseFormSet = BaseGenericInlineFormSet
    BaseInline = GenericTabularInline

#: Tasks that are shown, the newest.
MOST = 10


class EmptyFormSet(BaseFormSet):
    """Has no forms, and takes nothing from whoever sends one."""

    def __init__(self, data: Any = None, files: Any = None, **options: Any) -> None:
        super().__init__(None, None, **options)
        self.new_objects, self.changed_objects, self.deleted_objects = [], [], []

    def get_queryset(self) -> QuerySet[Any]:
        """Return nothing."""
        return TaskObjectLink.objects.none()

    def is_valid(self) -> bool:
        """Return True: there is nothing that could be wrong."""
        return True

    def save(self, commit: bool = True) -> list[Any]:  # noqa: FBT001, FBT002
        """Save nothing."""
        return []


class RecentTasksInline(BaseInline):
    """The newest tasks of an object, for the ``inlines`` of its ``ModelAdmin``.

    Nothing in it can be changed, and it is there for those who may see tasks.
    """

    model = TaskObjectLink
    formset: Any = EmptyFormSet
    verbose_name_plural = _("recent tasks")
    template = "django_celery_monitor/tracking/inline.html"
    fields = ()
    extra = 0
    can_delete = False
    #: The links that are shown.
    links: TaskObjectLinkQuerySet | None = None

    class Media:
        """The style sheet, and the script that copies ids."""

        css = {"all": ("django_celery_monitor/style.css",)}  # noqa: RUF012
        js = (Script("django_celery_monitor/copy.js", defer=True),)

    def get_formset(
        self, request: HttpRequest, obj: Any | None = None, **kwargs: Any
    ) -> Any:
        """Return the form set, and keep in mind whose tasks are to be shown."""
        if obj is not None:
            self.links = links_of(monitor_of(self.admin_site), request).for_object(obj)
        return super().get_formset(request, obj, **kwargs)

    def rows(self) -> list[dict[str, Any]]:
        """Return what the template shows of the newest tasks."""
        if self.links is None:
            return []
        site = self.admin_site
        monitor = monitor_of(site) if site.is_registered(TaskState) else None
        newest = rows.read(self.links).order_by("-pk")[:MOST]
        return [rows.row(link, monitor) for link in newest]

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Return whether the user may see tasks."""
        return monitor_of(self.admin_site).has_view_permission(request)

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Return False."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Return False."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Return False."""
        return False
