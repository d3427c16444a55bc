"""The commands that workers are told, and how the admin speaks of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from django.utils.translation import gettext, ngettext_lazy
from django.utils.translation import gettext_lazy as _

from . import actions
from .replies import Conversation


def asking(command: str, **arguments: Any) -> Callable[[Conversation, object], object]:
    """Return what sends ``command`` to the workers and takes their answers."""
    return lambda workers, _nodes: workers.ask(command, **arguments)


SHUTDOWN = actions.Command(
    # A worker on its way out gives no answer.
    send=lambda workers, _nodes: workers.tell("shutdown"),
    title=_("Shut down workers"),
    explanation=_(
        "These workers will finish the tasks they are running and exit. Nothing"
        " starts them again, unless something outside Celery does."
    ),
    done=ngettext_lazy(
        "%(count)d worker was told to shut down.",
        "%(count)d workers were told to shut down.",
        "count",
    ),
    log=_("Told it to shut down."),
)
ENABLE_EVENTS = actions.Command(
    send=asking("enable_events"),
    title=_("Enable events of workers"),
    explanation=_(
        "These workers will send events about the tasks they run, until they are told"
        " otherwise or restart."
    ),
    done=ngettext_lazy(
        "%(count)d worker was told to send events.",
        "%(count)d workers were told to send events.",
        "count",
    ),
    log=_("Told it to send events."),
)
DISABLE_EVENTS = actions.Command(
    send=asking("disable_events"),
    title=_("Disable events of workers"),
    explanation=_(
        "These workers will send no events about the tasks they run: such tasks are"
        " not seen here, until the workers are told otherwise or restart."
    ),
    done=ngettext_lazy(
        "%(count)d worker was told to send no events.",
        "%(count)d workers were told to send no events.",
        "count",
    ),
    log=_("Told it to send no events."),
)
PING = actions.Command(
    send=asking("ping"),
    title=_("Ping workers"),
    explanation=_(
        "These workers will be asked for a sign of life. One that runs a task in its"
        " own process (the pool solo) answers when that has ended."
    ),
    done=ngettext_lazy(
        "%(count)d worker was pinged.", "%(count)d workers were pinged.", "count"
    ),
    log=_("Pinged it."),
)
POOL_RESTART = actions.Command(
    send=asking("pool_restart"),
    title=_("Restart the pools of workers"),
    explanation=_(
        "These workers will replace the processes of their pools; tasks that are"
        " running there are ended. A worker refuses unless its setting"
        " worker_pool_restarts is on."
    ),
    done=ngettext_lazy(
        "%(count)d worker was told to restart its pool.",
        "%(count)d workers were told to restart their pools.",
        "count",
    ),
    log=_("Told it to restart its pool."),
)


def pool_grow(entered: Mapping[str, Any]) -> actions.Command:
    """Return the command that adds processes to pools."""
    return actions.Command(
        send=asking("pool_grow", n=entered.get("n")),
        title=_("Grow the pools of workers"),
        explanation=_(
            "These workers will run more tasks at a time, until they are told"
            " otherwise or restart. One that scales by itself refuses."
        ),
        done=ngettext_lazy(
            "%(count)d worker was told to grow its pool.",
            "%(count)d workers were told to grow their pools.",
            "count",
        ),
        log=gettext("Told it to grow its pool by %(n)s.") % {"n": entered.get("n")},
    )


def pool_shrink(entered: Mapping[str, Any]) -> actions.Command:
    """Return the command that takes processes out of pools."""
    return actions.Command(
        send=asking("pool_shrink", n=entered.get("n")),
        title=_("Shrink the pools of workers"),
        explanation=_(
            "These workers will run fewer tasks at a time, until they are told"
            " otherwise or restart. One that scales by itself refuses."
        ),
        done=ngettext_lazy(
            "%(count)d worker was told to shrink its pool.",
            "%(count)d workers were told to shrink their pools.",
            "count",
        ),
        log=gettext("Told it to shrink its pool by %(n)s.") % {"n": entered.get("n")},
    )


def add_consumer(entered: Mapping[str, Any]) -> actions.Command:
    """Return the command that has workers consume from a queue."""
    queue = entered.get("queue", "")
    return actions.Command(
        send=asking("add_consumer", queue=queue),
        title=_("Add a consumer to workers"),
        explanation=_(
            "These workers will take tasks from this queue as well, until they are"
            " told otherwise or restart. A queue that does not exist is created."
        ),
        done=ngettext_lazy(
            "%(count)d worker was told to consume from the queue.",
            "%(count)d workers were told to consume from the queue.",
            "count",
        ),
        log=gettext("Told it to consume from the queue %(queue)s.") % {"queue": queue},
    )


def cancel_consumer(entered: Mapping[str, Any]) -> actions.Command:
    """Return the command that has workers consume from a queue no more."""
    queue = entered.get("queue", "")
    return actions.Command(
        send=asking("cancel_consumer", queue=queue),
        title=_("Cancel a consumer of workers"),
        explanation=_(
            "These workers will take no more tasks from this queue, until they are"
            " told otherwise or restart. What they have taken already they will run."
        ),
        done=ngettext_lazy(
            "%(count)d worker was told to consume no more from the queue.",
            "%(count)d workers were told to consume no more from the queue.",
            "count",
        ),
        log=gettext("Told it to consume no more from the queue %(queue)s.")
        % {"queue": queue},
    )


FORGET = actions.Question(
    title=_("Forget workers"),
    explanation=_(
        "The rows of these workers will be deleted. The tasks that they ran stay. A"
        " worker that is heard of again comes back."
    ),
)
