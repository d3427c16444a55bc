"""A browser, the shop, and somebody who is logged in to its admin."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Generator, Iterator
from typing import TYPE_CHECKING, Any

import pytest
from playwright import sync_api as playwright_api

from tests.browser.pages import log_in
from tests.browser.shop import Shop, open_shop

if TYPE_CHECKING:
    from playwright.sync_api import Browser, ConsoleMessage, Page

Open = Callable[..., "Page"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests: all of them start processes, and drive a browser."""
    for item in items:
        if "tests/browser" in item.nodeid:
            item.add_marker(pytest.mark.browser)
            item.add_marker(pytest.mark.integration)


@pytest.fixture(scope="package")
def chromium() -> Iterator[Browser]:
    """Return Debian's Chromium; skip where there is none."""
    path = shutil.which("chromium")
    if path is None:
        pytest.skip("there is no chromium on the PATH")
    # While it runs, this thread has an event loop: no test here uses the ORM.
    playwright_api.expect.set_options(timeout=30_000)
    with playwright_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=path, args=["--no-sandbox"]
        )
        yield browser
        browser.close()


@pytest.fixture(scope="package")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """Return the shop, which is open."""
    with open_shop(tmp_path_factory.mktemp("shop")) as shop:
        yield shop


@pytest.fixture(scope="package")
def session(chromium: Browser, shop: Shop) -> Any:
    """Return the cookies of the admin, who is logged in."""
    context = chromium.new_context(base_url=shop.address)
    page = context.new_page()
    log_in(page)
    state = context.storage_state()
    context.close()
    return state


@pytest.fixture
def errors() -> list[str]:
    """Return what the consoles of the pages have said that is an error."""
    return []


@pytest.fixture
def open_page(
    chromium: Browser, shop: Shop, session: Any, errors: list[str]
) -> Iterator[Open]:
    """Return a function that opens a page of the admin, each in a browser of its own.

    Its options are those of Playwright's contexts.
    """
    contexts = []

    def listen(message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"}:
            errors.append(f"{message.text} {message.location}")

    def open_page(path: str, **options: Any) -> Page:
        context = chromium.new_context(
            base_url=shop.address, storage_state=session, **options
        )
        contexts.append(context)
        page = context.new_page()
        page.on("console", listen)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(path)
        return page

    yield open_page
    for context in contexts:
        context.close()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Function,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show what the processes of the shop wrote with the test that failed."""
    report = yield
    shop = item.funcargs.get("shop") if report.failed else None
    if isinstance(shop, Shop):
        report.sections.append(("shop", shop.output()))
    return report
