"""Records what becomes of tracked tasks, in the worker that runs them."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any
from weakref import WeakKeyDictionary

from celery import signals, states
from celery.utils.saferepr import saferepr
from celery.utils.serialization import get_pickled_exception
from kombu.utils.encoding import safe_repr, safe_str

from . import pool, provenance
from .provenance import Provenance
from .recording import backlog, observe, observer, record, represent
from .registry import task_tracker

#: When the tasks began that run now: what Celery 5.5 and 5.6 do not tell.
_began: WeakKeyDictionary[Any, float] = WeakKeyDictionary()


def connect() -> None:
    """Listen for what becomes of the tasks that this process runs."""
    _listen()
    signals.worker_init.connect(
        _listen, weak=False, dispatch_uid="celery_monitor_tracking.worker"
    )


def _listen(**_: Any) -> None:
    for signal, handler in _HANDLERS:
        uid = f"celery_monitor_tracking.{handler.__name__}"
        # In a worker again: whoever comes last finds the connections that Celery's own
        # handler has closed, and the task goes on with the one that is opened here.
        signal.disconnect(dispatch_uid=uid)
        signal.connect(handler, weak=False, dispatch_uid=uid)


def on_prerun(sender: Any, args: Any, kwargs: Any, **_: Any) -> None:
    """Record that a tracked task starts, how it was called and for which objects."""
    if not task_tracker.registrations(sender.name):
        return
    request = sender.request
    _began[request] = time.monotonic()
    sent_by = provenance.of_execution(request, observer().fit)
    call = (args, kwargs)
    _record(sender, request, "started", call, sent_by, **_message(sender, request))


def on_success(
    sender: Any, result: Any, runtime: float | None = None, **_: Any
) -> None:
    """Record that a tracked task has succeeded."""
    if not task_tracker.registrations(sender.name):
        return
    request = sender.request
    if runtime is None and (began := _began.get(request)) is not None:
        runtime = time.monotonic() - began
    text = saferepr(result, sender.resultrepr_maxsize)
    _record(sender, request, "succeeded", result=text, runtime=runtime)


def on_failure(
    sender: Any, task_id: str, exception: Exception, einfo: Any = None, **_: Any
) -> None:
    """Record that a tracked task has failed, or that its process is lost."""
    if not task_tracker.registrations(sender.name):
        return
    _record(
        sender,
        sender.request,
        "failed",
        uuid=task_id,
        exception=safe_repr(get_pickled_exception(exception)),
        traceback=None if einfo is None else safe_str(einfo.traceback),
    )


def on_retry(
    sender: Any, request: Any, reason: Any = None, einfo: Any = None, **_: Any
) -> None:
    """Record that a tracked task is tried again, and which attempt has failed."""
    if not task_tracker.registrations(sender.name):
        return
    _record(
        sender,
        request,
        "retried",
        exception=None if reason is None else safe_repr(reason.exc),
        traceback=None if einfo is None else safe_str(einfo.traceback),
        attempt=request.retries,
    )


def on_revoked(
    sender: Any, request: Any, *, terminated: bool, expired: bool, **_: Any
) -> None:
    """Record that a tracked task was revoked, before it ran or while it did."""
    if not task_tracker.registrations(sender.name):
        return
    sent_by = provenance.of_execution(request, observer().fit)
    _record(
        sender,
        request,
        "revoked",
        (request.args, request.kwargs),
        sent_by,
        terminated=terminated,
        expired=expired,
        **_message(sender, request),
    )


def on_postrun(
    sender: Any, state: str | None = None, retval: Any = None, **_: Any
) -> None:
    """Record that a tracked task has ended without an outcome."""
    if state not in {states.IGNORED, states.REJECTED}:
        return
    if not task_tracker.registrations(sender.name):
        return
    requeue = getattr(retval, "requeue", False)
    _record(sender, sender.request, state.lower(), requeue=requeue)


def on_process_shutdown(**_: Any) -> None:
    """Write what is left before a process of the pool ends."""
    backlog.flush()


_HANDLERS = (
    (signals.task_prerun, on_prerun),
    (signals.task_success, on_success),
    (signals.task_failure, on_failure),
    (signals.task_retry, on_retry),
    (signals.task_revoked, on_revoked),
    (signals.task_postrun, on_postrun),
    (signals.worker_process_shutdown, on_process_shutdown),
)


def _record(
    task: Any,
    request: Any,
    what: str,
    call: tuple[Sequence[Any], Mapping[str, Any]] | None = None,
    sent_by: Provenance | None = None,
    **fields: Any,
) -> None:
    """Record what has happened, as the event says it that Celery sends of it."""
    now = time.time()
    event = {
        "type": f"task-{what}",
        "uuid": request.id,
        # No worker runs what runs at once, in the process that calls it.
        "hostname": None if request.is_eager else pool.hostname() or request.hostname,
        "timestamp": now,
        "local_received": now,
        **fields,
    }
    record(observe(task.name, event, call, sent_by))


def _message(task: Any, request: Any) -> dict[str, Any]:
    """Return what the message of a task says, as the event of its receipt has it."""
    return {
        "name": request.shadow or task.name,
        "args": request.get("argsrepr") or represent(request.args),
        "kwargs": request.get("kwargsrepr") or represent(request.kwargs),
        "retries": request.retries,
        "eta": request.eta,
        "expires": request.expires,
        "root_id": request.root_id,
        "parent_id": request.parent_id,
    }
