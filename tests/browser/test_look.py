"""How the pages look: light and dark, on a phone, right to left, to a screen reader."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest
from axe_playwright_python.sync_playwright import Axe  # type: ignore[import-untyped]
from playwright.sync_api import ViewportSize, expect

from tests.browser.conftest import Open
from tests.browser.pages import (
    CAMERAS,
    ORDERS,
    TASKS,
    WORKERS,
    choose,
    row,
    some_tasks,
)
from tests.browser.shop import Shop, kill

if TYPE_CHECKING:
    from playwright.sync_api import Page

PHONE, SCREEN, WALL = (
    ViewportSize(width=width, height=height)
    for width, height in ((360, 740), (1280, 900), (2560, 1300))
)

#: By how much a page is wider than the window.
OVERFLOW = "document.documentElement.scrollWidth - document.documentElement.clientWidth"

#: Django's own parts of a page.
NOT_OURS = [
    ["#header"],
    [".breadcrumbs"],
    ["#nav-sidebar"],
    ["#changelist-filter h2, #changelist-filter summary, #changelist-filter h3"],
    ["#changelist-search > div"],
]


@pytest.fixture(scope="module")
def tasks(shop: Shop, chromium: Any, session: Any) -> Iterator[dict[str, str]]:
    """Return the ids of tasks with each outcome; one of them runs all the time."""
    worker = shop.work("busy", "busy")
    context = chromium.new_context(base_url=shop.address, storage_state=session)
    found = some_tasks(shop, context.new_page(), queue="busy")
    context.close()
    yield found
    kill(worker)


def pages(page: Page, tasks: dict[str, str]) -> Iterator[str]:
    """Go from page to page; yield the name of each."""
    for name, path in (("tasks", TASKS), ("workers", WORKERS), ("cameras", CAMERAS)):
        page.goto(path)
        expect(page.locator("#result_list")).to_be_visible()
        yield name
        page.locator("#result_list tbody th a").first.click()
        page.wait_for_url("**/change/**")
        yield f"page of {name}"
    for state in ("FAILURE", "STARTED"):
        page.goto(f"{TASKS}?q={tasks[state]}")
        row(page, tasks[state]).locator("th a").click()
        page.wait_for_url("**/change/**")
        yield state
        about = page.url.partition("/change/")[0]
        for part in ("tree", "run"):
            page.goto(f"{about}/{part}/")
            yield f"{part} of {state}"
    page.goto(f"{WORKERS}?q=quick")
    page.locator("#result_list tbody th a").first.click()
    page.wait_for_url("**/change/**")
    page.goto(f"{page.url.partition('/change/')[0]}/inspect/")
    yield "what a worker answers"
    tracker = f"{ORDERS}1002/task-tracker/"
    for name, path in (
        ("order", f"{ORDERS}1002/change/"),
        ("tracker", tracker),
        ("tracker, filtered", f"{tracker}?state=FAILURE&page_size=1"),
        ("tracker, nothing", f"{tracker}?state=NONE"),
        ("launch", f"{tracker}launch/?task=shop.tasks.ask_for_review&role=order"),
        ("revoke", f"{tracker}revoke/?task={tasks['FAILURE']}"),
    ):
        page.goto(path)
        expect(page.locator("#content-main")).to_be_visible()
        for folded in page.locator("details > summary").all():
            folded.click()
        yield name
    for path, action in (
        (TASKS, "rate_limit_tasks"),
        (WORKERS, "shutdown_nodes"),
        (TASKS, "delete_selected"),
    ):
        page.goto(path)
        page.locator("#result_list input.action-select").first.check()
        choose(page, action)
        yield action


@pytest.mark.parametrize("language", ["en", "ar"])
def test_no_page_is_wider_than_the_window(
    open_page: Open, tasks: dict[str, str], errors: list[str], language: str
) -> None:
    page = open_page("/admin/", locale=language)
    wider = {}
    for name in pages(page, tasks):
        for size in (PHONE, WALL, SCREEN):
            page.set_viewport_size(size)
            wider[name, size["width"]] = page.evaluate(OVERFLOW)
    assert {where: by for where, by in wider.items() if by} == {}
    assert errors == []


@pytest.mark.parametrize(
    ("size", "scheme", "options"),
    [
        pytest.param(SCREEN, "light", {}, id="light"),
        pytest.param(SCREEN, "dark", {"runOnly": ["color-contrast"]}, id="dark"),
        pytest.param(PHONE, "light", {}, id="phone"),
    ],
)
def test_axe_finds_nothing_serious(
    open_page: Open, tasks: dict[str, str], size: Any, scheme: Any, options: Any
) -> None:
    page = open_page("/admin/", viewport=size, color_scheme=scheme)
    found = {name: serious(page, **options) for name in pages(page, tasks)}
    assert {name: what for name, what in found.items() if what} == {}


def serious(page: Page, **options: Any) -> list[str]:
    """Return what axe finds on a page that is serious or critical."""
    options = {"resultTypes": ["violations"], **options}
    results = Axe().run(page, context={"exclude": NOT_OURS}, options=options)
    return [
        f"{violation['id']}: {node['html'][:200]}"
        for violation in results.response["violations"]
        if violation["impact"] in {"serious", "critical"}
        for node in violation["nodes"]
    ]


def test_all_can_be_reached_by_keyboard(open_page: Open, tasks: dict[str, str]) -> None:
    page = open_page(TASKS)
    reached = set()
    for _ in range(120):
        page.keyboard.press("Tab")
        reached.add(
            page.evaluate(
                "(n => n.id || n.name || n.className || n.textContent.trim())"
                "(document.activeElement)"
            )
        )
    assert {"searchbar", "action", "action-toggle", "index"} <= reached
    expect(page.get_by_role("button", name="Live refresh")).to_be_visible()
    assert "_selected_action" in reached
