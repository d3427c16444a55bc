"""Takes the pictures of the documentation: every page, light, dark and narrow.

Usage: ``python -m tests.browser.screenshots DIR [--arabic]``.
"""

from __future__ import annotations

import argparse
import io
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image
from playwright.sync_api import expect, sync_playwright

from tests.browser.pages import (
    CAMERAS,
    ORDERS,
    TASKS,
    WORKERS,
    choose,
    log_in,
    row,
    some_tasks,
)
from tests.browser.shop import ROOT, Shop, open_shop

if TYPE_CHECKING:
    from playwright.sync_api import Page

SCREEN = {"width": 1280, "height": 760}
PHONE = {"width": 400, "height": 760}

#: How each page is looked at.
VIEWS: dict[str, dict[str, Any]] = {
    "light": {"viewport": SCREEN, "color_scheme": "light"},
    "dark": {"viewport": SCREEN, "color_scheme": "dark"},
    "narrow": {"viewport": PHONE, "color_scheme": "light"},
}
#: From right to left, for whoever changes the style sheet.
ARABIC = {"viewport": SCREEN, "color_scheme": "light", "locale": "ar"}

#: Tracebacks name files of this machine.
ELSEWHERE = """([here, there]) => document.querySelectorAll("pre").forEach(
    pre => { pre.textContent = pre.textContent.replaceAll(here, there); })"""
#: A task that is launched for orders.
REVIEW = "shop.tasks.ask_for_review"
#: Folders, and what the pictures call them.
FOLDERS = {str(ROOT): "/srv/shop", sys.prefix: "/srv/venv"}


def pages(page: Page, failed: str) -> Iterator[str]:
    """Go from page to page; yield the name of each."""
    for name, path in (("tasks", TASKS), ("workers", WORKERS), ("cameras", CAMERAS)):
        page.goto(path)
        expect(page.locator("#result_list")).to_be_visible()
        yield name
    page.goto(f"{TASKS}?q={failed}")
    row(page, failed).locator("th a").click()
    page.wait_for_url("**/change/**")
    for folder in FOLDERS.items():
        page.evaluate(ELSEWHERE, list(folder))
    yield "task"
    page.goto(f"{page.url.partition('/change/')[0]}/run/")
    yield "run"
    page.goto(TASKS)
    for box in page.locator("#result_list input.action-select").all()[:3]:
        box.check()
    choose(page, "terminate_tasks")
    yield "confirm"
    page.goto(f"{TASKS}?q=name:ship")
    page.locator("#result_list .field-name a").first.click()
    page.goto(f"{page.url.partition('/change/')[0]}/tree/")
    yield "tree"
    page.goto(f"{ORDERS}1002/task-tracker/")
    yield "tracker"
    page.goto(f"{ORDERS}1002/task-tracker/launch/?task={REVIEW}&role=order")
    yield "launch"
    page.goto(f"{ORDERS}1002/change/")
    yield "order"
    page.goto(f"{WORKERS}?q=quick")
    page.locator("#result_list .field-hostname a").click()
    page.wait_for_url("**/change/**")
    yield "worker"
    page.goto(f"{page.url.partition('/change/')[0]}/inspect/")
    yield "inspect"


def busy_day(shop: Shop, page: Page) -> str:
    """Have the shop do a bit of everything; return the id of a task that failed."""
    for order in range(1, 4):
        shop.send("fulfil_order", 1000 + order)
    shop.send("count_visits")
    shop.send("remind_customer", "ada@example.com")
    launch(page)
    shop.send("ask_for_review", 1002, email="grace@example.com")
    shop.send("fulfil_order", 1002)
    return some_tasks(shop, page)["FAILURE"]


def launch(page: Page) -> None:
    """Launch a task for an order, as somebody does."""
    page.goto(f"{ORDERS}1002/task-tracker/launch/?task={REVIEW}&role=order")
    page.get_by_role("button", name="Launch").click()


def save(picture: bytes, path: Path) -> None:
    """Write a picture with 256 colours, which is a third of its size."""
    with Image.open(io.BytesIO(picture)) as image:
        image.convert("RGB").quantize(256).save(path, optimize=True)


def main() -> None:
    """Write the pictures into the folder of the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--arabic", action="store_true", help="and right to left")
    options = parser.parse_args()
    views = {**VIEWS, "arabic": ARABIC} if options.arabic else VIEWS
    options.folder.mkdir(parents=True, exist_ok=True)
    expect.set_options(timeout=30_000)
    chromium = shutil.which("chromium")
    if chromium is None:
        sys.exit("There is no chromium on the PATH.")
    with (
        tempfile.TemporaryDirectory() as scratch,
        open_shop(Path(scratch)) as shop,
        sync_playwright() as playwright,
        playwright.chromium.launch(
            executable_path=chromium, args=["--no-sandbox"]
        ) as browser,
    ):
        context = browser.new_context(base_url=shop.address)
        page = context.new_page()
        log_in(page)
        failed = busy_day(shop, page)
        state = context.storage_state()
        context.close()
        for view, about in views.items():
            context = browser.new_context(
                base_url=shop.address, storage_state=state, **about
            )
            page = context.new_page()
            for name in pages(page, failed):
                save(page.screenshot(), options.folder / f"{name}-{view}.png")
            context.close()


if __name__ == "__main__":
    main()
