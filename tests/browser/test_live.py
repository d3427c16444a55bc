"""Pages that refresh themselves, as somebody sees them who looks at them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import TimeoutError as NothingHappenedError
from playwright.sync_api import expect

from tests.browser.conftest import Open
from tests.browser.pages import CAMERAS, TASKS, WORKERS, choose, log_in, row
from tests.browser.shop import Shop

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page, Route


@pytest.fixture(autouse=True)
def _no_errors(errors: list[str]) -> Iterator[None]:
    """Every page leaves the console empty, under the strict policy."""
    yield
    assert errors == []


def mark(page: Page) -> None:
    """Leave something in the page that a reload would lose."""
    page.evaluate("window.marked = true")


def is_same_page(page: Page) -> bool:
    """Return whether the page was not loaded anew since it was marked."""
    return bool(page.evaluate("window.marked === true"))


def switch(page: Page) -> Locator:
    """Return the switch."""
    return page.get_by_role("button", name="Live refresh")


def status(page: Page) -> Locator:
    """Return what the page says of its refresh."""
    return page.locator("#celery-monitor-live [role=status]")


def test_a_task_goes_from_received_to_success(shop: Shop, open_page: Open) -> None:
    # Long enough to get to the page of the next one.
    shop.send("build_report", 20, queue="slow")
    page = open_page(TASKS)
    mark(page)
    task = shop.send("build_report", 1, queue="slow")
    # The one before it is running.
    expect(row(page, task)).to_contain_text("RECEIVED")
    assert is_same_page(page)
    row(page, task).get_by_role("link", name="build_report").click()
    state = page.locator("#content-main .celery-monitor-state").first
    expect(state).to_have_text("RECEIVED")
    mark(page)
    bar = page.locator("#content-main svg").first
    expect(bar).to_be_visible()
    bar.evaluate("node => { node.marked = true; }")
    expect(state).to_have_text("SUCCESS", timeout=60_000)
    assert bar.evaluate("node => node.marked")
    expect(page.locator("#content-main")).to_contain_text("Report built in 1 seconds")
    expect(status(page)).to_have_text("SUCCESS")
    assert "SUCCESS" in page.title()
    assert is_same_page(page)
    # It has ended, and so has the refresh.
    expect(switch(page)).to_be_hidden()
    with pytest.raises(NothingHappenedError), page.expect_request("**", timeout=2500):
        pass


def test_selection_focus_and_place_stay(shop: Shop, open_page: Open) -> None:
    first = shop.send("send_receipt", 1)
    page = open_page(TASKS, viewport={"width": 900, "height": 300})
    box = row(page, first).locator("input.action-select")
    expect(row(page, first)).to_contain_text("SUCCESS")
    box.check()
    link = row(page, first).get_by_role("link")
    link.focus()
    top = link.bounding_box()
    mark(page)
    second = shop.send("send_receipt", 2)
    expect(row(page, second)).to_contain_text("SUCCESS")
    assert is_same_page(page)
    expect(box).to_be_checked()
    expect(link).to_be_focused()
    assert top
    rows = page.locator("#result_list tbody tr").count()
    counter = page.locator(".action-counter").first
    expect(counter).to_have_text(f"1 of {rows} selected")
    # The admin's own script knows of the new row.
    page.locator("#action-toggle").check()
    expect(row(page, second).locator("input.action-select")).to_be_checked()
    expect(counter).to_have_text(f"{rows} of {rows} selected")
    row(page, second).locator("input.action-select").uncheck()
    expect(counter).to_have_text(f"{rows - 1} of {rows} selected")
    expect(page.locator("#action-toggle")).not_to_be_checked()


def test_the_view_does_not_jump(shop: Shop, open_page: Open) -> None:
    first = shop.send("send_receipt", 1)
    page = open_page(
        f"{TASKS}?name=shop.tasks.send_receipt", viewport={"width": 900, "height": 300}
    )
    expect(row(page, first)).to_contain_text("SUCCESS")
    # Nothing above it is to change its place any more.
    for task in [shop.send("send_receipt", 2) for _ in range(8)]:
        expect(row(page, task)).to_contain_text("SUCCESS")
    looked_at = row(page, first)
    looked_at.evaluate("node => node.scrollIntoView({block: 'center'})")
    before = looked_at.bounding_box()
    new = shop.send("send_receipt", 3)
    expect(row(page, new)).to_contain_text("SUCCESS")
    page.evaluate("new Promise(requestAnimationFrame)")
    after = looked_at.bounding_box()
    assert before
    assert after
    assert abs(before["y"] - after["y"]) < 3


def test_new_rows_are_said_and_rows_that_left_stay_while_selected(
    shop: Shop, open_page: Open
) -> None:
    page = open_page(f"{TASKS}?state__exact=STARTED")
    task = shop.send("build_report", 4, queue="slow")
    expect(row(page, task)).to_contain_text("STARTED")
    expect(status(page)).to_contain_text("New rows: 1 (")
    row(page, task).locator("input.action-select").check()
    other = open_page(f"{TASKS}?state__exact=STARTED")
    expect(row(other, task)).to_have_count(0)
    expect(row(page, task).locator("input.action-select")).to_be_checked()
    row(page, task).locator("input.action-select").uncheck()
    page.locator("body").click(position={"x": 2, "y": 2})
    shop.send("send_receipt", 1)
    expect(row(page, task)).to_have_count(0)


def test_it_waits_while_an_action_is_chosen(shop: Shop, open_page: Open) -> None:
    page = open_page(TASKS)
    page.locator("select[name=action]").select_option("revoke_tasks")
    expect(status(page)).to_have_text("Not refreshed while an action is chosen.")
    task = shop.send("send_receipt", 1)
    other = open_page(TASKS)
    expect(row(other, task)).to_contain_text("SUCCESS")
    expect(row(page, task)).to_have_count(0)
    page.locator("select[name=action]").select_option("")
    expect(row(page, task)).to_contain_text("SUCCESS")


def test_the_switch_is_remembered(open_page: Open) -> None:
    page = open_page(TASKS)
    expect(switch(page)).to_have_attribute("aria-pressed", "true")
    switch(page).focus()
    page.keyboard.press("Space")
    expect(switch(page)).to_have_attribute("aria-pressed", "false")
    page.reload()
    expect(switch(page)).to_have_attribute("aria-pressed", "false")
    with pytest.raises(NothingHappenedError), page.expect_request("**", timeout=2500):
        pass
    page.goto(WORKERS)
    expect(switch(page)).to_have_attribute("aria-pressed", "false")
    with page.expect_request("**"):
        page.keyboard.press("Tab")
        switch(page).press("Enter")
    expect(switch(page)).to_have_attribute("aria-pressed", "true")
    page.reload()
    expect(switch(page)).to_have_attribute("aria-pressed", "true")


def test_a_tab_that_nobody_sees_asks_nothing(open_page: Open) -> None:
    page = open_page(CAMERAS)
    hide = """hidden => {
        Object.defineProperty(document, "hidden", {value: hidden, configurable: true});
        document.dispatchEvent(new Event("visibilitychange"));
    }"""
    page.evaluate(hide, arg=True)
    page.wait_for_timeout(500)
    with pytest.raises(NothingHappenedError), page.expect_request("**", timeout=2500):
        pass
    with page.expect_request("**"):
        page.evaluate(hide, arg=False)


def test_it_says_when_the_server_is_away_and_back(
    open_page: Open, errors: list[str]
) -> None:
    page = open_page(WORKERS)
    page.route("**/workerstate/", lambda route: route.abort())
    expect(status(page)).to_have_text("The server did not answer. Trying again.")
    page.unroute("**/workerstate/")
    expect(status(page)).to_have_text("")
    # The browser itself notes requests that failed.
    assert all("ERR_FAILED" in error for error in errors)
    errors.clear()


def test_it_ends_when_the_user_is_logged_out(open_page: Open) -> None:
    page = open_page(WORKERS)
    page.context.clear_cookies()
    expect(status(page)).to_contain_text("no longer refreshed")
    expect(switch(page)).to_have_attribute("aria-pressed", "false")


def test_another_page_in_its_place_is_not_shown(open_page: Open) -> None:
    page = open_page(WORKERS)
    login = '<title>Log in</title><body class="login"><div id="content">Who?</div>'
    page.route("**/workerstate/", lambda route: route.fulfill(body=login))
    expect(status(page)).to_contain_text("no longer refreshed")
    expect(page.locator("#result_list")).to_be_visible()
    assert "Log in" not in page.title()


def test_the_tree_that_was_opened_stays(shop: Shop, open_page: Open) -> None:
    task = shop.send("build_report", 4, queue="slow")
    page = open_page(TASKS)
    row(page, task).get_by_role("link", name="build_report").click()
    page.get_by_role("link", name="Show the tasks around it").click()
    tree = page.locator("#celery-monitor-tree")
    expect(tree).to_contain_text("build_report")
    state = page.locator("#content-main .celery-monitor-state").first
    expect(state).to_have_text("SUCCESS")
    expect(tree).to_be_visible()
    page.get_by_role("link", name="Show them as they are now").click()
    expect(tree).to_contain_text("SUCCESS")
    expect(tree).to_have_count(1)


def test_an_empty_list_fills(shop: Shop, open_page: Open) -> None:
    page = open_page(f"{TASKS}?name=shop.tasks.remind_customer")
    expect(page.locator("#result_list")).to_have_count(0)
    task = shop.send("remind_customer", "ada@example.com")
    expect(row(page, task)).to_contain_text("SUCCESS")
    page.locator("#action-toggle").check()
    expect(page.locator(".action-counter").first).to_have_text("1 of 1 selected")


def answer(page: Page, url: str, change: Callable[[str], str] = str) -> None:
    """Have the server make the list anew each time, with a change to it."""

    def handle(route: Route) -> None:
        sent = route.request.headers
        headers = {name: sent[name] for name in sent if name != "if-none-match"}
        response = route.fetch(headers=headers)
        route.fulfill(response=response, body=change(response.text()))

    page.route(f"**{url}", handle)


def is_refreshed(page: Page, times: int = 2) -> None:
    """Wait until the page was refreshed, and what it did about it is done."""
    for _ in range(times):
        with page.expect_response(lambda response: response.ok):
            pass
    page.evaluate("new Promise(requestAnimationFrame)")


def test_a_button_that_was_pressed_keeps_the_focus(shop: Shop, open_page: Open) -> None:
    task = shop.send("send_receipt", 1)
    page = open_page(TASKS)
    expect(row(page, task)).to_contain_text("SUCCESS")
    answer(page, TASKS)
    is_refreshed(page)
    button = row(page, task).get_by_role("button")
    button.focus()
    page.keyboard.press("Enter")
    expect(button).to_have_class(re.compile("celery-monitor-copied"))
    is_refreshed(page)
    expect(button).to_be_focused()
    expect(button).not_to_have_class(re.compile("celery-monitor-copied"))


def test_a_list_that_empties_and_fills(shop: Shop, open_page: Open) -> None:
    url = f"{TASKS}?name=shop.tasks.send_receipt"
    task = shop.send("send_receipt", 1)
    page = open_page(url)
    expect(row(page, task)).to_contain_text("SUCCESS")
    empty = f"{shop.address}{TASKS}?name=none"
    for _ in range(2):
        page.route(
            "**/taskstate/?name=*",
            lambda route: route.fulfill(response=route.fetch(url=empty)),
        )
        expect(page.locator("#result_list")).to_be_hidden()
        # As when somebody goes back to the page.
        page.evaluate("window.dispatchEvent(new Event('pageshow'))")
        page.unroute("**/taskstate/?name=*")
        expect(row(page, task)).to_be_visible()
    number = page.locator("#result_list tbody tr").count()
    page.locator("#action-toggle").check()
    said = f"{number} of {number} selected"
    expect(page.locator(".action-counter").first).to_have_text(said)


def test_what_goes_above_the_list_does_not_move_it(shop: Shop, open_page: Open) -> None:
    task = shop.send("send_receipt", 1)
    page = open_page(TASKS, viewport={"width": 360, "height": 700})
    expect(row(page, task)).to_contain_text("SUCCESS")
    form = '<form id="changelist-form"'
    note = '<p class="celery-monitor-note">A note</p>'
    notes = [note]

    def noted(text: str) -> str:
        assert form in text
        begin = text.index(">", text.index(form)) + 1
        return text[:begin] + "".join(notes) + text[begin:]

    answer(page, TASKS, noted)
    expect(page.get_by_text("A note")).to_be_visible()
    results = page.locator(".results")
    results.evaluate("node => { node.scrollLeft = 40; }")
    notes.clear()
    expect(page.get_by_text("A note")).to_have_count(0)
    assert results.evaluate("node => node.scrollLeft") == 40


def test_a_link_that_has_the_focus_stays_the_same(shop: Shop, open_page: Open) -> None:
    name = "shop.tasks.send_receipt"
    task = shop.send("send_receipt", 1)
    page = open_page(TASKS)
    expect(row(page, task)).to_contain_text("SUCCESS")
    page.reload()
    link = page.locator("#changelist-filter").get_by_role("link", name=name)
    link.focus()

    def with_another(text: str) -> str:
        choice = text.rindex("<li", 0, text.index(f'<a href="?name={name}"'))
        return f'{text[:choice]}<li><a href="?name=a">Another</a></li>{text[choice:]}'

    answer(page, TASKS, with_another)
    expect(page.get_by_role("link", name="Another")).to_be_visible()
    expect(link).to_be_focused()


def test_forms_are_taken_after_another_login(shop: Shop, open_page: Open) -> None:
    task = shop.send("send_receipt", 1)
    page = open_page(TASKS)
    expect(row(page, task)).to_contain_text("SUCCESS")
    page.context.clear_cookies()
    expect(status(page)).to_contain_text("no longer refreshed")
    other = page.context.new_page()
    log_in(other)
    other.close()
    switch(page).click()
    is_refreshed(page, times=1)
    row(page, task).locator("input.action-select").check()
    choose(page, "revoke_tasks")
    expect(page.get_by_role("heading", name="Revoke tasks")).to_be_visible()


def test_without_javascript_it_is_a_plain_page(open_page: Open) -> None:
    page = open_page(TASKS, java_script_enabled=False)
    expect(page.locator("h1").filter(has_text="Tasks")).to_be_visible()
    expect(switch(page)).to_have_count(0)
    expect(page.locator("#celery-monitor-live")).to_be_hidden()
