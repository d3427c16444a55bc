"""Which tasks the list looks at: all that one index has, or the newest of some.

What one index finds in the order of time (a *path*) is listed as it is. Everything else
is looked for among the newest tasks of a path, the one on which so many tasks reach
furthest back; the list says how far that is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from django.contrib.admin.options import IncorrectLookupParameters
from django.contrib.admin.utils import build_q_object_from_lookup_parameters
from django.contrib.admin.views.main import SEARCH_VAR
from django.core.exceptions import ValidationError
from django.db.models import QuerySet
from django.http import HttpRequest

from django_celery_monitor.models import TaskState

from . import bounds, display, newest, search, stuck
from .base import MonitorList
from .filters import StateFilter, StuckFilter, TimeFilter
from .keys import is_key
from .paths import RANGES, TIMES, WORKER_PARAMETERS, Path, furthest, path_of, with_id


class LookingList(MonitorList):
    """A list of tasks that knows which of them to look at, and says how far back."""

    #: Since when tasks were looked at; None: all of them were.
    looked_back_to: str | None = None
    #: Query strings that look further, and that list older tasks.
    further: str | None = None
    older: str | None = None
    #: Whether more tasks match than are listed.
    is_cut = False
    #: The query string that looks for the text of which ids begin with what is looked
    #: for, if any do.
    as_text: str | None = None
    #: What is wrong with the search; then nothing is listed.
    search_error = ""

    #: What is listed and what is counted, branch by branch, and both in one.
    branches: list[QuerySet[TaskState]]
    counted: list[QuerySet[TaskState]]
    in_any_state: QuerySet[TaskState]
    #: Whether these are what an index has, and nothing else.
    is_path = False
    #: Whether these are not many more than are listed, and the branches of the index
    #: that has them all.
    are_few = False
    looked_through: Sequence[QuerySet[TaskState]] = ()
    #: How many there are, in each branch of a path, or else in each state.
    numbers: list[int]
    found_in: Mapping[str, int] | None = None
    #: Whether there may be more in a state than are counted.
    counts_are_cut = False

    root_queryset: QuerySet[TaskState]

    # What to list

    def get_queryset(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        """Return the tasks that match, of those that are looked at."""
        for name in WORKER_PARAMETERS & self.filter_params.keys():
            if not all(map(is_key, filter(None, self.filter_params[name]))):
                raise IncorrectLookupParameters
        # The search is applied here.
        text, self.query = self.query.strip(), ""
        rows = super().get_queryset(request, *args, **kwargs)
        self.query = text
        keys = with_id(self.root_queryset, text) if text else []
        # Whoever gives an id, or the beginning of one, most likely wants nothing else.
        found = None if keys else self._search(text)
        if keys:
            self.as_text = self.get_query_string({SEARCH_VAR: search.quoted(text)})
        if self.search_error:
            rows = rows.none()
        elif keys:
            rows = rows.filter(pk__in=keys)
        elif found:
            rows = rows.filter(found.condition)
        self.in_any_state = rows
        if states := self._states():
            rows = rows.filter(state__in=states)
        if self.search_error or keys:
            self.branches = [rows]
            self.counted = [self.in_any_state]
            return rows
        return self._bound(request, rows, found)

    def _search(self, text: str) -> search.Search | None:
        """Return what the search finds, or keep in mind what is wrong with it."""
        if not text:
            return None
        try:
            return search.search(text, self.search_fields)
        except ValidationError as error:
            self.search_error = search.message(error)
            return None

    def _spec(self, kind: type[Any]) -> Any:
        """Return the filter of this kind, if the list has one."""
        return next(
            (spec for spec in self.filter_specs if isinstance(spec, kind)), None
        )

    def _states(self) -> list[str]:
        """Return the states that are chosen, where the list itself filters by them."""
        spec = self._spec(StateFilter)
        return spec.chosen if spec else []

    def _bound(
        self, request: HttpRequest, rows: QuerySet[TaskState], found: Any
    ) -> QuerySet[TaskState]:
        """Return those of ``rows`` that are looked at, and set the branches."""
        paths, is_all = self._paths(found)
        paths = paths or [Path()]
        best, since = paths[0], None
        if rows.query.order_by[:1] == ("tstamp",):
            # An index has both in one direction.
            rows = rows.order_by("tstamp", "pk")
        is_by_time = rows.query.order_by[:1] in {("-tstamp",), ("tstamp",)}
        if not is_all or len(paths) > 1:
            # The counts of all states look along a path of their own.
            others = [path for path in paths if path.column != "state"] or [Path()]
            candidates = list(dict.fromkeys([*paths, *others]))
            among, number = self._among(request), self._number()
            branches = [path.branches(among) for path in candidates]
            times = newest.nth_times(branches, number)
            reached = dict(zip(candidates, times, strict=True))
            best, since = furthest({path: reached[path] for path in paths})
            _path, counted = furthest({path: reached[path] for path in others})
            if counted is not None:
                self.counts_are_cut = True
                self.in_any_state = self.in_any_state.filter(tstamp__gte=counted)
            self.are_few = is_by_time and number <= bounds.LISTED
            if since is not None:
                rows = rows.filter(tstamp__gte=since)
                among = among.filter(tstamp__gte=since)
                self._tell(since, number)
            if best.column:
                rows = rows.filter(best.condition())
                self.looked_through = best.branches(among)
        else:
            self.is_path = True
        self.branches = best.branches(rows) if is_by_time else [rows]
        if self._states():
            self.counted = [self.in_any_state]
        else:
            self.counted, self.counts_are_cut = self.branches, since is not None
        return rows

    def _paths(self, found: search.Search | None) -> tuple[list[Path], bool]:
        """Return the paths of what is asked for, and whether they are all of it."""
        paths: dict[str, Path] = {}
        is_all = True
        if states := self._states():
            paths["state"] = Path("state", tuple(states))
        mine = StateFilter.PARAMETERS if self._spec(StateFilter) else ()
        for name, values in self._lookups().items():
            if name in mine or name in TIMES | RANGES:
                continue
            # Django takes any of several values.
            path = path_of(name, str(values[0])) if len(values) == 1 else None
            is_all = is_all and path is not None
            if path and path.values:
                # Without a value it is no filter.
                paths[path.column] = path
        if found:
            is_all = is_all and found.path is not None
            if found.path and found.path.column not in paths:
                paths[found.path.column] = found.path
            else:
                # The same column twice: at most one of both can have them all.
                is_all = False
        spec = self._spec(StuckFilter)
        if spec and spec.is_chosen() and "state" not in paths:
            states = newest.states(self.root_queryset.db)
            if len(states) < newest.MOST_STATES:
                in_flight = [s for s in states if s not in stuck.FINISHED]
                paths["state"] = Path("state", tuple(in_flight))
        return list(paths.values()), is_all

    def _lookups(self) -> Mapping[str, Any]:
        return dict(self.get_filters_params())

    def get_filters_params(self, *args: Any, **kwargs: Any) -> Any:
        """Return what the address filters by: not how many tasks to look at."""
        lookups = super().get_filters_params(*args, **kwargs)
        lookups.pop(bounds.LOOK, None)
        return lookups

    def _among(self, request: HttpRequest) -> QuerySet[TaskState]:
        """Return all tasks of the time that is chosen, hidden ones among them."""
        times = {k: v for k, v in self._lookups().items() if k in RANGES}
        among: QuerySet[TaskState] = self.root_queryset.model._default_manager.all()
        among = among.using(self.root_queryset.db).filter(
            build_q_object_from_lookup_parameters(times)
        )
        spec = self._spec(TimeFilter)
        return spec.queryset(request, among) if spec else among

    def _tell(self, since: Any, number: int) -> None:
        """Say since when how many tasks are looked at, and link to more of them."""
        self.looked_back_to = display.exact(since)
        self.looked_at = number
        if number < bounds.MOST_LOOKED_AT:
            self.further = self.get_query_string({bounds.LOOK: number * bounds.FURTHER})

    def _number(self) -> int:
        given = self.params.get(bounds.LOOK, "")
        try:
            return max(bounds.LOOKED_AT, min(bounds.MOST_LOOKED_AT, int(given)))
        except ValueError:
            return bounds.LOOKED_AT
