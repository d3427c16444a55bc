"""The form that launches a task for an object."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import partial
from typing import Any

from django.contrib import messages
from django.contrib.admin import ModelAdmin
from django.core.exceptions import PermissionDenied, ValidationError
from django.db import DatabaseError, router, transaction
from django.db.models import Model
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.utils.html import format_html
from django.utils.text import capfirst
from django.utils.translation import gettext

from django_celery_monitor.admin import actions
from django_celery_monitor.admin.calls import Call, known
from django_celery_monitor.admin.literals import parse
from django_celery_monitor.admin.run_form import CallForm
from django_celery_monitor.admin.sending import NotSentError
from django_celery_monitor.admin.sending import launch as send
from django_celery_monitor.models import TaskState
from django_celery_monitor.sanitize import Sanitizer
from django_celery_monitor.tracking import launch
from django_celery_monitor.tracking.provenance import of_request
from django_celery_monitor.tracking.registry import Registration

from .access import Tracked, find
from .page import context

logger = logging.getLogger(__name__)

TEMPLATE = "django_celery_monitor/tracking/launch.html"


class LaunchForm(CallForm):
    """The arguments of a task, at first those that the object gives."""

    def __init__(
        self,
        registration: Registration,
        obj: Model,
        entered: Any = None,
    ) -> None:
        self._registration = registration
        self._obj = obj
        given_args, given_kwargs = launch.arguments(registration, obj)
        self._args = [(plain(value), value) for value in given_args]
        self._kwargs = {name: (plain(v), v) for name, v in given_kwargs.items()}
        shown_args = tuple(shown for shown, _value in self._args)
        shown_kwargs = {name: shown for name, (shown, _v) in self._kwargs.items()}
        sanitizer = Sanitizer.from_settings()
        call = Call(
            known(shown_args, given_args, sanitizer),
            known(shown_kwargs, given_kwargs, sanitizer),
        )
        super().__init__(call, entered)

    def clean_args(self) -> list[Any]:
        """Return the arguments by position."""
        entered: Sequence[Any] = super().clean_args()
        pairs = [*self._args, *[(None, None)] * len(entered)]
        return [meant(*item) for item in zip(entered, pairs, strict=False)]

    def clean_kwargs(self) -> dict[str, Any]:
        """Return the arguments by name."""
        entered: dict[str, Any] = super().clean_kwargs()
        pairs = {**dict.fromkeys(entered, (None, None)), **self._kwargs}
        return {name: meant(value, pairs[name]) for name, value in entered.items()}

    def clean(self) -> dict[str, Any]:
        """Refuse what the task does not take, and what would be another object's."""
        entered = super().clean() or {}
        if {"args", "kwargs"} <= entered.keys():
            args, kwargs = entered["args"], entered["kwargs"]
            try:
                self._registration.signature.bind(*args, **kwargs)
            except TypeError as exc:
                text = gettext("The task does not take these arguments: %(why)s.")
                raise ValidationError(text % {"why": exc}) from exc
            if not self._is_of_object(args, kwargs):
                text = gettext(
                    "With these arguments it would not be a task of %(obj)s."
                )
                raise ValidationError(text % {"obj": self._obj})
        return entered

    def _is_of_object(self, args: Sequence[Any], kwargs: dict[str, Any]) -> bool:
        try:
            found = self._registration.object_id(args, kwargs)
        except DatabaseError as exc:
            raise ValidationError(str(exc)) from exc
        return bool(found == self._obj.pk)


def plain(value: Any) -> Any:
    """Return a value that a form can show: itself, or its text."""
    try:
        parse(repr(value))
    except ValueError:
        return str(value)
    return value


def meant(entered: Any, known: tuple[Any, Any]) -> Any:
    """Return the value that stands behind the text that a form showed for it."""
    shown, value = known
    return value if isinstance(shown, str) and entered == shown else entered


def view(
    model_admin: ModelAdmin[Any], request: HttpRequest, object_id: str
) -> HttpResponse:
    """Show what a task is launched with, and launch it as the user has it."""
    tracked = find(model_admin, request, object_id)
    if not tracked.may_launch:
        raise PermissionDenied
    registration = launch.find(
        model_admin.model, request.GET.get("task", ""), request.GET.get("role", "")
    )
    if registration is None:
        raise Http404
    entered = request.POST if request.method == "POST" else None
    try:
        form = LaunchForm(registration, tracked.obj, entered)
    except AttributeError as exc:
        text = gettext("The task cannot be launched: %(error)s.") % {"error": exc}
        model_admin.message_user(request, text, messages.ERROR)
        return HttpResponseRedirect(tracked.url())
    if form.is_valid() and run(tracked, registration, form.cleaned_data):
        return HttpResponseRedirect(tracked.url())
    return TemplateResponse(
        request,
        TEMPLATE,
        {
            **context(tracked, gettext("Launch task")),
            "task_name": registration.task_name,
            "form": form,
        },
    )


def run(tracked: Tracked, registration: Registration, call: dict[str, Any]) -> bool:
    """Launch a task, and say so, or why not; return whether it was sent."""
    model_admin, request = tracked.model_admin, tracked.request
    try:
        # Without the middleware, too, the task is known to come from here.
        with of_request(request):
            task_id = send(registration.task, call["args"], call["kwargs"])
    except NotSentError as exc:
        text = gettext("The task was not launched. %(why)s") % {"why": exc}
        model_admin.message_user(request, text, messages.ERROR)
        return False
    said = {"name": registration.task_name, "task_id": task_id}
    model_admin.log_change(
        request, tracked.obj, gettext("Launched %(name)s as %(task_id)s.") % said
    )
    # The row of the task is written after the transaction of the request, if any.
    transaction.on_commit(
        partial(log_on_task, request, task_id, tracked.obj),
        using=router.db_for_write(TaskState),
        robust=True,
    )
    model_admin.message_user(
        request,
        format_html(
            gettext("Launched {} as {}."),
            registration.task_name,
            format_html("<code>{}</code>", task_id),
        ),
        messages.SUCCESS,
    )
    return True


def log_on_task(request: HttpRequest, task_id: str, obj: Model) -> None:
    """Leave an entry in the history of a task that was launched for an object.

    Whoever may see the task may not see the object: of that it has the key alone.
    """
    # What was just written may not have reached a replica.
    written = TaskState.objects.using(router.db_for_write(TaskState))
    task = written.filter(task_id=task_id).first()
    if task is None:
        # The database did not take it in time; the object's history names it.
        logger.warning("The task %s was launched and has no row yet", task_id)
        return
    key = f"{capfirst(obj._meta.verbose_name)} {obj.pk}"
    actions.log(request, {task: gettext("Launched it for: %(obj)s.") % {"obj": key}})
