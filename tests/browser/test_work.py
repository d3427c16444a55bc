"""What an operator does: look for a task, see why it failed, end one that runs."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import Open
from tests.browser.pages import CAMERAS, TASKS, WORKERS, choose, row
from tests.browser.shop import Shop


@pytest.fixture(autouse=True)
def _no_errors(errors: list[str]) -> Iterator[None]:
    """Every page leaves the console empty, under the strict policy."""
    yield
    assert errors == []


def test_from_the_index_to_the_reason_of_a_failure(shop: Shop, open_page: Open) -> None:
    task = shop.send("charge_card", 4711)
    page = open_page("/admin/")
    page.locator("#content-main").get_by_role("link", name="Tasks", exact=True).click()
    expect(row(page, task)).to_contain_text("FAILURE")
    page.locator("#changelist-filter").get_by_role("link", name="FAILURE").click()
    row(page, task).get_by_role("link", name="charge_card").click()
    main = page.locator("#content-main")
    expect(main).to_contain_text("CardDeclinedError")
    expect(main).to_contain_text("The card for order 4711 was declined")


@pytest.mark.parametrize("part", ["id", "beginning", "argument"])
def test_search(shop: Shop, open_page: Open, part: str) -> None:
    task = shop.send("send_receipt", 8_421_337)
    other = shop.send("send_receipt", 5)
    page = open_page(TASKS)
    expect(row(page, task)).to_contain_text("SUCCESS")
    expect(row(page, other)).to_contain_text("SUCCESS")
    text = {"id": task, "beginning": task[:13], "argument": "8421337"}[part]
    page.locator("#searchbar").fill(text)
    page.locator("#searchbar").press("Enter")
    page.wait_for_url("**?*q=*")
    expect(row(page, task)).to_be_visible()
    expect(row(page, other)).to_have_count(0)


def test_a_filter_is_an_address(shop: Shop, open_page: Open) -> None:
    good, bad = shop.send("send_receipt", 1), shop.send("charge_card", 2)
    page = open_page(TASKS)
    expect(row(page, good)).to_contain_text("SUCCESS")
    expect(row(page, bad)).to_contain_text("FAILURE")
    page.locator("#changelist-filter").get_by_role("link", name="SUCCESS").click()
    expect(row(page, bad)).to_have_count(0)
    same = open_page(page.url)
    expect(row(same, good)).to_be_visible()
    expect(row(same, bad)).to_have_count(0)


def test_end_a_task_that_runs(shop: Shop, open_page: Open) -> None:
    task = shop.send("build_report", 60, queue="slow")
    page = open_page(TASKS)
    expect(row(page, task)).to_contain_text("STARTED")
    row(page, task).locator("input.action-select").check()
    choose(page, "terminate_tasks")
    expect(page.locator("#content")).to_contain_text("SIGTERM")
    expect(page.locator("#content")).to_contain_text(task)
    page.get_by_role("button", name="Yes").click()
    expect(page.locator(".messagelist")).to_contain_text("told to terminate 1 task")
    expect(row(page, task)).to_contain_text("REVOKED")
    row(page, task).get_by_role("link", name="build_report").click()
    page.get_by_role("link", name="History").click()
    expect(page.locator("#content")).to_contain_text("terminate it (SIGTERM)")


@pytest.mark.parametrize(
    "path", ["auth/user/", "auth/user/1/change/", "auth/group/add/", "password_change/"]
)
def test_the_rest_of_the_admin_keeps_to_the_policy(open_page: Open, path: str) -> None:
    page = open_page(f"/admin/{path}")
    expect(page.locator("#content-main")).to_be_visible()


def test_workers_and_cameras(open_page: Open) -> None:
    page = open_page(WORKERS)
    worker = page.locator("#result_list tbody tr").filter(has_text="quick@shop")
    expect(worker).to_contain_text("ONLINE")
    page.locator("#changelist-filter").get_by_role("link", name="OFFLINE").click()
    page.wait_for_url("**?alive=no")
    expect(worker).to_have_count(0)
    page.goto(CAMERAS)
    expect(page.locator("#result_list")).to_contain_text("WATCHING")
    expect(page.locator("#content")).not_to_contain_text("No camera is watching")
