"""The URLs of a site with a second admin, of its own class and with its own pages."""

from django.contrib import admin
from django.urls import path

from django_celery_monitor.admin import ModelMonitor, TaskMonitor, WorkerMonitor
from django_celery_monitor.models import TaskState, WorkerState


class OperationsSite(admin.AdminSite):
    """An admin beside the usual one."""

    site_header = "Operations"


class Tasks(TaskMonitor):
    """Tasks that nobody deletes."""

    list_page_title = "Jobs"
    detail_title = "Job"
    can_delete = False
    rate_limit_confirmation_template = "admin/base_site.html"


class Workers(WorkerMonitor):
    """Workers that may be entered by hand, and are confirmed by their name alone."""

    can_add = True

    describe = ModelMonitor.describe


site = OperationsSite(name="operations")
site.register(TaskState, Tasks)
site.register(WorkerState, Workers)

urlpatterns = [
    path("admin/", admin.site.urls),
    path("operations/", site.urls),
]
