"""Models with keys of each type, whose tasks are tracked."""

from __future__ import annotations

import uuid

from django.contrib.contenttypes.fields import GenericRelation
from django.db import models

from django_celery_monitor.tracking.fields import TaskRelation
from django_celery_monitor.tracking.models import TaskObjectLink


class Customer(models.Model):
    """Somebody who orders."""

    email = models.EmailField()

    def __str__(self) -> str:
        """Return the address."""
        return self.email


class Order(models.Model):
    """An order, whose key is a number."""

    customer = models.ForeignKey(Customer, null=True, on_delete=models.SET_NULL)
    account_id = models.IntegerField(default=0)
    reference = models.CharField(max_length=50, default="")

    tasks = TaskRelation()
    plain_tasks = GenericRelation(TaskObjectLink)

    def __str__(self) -> str:
        """Return the number."""
        return f"Order {self.pk}"


class UrgentOrder(Order):
    """A proxy of orders."""

    class Meta:
        proxy = True


class Gift(Order):
    """An order with a table of its own, whose key is that of the order."""

    greeting = models.CharField(max_length=50, default="")


class Parcel(models.Model):
    """A parcel, whose key is a UUID."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4)
    weight = models.IntegerField(default=1)

    tasks = TaskRelation()
    plain_tasks = GenericRelation(TaskObjectLink)

    def __str__(self) -> str:
        """Return the key."""
        return str(self.pk)


class Warehouse(models.Model):
    """A warehouse, whose key is a text."""

    code = models.CharField(max_length=40, primary_key=True)
    city = models.CharField(max_length=50, default="")

    tasks = TaskRelation()
    plain_tasks = GenericRelation(TaskObjectLink)

    def __str__(self) -> str:
        """Return the code."""
        return self.code
