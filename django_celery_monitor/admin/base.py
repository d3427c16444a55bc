"""What the pages of tasks and of workers have in common."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isfinite
from typing import TYPE_CHECKING, Any, ClassVar

from django import forms
from django.contrib import messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.options import IncorrectLookupParameters
from django.contrib.admin.views.main import ChangeList
from django.core.exceptions import EmptyResultSet
from django.db import NotSupportedError
from django.db.models import Model, QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils.translation import gettext

from django_celery_monitor import conf

from .keys import is_key
from .live import LivePages
from .replies import Conversation

if TYPE_CHECKING:
    from django.utils.functional import Promise


def is_stored(value: object) -> bool:
    """Return whether a column can have a value: if it is a number, one of its own."""
    if isinstance(value, float):
        return isfinite(value)
    return not isinstance(value, int) or -(2**63) <= value < 2**63


class MonitorList(ChangeList):
    """A list of rows under a title of its own."""

    model_admin: ModelMonitor
    #: What else the address filters by: texts, and query strings without each.
    other_filters: Sequence[tuple[str, str]] = ()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.title = str(self.model_admin.list_page_title)

    def get_filters(self, request: HttpRequest) -> Any:
        """Return the filters; what the sidebar does not have is told apart."""
        specs, has_any, others, duplicates, is_active = super().get_filters(request)
        self.other_filters = [
            (f"{name}={value}", self.get_query_string({name: None}))
            for name in others
            for value in self.filter_params.get(name, ())
        ]
        return specs, has_any, others, duplicates, is_active or bool(others)

    def get_queryset(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        """Return the rows that match; raise IncorrectLookupParameters."""
        given = [value for values in self.filter_params.values() for value in values]
        if any("\0" in value for value in given):
            # No database stores the character, and not every one looks for it.
            raise IncorrectLookupParameters
        if any("regex" in name for name in self.filter_params):
            # Each database has rules of its own, and an error for what breaks them.
            raise IncorrectLookupParameters
        rows = super().get_queryset(request, *args, **kwargs)
        try:
            _sql, parameters = rows.query.get_compiler(rows.db).as_sql()
        except EmptyResultSet:
            return rows
        except (ValueError, OverflowError, NotSupportedError) as error:
            # Such as a year that is none.
            raise IncorrectLookupParameters from error
        if not all(map(is_stored, parameters)):
            raise IncorrectLookupParameters
        return rows


class ModelMonitor(LivePages):
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
    change_form_template = "django_celery_monitor/change_form.html"
    #: Actions that the page of a row offers as well, and what their buttons say.
    page_actions: ClassVar[Mapping[str, str | Promise]] = {}

    # The stubs of the admin know of no callables in these.
    list_display: Any
    readonly_fields: ClassVar[Any]
    fieldsets: ClassVar[Any]
    sortable_by: ClassVar[Any]
    list_filter: ClassVar[Any]

    # A second count, of all rows, on every page of the list.
    show_full_result_count = False

    change_list_template = "django_celery_monitor/change_list.html"

    class Media:
        """The style sheet, and the script that refreshes pages."""

        css = {"all": ("django_celery_monitor/style.css",)}  # noqa: RUF012
        js = (forms.Script("django_celery_monitor/live.js", type="module"),)

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
        context = {
            "title": self.detail_title,
            "page_actions": self.get_page_actions(request),
            "page_links": self.get_page_links(request, object_id),
            **(extra_context or {}),
        }
        return super().change_view(request, object_id, form_url, context)

    def get_page_actions(self, request: HttpRequest) -> list[tuple[str, str | Promise]]:
        """Return the actions that the user may choose on the page of a row."""
        permitted = self.get_actions(request)
        return [each for each in self.page_actions.items() if each[0] in permitted]

    def get_page_links(
        self, request: HttpRequest, object_id: str
    ) -> list[tuple[str, str]]:
        """Return the links beside these actions: address and text."""
        return []

    def destination(self, rows: Sequence[Any]) -> list[str] | None:
        """Return the names of the workers that ``rows`` are; None: all are told."""
        return None

    def outcome(self, row: Any, conversation: Conversation) -> str:
        """Return what came of a command, for the history of ``row``."""
        if not conversation.asked or conversation.replies:
            return ""
        return conversation.no_answer() or gettext("No worker has answered.")

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

    def response_action(
        self, request: HttpRequest, queryset: QuerySet[Any], *args: Any, **kwargs: Any
    ) -> HttpResponse | None:
        """Run an action, unless it is for all that match and these are too many."""
        if forms.BooleanField().to_python(request.POST.get("select_across")):
            most = conf.get("monitor_max_selected")
            if queryset[: most + 1].count() > most:
                text = gettext(
                    "Nothing was done: more than %(most)d rows match. Select some, or"
                    " narrow the list."
                )
                self.message_user(request, text % {"most": most}, messages.ERROR)
                return None
        else:
            # Which rows are selected does not change while the user confirms it; which
            # of them the list has, with its filters and its bounds, does.
            queryset = self.get_queryset(request)
            post = request.POST.copy()
            selected = [str(key) for key in post.getlist(ACTION_CHECKBOX_NAME)]
            post.setlist(ACTION_CHECKBOX_NAME, [key for key in selected if is_key(key)])
            request.POST = post  # type: ignore[assignment]
        return super().response_action(request, queryset, *args, **kwargs)

    def has_control_permission(self, request: HttpRequest) -> bool:
        """Return whether the user may use the actions that talk to workers."""
        return request.user.has_perm(self.control_permission)
