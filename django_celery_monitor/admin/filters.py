"""The filters beside the list of tasks."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from datetime import timezone as datetime_timezone
from typing import TYPE_CHECKING, Any, ClassVar, cast

from django.contrib.admin import (
    AllValuesFieldListFilter,
    ListFilter,
    RelatedFieldListFilter,
    SimpleListFilter,
)
from django.db.models import F, QuerySet
from django.http import HttpRequest
from django.utils import timezone
from django.utils.dateparse import parse_datetime
from django.utils.formats import number_format
from django.utils.functional import Promise
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from django_celery_monitor.models import ALL_STATES, WorkerState
from django_celery_monitor.utils import correct_awareness

from .keys import is_key
from .stuck import stuck

if TYPE_CHECKING:
    from .bounded import TaskList

#: States that may be chosen together.
MOST_CHOSEN = 20
#: Workers to choose from: those that were heard of last.
MOST_WORKERS = 200
#: Values of another column to choose from, in their order.
MOST_VALUES = 500

#: PostgreSQL takes those that were never heard of for the last ones otherwise.
HEARD_OF_LAST = F("last_heartbeat").desc(nulls_last=True)


def several(text: str) -> list[str]:
    """Return the values that are separated by commas, each once, not too many."""
    values = dict.fromkeys(value for value in text.split(",") if value)
    return list(values)[:MOST_CHOSEN]


class StateFilter(ListFilter):
    """The states, of which several can be chosen, each with the number of its tasks.

    The list itself leaves out the other states, since it counts them as well.
    """

    title: Any = _("state")
    PARAMETERS: ClassVar = ("state__in", "state__exact", "state")

    def __init__(self, request: HttpRequest, params: Any, *args: Any) -> None:
        super().__init__(request, params, *args)
        self.chosen: list[str] = []
        for name in self.PARAMETERS:
            given = params.pop(name, ())
            if given:
                several_ = name == "state__in"
                self.chosen = several(",".join(given)) if several_ else given[-1:]

    def has_output(self) -> bool:
        """Return True: there are always states to choose from."""
        return True

    def expected_parameters(self) -> list[str | None]:
        """Return the names of the parameters."""
        return list(self.PARAMETERS)

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        """Leave the rows alone."""

    def choices(self, changelist: Any) -> Iterator[dict[str, Any]]:
        """Yield what to choose: to add a state, or to take one away."""
        tasks = cast("TaskList", changelist)
        yield {
            "selected": not self.chosen,
            "query_string": tasks.get_query_string(remove=["state"]),
            "display": _("All"),
        }
        counts = tasks.state_counts()
        for state in sorted({*ALL_STATES, *counts, *self.chosen}):
            number, is_more = counts.get(state, (0, False))
            yield {
                "selected": state in self.chosen,
                "query_string": self._toggle(tasks, state),
                "display": format_html(
                    '{} <span class="celery-monitor-count">{}{}</span>',
                    state,
                    number_format(number, force_grouping=True),
                    "+" if is_more else "",
                ),
            }

    def _toggle(self, tasks: TaskList, state: str) -> str:
        states = sorted({*self.chosen} ^ {state})
        if len(states) > 1:
            return tasks.get_query_string({"state__in": ",".join(states)}, ["state"])
        given = {"state__exact": states[0]} if states else {}
        return tasks.get_query_string(given, ["state"])


class RecentFilter(AllValuesFieldListFilter):
    """The values of a column that the newest tasks have, with those that have none."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.empty_value_display = SafeString(gettext("unknown"))

    def choices(self, changelist: Any) -> Iterator[Any]:
        """Yield what to choose, the one that is chosen included: it may be older."""
        found = changelist.newest_values(self.field_path)
        # Anybody may send tasks of any names.
        values = sorted(str(value) for value in found - {None})[:MOST_VALUES]
        values = sorted({*values, *(self.lookup_val or ())})
        # The admin would have them looked for in the whole table.
        self.lookup_choices: Any = [*values, *(found & {None})]
        return super().choices(changelist)


class WorkerFilter(RelatedFieldListFilter):
    """The workers that were heard of last, and the one that is chosen."""

    def has_output(self) -> bool:
        """Return True: a filter that is not shown would not be applied either."""
        return True

    def field_choices(
        self, field: Any, request: HttpRequest, model_admin: Any
    ) -> list[Any]:
        """Return keys and names."""
        names = WorkerState.objects.values_list("pk", "hostname")
        found = dict(names.order_by(HEARD_OF_LAST)[:MOST_WORKERS])
        chosen = [key for key in self.lookup_val or () if is_key(key)]
        if chosen and int(chosen[-1]) not in found:
            found.update(names.filter(pk=chosen[-1]))
        return [(str(pk), name) for pk, name in found.items()]


