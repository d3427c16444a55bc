"""Rows and users for the tests."""
# factory-boy declares its base classes' types, not its declarations'.
# mypy: disallow-untyped-calls=False

from __future__ import annotations

from typing import Any

from celery import states
from celery.utils import uuid
from django.contrib.auth.models import User
from django.utils import timezone
from factory.declarations import LazyAttribute, LazyFunction, Sequence, SubFactory
from factory.django import DjangoModelFactory

from django_celery_monitor.models import CameraState, TaskState, WorkerState
from django_celery_monitor.tracking.models import TaskObjectLink
from tests.tracked.models import Gift, Order, Parcel, Warehouse


class WorkerStateFactory(DjangoModelFactory[WorkerState]):
    """A worker that was just heard of."""

    class Meta:
        model = WorkerState

    hostname = Sequence(lambda n: f"celery@host{n}")
    last_heartbeat = LazyFunction(timezone.now)


class TaskStateFactory(DjangoModelFactory[TaskState]):
    """A task that just succeeded."""

    class Meta:
        model = TaskState

    task_id = LazyFunction(uuid)
    name = "proj.tasks.add"
    state = states.SUCCESS
    tstamp = LazyFunction(timezone.now)
    worker = SubFactory(WorkerStateFactory)


class CameraStateFactory(DjangoModelFactory[CameraState]):
    """A camera that has just begun to watch."""

    class Meta:
        model = CameraState

    hostname = Sequence(lambda n: f"host{n}")
    pid = Sequence(lambda n: 1000 + n)
    version = "2.0.0"
    freq = 2.0
    started_at = LazyFunction(timezone.now)
    last_shot = LazyAttribute(lambda camera: camera.started_at)


class UserFactory(DjangoModelFactory[User]):
    """A user without any permission, whose password is ``secret``."""

    class Meta:
        model = User

    username = Sequence(lambda n: f"user{n}")
    email = LazyAttribute(lambda user: f"{user.username}@example.com")
    password = "secret"

    @classmethod
    def _create(cls, model_class: type[User], *args: Any, **kwargs: Any) -> User:
        return model_class.objects.create_user(*args, **kwargs)


class OrderFactory(DjangoModelFactory[Order]):
    """An order."""

    class Meta:
        model = Order

    account_id = Sequence(lambda n: 7000 + n)
    reference = Sequence(lambda n: f"R-{n}")


class GiftFactory(OrderFactory):
    """An order that is a gift."""

    class Meta:
        model = Gift


class ParcelFactory(DjangoModelFactory[Parcel]):
    """A parcel."""

    class Meta:
        model = Parcel


class WarehouseFactory(DjangoModelFactory[Warehouse]):
    """A warehouse."""

    class Meta:
        model = Warehouse

    code = Sequence(lambda n: f"WH {n}")


class TaskObjectLinkFactory(DjangoModelFactory[TaskObjectLink]):
    """A task that just succeeded, and was about an order."""

    class Meta:
        model = TaskObjectLink

    task = SubFactory(TaskStateFactory)
    content_object = SubFactory(OrderFactory)
    role = "order_id"
