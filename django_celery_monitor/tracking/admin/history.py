"""The tasks of an object, the newest first: what is on a page, what to choose from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from functools import cached_property
from typing import Any, NamedTuple

from django.core.paginator import Page, Paginator
from django.db.models import Count, F, Max, Q
from django.http import QueryDict
from django.utils.functional import Promise
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from django_celery_monitor import conf
from django_celery_monitor.tracking.models import (
    Source,
    TaskObjectLink,
    TaskObjectLinkQuerySet,
)

from . import rows
from .access import Tracked

#: Tasks of an object that are looked at, the newest.
LOOKED_AT = 10_000

#: What can be chosen, by the name in the address: the column of the link.
CHOICES = {
    "name": "task__name",
    "state": "task__state",
    "source": "source",
    "user": "username",
}
#: Whatever else filters: the choice would be too long.
COLUMNS = {**CHOICES, "sender": "source_name"}
TITLES: dict[str, str | Promise] = {
    "name": _("Name"),
    "state": _("State"),
    "source": _("Sent by"),
    "user": _("User"),
    "sender": _("Name of the sender"),
}

#: Values to choose from, of each.
MOST_CHOICES = 50

#: What stands in the address for what is not known.
UNKNOWN = "unknown"


class Choice(NamedTuple):
    """A value to choose, and what the address is then."""

    text: str
    query: str
    number: int
    selected: bool


class History:
    """The tasks of an object that the parameters of an address ask for."""

    def __init__(self, tracked: Tracked, parameters: QueryDict) -> None:
        self._tracked = tracked
        self._parameters = parameters
        #: What the tasks are filtered by.
        self.chosen = {
            name: value for name in COLUMNS if (value := parameters.get(name, ""))
        }

    # What there is

    @cached_property
    def _oldest(self) -> int | None:
        """The key of the first link that is too old to be looked at; None: none is."""
        links = TaskObjectLink.objects.for_object(self._tracked.obj)
        keys = links.order_by("-pk").values_list("pk", flat=True)
        return next(iter(keys[LOOKED_AT : LOOKED_AT + 1]), None)

    @cached_property
    def _newest(self) -> TaskObjectLinkQuerySet:
        """The links to the newest tasks of the object, which are looked at."""
        links = self._tracked.links
        if self._oldest is not None:
            links = links.filter(pk__gt=self._oldest)
        if "sender" in self.chosen:
            links = links.filter(is_chosen("sender", self.chosen["sender"]))
        return links

    @cached_property
    def _groups(self) -> list[dict[str, Any]]:
        """How many of them there are of each name, state and so on."""
        if any("\0" in value for value in self.chosen.values()):
            # No task has it, and PostgreSQL will not be asked.
            return []
        columns = {f"by_{name}": F(column) for name, column in CHOICES.items()}
        groups = self._newest.order_by().values(**columns)
        counted: Any = groups.annotate(
            count=Count("pk"), newest=Max("pk"), written=Max("task__updated_at")
        )
        return list(counted)

    def facts(self) -> list[object]:
        """Return what changes when anything changes that a page shows."""
        return [self._oldest, *sorted(repr(group) for group in self._groups)]

    # What is on the page

    @property
    def is_cut(self) -> bool:
        """Whether there are older tasks, which are not looked at."""
        return self._oldest is not None

    @cached_property
    def count(self) -> int:
        """How many of the tasks that are looked at were asked for."""
        return sum(group["count"] for group in self._groups if self._has(group))

    @cached_property
    def page(self) -> Page[Any]:
        """The page, as the places of its tasks among them all."""
        most = conf.get("monitor_tracker_max_page_size")
        size = conf.get("monitor_tracker_page_size")
        given = self._parameters.get("page_size", "")
        if given.isascii() and given.isdigit() and len(given) < 10:
            size = int(given)
        paginator = Paginator(range(self.count), max(1, min(size, most)))
        return paginator.get_page(self._parameters.get("page"))

    def links(self) -> list[TaskObjectLink]:
        """Return the links of the page, each with its task."""
        places: Any = self.page.object_list
        if not places:
            return []
        links = rows.read(self._newest).order_by("-pk")
        for name, value in self.chosen.items():
            links = links.filter(is_chosen(name, value))
        return list(links[places.start : places.stop])

    # What there is to choose

    def choices(self) -> Iterator[tuple[str | Promise, list[Choice]]]:
        """Yield titles and choices of what tells the tasks apart."""
        for name, title in TITLES.items():
            if name not in CHOICES:
                if name in self.chosen:
                    yield title, self._remove(name)
                continue
            counts: Counter[str] = Counter()
            for group in self._groups:
                if self._has(group, besides=name):
                    counts[group[f"by_{name}"] or UNKNOWN] += group["count"]
            chosen = self.chosen.get(name)
            if chosen is not None:
                counts[chosen] += 0
            if len(counts) > 1 or chosen is not None:
                yield title, self._choices(name, counts)

    def _choices(self, name: str, counts: Counter[str]) -> list[Choice]:
        chosen = self.chosen.get(name)
        choices = [
            Choice(
                gettext("All"),
                self.query(**{name: None}),
                sum(counts.values()),
                selected=not chosen,
            )
        ]
        shown = dict(counts.most_common(MOST_CHOICES))
        if chosen is not None:
            shown[chosen] = counts[chosen]
        for value, count in sorted(shown.items()):
            query = self.query(**{name: value})
            choices.append(
                Choice(text_of(name, value), query, count, selected=value == chosen)
            )
        return choices

    def _remove(self, name: str) -> list[Choice]:
        value = self.chosen[name]
        return [
            Choice(gettext("All"), self.query(**{name: None}), 0, selected=False),
            Choice(value, self.query(), self.count, selected=True),
        ]

    def _has(self, group: dict[str, Any], besides: str = "") -> bool:
        """Return whether the tasks of a group are asked for."""
        return all(
            (group[f"by_{name}"] or UNKNOWN) == self.chosen[name]
            for name in CHOICES
            if name in self.chosen and name != besides
        )

    def query(self, **changes: Any) -> str:
        """Return the query of the address with these values, or with None without."""
        parameters = self._parameters.copy()
        # Another choice begins with its first page.
        for name in ("page", *changes):
            parameters.pop(name, None)
        for name, value in changes.items():
            if value is not None:
                parameters[name] = value
        return f"?{parameters.urlencode()}"


def is_chosen(name: str, value: str) -> Q:
    """Return the condition that a column has a value."""
    column = COLUMNS[name]
    if value == UNKNOWN:
        # Somebody may be called so, too.
        return Q(**{f"{column}__isnull": True}) | Q(**{f"{column}__in": ("", value)})
    return Q(**{column: value})


def text_of(name: str, value: str) -> str:
    """Return a value as people know it."""
    if value == UNKNOWN:
        return gettext("unknown")
    if name == "source" and value in Source.values:
        return str(Source(value).label)
    return value
