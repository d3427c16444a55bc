"""The page that asks a worker what it is doing."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from celery.app.defaults import DEFAULTS
from django.contrib.admin import AdminSite
from django.contrib.admin.exceptions import NotRegistered
from django.contrib.admin.utils import unquote
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import path
from django.utils.text import Truncator
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from django_celery_monitor import conf
from django_celery_monitor.models import TaskState, WorkerState
from django_celery_monitor.sanitize import Sanitizer, fit_identifier

from . import actions, broker
from .base import ModelMonitor
from .replies import LONGEST, Conversation, Reply

#: Seconds that all the answers of a worker may take.
PATIENCE = 6

#: Tasks, queues and names that are shown of each list, and characters of what is
#: shown as it is.
MOST, LONGEST_TEXT = 100, 20_000

#: What a worker is asked, and what the page says of it.
QUESTIONS: Mapping[str, dict[str, Any]] = {
    "ping": {},
    "stats": {},
    # The arguments as the project lets them be shown.
    "active": {"safe": True},
    "reserved": {},
    "scheduled": {},
    "active_queues": {},
    "registered": {},
}
TITLES = {
    "active": _("Running"),
    "reserved": _("Reserved: taken from a queue, not started yet"),
    "scheduled": _("Scheduled: waiting for their ETA"),
}

#: The same, for those who may control workers alone.
CONFIDENTIAL: Mapping[str, dict[str, Any]] = {"conf": {"with_defaults": False}}


class InspectWorkers(ModelMonitor):
    """The page of a worker's own answers."""

    inspect_template = "django_celery_monitor/inspect_worker.html"

    def get_urls(self) -> list[Any]:
        """Return the addresses of the pages, with that of the worker's answers."""
        view = self.admin_site.admin_view(self.inspect_view)
        name = f"{self.opts.app_label}_{self.opts.model_name}_inspect"
        return [
            path("<path:object_id>/inspect/", view, name=name),
            *super().get_urls(),
        ]

    def get_page_links(
        self, request: HttpRequest, object_id: str
    ) -> list[tuple[str, str]]:
        """Return the link to the worker's answers."""
        links = super().get_page_links(request, object_id)
        return [*links, ("../inspect/", gettext("Ask the worker"))]

    def inspect_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Ask a worker, and show what it answers in time."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        worker = self.get_object(request, unquote(object_id))
        if worker is None:
            return self._get_obj_does_not_exist_redirect(request, self.opts, object_id)
        if not self.has_view_permission(request, worker):
            raise PermissionDenied
        tasks = tasks_for(self.admin_site, request)
        trusted = self.has_control_permission(request)
        questions = {**QUESTIONS, **(CONFIDENTIAL if trusted else {})}
        answers, error = ask(worker, questions)
        return TemplateResponse(
            request,
            self.inspect_template,
            {
                **self.admin_site.each_context(request),
                "title": gettext("Ask the worker"),
                "subtitle": None,
                "opts": self.opts,
                "media": self.media,
                "worker": worker,
                "worker_url": actions.page_url(self, worker),
                "error": error,
                "silent": not (answers or error),
                "unanswered": [name for name in questions if name not in answers],
                **Answers(answers, tasks, trusted=trusted).context(),
            },
        )


def ask(
    worker: WorkerState, questions: Mapping[str, dict[str, Any]]
) -> tuple[dict[str, Any], str]:
    """Return the worker's answers, and what is wrong with the broker if anything is.

    A worker that gives no sign of life is not asked. One that does may still have no
    answer to a question: what it would say can be more than its serializer takes.
    """
    answers: dict[str, Any] = {}
    try:
        with broker.connect() as (control, connection):
            told = [worker.hostname]
            workers = Conversation(control, connection, told, patience=PATIENCE)
            for command, arguments in questions.items():
                said = workers.ask(command, **arguments)
                if worker.hostname in said:
                    answers[command] = said[worker.hostname]
                elif workers.unreadable:
                    answers[command] = {"error": workers.unreadable}
                elif not answers:
                    break
    except broker.BrokerError as exc:
        return answers, str(exc)
    return answers, ""


def tasks_for(site: AdminSite, request: HttpRequest) -> QuerySet[TaskState] | None:
    """Return the tasks that the user may see on this site; None: none."""
    try:
        monitor = site.get_model_admin(TaskState)
    except NotRegistered:
        return None
    if not monitor.has_view_permission(request):
        return None
    tasks: QuerySet[TaskState] = monitor.get_queryset(request)
    return tasks


