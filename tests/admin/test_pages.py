"""Who sees which pages, and that nobody changes a row on them."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.contenttypes.models import ContentType
from django.db.models.signals import post_delete
from django.test import Client
from django.test.utils import CaptureQueriesContext
from pytest_django import DjangoAssertNumQueries

from django_celery_monitor.models import TaskState, WorkerState
from tests.admin.conftest import TASKS, WORKERS, StaffClient, post_action
from tests.factories import TaskStateFactory, WorkerStateFactory

MODELS: list[Any] = [
    pytest.param(TASKS, TaskState, TaskStateFactory, id="tasks"),
    pytest.param(WORKERS, WorkerState, WorkerStateFactory, id="workers"),
]
#: What a hostile task or worker may call itself.
HOSTILE = "\"'><script>alert(1)</script><img src=x onerror=alert(2)>{{ 7|add:7 }}"

pytestmark = pytest.mark.django_db


def test_the_section_of_the_index(superuser: Client) -> None:
    html = superuser.get("/admin/").content.decode()
    assert "Celery Monitor" in html
    assert re.search(rf'href="{TASKS}"[^>]*>\s*Tasks', html)
    assert re.search(rf'href="{WORKERS}"[^>]*>\s*Workers', html)
    assert f"{TASKS}add/" not in html


@pytest.mark.parametrize(("url", "model", "factory"), MODELS)
def test_only_those_who_may_view_see_anything(
    client: Client, staff: StaffClient, url: str, model: Any, factory: Any
) -> None:
    row = factory.create()
    pages = [url, f"{url}{row.pk}/change/", f"{url}{row.pk}/history/"]
    stranger = staff("control_tasks", "control_workers", "run_tasks")
    viewer = staff(f"view_{model._meta.model_name}")
    for page in pages:
        assert client.get(page).status_code == 302
        assert stranger.get(page).status_code == 403
        assert viewer.get(page).status_code == 200


@pytest.mark.parametrize(("url", "model", "factory"), MODELS)
def test_nobody_adds_changes_or_renames(
    superuser: Client, url: str, model: Any, factory: Any
) -> None:
    row = factory.create()
    before = model.objects.values().get(pk=row.pk)
    page = superuser.get(f"{url}{row.pk}/change/")
    html = page.content.decode()
    form = html[html.index('<form method="post"') :] if "<form method" in html else ""
    assert '<input type="text"' not in html.replace('id="nav-filter"', "")
    assert "<textarea" not in form
    assert "<select" not in form
    assert 'name="_save"' not in html

    name = "task_id" if model is TaskState else "hostname"
    data = {name: "renamed", "state": "SUCCESS", "_save": "Save"}
    assert superuser.post(f"{url}{row.pk}/change/", data).status_code == 403
    assert superuser.get(f"{url}add/").status_code == 403
    assert superuser.post(f"{url}add/", data).status_code == 403
    assert model.objects.values().get() == before


@pytest.mark.parametrize(("url", "model", "factory"), MODELS)
def test_deletion_takes_the_permission(
    staff: StaffClient, url: str, model: Any, factory: Any
) -> None:
    row = factory.create(**({"worker": None} if model is TaskState else {}))
    view = f"view_{model._meta.model_name}"
    viewer = staff(view, "control_tasks", "control_workers")
    delete = f"{url}{row.pk}/delete/"
    assert delete not in viewer.get(f"{url}{row.pk}/change/").content.decode()
    assert viewer.post(delete, {"post": "yes"}).status_code == 403

    deleter = staff(view, f"delete_{model._meta.model_name}")
    assert delete in deleter.get(f"{url}{row.pk}/change/").content.decode()
    assert deleter.post(delete, {"post": "yes"}).status_code == 302
    assert not model.objects.exists()


def test_deletion_reads_the_texts_of_tasks_for_who_listens_alone(
    superuser: Client, queries: CaptureQueriesContext
) -> None:
    first, *others = TaskStateFactory.create_batch(3, args="(1,)")
    with queries:
        post_action(superuser, TASKS, "delete_selected", *others)
        post_action(superuser, TASKS, "delete_selected", *others, post="yes")
    assert not [query for query in queries if "traceback" in query["sql"]]
    assert TaskState.objects.get() == first

    heard = []

    def listen(instance: TaskState, **_: Any) -> None:
        heard.append(instance.args)

    post_delete.connect(listen, TaskState)
    try:
        post_action(superuser, TASKS, "delete_selected", first, post="yes")
    finally:
        post_delete.disconnect(listen, TaskState)
    assert heard == ["(1,)"]


def test_tasks_outlive_their_worker(superuser: Client) -> None:
    task = TaskStateFactory.create()
    page = post_action(superuser, WORKERS, "delete_selected", task.worker)
    assert "Are you sure" in page.content.decode()
    post_action(superuser, WORKERS, "delete_selected", task.worker, post="yes")
    task.refresh_from_db()
    assert task.worker is None


def test_expired_tasks_are_neither_listed_nor_reached(superuser: Client) -> None:
    seen = TaskStateFactory.create(name="seen")
    hidden = TaskStateFactory.create(name="expired", hidden=True)
    html = superuser.get(TASKS).content.decode()
    assert "seen" in html
    assert "expired" not in html
    for page in ("change/", "history/", "delete/"):
        assert superuser.get(f"{TASKS}{seen.pk}/{page}").status_code == 200
        assert superuser.get(f"{TASKS}{hidden.pk}/{page}").status_code == 302
    superuser.post(f"{TASKS}{hidden.pk}/delete/", {"post": "yes"})
    post_action(superuser, TASKS, "delete_selected", hidden, post="yes")
    assert TaskState.objects.filter(pk=hidden.pk).exists()


@pytest.mark.parametrize("page", ["list", "detail", "confirm", "history"])
def test_nothing_from_the_broker_becomes_markup(superuser: Client, page: str) -> None:
    worker = WorkerStateFactory.create(
        hostname=HOSTILE,
        loadavg=[HOSTILE],
        sw_ident=HOSTILE,
        sw_ver=HOSTILE,
        sw_sys=HOSTILE,
    )
    texts = dict.fromkeys(
        ("name", "args", "kwargs", "result", "exception", "traceback"), HOSTILE
    )
    places = dict.fromkeys(
        ("queue", "exchange", "routing_key", "root_id", "parent_id"), HOSTILE
    )
    task = TaskStateFactory.create(
        state=HOSTILE[:64],
        task_id=HOSTILE,
        worker=worker,
        attempts=[{"timestamp": 1, "exception": HOSTILE, "traceback": HOSTILE}],
        **texts,
        **places,
    )
    TaskStateFactory.create()
    for url, row, action in (
        (TASKS, task, "kill_tasks"),
        (TASKS, task, "rate_limit_tasks"),
        (WORKERS, worker, "shutdown_nodes"),
    ):
        if page == "confirm":
            response = post_action(superuser, url, action, row)
        else:
            path = {"list": "", "detail": f"{row.pk}/change/"}
            response = superuser.get(
                url + path.get(page, f"{row.pk}/history/"), follow=True
            )
        assert response.status_code == 200
        html = response.content.decode()
        assert "&lt;script&gt;alert(1)" in html
        assert "<script>alert(1)" not in html
        assert "<img src=x" not in html
        assert "{{ 7|add:7 }}" in html or len(task.state) == 64


@pytest.mark.parametrize("page", ["list", "detail", "confirm", "rate", "workers"])
def test_a_strict_content_security_policy_is_kept(superuser: Client, page: str) -> None:
    """With ``default-src 'self'`` a browser runs no inline script and no style."""
    task = TaskStateFactory.create(args="x" * 100, traceback="x")
    pages: dict[str, Callable[[], Any]] = {
        "list": lambda: superuser.get(TASKS),
        "detail": lambda: superuser.get(f"{TASKS}{task.pk}/change/"),
        "confirm": lambda: post_action(superuser, TASKS, "kill_tasks", task),
        "rate": lambda: post_action(superuser, TASKS, "rate_limit_tasks", task),
        "workers": lambda: superuser.get(WORKERS),
    }
    html = pages[page]().content.decode()
    assert "/static/django_celery_monitor/style.css" in html
    assert " style=" not in html
    assert "<style" not in html
    assert not re.search(r"\son\w+=", html)
    assert all(
        " src=" in script or 'type="application/json"' in script
        for script in re.findall("<script[^>]*>", html)
    )


@pytest.mark.parametrize(("url", "model", "factory"), MODELS)
def test_pages_cost_a_fixed_number_of_queries(
    operator: Client,
    django_assert_num_queries: DjangoAssertNumQueries,
    url: str,
    model: Any,
    factory: Any,
) -> None:
    # Session, user, permissions of the user and of groups; the count of all
    # pages and the rows of this one; whether anything was written; for tasks their
    # keys, whether any are hidden, and what there is to filter by: the workers, the
    # states, how many tasks they have, and the newest names and queues.
    expected = 13 if model is TaskState else 7
    ContentType.objects.get_for_model(model)  # which is remembered
    row = factory.create()
    factory.create()
    with django_assert_num_queries(expected):
        operator.get(url)
    factory.create_batch(30)
    with django_assert_num_queries(expected):
        operator.get(url)
    # The row and, for a task, whether any are hidden, its worker, its history, the
    # tasks that it sent, its objects, and whether anything was written.
    with django_assert_num_queries(11 if model is TaskState else 5):
        operator.get(f"{url}{row.pk}/change/")


@pytest.mark.parametrize(("url", "model", "factory"), MODELS)
def test_the_history_tells_what_was_done(
    operator: Client, url: str, model: Any, factory: Any
) -> None:
    row = factory.create()
    action = "revoke_tasks" if model is TaskState else "enable_events"
    data = {"action": action, "_selected_action": row.pk, "confirmed": "yes"}
    operator.post(url, data)
    html = operator.get(f"{url}{row.pk}/history/").content.decode()
    assert LogEntry.objects.get().get_change_message() in html


@pytest.mark.parametrize(
    ("url", "factory", "list_title", "detail_title"),
    [
        (TASKS, TaskStateFactory, "Tasks", "Task detail"),
        (WORKERS, WorkerStateFactory, "Worker Nodes", "Node detail"),
    ],
)
def test_titles(
    superuser: Client, url: str, factory: Any, list_title: str, detail_title: str
) -> None:
    row = factory.create()
    assert f"<h1>{list_title}</h1>" in superuser.get(url).content.decode()
    assert f"<h1>{detail_title}</h1>" in (
        superuser.get(f"{url}{row.pk}/change/").content.decode()
    )
