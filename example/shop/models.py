"""What the shop sells to whom: the objects whose tasks are tracked."""

from __future__ import annotations

from django.db import models

from django_celery_monitor.tracking.fields import TaskRelation


class Customer(models.Model):
    """Somebody who orders."""

    name = models.CharField(max_length=100)
    email = models.EmailField()

    def __str__(self) -> str:
        """Return the name."""
        return self.name


class Order(models.Model):
    """An order of a customer."""

    customer = models.ForeignKey(Customer, on_delete=models.CASCADE)
    total = models.DecimalField(max_digits=8, decimal_places=2)

    # Not needed for the pages: for order.tasks, and for queries over it.
    tasks = TaskRelation()

    def __str__(self) -> str:
        """Return the number."""
        return f"Order {self.pk}"
