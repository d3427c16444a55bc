"""``manage.py celery_monitor``: the camera, and the deletion of what has expired."""

from __future__ import annotations

import math
from argparse import ArgumentTypeError
from typing import Any

from celery import Celery, states
from celery.events.snapshot import evcam
from celery.platforms import EX_UNAVAILABLE
from celery.utils.imports import symbol_by_name
from celery.utils.log import mlevel
from celery.utils.time import rate
from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import OperationalError, connections
from kombu.exceptions import OperationalError as BrokerError

from django_celery_monitor import conf
from django_celery_monitor.retention import Purged, Retention

CAMERA = "django_celery_monitor.camera.Camera"
LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL", "FATAL")

#: Options of the camera that stand for settings: name, setting, type, value, help.
SETTINGS: tuple[tuple[str, str, type, str, str], ...] = (
    (
        *("--durable-queue", "monitor_durable_queue", str, "NAME"),
        "RabbitMQ: read from this durable queue.",
    ),
    (
        *("--durable-queue-type", "monitor_durable_queue_type", str, "TYPE"),
        "RabbitMQ: classic or quorum.",
    ),
    (
        *("--durable-queue-ttl", "monitor_durable_queue_ttl", float, "SECONDS"),
        "RabbitMQ: how long an event waits in the durable queue.",
    ),
    (
        *("--durable-queue-max-length", "monitor_durable_queue_max_length"),
        *(int, "EVENTS", "RabbitMQ: how many events wait in the durable queue."),
    ),
    (
        *("--durable-prefetch", "monitor_durable_prefetch", int, "EVENTS"),
        "RabbitMQ: how many events are under way before they are saved.",
    ),
    (
        *("--max-tasks", "monitor_outbox_max_tasks", int, "TASKS"),
        "How many tasks are kept that are not yet saved.",
    ),
    (
        *("--max-bytes", "monitor_outbox_max_bytes", int, "BYTES"),
        "How many bytes are kept that are not yet saved.",
    ),
    (
        *("--max-text-length", "monitor_max_text_length", int, "CHARACTERS"),
        "Where each text of a task is cut.",
    ),
    (
        *("--flush-timeout", "monitor_flush_timeout", float, "SECONDS"),
        "How long the last snapshot may take.",
    ),
)


