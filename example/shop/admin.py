"""The pages of customers and orders."""

from __future__ import annotations

from django.contrib import admin

from django_celery_monitor.tracking.admin import RecentTasksInline, TrackedModelAdmin
from shop.models import Customer, Order

admin.site.register(Customer)


# Any ModelAdmin has the button "Task Tracker". This one has the state of the last task
# in the list, and the newest tasks on the page of an order, as well.
@admin.register(Order)
class OrderAdmin(TrackedModelAdmin):
    """The pages of orders."""

    list_display = ("__str__", "customer", "total", "last_task_state")
    list_select_related = ("customer",)
    inlines = (RecentTasksInline,)