class TimeFilter(SimpleListFilter):
    """When the state of a task was reached: lately, or between two times."""

    title = _("time")
    parameter_name = "since"
    template = "django_celery_monitor/filter_by_time.html"
    BOUNDS: ClassVar = {"from": "tstamp__gte", "to": "tstamp__lte"}

    SPANS: ClassVar = {
        "15m": (_("Last 15 minutes"), timedelta(minutes=15)),
        "1h": (_("Last hour"), timedelta(hours=1)),
        "1d": (_("Last day"), timedelta(days=1)),
        "7d": (_("Last week"), timedelta(days=7)),
    }

    def __init__(self, request: HttpRequest, params: Any, *args: Any) -> None:
        super().__init__(request, params, *args)
        #: The texts of the fields, and the times they stand for.
        self.given = {name: params.pop(name, [""])[-1] for name in self.BOUNDS}
        self.times = {
            name: time
            for name, text in self.given.items()
            if (time := local_time(text)) is not None
        }
        #: The rest of the address, which the form has to send along.
        self.others: list[tuple[str, str]] = []

    def expected_parameters(self) -> list[str | None]:
        """Return the names of the parameters."""
        return [self.parameter_name, *self.BOUNDS]

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        """Return the choices."""
        return [(key, title) for key, (title, _span) in self.SPANS.items()]

    def choices(self, changelist: Any) -> Iterator[Any]:
        """Yield what to choose; whatever it is takes the place of the two times."""
        mine = {self.parameter_name, *self.BOUNDS}
        self.others = [
            (name, value)
            for name, values in changelist.filter_params.items()
            if name not in mine
            for value in values
        ]
        yield {
            "selected": self.value() is None and not self.times,
            "query_string": changelist.get_query_string(dict.fromkeys(mine)),
            "display": _("All"),
        }
        for key, title in self.lookup_choices:
            given = {**dict.fromkeys(self.BOUNDS), self.parameter_name: key}
            yield {
                "selected": self.value() == key,
                "query_string": changelist.get_query_string(given),
                "display": title,
            }

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """Return those of ``queryset`` in the time that is chosen."""
        for name, time in self.times.items():
            queryset = queryset.filter(**{self.BOUNDS[name]: time})
        _title, span = self.SPANS.get(self.value() or "", (None, None))
        if span is None:
            return queryset
        # Before it is local time, of which an hour may be missing.
        since = datetime.now(datetime_timezone.utc) - span
        return queryset.filter(tstamp__gte=correct_awareness(since))


def local_time(text: str) -> datetime | None:
    """Return a time as a browser sends it, in the current time zone; None: it is none.

    It is aware exactly if times in the database are.
    """
    try:
        time = parse_datetime(text)
        if time is not None and timezone.is_naive(time):
            time = timezone.make_aware(time)
        if time is not None:
            # Some zones cannot express the first or the last day of the calendar.
            time.astimezone(timezone.get_default_timezone())
            time.astimezone(datetime_timezone.utc)
        return correct_awareness(time)
    except (OverflowError, ValueError):
        return None


class RuntimeFilter(SimpleListFilter):
    """For how long a task ran, at least."""

    title = _("runtime")
    parameter_name = "runtime_over"
    LEAST: ClassVar[dict[str, tuple[str | Promise, int]]] = {
        "1s": (_("Over 1 second"), 1),
        "10s": (_("Over 10 seconds"), 10),
        "1m": (_("Over 1 minute"), 60),
        "10m": (_("Over 10 minutes"), 600),
    }

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        """Return the choices."""
        return [(key, title) for key, (title, _seconds) in self.LEAST.items()]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """Return those of ``queryset`` that ran for longer."""
        _title, seconds = self.LEAST.get(self.value() or "", ("", None))
        return queryset if seconds is None else queryset.filter(runtime__gt=seconds)


class RetriedFilter(SimpleListFilter):
    """Tasks that were retried."""

    title = _("retried")
    parameter_name = "retried"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        """Return the only choice."""
        return [("yes", _("Yes"))]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """Return those of ``queryset`` that were retried, if these are chosen."""
        return queryset.filter(retries__gt=0) if self.value() == "yes" else queryset


class StuckFilter(SimpleListFilter):
    """Tasks that are in flight for too long, or on a worker that is gone."""

    title = _("stuck")
    parameter_name = "stuck"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        """Return the only choice."""
        return [("yes", _("Yes"))]

    def is_chosen(self) -> bool:
        """Return whether these are what is chosen."""
        return self.value() == "yes"

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """Return those of ``queryset`` that are stuck, if these are chosen."""
        return queryset.filter(stuck()) if self.is_chosen() else queryset
