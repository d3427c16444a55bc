"""The actions on the page of one task or worker."""

from __future__ import annotations

import re

import pytest
from django.test import Client

from tests.admin.conftest import (
    TASK_ACTIONS,
    TASKS,
    WORKER_ACTIONS,
    WORKERS,
    Heard,
    StaffClient,
    confirm,
    hidden_fields,
    row_for,
)

pytestmark = pytest.mark.django_db


def buttons(html: str) -> list[str]:
    """Return the actions that a page has buttons for."""
    return re.findall(r'<button [^>]*name="action" value="(\w+)"', html)


@pytest.mark.parametrize(
    ("url", "actions"), [(TASKS, TASK_ACTIONS), (WORKERS, WORKER_ACTIONS)]
)
def test_each_button_leads_to_the_confirmation_and_back_to_the_page(
    operator: Client, heard: Heard, url: str, actions: tuple[str, ...]
) -> None:
    row = row_for(url)
    page_url = f"{url}{row.pk}/change/"
    html = operator.get(page_url).content.decode()
    assert sorted(buttons(html)) == sorted(actions)
    form = hidden_fields(html)
    assert form["_selected_action"] == [str(row.pk)]

    for action in actions:
        page = operator.post(url, {**form, "action": action})
        assert page.status_code == 200
        assert f'href="{page_url}">No, take me back' in page.content.decode()
        assert heard() == []
        response = confirm(
            operator, url, page, rate_limit="1/s", n="1", queue="slow", soft="1"
        )
        assert response.redirect_chain == [(page_url, 302)]
        assert len(heard()) == 1


@pytest.mark.parametrize("url", [TASKS, WORKERS])
def test_nobody_without_the_permission_sees_a_button(
    staff: StaffClient, url: str
) -> None:
    row = row_for(url)
    view = ("view_taskstate", "view_workerstate")
    other = "control_workers" if url == TASKS else "control_tasks"
    for codenames in (view, (*view, other)):
        html = staff(*codenames).get(f"{url}{row.pk}/change/").content.decode()
        assert buttons(html) == []
