"""What the page of a task says of the objects that it is about, and of who sent it."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from django.contrib.admin import AdminSite
from django.contrib.contenttypes.models import ContentType
from django.db.models import Model
from django.http import HttpRequest
from django.urls import NoReverseMatch
from django.utils.text import capfirst

from django_celery_monitor.models import TaskState
from django_celery_monitor.tracking.arguments import clean_key
from django_celery_monitor.tracking.models import TaskObjectLink
from django_celery_monitor.tracking.registry import task_tracker

from .access import Tracked
from .rows import sender

#: Objects of a task that its page shows.
MOST = 20


def context(site: AdminSite, request: HttpRequest, task: TaskState) -> dict[str, Any]:
    """Return the objects of a task, the oldest link first, and who sent it."""
    links = list(TaskObjectLink.objects.filter(task=task).order_by("pk")[:MOST])
    found = visible(site, request, links)
    return {
        "objects": [
            {
                "type": capfirst(kind.name) if (kind := kind_of(link)) else "",
                "text": link.object_id,
                "role": link.role,
                **found.get(link.pk, {}),
            }
            for link in links
        ],
        "sender": next((said for link in links if (said := sender(link))), None),
    }


def kind_of(link: TaskObjectLink) -> ContentType | None:
    """Return the content type of a link, None where it is gone."""
    try:
        return ContentType.objects.get_for_id(link.content_type_id)
    except ContentType.DoesNotExist:
        return None


def visible(
    site: AdminSite, request: HttpRequest, links: list[TaskObjectLink]
) -> dict[int, dict[str, Any]]:
    """Return text and addresses of those objects that the user may see, by link."""
    by_model: dict[type[Model], dict[int, Any]] = defaultdict(dict)
    for link in links:
        kind = kind_of(link)
        model = kind.model_class() if kind else None
        if model is None or not site.is_registered(model):
            continue
        # The model may have got another type of key since.
        if (key := clean_key(model, link.object_id)) is not None:
            by_model[model][link.pk] = key
    shown = {}
    for model, keys in by_model.items():
        model_admin = site.get_model_admin(model)
        objects = model_admin.get_queryset(request).filter(pk__in=set(keys.values()))
        seen = {
            obj.pk: addresses(Tracked(model_admin, request, obj))
            for obj in objects
            if model_admin.has_view_permission(request, obj)
        }
        shown.update({pk: seen[key] for pk, key in keys.items() if key in seen})
    return shown


def addresses(tracked: Tracked) -> dict[str, Any]:
    """Return the text and the addresses of an object."""
    found = {"text": str(tracked.obj), "url": "", "tracker_url": ""}
    try:
        found["url"] = tracked.url("change")
        if task_tracker.registrations_for(tracked.model_admin.model):
            found["tracker_url"] = tracked.url()
    except NoReverseMatch:
        # This ModelAdmin has made its addresses without those of its base class.
        pass
    return found
