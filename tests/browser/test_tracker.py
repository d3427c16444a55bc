"""The tasks of an order: launched, watched, found in its history, revoked."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import Open
from tests.browser.pages import ORDERS
from tests.browser.shop import Shop, kill

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page


@pytest.fixture(autouse=True)
def _no_errors(errors: list[str]) -> Iterator[None]:
    """Every page leaves the console empty, under the strict policy."""
    yield
    assert errors == []


def tracker(order: int) -> str:
    """Return the address of the tasks of an order."""
    return f"{ORDERS}{order}/task-tracker/"


def row(page: Page, text: str) -> Locator:
    """Return the newest row of the history with a text in it."""
    return page.locator("#result_list tbody tr").filter(has_text=text).first


def is_same_page(page: Page) -> bool:
    """Return whether the page was not loaded anew since it was marked."""
    return bool(page.evaluate("window.marked === true"))


def test_launch_a_task_and_watch_it_finish(open_page: Open) -> None:
    page = open_page(ORDERS)
    page.get_by_role("link", name="Order 1004").click()
    page.get_by_role("link", name="Task Tracker").click()
    expect(page).to_have_url(re.compile(r"/1004/task-tracker/$"))
    page.get_by_role("link", name="shop.tasks.ask_for_review").click()
    kwargs = page.get_by_label("Keyword arguments:")
    expect(kwargs).to_have_value("{'order': 1004, 'email': 'barbara@example.com'}")
    page.get_by_role("button", name="Launch").click()
    message = page.locator(".messagelist")
    expect(message).to_contain_text("Launched shop.tasks.ask_for_review as")
    task = message.locator("code").inner_text()
    # It is there at once, whoever else has seen it.
    new = row(page, task[:8])
    expect(new).to_contain_text(re.compile("PENDING|RECEIVED|STARTED"))
    expect(new).to_contain_text(f"Request {tracker(1004)}launch/ by admin")
    page.evaluate("window.marked = true")
    expect(new).to_contain_text("SUCCESS")
    expect(new).to_contain_text("Asked barbara@example.com for a review of order 1004")
    assert is_same_page(page)

    page.get_by_role("link", name="Order 1004").click()
    recent = page.locator("table").filter(has_text="Result or error")
    expect(recent).to_contain_text("Asked barbara@example.com")
    page.get_by_role("link", name="History").click()
    said = f"Launched shop.tasks.ask_for_review as {task}."
    expect(page.locator("#content")).to_contain_text(said)
    page.goto(ORDERS)
    expect(row(page, "Order 1004")).to_contain_text("SUCCESS")


def test_arguments_that_the_task_does_not_take(open_page: Open) -> None:
    page = open_page(tracker(1003))
    page.get_by_role("link", name="shop.tasks.send_receipt").click()
    arguments = page.get_by_label("Arguments:", exact=True)
    arguments.fill("(1003, 2)")
    page.get_by_role("button", name="Launch").press("Enter")
    expect(page.locator("#content-main")).to_contain_text("too many positional")
    arguments.fill("(1001,)")
    page.get_by_role("button", name="Launch").press("Enter")
    expect(page.locator("#content-main")).to_contain_text(
        "it would not be a task of Order 1003"
    )


def test_what_is_being_read_stays_open(shop: Shop, open_page: Open) -> None:
    shop.send("charge_card", 1001)
    page = open_page(tracker(1001))
    failed = row(page, "FAILURE")
    expect(failed).to_be_visible()
    failed.locator("summary").click()
    traceback = failed.locator("pre")
    expect(traceback).to_contain_text("The card for order 1001 was declined")
    page.evaluate("window.marked = true")
    task = shop.send("send_receipt", 1001)
    expect(row(page, task[:8])).to_contain_text("SUCCESS")
    expect(page.get_by_role("link", name="SUCCESS")).to_be_visible()
    expect(traceback).to_be_visible()
    assert is_same_page(page)


def test_filter_by_keyboard(shop: Shop, open_page: Open) -> None:
    shop.send("charge_card", 1002)
    shop.send("send_receipt", 1002)
    page = open_page(tracker(1002))
    expect(row(page, "FAILURE")).to_be_visible()
    expect(row(page, "SUCCESS")).to_be_visible()
    page.get_by_role("link", name=re.compile("^FAILURE")).press("Enter")
    page.wait_for_url("**/?state=FAILURE")
    expect(row(page, "SUCCESS")).to_have_count(0)
    chosen = page.get_by_role("link", name=re.compile("^FAILURE"))
    expect(chosen).to_have_attribute("aria-current", "true")


def test_end_a_task_that_runs(shop: Shop, open_page: Open) -> None:
    worker = shop.work("tracked", "tracked")
    task = shop.send("ask_for_review", 1003, seconds=300, queue="tracked")
    page = open_page(tracker(1003))
    running = row(page, task[:8])
    expect(running).to_contain_text("STARTED")
    running.get_by_role("link", name="Revoke").click()
    expect(page.locator("#content-main")).to_contain_text(task)
    page.get_by_role("button", name="Terminate").click()
    expect(page.locator(".messagelist")).to_contain_text("told to terminate 1 task")
    expect(row(page, task[:8])).to_contain_text("REVOKED")
    page.get_by_role("link", name="Order 1003").click()
    page.get_by_role("link", name="History").click()
    expect(page.locator("#content")).to_contain_text(f"{task} (SIGTERM)")
    kill(worker)


def test_without_scripts_it_works_as_well(shop: Shop, open_page: Open) -> None:
    task = shop.send("charge_card", 1004)
    page = open_page(tracker(1004), java_script_enabled=False)
    for _ in range(30):
        if row(page, task[:8]).filter(has_text="FAILURE").count():
            break
        page.wait_for_timeout(500)
        page.reload()
    row(page, task[:8]).locator("summary").click()
    expect(row(page, task[:8]).locator("pre")).to_contain_text("was declined")
    expect(page.get_by_role("button", name="Live refresh")).to_be_hidden()
    page.get_by_role("link", name="shop.tasks.send_receipt").click()
    page.get_by_role("button", name="Launch").click()
    expect(page.locator(".messagelist")).to_contain_text("Launched")