def positive(text: str) -> float:
    """Return a positive finite number; raises ArgumentTypeError for other texts."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 < number < math.inf:
        msg = f"not a positive number: {text!r}"
        raise ArgumentTypeError(msg)
    return number


def loglevel(text: str) -> int:
    """Return the number of a log level; raises ArgumentTypeError for other texts."""
    if text.upper() not in LOG_LEVELS:
        msg = f"not one of {', '.join(LOG_LEVELS)}: {text!r}"
        raise ArgumentTypeError(msg)
    return int(mlevel(text.upper()))


def maxrate(text: str) -> str:
    """Return a rate such as ``10/m``; raises ArgumentTypeError for other texts."""
    try:
        valid = 0 < rate(text) < math.inf
    except (KeyError, ValueError):
        valid = False
    if not valid:
        msg = f"not a rate such as 10/m: {text!r}"
        raise ArgumentTypeError(msg)
    return text


class Command(BaseCommand):
    """The command, with a subcommand for each thing that it does."""

    help = "Runs the camera of the Celery monitor, or deletes what has expired."

    def add_arguments(self, parser: CommandParser) -> None:
        """Add the subcommands and their options."""
        subcommands = parser.add_subparsers(
            title="subcommands", dest="subcommand", metavar="subcommand", required=True
        )
        camera_help = "Take snapshots of what the cluster does and save them."
        self.add_camera_arguments(
            subcommands.add_parser("camera", help=camera_help, description=camera_help)
        )
        purge_help = "Delete the tasks and workers that have expired."
        self.add_purge_arguments(
            subcommands.add_parser("purge", help=purge_help, description=purge_help)
        )

    def add_camera_arguments(self, parser: CommandParser) -> None:
        """Add the options of ``camera``: those of ``celery events``, and settings."""
        add = parser.add_argument
        add("-c", "--camera", default=CAMERA, metavar="CLASS", help="Which camera.")
        add(
            *("-F", "--frequency", "--freq"),
            type=positive,
            default=1.0,
            metavar="SECONDS",
            help="Seconds between two snapshots; 1 by default.",
        )
        add(
            *("-r", "--maxrate"),
            type=maxrate,
            metavar="RATE",
            help="The highest rate of snapshots, such as 10/m.",
        )
        add(
            *("-l", "--loglevel"),
            type=loglevel,
            default="WARNING",
            metavar="LEVEL",
            help=f"One of {', '.join(LOG_LEVELS)}; WARNING by default.",
        )
        add("-f", "--logfile", metavar="FILE", help="Log here, not to standard error.")
        add("--pidfile", metavar="FILE", help="Write the process id here.")
        group = parser.add_argument_group("settings", "In place of the project's own.")
        for option, _, kind, metavar, text in SETTINGS:
            group.add_argument(option, type=kind, metavar=metavar, help=text)

    def add_purge_arguments(self, parser: CommandParser) -> None:
        """Add the options of ``purge``."""
        parser.add_argument(
            "--seconds",
            type=positive,
            metavar="SECONDS",
            help="Begin nothing new after this time; without it, end when done.",
        )
        parser.add_argument(
            "--database",
            metavar="ALIAS",
            help="The database; the one that the router names by default.",
        )
        parser.add_argument(
            "--dry-run", action="store_true", help="Count, and delete nothing."
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Run the subcommand on the project's Celery app.

        Raises CommandError where no app is known or an option cannot be used.
        """
        app = conf.get_app()
        if conf.is_fallback(app):
            msg = (
                "No Celery app is known here. Create it when Django starts: import "
                "the module that does from the project's __init__.py, as Celery's "
                "documentation shows for Django."
            )
            raise CommandError(msg)
        try:
            if options["subcommand"] == "camera":
                self.camera(app, options)
            else:
                self.purge(app, options)
        except ImproperlyConfigured as exc:
            raise CommandError(str(exc)) from exc

    def camera(self, app: Celery, options: dict[str, Any]) -> None:
        """Run a camera until a signal ends it, as ``celery events`` does."""
        for option, name, *_ in SETTINGS:
            value = options[option.removeprefix("--").replace("-", "_")]
            if value is not None:
                setting = conf.SETTINGS[name].read(value, option)
                app.conf[name] = setting
                if app.conf.prefix:
                    # Celery 5.5 looks for the name with its prefix first.
                    app.conf[f"{app.conf.prefix}{name.upper()}"] = setting
        try:
            symbol_by_name(options["camera"])
        except (AttributeError, ImportError, ValueError) as exc:
            msg = f"--camera: cannot import {options['camera']!r}: {exc}"
            raise CommandError(msg) from exc
        try:
            evcam(
                options["camera"],
                freq=options["frequency"],
                maxrate=options["maxrate"],
                loglevel=options["loglevel"],
                logfile=options["logfile"],
                pidfile=options["pidfile"],
                app=app,
            )
        except BrokerError as exc:
            msg = f"The broker cannot be used: {exc}"
            raise CommandError(msg, returncode=EX_UNAVAILABLE) from exc

    def purge(self, app: Celery, options: dict[str, Any]) -> None:
        """Delete what has expired, or count it, and print how much that is."""
        using = options["database"]
        if using is not None and using not in connections:
            known = ", ".join(connections)
            msg = f"--database must be one of {known}, not {using!r}."
            raise CommandError(msg)
        retention = Retention.from_settings(app, using)
        try:
            if options["dry_run"]:
                self.print_count(retention)
            else:
                self.print_purged(retention.run(options["seconds"]))
        except OperationalError as exc:
            msg = f"The database cannot be used: {exc}"
            raise CommandError(msg) from exc

    def print_purged(self, purged: Purged) -> None:
        """Print what was deleted."""
        self.stdout.write(
            f"Deleted tasks: {purged.tasks}\nDeleted workers: {purged.workers}"
        )
        if not purged.done:
            self.stdout.write("The time is up, and there may be more.")

    def print_count(self, retention: Retention) -> None:
        """Print what would be deleted."""
        tasks, marked, workers = retention.count()
        for names, number in tasks:
            custom = " and custom states" if states.PENDING in names else ""
            self.stdout.write(f"{', '.join(sorted(names))}{custom}: {number}")
        self.stdout.write(f"Marked as expired: {marked}\nWorkers: {workers}")
