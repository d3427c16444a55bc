"""An object whose tasks are asked for, and what the user may do with them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from django.contrib.admin import AdminSite, ModelAdmin
from django.contrib.admin.utils import quote, unquote
from django.core.exceptions import PermissionDenied
from django.db.models import Model
from django.http import Http404, HttpRequest
from django.urls import reverse

from django_celery_monitor.admin import TaskMonitor
from django_celery_monitor.models import TaskState
from django_celery_monitor.tracking.models import (
    TaskObjectLink,
    TaskObjectLinkQuerySet,
)
from django_celery_monitor.tracking.registry import Registration, task_tracker


def monitor_of(site: AdminSite) -> ModelAdmin[TaskState]:
    """Return the pages of tasks of a site, or what they would be if it had any."""
    if site.is_registered(TaskState):
        return site.get_model_admin(TaskState)
    return TaskMonitor(TaskState, site)


def links_of(
    monitor: ModelAdmin[TaskState], request: HttpRequest
) -> TaskObjectLinkQuerySet:
    """Return the links to all tasks that the user may see."""
    tasks = monitor.get_queryset(request)
    links = TaskObjectLink.objects.all()
    # Without a condition there is nothing that a link could not lead to.
    return links.filter(task__in=tasks.order_by()) if tasks.query.where else links


@dataclass(frozen=True)
class Tracked:
    """An object on its page in the admin, as the user of a request sees it.

    All permissions on the object are those that its own ``ModelAdmin`` grants.
    """

    model_admin: ModelAdmin[Any]
    request: HttpRequest
    obj: Model

    @cached_property
    def monitor(self) -> ModelAdmin[TaskState]:
        """The pages of tasks of the same site, which say who sees which."""
        return monitor_of(self.model_admin.admin_site)

    @cached_property
    def commands(self) -> TaskMonitor:
        """What sends and revokes tasks, and says who may, whatever pages there are."""
        if isinstance(self.monitor, TaskMonitor):
            return self.monitor
        return TaskMonitor(TaskState, self.model_admin.admin_site)

    @property
    def registrations(self) -> tuple[Registration, ...]:
        """What is registered for the model."""
        return task_tracker.registrations_for(self.model_admin.model)

    @cached_property
    def links(self) -> TaskObjectLinkQuerySet:
        """The links to those tasks of the object that the user may see."""
        return links_of(self.monitor, self.request).for_object(self.obj)

    @cached_property
    def may_view(self) -> bool:
        """Whether the user may see the tasks of the object."""
        return self.model_admin.has_view_permission(
            self.request, self.obj
        ) and self.monitor.has_view_permission(self.request)

    @cached_property
    def may_launch(self) -> bool:
        """Whether the user may launch tasks for the object."""
        return (
            self.may_view
            and self.commands.has_run_permission(self.request)
            and self._may_change
        )

    @cached_property
    def may_revoke(self) -> bool:
        """Whether the user may revoke the tasks of the object."""
        return (
            self.may_view
            and self.commands.has_control_permission(self.request)
            and self._may_change
        )

    @property
    def _may_change(self) -> bool:
        return self.model_admin.has_change_permission(self.request, self.obj)

    @property
    def may_open_tasks(self) -> bool:
        """Whether the site has pages of tasks, which the user may see."""
        return self.model_admin.admin_site.is_registered(TaskState) and self.may_view

    def url(self, page: str = "task_tracker") -> str:
        """Return the address of a page of the object.

        Raises NoReverseMatch where a ``ModelAdmin`` has left out what it inherits.
        """
        opts = self.model_admin.opts
        return reverse(
            f"admin:{opts.app_label}_{opts.model_name}_{page}",
            args=[quote(self.obj.pk)],
            current_app=self.model_admin.admin_site.name,
        )


def find(model_admin: ModelAdmin[Any], request: HttpRequest, key: str) -> Tracked:
    """Return the object with the key that an address has.

    Raises PermissionDenied, or Http404 for somebody who might see it if it were there.
    """
    obj = model_admin.get_object(request, unquote(key))
    if obj is None:
        allowed = model_admin.has_view_permission(request)
        if allowed and monitor_of(model_admin.admin_site).has_view_permission(request):
            raise Http404
        raise PermissionDenied
    tracked = Tracked(model_admin, request, obj)
    if not tracked.may_view:
        raise PermissionDenied
    return tracked
