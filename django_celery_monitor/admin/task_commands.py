"""The commands about tasks, and how the admin speaks of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from django.utils.translation import gettext, ngettext_lazy
from django.utils.translation import gettext_lazy as _

from django_celery_monitor.models import TaskState

from . import actions
from .replies import Conversation


def revoke(workers: Conversation, tasks: Sequence[TaskState], **arguments: Any) -> None:
    """Tell all workers to revoke ``tasks``."""
    workers.ask("revoke", task_id=[task.task_id for task in tasks], **arguments)


def limit(
    workers: Conversation, tasks: Sequence[TaskState], command: str, **limits: Any
) -> None:
    """Tell all workers the ``limits`` of tasks of these names."""
    for name in sorted({task.name for task in tasks if task.name}):
        workers.ask(command, task_name=name, **limits)


REVOKE = actions.Command(
    send=partial(revoke, terminate=False),
    title=_("Revoke tasks"),
    explanation=_(
        "Workers will not start these tasks. What is running already goes on."
    ),
    done=ngettext_lazy(
        "The workers were told to revoke %(count)d task.",
        "The workers were told to revoke %(count)d tasks.",
        "count",
    ),
    log=_("Told the workers to revoke it."),
)
TERMINATE = actions.Command(
    send=partial(revoke, terminate=True, signal="SIGTERM"),
    title=_("Terminate tasks"),
    explanation=_(
        "Workers will not start these tasks, and send SIGTERM to the process of each"
        " one that is running. Another task may have started there in the meantime."
    ),
    done=ngettext_lazy(
        "The workers were told to terminate %(count)d task.",
        "The workers were told to terminate %(count)d tasks.",
        "count",
    ),
    log=_("Told the workers to terminate it (SIGTERM)."),
)
KILL = actions.Command(
    send=partial(revoke, terminate=True, signal="SIGKILL"),
    title=_("Kill tasks"),
    explanation=_(
        "Workers will not start these tasks, and send SIGKILL to the process of each"
        " one that is running: it ends at once, whatever it is doing. Another task"
        " may have started there in the meantime."
    ),
    done=ngettext_lazy(
        "The workers were told to kill %(count)d task.",
        "The workers were told to kill %(count)d tasks.",
        "count",
    ),
    log=_("Told the workers to kill it (SIGKILL)."),
)


def rate_limit(entered: Mapping[str, Any]) -> actions.Command:
    """Return the command that limits the rate of tasks."""
    rate = entered.get("rate_limit", "")
    return actions.Command(
        send=partial(limit, command="rate_limit", rate_limit=rate),
        title=_("Limit the rate of tasks"),
        explanation=_(
            "Each worker will start the tasks of a name at this rate at most, until"
            " it is told otherwise or restarts. This holds for every task of the"
            " name, selected or not."
        ),
        done=ngettext_lazy(
            "The workers were told the rate limit of %(count)d task name.",
            "The workers were told the rate limit of %(count)d task names.",
            "count",
        ),
        log=gettext("Told the workers to limit tasks of its name to %(rate)s.")
        % {"rate": rate},
    )


def time_limit(entered: Mapping[str, Any]) -> actions.Command:
    """Return the command that limits the time of tasks."""
    soft, hard = entered.get("soft"), entered.get("hard")
    return actions.Command(
        send=partial(limit, command="time_limit", soft=soft, hard=hard),
        title=_("Limit the time of tasks"),
        explanation=_(
            "Each worker will let the tasks of a name run no longer than this, until"
            " it is told otherwise or restarts. This holds for every task of the"
            " name that starts from now on, selected or not."
        ),
        done=ngettext_lazy(
            "The workers were told the time limits of %(count)d task name.",
            "The workers were told the time limits of %(count)d task names.",
            "count",
        ),
        log=gettext(
            "Told the workers the time limits of tasks of its name: soft %(soft)s,"
            " hard %(hard)s."
        )
        % {"soft": in_seconds(soft), "hard": in_seconds(hard)},
    )


def in_seconds(limit: float | None) -> str:
    """Return a time limit in words."""
    if limit is None:
        return gettext("none")
    return gettext("%(number)s s") % {"number": f"{limit:g}"}
