"""The model that the tasks are about. No row of it is needed."""

from __future__ import annotations

from django.db import models


class Order(models.Model):
    """An order."""

    id = models.BigAutoField(primary_key=True)

    class Meta:
        app_label = "tracked"

    def __str__(self) -> str:
        """Return the number."""
        return f"Order {self.pk}"
