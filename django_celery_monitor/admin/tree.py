"""The tasks around a task, as the ids of root and parent tell it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from django.db import models
from django.db.models import QuerySet

from django_celery_monitor.models import TaskState

#: Tasks that a tree has at most.
MOST = 500
#: How many tasks above the task are looked for one by one, in a tree that is too big.
MOST_ABOVE = 10

#: What a tree shows of a task; its texts can be long.
COLUMNS = (
    *("task_id", "parent_id", "root_id", "name", "state", "retries", "runtime"),
    *("tstamp", "sent_at", "received_at", "started_at"),
)


@dataclass(frozen=True)
class Node:
    """A task in its place in the tree."""

    task_id: str
    #: How many tasks are above it.
    depth: int
    #: None: nothing is known of the task but that it is the parent of others.
    task: TaskState | None
    #: It is said to be the child of a task below it: the tree begins here all the same.
    circular: bool = False


def grow(parents: Sequence[tuple[str, str | None]]) -> Iterator[tuple[str, int, bool]]:
    """Yield the id of each task, its depth, and whether it is its own ancestor.

    ``parents`` has the id of each task, once, and that of its parent or None. Every id
    comes once, after its parent and next to its sisters in the order of ``parents``;
    a parent that is not among the tasks comes above them. Parents may be any ids: the
    tree is finite where they go round in a circle.
    """
    known = dict(parents)
    children: dict[str | None, list[str]] = {}
    for task_id, parent in parents:
        missing = parent is not None and parent not in known
        if missing and parent not in children:
            children.setdefault(None, []).append(parent or "")
        children.setdefault(parent, []).append(task_id)
    seen: set[str] = set()

    def below(begin: str, *, circular: bool) -> Iterator[tuple[str, int, bool]]:
        stack = [(begin, 0)]
        while stack:
            task_id, depth = stack.pop()
            if task_id in seen:
                continue
            seen.add(task_id)
            yield task_id, depth, circular and not depth
            stack += [
                (child, depth + 1) for child in reversed(children.get(task_id, ()))
            ]

    for task_id in children.get(None, ()):
        yield from below(task_id, circular=False)
    # What has not come by now is on a circle, or below one.
    for task_id, _parent in parents:
        if task_id not in seen:
            yield from below(on_circle(task_id, known), circular=True)


def on_circle(task_id: str, parents: dict[str, str | None]) -> str:
    """Return the first task on the circle that the parents of ``task_id`` lead to."""
    passed = set()
    while task_id not in passed:
        passed.add(task_id)
        task_id = parents[task_id] or ""
    return task_id


def around(tasks: QuerySet[TaskState], task: TaskState) -> tuple[list[Node], bool]:
    """Return the tree that ``task`` is in, and whether it has more than ``MOST`` tasks.

    That are those of ``tasks`` with its root, in few queries however many there are.
    Of too many it has the task, those above it, and any others.
    """
    tasks = tasks.only(*COLUMNS).order_by()
    root = task.root_id or task.task_id
    # The keys first, by root alone: MariaDB would join the indexes of root and of
    # hidden, which reads half of the table.
    manager: models.Manager[TaskState] = tasks.model._default_manager
    alike = manager.using(tasks.db).filter(root_id=root).order_by()
    keys = list(alike.values_list("pk", flat=True)[: MOST + 1])
    found = {row.task_id: row for row in tasks.filter(pk__in=keys[:MOST])}
    kept = {row.task_id: row for row in lineage(tasks, task, root, found)}
    more = len(keys) > MOST or len({**found, **kept}) > MOST
    for task_id, row in found.items():
        if len(kept) < MOST:
            kept.setdefault(task_id, row)
    parents = [
        (row.task_id, row.parent_id or None) for row in sorted(kept.values(), key=began)
    ]
    nodes = [
        Node(task_id, depth, kept.get(task_id), circular)
        for task_id, depth, circular in grow(parents)
    ]
    return nodes, more


def lineage(
    tasks: QuerySet[TaskState],
    task: TaskState,
    root: str,
    found: dict[str, TaskState],
) -> Iterator[TaskState]:
    """Yield ``task``, its root and those above it; ``found`` is known already."""
    yield task
    wanted = {root, task.parent_id or root} - {*found, task.task_id}
    if wanted:
        found = {
            **found,
            **{row.task_id: row for row in tasks.filter(task_id__in=wanted)},
        }
    if root in found:
        yield found[root]
    asked, passed = 0, {task.task_id}
    parent = task.parent_id
    while parent and parent not in passed:
        passed.add(parent)
        above = found.get(parent)
        if above is None and parent not in wanted and asked < MOST_ABOVE:
            asked += 1
            above = tasks.filter(task_id=parent).first()
        if above is None:
            return
        yield above
        parent = above.parent_id


def began(task: TaskState) -> tuple[datetime, str]:
    """Return what puts tasks in the order in which they began."""
    when = task.sent_at or task.received_at or task.started_at or task.tstamp
    return when, task.task_id
