"""The button on the page of an object, and the addresses that it leads to.

Every ``ModelAdmin`` has them, whatever it overrides: its base class is wrapped.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial, wraps
from typing import Any

from django.contrib.admin import ModelAdmin
from django.http import HttpRequest, HttpResponse
from django.template.base import Template
from django.template.response import SimpleTemplateResponse, TemplateResponse
from django.urls import NoReverseMatch, URLPattern, path
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext

from django_celery_monitor.tracking.registry import task_tracker

from . import launch_page, page, revoke_page
from .access import Tracked

#: What is kept in mind on a function that was wrapped.
WRAPPED = "_celery_monitor_tracking"

#: Where the button goes on a page whose template has no place for it: at the beginning
#: of the content, else before the form.
PLACES = (
    re.compile(r'<[a-zA-Z]+\b[^>]*\bid="content-main"[^>]*>'),
    re.compile(r'(?=<form\b[^>]*\bid="[^"]*_form")'),
)

TEMPLATE = "django_celery_monitor/tracking/change_form.html"


def install() -> None:
    """Give the button to every ``ModelAdmin`` whose model has tasks, once."""
    for name, wrap in (("get_urls", with_urls), ("changeform_view", with_button)):
        function = getattr(ModelAdmin, name)
        if not hasattr(function, WRAPPED):
            wrapped = wrap(function)
            setattr(wrapped, WRAPPED, True)
            setattr(ModelAdmin, name, wrapped)


def with_urls(get_urls: Callable[..., list[Any]]) -> Callable[..., list[Any]]:
    """Return a ``get_urls`` that has the pages of the tracker as well."""

    @wraps(get_urls)
    def wrapper(self: ModelAdmin[Any]) -> list[Any]:
        # Now that addresses are made, every app is ready.
        task_tracker.discover()
        urls = get_urls(self)
        if not task_tracker.registrations_for(self.model):
            return urls
        return [*tracker_urls(self), *urls]

    return wrapper


def tracker_urls(model_admin: ModelAdmin[Any]) -> list[URLPattern]:
    """Return the addresses of the pages of the tracker."""
    name = f"{model_admin.opts.app_label}_{model_admin.opts.model_name}_task_tracker"
    about = "<path:object_id>/task-tracker/"
    return [
        path(
            f"{about}{route}",
            model_admin.admin_site.admin_view(partial(view, model_admin)),
            name=f"{name}{ending}",
        )
        for route, view, ending in (
            ("", page.view, ""),
            ("launch/", launch_page.view, "_launch"),
            ("revoke/", revoke_page.view, "_revoke"),
        )
    ]


def with_button(
    changeform_view: Callable[..., HttpResponse],
) -> Callable[..., HttpResponse]:
    """Return a ``changeform_view`` that has the button."""

    @wraps(changeform_view)
    def wrapper(
        self: ModelAdmin[Any], request: HttpRequest, *args: Any, **kwargs: Any
    ) -> HttpResponse:
        response = changeform_view(self, request, *args, **kwargs)
        if isinstance(response, TemplateResponse) and not response.is_rendered:
            add_button(self, request, response)
        return response

    return wrapper


def add_button(
    model_admin: ModelAdmin[Any], request: HttpRequest, response: TemplateResponse
) -> None:
    """Put the button on the page of an object, if it is one and the user may."""
    if not task_tracker.registrations_for(model_admin.model):
        return
    context: dict[str, Any] = response.context_data or {}
    obj = context.get("original")
    if not isinstance(obj, model_admin.model) or context.get("is_popup"):
        return
    tracked = Tracked(model_admin, request, obj)
    if not tracked.may_view:
        return
    try:
        button = render(tracked.url())
    except NoReverseMatch:
        # This ModelAdmin has made its addresses without those of its base class.
        return
    parent: Any = response.resolve_template(response.template_name)
    if isinstance(getattr(parent, "template", None), Template):
        context |= {"tracker_parent": parent, "tracker_button": button}
        response.context_data = context
        response.template_name = TEMPLATE
    response.add_post_render_callback(partial(insert, button=button))


def render(url: str) -> SafeString:
    """Return the button."""
    return format_html(
        '<li><a href="{}" class="celery-monitor-tracker">{}</a></li>',
        url,
        gettext("Task Tracker"),
    )


def insert(response: SimpleTemplateResponse, button: SafeString) -> None:
    """Put the button on a page whose template had no place for it."""
    html = response.content.decode(response.charset)
    if button in html:
        return
    tools = format_html('<ul class="object-tools">{}</ul>', button)
    for place in PLACES:
        if found := place.search(html):
            end = found.end()
            response.content = f"{html[:end]}{tools}{html[end:]}"
            return
