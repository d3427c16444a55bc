"""The admin of the tracked models, which knows nothing of the tracker."""

from __future__ import annotations

from django.contrib import admin

from .models import Customer, Order, Parcel, Warehouse

admin.site.register([Customer, Order, Parcel, Warehouse])
