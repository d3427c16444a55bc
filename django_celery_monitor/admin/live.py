"""Pages that refresh themselves, and the answer that nothing has changed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from typing import TYPE_CHECKING, Any, ClassVar

from django.contrib import admin
from django.contrib.admin.options import IS_POPUP_VAR
from django.db.models import Count, Max, Model, Sum
from django.http import HttpRequest, HttpResponse, HttpResponseNotFound
from django.template.response import TemplateResponse
from django.utils import timezone
from django.utils.cache import get_conditional_response
from django.utils.http import quote_etag
from django.utils.translation import get_language

from django_celery_monitor import __version__, conf
from django_celery_monitor.models import CameraState

if TYPE_CHECKING:
    BaseAdmin = admin.ModelAdmin[Any]
else:
    BaseAdmin = admin.ModelAdmin

#: What the script adds to its requests. Somebody looks at other pages, and their
#: messages are for them.
HEADER = "X-Celery-Monitor-Live"

#: Seconds after which a page is made anew though no camera wrote anything: it says
#: how long ago things happened, and rows can be deleted.
OLDEST = 60

#: What tells that rows were written. The number counts where a clock lags.
WRITTEN = {"saved": Sum("saved"), "commit": Max("last_commit"), "runs": Count("pk")}
#: What else a row of a camera says.
WATCHED = {"shot": Max("last_shot"), "stopped": Max("stopped_at")}


@dataclass(frozen=True)
class Live:
    """What the script has to know of a page."""

    interval: float
    etag: str


def etag(request: HttpRequest, facts: Iterable[object]) -> str:
    """Return what stays the same while ``facts`` do, for this page and this user."""
    parts = (
        __version__,
        request.user.pk,
        get_language(),
        timezone.get_current_timezone_name(),
        request.get_full_path(),
        time.time() // OLDEST,
        *facts,
    )
    return quote_etag(sha256(repr(parts).encode()).hexdigest()[:32])


def written(what: Mapping[str, Any]) -> Sequence[object]:
    """Return what ``what``, aggregates over the rows of cameras, come to.

    There are few of them, and no task is looked at.
    """
    return sorted(CameraState.objects.aggregate(**what).items())


def answer(
    request: HttpRequest,
    interval: float,
    facts: Callable[[], Iterable[object]],
    view: Callable[[], HttpResponse],
    may_change: Callable[[Mapping[str, Any]], bool] = lambda context: True,
) -> HttpResponse:
    """Return the page that ``view`` makes, or that nothing of it has changed.

    ``facts`` returns what the page depends on, ``may_change`` whether a page with
    this context is to be refreshed, ``interval`` seconds after it was.
    """
    if not interval or request.method != "GET" or IS_POPUP_VAR in request.GET:
        # A row that comes later could not be chosen in a popup.
        return view()
    # Before the rows are read: what is written in between shows the next time.
    tag = etag(request, facts())
    by_script = HEADER in request.headers
    if by_script:
        same = get_conditional_response(request, tag)
        if same is not None:
            return same
    response = view()
    if isinstance(response, TemplateResponse) and response.status_code == 200:
        context: dict[str, Any] = response.context_data or {}
        response.context_data = context
        if by_script:
            context["messages"] = ()
        if may_change(context):
            context["live"] = Live(interval, tag)
            response.headers["ETag"] = tag
    return response


class LivePages(BaseAdmin):
    """The list, and the page of a row that may still change, refresh themselves."""

    #: Aggregates over the rows of cameras which tell that a page has changed.
    changes_with: ClassVar[dict[str, Any]] = WRITTEN
    #: Whether the page of any row refreshes itself; see ``is_unfinished``.
    live_detail = False

    def is_unfinished(self, row: Model) -> bool:
        """Return whether the page of ``row`` is to refresh itself."""
        return self.live_detail

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Show the list, or answer that nothing has changed."""
        view = super().changelist_view
        return self._refresh(request, lambda: view(request, extra_context))

    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        """Show the page of a row, or answer that nothing has changed."""
        view = super().change_view
        if not self.live_detail:
            return view(request, object_id, form_url, extra_context)
        return self._refresh(
            request, lambda: view(request, object_id, form_url, extra_context)
        )

    def _get_obj_does_not_exist_redirect(
        self, request: HttpRequest, *args: Any
    ) -> HttpResponse:
        """Answer that a row is gone; the script cannot show a message about it."""
        if HEADER in request.headers:
            return HttpResponseNotFound()
        response: HttpResponse = super()._get_obj_does_not_exist_redirect(  # type: ignore[misc]
            request, *args
        )
        return response

    def _refresh(
        self, request: HttpRequest, view: Callable[[], HttpResponse]
    ) -> HttpResponse:
        if not self._may_view(request):
            return view()
        return answer(
            request,
            conf.get("monitor_refresh_interval"),
            partial(written, self.changes_with),
            view,
            lambda context: (
                "original" not in context or self.is_unfinished(context["original"])
            ),
        )

    def _may_view(self, request: HttpRequest) -> bool:
        return self.has_view_or_change_permission(request)
