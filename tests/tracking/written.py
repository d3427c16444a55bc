"""A task that is sent, and what the tracker has written of it."""

from __future__ import annotations

from typing import Any

from django.test.utils import CaptureQueriesContext

from django_celery_monitor.models import TaskState
from django_celery_monitor.tracking.models import TaskObjectLink

#: Statements that begin, end or mark a part of a transaction.
OF_TRANSACTIONS = ("BEGIN", "COMMIT", "RELEASE", "ROLLBACK", "SAVEPOINT")


def send(task: Any, *args: Any, **options: Any) -> str:
    """Send a task; return its id."""
    return str(task.apply_async(args, **options).id)


def row_of(task_id: str) -> dict[str, Any] | None:
    """Return the columns of the row of a task; None: there is none."""
    found: Any = TaskState.objects.filter(task_id=task_id).values().first()
    return dict(found) if found else None


def links_of(task_id: str) -> set[tuple[str, str, str]]:
    """Return model, object and role of each link of a task."""
    links = TaskObjectLink.objects.filter(task__task_id=task_id) | (
        TaskObjectLink.objects.filter(task=task_id)  # type: ignore[misc]
    )
    return {
        (link.content_type.model, link.object_id, link.role)
        for link in links.select_related("content_type")
    }


def statements(captured: CaptureQueriesContext) -> list[str]:
    """Return the statements that were captured, apart from those of transactions."""
    queries = [query["sql"] for query in captured.captured_queries]
    return [sql for sql in queries if not sql.startswith(OF_TRANSACTIONS)]
