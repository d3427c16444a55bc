"""Decides when, where and by whom what was observed of a tracked task is written."""

from __future__ import annotations

import asyncio
import atexit
import os
from collections.abc import Mapping, Sequence
from functools import cache, partial
from typing import Any

from celery import Celery
from celery.utils.saferepr import saferepr
from django.db import connections, router

from django_celery_monitor import conf
from django_celery_monitor.models import TaskState
from django_celery_monitor.observation import Event, Observer
from django_celery_monitor.sanitize import Sanitizer

from . import pool, provenance
from .backlog import Backlog
from .provenance import Provenance
from .registry import task_tracker
from .time_limit import connect
from .writing import Observed, write


def observer() -> Observer:
    """Return what turns events into columns, as the settings of the project say."""
    return _observer(conf.get_app())


@cache
def _observer(app: Celery) -> Observer:
    return Observer(Sanitizer.from_settings(app))


def represent(arguments: Any) -> str:
    """Return arguments as the messages of tasks show them, cut at the same length."""
    return str(saferepr(arguments, conf.get_app().amqp.argsrepr_maxsize))


def observe(
    task_name: str,
    event: Event,
    call: tuple[Sequence[Any], Mapping[str, Any]] | None = None,
    sent_by: Provenance | None = None,
) -> Observed:
    """Return what an event of a tracked task says.

    ``call`` are the arguments of the task, where its objects are to be linked.
    """
    task_id, seen = observer().task(event)
    objects: tuple[Mapping[str, Any] | None, ...] = ()
    if call is not None:
        registrations = task_tracker.registrations(task_name)
        objects = tuple(registration.values(*call) for registration in registrations)
    return Observed(task_name, task_id, seen, objects, sent_by)


def record(observed: Observed) -> None:
    """Write what was observed when and where it harms nobody.

    That is after the transaction of the project's, if there is one; not on an event
    loop; and not in the main process of a worker, where it is left to the pool. What
    the database does not take is logged, and kept for a while. Raises nothing.
    """
    if pool.is_consumer():
        if pool.has_children():
            pool.run_in_child(record_in_child, observed)
        else:
            backlog.add(observed)
        return
    if _on_event_loop():
        backlog.add(observed)
        return
    connection = connections[router.db_for_write(TaskState)]
    if connection.in_atomic_block:
        connection.on_commit(partial(_write_now, observed), robust=True)
    else:
        _write_now(observed)


def record_in_child(observed: Observed) -> None:
    """Write what the main process of a worker has observed, between two tasks."""
    _write_now(observed)
    connections.close_all()


def _write_now(observed: Observed) -> None:
    connection = connections[router.db_for_write(TaskState)]
    if backlog.failing or _waits_for_pool(connection):
        backlog.add(observed)
        return
    was_connected = connection.connection is not None
    try:
        connect(connection)
        if connection.in_atomic_block or connection.autocommit:
            write(observed)
        else:
            # Nobody can tell when a transaction ends that was begun by hand.
            backlog.add(observed)
    except Exception as error:  # noqa: BLE001 -- whatever it is, the task goes on
        backlog.fail(observed, error)
        connected = connection.connection is not None
        if connected and not (connection.in_atomic_block or connection.is_usable()):
            connection.close()
    finally:
        if provenance.is_beat() and not was_connected:
            connection.close()


def _waits_for_pool(connection: Any) -> bool:
    """Return whether the driver's pool of connections is to be asked for one.

    That takes as long as the pool says, whatever is waited for.
    """
    return connection.connection is None and bool(
        connection.settings_dict["OPTIONS"].get("pool")
    )


def _write_in_thread(observed: Observed) -> None:
    connection = connections[router.db_for_write(TaskState)]
    connect(connection)
    # Whatever the project's own connections begin with.
    connection.set_autocommit(True)
    write(observed)


def _on_event_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


backlog = Backlog(_write_in_thread)
atexit.register(backlog.flush)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=backlog.reset)
