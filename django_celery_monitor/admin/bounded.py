"""The list of tasks, whose cost does not grow with the table."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from typing import Any

from django.contrib.admin.options import IncorrectLookupParameters
from django.core.paginator import InvalidPage
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.functional import cached_property

from django_celery_monitor.models import ALL_STATES, TaskState

from . import bounds, columns, export, newest
from .filters import RecentFilter, StateFilter
from .looking import LookingList
from .paths import RANGES, TIMES, Path


class TaskList(LookingList):
    """The list of tasks: the rows of a page, how many there are, what to choose."""

    def get_ordering(self, request: HttpRequest, queryset: QuerySet[Any]) -> list[Any]:
        """Return what the list is sorted by: by time where that is nothing else."""
        fields = super().get_ordering(request, queryset)
        if "o" in self.params and set(fields) <= {"pk", "-pk"}:
            # No index has what the address asks for.
            del self.params["o"]
            fields = super().get_ordering(request, queryset)
        return fields

    def get_ordering_field(self, field_name: Any) -> Any:
        """Return what a column is sorted by; None where it may not be."""
        if self.sortable_by is not None and field_name not in self.sortable_by:
            return None
        return super().get_ordering_field(field_name)

    # What is on the page

    def get_results(self, request: HttpRequest) -> None:
        """Find the rows of the page, and whether there are older ones."""
        found = self._found()
        number = sum(self.numbers) if found is None else len(found)
        self.result_count = min(number, bounds.LISTED)
        per_page = self.list_per_page
        self.paginator = self.model_admin.get_paginator(
            request,
            range(self.result_count),  # type: ignore[arg-type]
            per_page,
        )
        self.show_full_result_count = False
        self.full_result_count = None
        self.show_admin_actions = True
        self.can_show_all = self.result_count <= self.list_max_show_all
        self.multi_page = self.result_count > per_page
        places: Any = range(self.result_count)
        if self.multi_page and not (self.show_all and self.can_show_all):
            try:
                places = self.paginator.page(self.page_num).object_list
            except InvalidPage as error:
                raise IncorrectLookupParameters from error
        first, last = places.start, places.stop
        shown = self._deep(first, last) if found is None else found[first:last]
        self.result_list = self._rows([key for key, _state in shown])
        self.is_cut = number > bounds.LISTED
        if self.is_cut and newest.is_newest_first(self.queryset):
            self._link_to_older(found)

    def _found(self) -> list[tuple[int, str]] | None:
        """Return keys and states of all that is listed; None: an index counts them."""
        if self.is_path:
            self.numbers = newest.counts(self.branches, bounds.LISTED + 1)
            return None
        if self.are_few:
            found = newest.few_keys(self.queryset, self.looked_through)
        else:
            found = newest.keys(self.branches, 0, bounds.LISTED + 1)
        self.found_in = Counter(state for _key, state in found)
        return found

    def _deep(self, first: int, last: int) -> list[tuple[int, str]]:
        """Return the keys of a page of a path without reading the pages before it."""
        branches = self.branches
        if first and newest.is_newest_first(self.queryset):
            (time,) = newest.nth_times([branches], first)
            if time is None:
                return []
            later = [branch.filter(tstamp__gt=time) for branch in branches]
            skipped = sum(newest.counts(later, bounds.LISTED))
            branches = [branch.filter(tstamp__lte=time) for branch in branches]
            # Meanwhile there may be newer ones.
            first, last = max(0, first - skipped), max(0, last - skipped)
        return newest.keys(branches, first, last)

    def _link_to_older(self, found: list[tuple[int, str]] | None) -> None:
        """Set the link to what comes after the last task that is listed."""
        if found is None:
            (time,) = newest.nth_times([self.branches], bounds.LISTED - 1)
        else:
            times = self.root_queryset.values_list("tstamp", flat=True)
            time = times.filter(pk=found[bounds.LISTED - 1][0]).first()
        if time is not None:
            # Whatever else happened in the same moment is listed twice, not never.
            before = str(time + timedelta(microseconds=1))
            self.older = self.get_query_string({"tstamp__lt": before})

    def _rows(self, keys: list[int]) -> QuerySet[TaskState]:
        """Return the tasks with these keys, in the order of the list."""
        rows = self.apply_select_related(self.root_queryset.filter(pk__in=keys))
        rows = columns.only(rows, self.list_display)
        ordered: QuerySet[TaskState] = rows.order_by(*self.queryset.query.order_by)
        return ordered

    def exports(self) -> list[tuple[str, str]]:
        """Return formats and the query strings that export the list as such."""
        return [
            (name.upper(), self.get_query_string({"format": name}, ["o"]))
            for name in export.FORMATS
        ]

    # What there is to choose from

    def state_counts(self) -> dict[str, tuple[int, bool]]:
        """Return how many tasks there are in each state, and whether there are more."""
        tasks = self.in_any_state
        if tasks.query.is_empty():
            return {}
        if self._counts_by_index():
            states = newest.states(tasks.db)
            if not states:
                return {}
            if len(states) >= newest.MOST_STATES:
                states = sorted({*states, *ALL_STATES})
            branches = Path("state", tuple(states)).branches(tasks)
            numbers = newest.counts(branches, bounds.LISTED + 1)
            return {
                state: (min(number, bounds.LISTED), number > bounds.LISTED)
                for state, number in zip(states, numbers, strict=True)
            }
        by_state = None if self._states() else self.found_in
        if by_state is not None:
            is_cut = self.counts_are_cut or sum(by_state.values()) > bounds.LISTED
        else:
            by_state = newest.counts_by_state(self.counted, bounds.COUNTED)
            is_cut = self.counts_are_cut or sum(by_state.values()) >= bounds.COUNTED
        return {s: (by_state.get(s, 0), is_cut) for s in {*ALL_STATES, *by_state}}

    def _counts_by_index(self) -> bool:
        names = self._lookups().keys() - TIMES - RANGES
        return not self.query and not names - set(StateFilter.PARAMETERS)

    @cached_property
    def _newest_values(self) -> dict[str, set[str | None]]:
        specs: list[Any] = self.filter_specs
        columns = [each.field_path for each in specs if isinstance(each, RecentFilter)]
        found = newest.distinct(self.root_queryset, bounds.LOOKED_AT, *columns)
        return {
            column: {values[place] for values in found}
            for place, column in enumerate(columns)
        }

    def newest_values(self, column: str) -> set[str | None]:
        """Return the values of a column that a ``RecentFilter`` has, of newest tasks.

        One query finds those of all such columns.
        """
        return self._newest_values[column]
