"""The tree of the tasks around a task."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import pytest
from celery.utils import uuid
from django.contrib.contenttypes.models import ContentType
from django.test import Client
from django.utils import timezone
from hypothesis import given
from hypothesis import strategies as st
from pytest_django import DjangoAssertNumQueries

from django_celery_monitor.admin import tree
from django_celery_monitor.models import TaskState
from tests.admin.conftest import TASKS, StaffClient
from tests.factories import TaskStateFactory

ROOT, CHILD, SISTER, GRANDCHILD = "root-id", "child-id", "sister-id", "grandchild-id"
IDS = st.text("abcdef", max_size=1)

pytestmark = pytest.mark.django_db
own_site = pytest.mark.urls("tests.admin.urls")


def workflow() -> dict[str, TaskState]:
    """Create a task that sends two, one of which sends a third."""
    began = timezone.now() - timedelta(minutes=1)
    return {
        task_id: TaskStateFactory.create(
            task_id=task_id,
            name=f"shop.{task_id}",
            root_id=ROOT,
            parent_id=parent,
            sent_at=began + timedelta(seconds=seconds),
            worker=None,
        )
        for seconds, (task_id, parent) in enumerate(
            [(GRANDCHILD, CHILD), (ROOT, None), (CHILD, ROOT), (SISTER, ROOT)]
        )
    }


def nodes(client: Client, task: TaskState, tasks: str = TASKS) -> list[dict[str, Any]]:
    """Return what the page of the tree of ``task`` shows, from top to bottom."""
    response = client.get(f"{tasks}{task.pk}/tree/")
    assert response.status_code == 200
    items = re.findall(
        r'<li class="celery-monitor-indent.*?</li>', text(response), re.S
    )
    return [
        {
            "id": "".join(re.findall("<code>(.*?)</code>", item)),
            "level": int("".join(re.findall(r"Level (\d+):", item))),
            "url": "".join(re.findall('href="(.*?)"', item)),
            "html": item,
        }
        for item in items
    ]


def text(response: Any) -> str:
    """Return the HTML of a page."""
    html: str = response.content.decode()
    return html


@given(st.dictionaries(IDS, st.none() | IDS))
def test_every_task_comes_once_below_its_parent(parents: dict[str, str | None]) -> None:
    grown = list(tree.grow(list(parents.items())))
    shown = [task_id for task_id, _depth, _circular in grown]
    assert len(shown) == len(set(shown))
    assert set(shown) == {*parents, *(p for p in parents.values() if p is not None)}
    path: list[str] = []
    for task_id, depth, circular in grown:
        assert depth <= len(path)
        del path[depth:]
        parent = parents.get(task_id)
        if depth:
            assert path[-1] == parent
        else:
            assert circular is (parent is not None)
        path.append(task_id)


@given(st.integers(2, 2000), st.booleans())
def test_the_longest_chain_and_circle(length: int, circular: bool) -> None:
    chain: list[tuple[str, str | None]]
    chain = [(str(n), str(n - 1)) for n in range(1, length)]
    chain.append(("0", str(length - 1) if circular else None))
    depths = [depth for _id, depth, _circular in tree.grow(chain)]
    assert depths == list(range(length))


def test_who_sent_whom(operator: Client) -> None:
    tasks = workflow()
    TaskStateFactory.create(root_id="another", parent_id="another")
    for task in tasks.values():
        shown = nodes(operator, task)
        assert [(node["id"], node["level"]) for node in shown] == [
            (ROOT, 1),
            (CHILD, 2),
            (GRANDCHILD, 3),
            (SISTER, 2),
        ]
        for node in shown:
            this = node["id"] == task.task_id
            assert ("this task" in node["html"]) is this
            assert ('aria-current="true"' in node["html"]) is this
            url = f"{TASKS}{tasks[node['id']].pk}/change/"
            assert node["url"] == ("" if this else url)
            assert "SUCCESS" in node["html"]


def test_parents_that_are_missing(operator: Client) -> None:
    tasks = workflow()
    tasks[CHILD].delete()
    tasks[ROOT].hidden = True
    tasks[ROOT].save()
    shown = nodes(operator, tasks[GRANDCHILD])
    assert [(node["id"], node["level"]) for node in shown] == [
        (CHILD, 1),
        (GRANDCHILD, 2),
        (ROOT, 1),
        (SISTER, 2),
    ]
    for node in shown:
        assert ("nothing else is known" in node["html"]) is (
            node["id"] in {CHILD, ROOT}
        )


def test_a_task_of_which_no_event_told_the_root(operator: Client) -> None:
    task = TaskStateFactory.create()
    child = TaskStateFactory.create(root_id=task.task_id, parent_id=task.task_id)
    for seen_from in (task, child):
        shown = [node["id"] for node in nodes(operator, seen_from)]
        assert shown == [task.task_id, child.task_id]


def test_a_parent_with_another_root(operator: Client) -> None:
    far = TaskStateFactory.create(root_id="far")
    parent = TaskStateFactory.create(root_id="near", parent_id=far.task_id)
    task = TaskStateFactory.create(root_id="root", parent_id=parent.task_id)
    assert [node["id"] for node in nodes(operator, task)] == [
        far.task_id,
        parent.task_id,
        task.task_id,
    ]


def test_hostile_ids_do_no_harm(operator: Client) -> None:
    one = TaskStateFactory.create(task_id="one", root_id="two", parent_id="two")
    two = TaskStateFactory.create(task_id="two", root_id="two", parent_id="one")
    TaskStateFactory.create(task_id="self", root_id="two", parent_id="self")
    TaskStateFactory.create(task_id="<b>", root_id="two", parent_id="<i>", name="<u>")
    TaskStateFactory.create(task_id="nobody", root_id="two", parent_id="")
    for task in (one, two):
        shown = nodes(operator, task)
        assert sorted(node["id"] for node in shown) == sorted(
            ["one", "two", "self", "&lt;b&gt;", "&lt;i&gt;", "nobody"]
        )
        circular = {n["id"] for n in shown if "sent by a task below it" in n["html"]}
        assert circular in ({"one", "self"}, {"two", "self"})
        assert "<b>" not in "".join(node["html"] for node in shown)


def test_deep_levels_are_said_in_words(operator: Client) -> None:
    ids = [uuid() for _ in range(20)]
    for parent, task_id in zip([None, *ids], ids, strict=False):
        task = TaskStateFactory.create(
            task_id=task_id, root_id=ids[0], parent_id=parent
        )
    shown = nodes(operator, task)
    assert [node["id"] for node in shown] == ids
    assert [node["level"] for node in shown] == list(range(1, 21))
    hidden = ["visually-hidden" in node["html"] for node in shown]
    assert hidden == [True] * 13 + [False] * 7


def test_too_many_tasks(
    operator: Client,
    django_assert_max_num_queries: DjangoAssertNumQueries,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tree, "MOST", 20)
    TaskStateFactory.create_batch(30, root_id=ROOT, parent_id=ROOT, worker=None)
    parent = None
    for n in range(30):
        above = TaskStateFactory.create(
            task_id=f"{n}", root_id=ROOT, parent_id=parent, worker=None
        )
        parent = above.task_id
    root = TaskStateFactory.create(task_id=ROOT, root_id=ROOT, worker=None)
    ContentType.objects.get_for_model(TaskState)
    # Session, user, permissions of the user and of groups, and the task; the keys of
    # those with its root, and these; root and parent; as many more above it as are
    # looked for.
    with django_assert_max_num_queries(5 + 3 + 1 + tree.MOST_ABOVE):
        shown = nodes(operator, above)
    ids = [node["id"] for node in shown if "nothing else" not in node["html"]]
    assert len(ids) == 20
    assert {ROOT, *(f"{n}" for n in range(18, 30))} <= set(ids)
    html = text(operator.get(f"{TASKS}{root.pk}/tree/"))
    assert "More than 20 tasks have the same root" in html


def test_a_tree_costs_a_fixed_number_of_queries(
    operator: Client, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    task = workflow()[GRANDCHILD]
    for _ in range(2):
        with django_assert_num_queries(8):
            html = text(operator.get(f"{TASKS}{task.pk}/tree/"))
        assert "More than" not in html
        TaskStateFactory.create_batch(30, root_id=ROOT, parent_id=CHILD)


def test_a_tree_is_for_those_who_may_view_tasks(
    client: Client, staff: StaffClient
) -> None:
    tree_of = f"{TASKS}{TaskStateFactory.create().pk}/tree/"
    hidden = f"{TASKS}{TaskStateFactory.create(hidden=True).pk}/tree/"
    assert client.get(tree_of).status_code == 302
    stranger = staff("control_tasks", "run_tasks", "view_workerstate")
    assert stranger.get(tree_of).status_code == 403
    assert stranger.get(f"{TASKS}0/tree/").status_code == 403
    viewer = staff("view_taskstate")
    assert viewer.get(tree_of).status_code == 200
    assert viewer.post(tree_of).status_code == 405
    for nothing in (hidden, f"{TASKS}0/tree/", f"{TASKS}x/y/tree/"):
        assert viewer.get(nothing).status_code == 404


def test_a_strict_content_security_policy_is_kept(operator: Client) -> None:
    task = workflow()[CHILD]
    html = text(operator.get(f"{TASKS}{task.pk}/tree/"))
    assert "/static/django_celery_monitor/style.css" in html
    assert " style=" not in html
    assert "<style" not in html
    assert all(" src=" in script for script in re.findall("<script[^>]*>", html))


@own_site
def test_the_tree_on_another_site(superuser: Client) -> None:
    task = workflow()[SISTER]
    jobs = "/operations/celery_monitor/taskstate/"
    page = text(superuser.get(f"{jobs}{task.pk}/change/"))
    assert f'href="{jobs}{task.pk}/tree/"' in page
    html = text(superuser.get(f"{jobs}{task.pk}/tree/"))
    assert f'href="{jobs}{task.pk}/change/"' in html
    assert 'href="/admin/' not in html + page
    assert all(
        node["url"].startswith(jobs) for node in nodes(superuser, task, jobs)[:3]
    )
