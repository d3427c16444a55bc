"""What the pages of tasks do beside showing them: export, run again, copy, the tree."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import Open
from tests.browser.pages import TASKS, open_task, row
from tests.browser.shop import Shop


@pytest.fixture(autouse=True)
def _no_errors(errors: list[str]) -> Iterator[None]:
    """Every page leaves the console empty, under the strict policy."""
    yield
    assert errors == []


def test_run_a_failed_task_again(shop: Shop, open_page: Open) -> None:
    old = shop.send("charge_card", 31)
    page = open_page(TASKS)
    expect(row(page, old)).to_contain_text("FAILURE")
    open_task(page, old)
    page.get_by_role("link", name="Run again").click()
    arguments = page.get_by_label("Arguments:", exact=True)
    expect(arguments).to_have_value(re.compile(r"[(\[]31,?[)\]]"))
    arguments.fill("[32]")
    page.get_by_role("button", name="Run again").click()
    message = page.locator(".messagelist")
    expect(message).to_contain_text("1 task was sent again")
    new = message.get_by_role("link").inner_text()
    assert new != old
    history = page.locator(".celery-monitor-log")
    expect(history).to_contain_text(f"Ran it again as {new}")

    page.goto(TASKS)
    expect(row(page, new)).to_contain_text("FAILURE")
    open_task(page, new)
    main = page.locator("#content-main")
    expect(main).to_contain_text("The card for order 32 was declined")
    main.get_by_role("link", name="charge_card").first.click()
    expect(page.locator("#celery-monitor-task-id")).to_have_text(old)
    page.locator("#content-main").get_by_role("link", name="charge_card").click()
    expect(page.locator("#celery-monitor-task-id")).to_have_text(new)


@pytest.mark.parametrize("name", ["CSV", "JSON"])
def test_export(shop: Shop, open_page: Open, name: str) -> None:
    good, bad = shop.send("send_receipt", 41), shop.send("charge_card", 42)
    page = open_page(TASKS)
    expect(row(page, good)).to_contain_text("SUCCESS")
    expect(row(page, bad)).to_contain_text("FAILURE")
    page.locator("#changelist-filter").get_by_role("link", name="FAILURE").click()
    expect(row(page, good)).to_have_count(0)
    with page.expect_download() as download:
        page.get_by_role("link", name=f"Export {name}").click()
    path = Path(download.value.path())
    if name == "CSV":
        with path.open(encoding="utf-8", newline="") as file:
            tasks = list(csv.DictReader(file))
    else:
        tasks = json.loads(path.read_text(encoding="utf-8"))["tasks"]
    states = {task["task_id"]: task["state"] for task in tasks}
    assert states[bad] == "FAILURE"
    assert good not in states


def test_copy_an_id(shop: Shop, open_page: Open) -> None:
    task = shop.send("send_receipt", 51)
    allowed = ["clipboard-read", "clipboard-write"]
    page = open_page(TASKS, permissions=allowed)
    row(page, task).get_by_role("button", name="Copy the id").press("Enter")
    status = page.locator("[role=status]").filter(has_text="Copied")
    expect(status).to_have_count(1)
    assert page.evaluate("navigator.clipboard.readText()") == task


def test_the_tree_comes_when_it_is_asked_for(shop: Shop, open_page: Open) -> None:
    shop.send("fulfil_order", 61)
    page = open_page(f"{TASKS}?q=name:ship")
    last = page.locator("#result_list tbody tr").first
    expect(last).to_contain_text("SUCCESS")
    last.get_by_role("link", name="ship").click()
    page.get_by_role("link", name="Show the tasks around it").press("Enter")
    tree = page.locator("#celery-monitor-tree")
    for name in ("fulfil_order", "pick", "pack", "ship"):
        expect(tree).to_contain_text(name)
    expect(page).to_have_url(re.compile("/change/"))
