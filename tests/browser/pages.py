"""The pages of the admin, and what is on them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from playwright.sync_api import expect

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

    from tests.browser.shop import Shop

TASKS = "/admin/celery_monitor/taskstate/"
WORKERS = "/admin/celery_monitor/workerstate/"
CAMERAS = "/admin/celery_monitor/camerastate/"
ORDERS = "/admin/shop/order/"


def row(page: Page, task_id: str) -> Locator:
    """Return the row of a task in the list."""
    return page.locator("#result_list tbody tr").filter(
        has=page.locator(f'[title="{task_id}"]')
    )


def open_task(page: Page, task_id: str) -> None:
    """Open the page of a task that is in the list."""
    row(page, task_id).locator(".field-name a").click()
    expect(page.locator("#celery-monitor-task-id")).to_have_text(task_id)


def choose(page: Page, action: str) -> None:
    """Choose an action for the selected rows, as far as the page that asks."""
    page.locator("select[name=action]").first.select_option(action)
    page.locator("#changelist-form button[name=index]").first.click()
    page.wait_for_selector("body.delete-confirmation")


def log_in(page: Page) -> None:
    """Log in as the admin of the shop."""
    page.goto("/admin/login/")
    page.get_by_label("Username").fill("admin")
    page.get_by_label("Password").fill("admin")
    page.get_by_role("button", name="Log in").click()
    page.wait_for_url("/admin/")


def some_tasks(shop: Shop, page: Page, queue: str = "slow") -> dict[str, str]:
    """Send tasks with each outcome; return their ids once the list has them.

    Two are for the worker of ``queue``, which is busy with the first of them.
    """
    tasks = {
        "SUCCESS": shop.send("send_receipt", 1001),
        "FAILURE": shop.send("charge_card", 1002),
        "STARTED": shop.send("build_report", 300, queue=queue),
        "RECEIVED": shop.send("sync_stock", "Lyon", queue=queue),
    }
    page.goto(TASKS)
    for state, task in tasks.items():
        expect(row(page, task)).to_contain_text(state)
    return tasks
