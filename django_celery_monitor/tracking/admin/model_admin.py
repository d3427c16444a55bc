"""A ``ModelAdmin`` for those who want more of the tracker than its button."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.contrib import admin
from django.contrib.admin.views.main import ChangeList
from django.db.models import Model
from django.http import HttpRequest
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _

from django_celery_monitor.admin import display

from .access import links_of, monitor_of
from .latest import latest_states

if TYPE_CHECKING:
    BaseAdmin = admin.ModelAdmin[Any]
else:
    BaseAdmin = admin.ModelAdmin

#: Where the state of the newest task of an object is kept in mind.
LATEST = "_celery_monitor_latest"


class TrackedModelAdmin(BaseAdmin):
    """Has ``last_task_state``, a column for ``list_display``.

    It may be a base beside another ``ModelAdmin``. All rows of a page take one query.
    """

    class Media:
        """The style sheet."""

        css = {"all": ("django_celery_monitor/style.css",)}  # noqa: RUF012

    @admin.display(description=_("last task"))
    def last_task_state(self, obj: Model) -> SafeString | None:
        """Return the state of the newest task of an object."""
        state = getattr(obj, LATEST, None)
        return None if state is None else display.state_badge(state)

    def get_changelist_instance(self, request: HttpRequest) -> ChangeList:
        """Return the list, whose objects know their newest tasks."""
        changelist: ChangeList = super().get_changelist_instance(request)
        shown = {getattr(c, "__name__", c) for c in changelist.list_display}
        monitor = monitor_of(self.admin_site)
        if "last_task_state" in shown and monitor.has_view_permission(request):
            # The queryset keeps its objects, so that these are the ones of the page.
            objects = [
                obj
                for obj in changelist.result_list
                if self.has_view_permission(request, obj)
            ]
            links = links_of(monitor, request)
            for obj, state in latest_states(links, objects).items():
                setattr(obj, LATEST, state)
        return changelist