class Answers:
    """What a worker answered, which may be anything, made fit to be shown."""

    def __init__(
        self,
        answers: Mapping[str, Any],
        tasks: QuerySet[TaskState] | None,
        *,
        trusted: bool,
    ) -> None:
        self.answers = answers
        self.tasks = tasks
        self.trusted = trusted
        self.sanitizer = Sanitizer.from_settings()

    def context(self) -> dict[str, Any]:
        """Return what the template shows."""
        may_see_tasks = self.tasks is not None
        lists = {name: self._tasks(name) for name in TITLES if name in self.answers}
        ids = [task["task_id"] for tasks, _more in lists.values() for task in tasks]
        rows = self._rows(ids)
        known = self._known(ids)
        for tasks, _more in lists.values():
            for task in tasks:
                row = rows.get(task["task_id"])
                task["pk"] = row and row.pk
                if not may_see_tasks or (row is None and task["task_id"] in known):
                    task["call"] = ""
                elif row and row.args is not None:
                    task["call"] = self._line(f"{row.args} {row.kwargs or ''}")
        return {
            "may_see_tasks": may_see_tasks,
            "facts": list(self._facts()),
            "totals": self._totals(),
            "stats": self._stats(),
            "task_lists": [
                (TITLES[name], tasks, more) for name, (tasks, more) in lists.items()
            ],
            "queues": self._queues() if "active_queues" in self.answers else None,
            "registered": self._registered(),
            "conf": self._conf(),
            "errors": list(self._errors()),
        }

    def _errors(self) -> Iterator[str]:
        """Yield what the worker refused to say."""
        for name, answer in self.answers.items():
            if isinstance(answer, dict) and set(answer) == {"error"}:
                yield f"{name}: {Reply.read('', answer).text}"

    def _facts(self) -> Iterator[tuple[str, str]]:
        """Yield what matters most of the statistics."""
        stats = _dict(self.answers.get("stats"))
        pool = _dict(stats.get("pool"))
        for title, value in (
            (gettext("process id"), stats.get("pid")),
            (gettext("uptime in seconds"), stats.get("uptime")),
            (gettext("pool"), pool.get("implementation")),
            (gettext("tasks at a time"), pool.get("max-concurrency")),
            (gettext("processes"), pool.get("processes")),
            (gettext("time limits"), pool.get("timeouts")),
            (gettext("prefetched at most"), stats.get("prefetch_count")),
        ):
            if value is not None:
                yield title, self._line(value)

    def _totals(self) -> list[tuple[str, str]]:
        """Return how many tasks of each name the worker has taken."""
        totals = _dict(_dict(self.answers.get("stats")).get("total"))
        some = list(totals.items())[:MOST]
        return [(self._line(name), self._line(count)) for name, count in some]

    def _stats(self) -> str:
        """Return all of the statistics; how to reach the broker is confidential."""
        stats = _dict(self.answers.get("stats"))
        if not self.trusted:
            stats = {key: stats[key] for key in stats if key != "broker"}
        return self._text(stats) if stats else ""

    def _conf(self) -> str:
        """Return the worker's configuration.

        Celery's alone: a worker tells all of Django's settings where it reads them.
        """
        told = _dict(self.answers.get("conf"))
        celery = {key: told[key] for key in told if is_setting_of_celery(key)}
        return self._text(celery) if celery else ""

    def _tasks(self, name: str) -> tuple[list[dict[str, Any]], int]:
        """Return the tasks of a list, and how many more there are."""
        found = _list(self.answers[name])
        tasks = []
        for item in map(_dict, found[:MOST]):
            # A scheduled one is within what says when it is due.
            task = _dict(item.get("request")) or item
            args, kwargs = task.get("args", ""), task.get("kwargs", "")
            tasks.append(
                {
                    "id": self._line(task.get("id", "")),
                    # As it is stored.
                    "task_id": fit_identifier(str(task.get("id", ""))),
                    "name": self._line(task.get("name") or task.get("type", "")),
                    # Only the running ones come as the project lets them be shown.
                    "call": self._line(f"{args} {kwargs}") if name == "active" else "",
                    "eta": self._line(item.get("eta") or ""),
                    "pid": self._line(task.get("worker_pid") or ""),
                }
            )
        return tasks, len(found) - len(tasks)

    def _rows(self, ids: Iterable[str]) -> dict[str, TaskState]:
        """Return the rows of tasks by their ids, with the arguments as stored."""
        if self.tasks is None:
            return {}
        rows = self.tasks.filter(task_id__in=set(ids))
        return {row.task_id: row for row in rows.only("task_id", "args", "kwargs")}

    def _known(self, ids: Iterable[str]) -> set[str]:
        """Return those of ``ids`` that have a row, whoever may see it."""
        if self.tasks is None:
            return set()
        rows = TaskState._default_manager.using(self.tasks.db).order_by()
        found = rows.filter(task_id__in=set(ids))
        return set(found.values_list("task_id", flat=True))

    def _queues(self) -> list[tuple[str, str, str]]:
        """Return name, exchange and routing key of each queue."""
        return [
            (
                self._line(queue.get("name", "")),
                self._line(_dict(queue.get("exchange")).get("name", "")),
                self._line(queue.get("routing_key") or ""),
            )
            for queue in map(_dict, _list(self.answers["active_queues"])[:MOST])
        ]

    def _registered(self) -> list[str]:
        """Return the names of the tasks that the worker knows, with rate limits."""
        names = _list(self.answers.get("registered"))[: MOST * 5]
        return [self._line(name) for name in names]

    def _line(self, value: object) -> str:
        """Return a value in short, its secrets masked."""
        text = self.sanitizer.text(str(value)[: LONGEST * 2])
        return Truncator(text).chars(LONGEST)

    def _text(self, value: object) -> str:
        """Return a value on lines of their own, its secrets masked."""
        try:
            text = json.dumps(value, indent=2, ensure_ascii=False, default=repr)
        except (RecursionError, TypeError, ValueError):
            return gettext("The answer cannot be shown.")
        cut = "…" if len(text) > LONGEST_TEXT else ""
        return self.sanitizer.text(text[:LONGEST_TEXT]) + cut


def is_setting_of_celery(key: str) -> bool:
    """Return whether a setting is Celery's, with or without a prefix, or ours."""
    name = key.lower()
    prefix = str(conf.get_app().conf.prefix or "").lower()
    names = {name, name.removeprefix(prefix), name.partition("_")[2]}
    return any(each in DEFAULTS or each in conf.SETTINGS for each in names)


def _dict(value: object) -> dict[str, Any]:
    """Return a value if it is a dict, else an empty one."""
    return value if isinstance(value, dict) else {}


def _list(value: object) -> list[Any]:
    """Return a value if it is a list, else an empty one."""
    return value if isinstance(value, list) else []
