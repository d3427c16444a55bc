"""What the search box of the list of tasks understands."""

from __future__ import annotations

import contextlib
import html
import re
from urllib.parse import quote

import pytest
from django.core.exceptions import ValidationError
from django.test import Client
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from django_celery_monitor.admin import search
from django_celery_monitor.sanitize import fit_identifier
from tests.admin.conftest import TASKS, WORKERS, row_for
from tests.factories import TaskStateFactory

pytestmark = pytest.mark.django_db

#: Pieces that mean something, for hypothesis to put together.
PIECES = ["state:", "name:", "kwargs:a=", "worker:x", '"', "\\", "-", "OR", "AND", " "]
PIECES += ["=", ":", "%", "_", "'", "{", "FAILURE", "é", "\x1c", "\u2028", "\U0001d4b3"]


@pytest.fixture
def _tasks() -> None:
    TaskStateFactory.create(
        name="shop.invoice",
        state="FAILURE",
        queue="slow",
        worker__hostname="celery@w1",
        args="(7, 'a b')",
        kwargs="{'order_id': 42, 'to': 'ada@example.com', 'why': \"it's\"}",
        result="ValueError('timeout')",
        exception="ValueError",
    )
    TaskStateFactory.create(
        name="shop.invoice_again",
        state="SUCCESS",
        queue="celery",
        worker__hostname="celery@w10",
        args="[]",
        kwargs='{"order_id": 421, "to": "bob"}',
        result="'sent state:FAILURE'",
    )
    TaskStateFactory.create(name=None, state="PROGRESS", worker=None)


def page(client: Client, text: str) -> str:
    response = client.get(f"{TASKS}?q={quote(text)}")
    assert response.status_code == 200
    return response.content.decode()


def found(client: Client, text: str) -> set[str]:
    html = page(client, text)
    assert "errornote" not in html
    return set(re.findall(r'<th class="field-name".*?>([\w.]+)</a>', html))


ONE, OTHER, NAMELESS = {"shop.invoice"}, {"shop.invoice_again"}, {"unknown"}
BOTH = ONE | OTHER


@pytest.mark.usefixtures("_tasks")
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("state:FAILURE", ONE),
        ("STATE:failure", ONE),
        ("state:PROGRESS", NAMELESS),
        ("name:invoice", BOTH),
        # A name in full is that name alone.
        ("name:shop.invoice", ONE),
        ("worker:w1", BOTH),
        ("worker:celery@w1", ONE),
        ("worker:nobody", set()),
        ("-worker:nobody invoice", BOTH),
        ("queue:slow", ONE),
        ("args:7", ONE),
        ('args:"a b"', ONE),
        ("result:timeout", ONE),
        ("exception:valueerror", ONE),
        ("kwargs:order_id=42", ONE),
        ("kwargs:order_id=421", OTHER),
        ("kwargs:order_id=4", set()),
        ("kwargs:to=ada@example.com", ONE),
        ("kwargs:to=bob", OTHER),
        ("kwargs:why=it's", ONE),
        ("kwargs:order", BOTH),
        ("invoice slow", set()),
        ("invoice queue:slow", ONE),
        ("invoice AND queue:slow", ONE),
        ("queue:slow OR queue:celery", BOTH),
        ("queue:slow state:SUCCESS OR kwargs:to=bob", OTHER),
        ("invoice -again", ONE),
        ("-state:FAILURE", OTHER | NAMELESS),
        ("-name:invoice", NAMELESS),
        ('"a b"', ONE),
        ('"b a"', set()),
        ('"AND"', set()),
        ('result:"state:FAILURE"', OTHER),
        ("kwargs:\"'order_id': 42,\"", ONE),
        ('kwargs:"\\"to\\""', OTHER),
        ("order_id", BOTH),
        ("%", set()),
        ("12:30", set()),
    ],
)
def test_what_a_search_finds(operator: Client, text: str, expected: set[str]) -> None:
    assert found(operator, text) == expected


@pytest.mark.usefixtures("_tasks")
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nam:invoice", "There is no field “nam”. The fields are state, name, worker"),
        ("http://example.com", "There is no field “http”."),
        ("state:", "Say what to look for after “state:”."),
        ('state:""', "Say what to look for after “state:”."),
        ("name: invoice", "Say what to look for after “name:”."),
        ('"invoice', "A double quote is not closed."),
        ('name:"invoice', "A double quote is not closed."),
        ('"a"b', "A double quote is not closed."),
        ("OR", "OR needs something to look for before and after it."),
        ("invoice OR", "OR needs something to look for"),
        ("AND invoice", "AND needs something to look for"),
        ("a OR OR b", "OR needs something to look for"),
        ("a AND OR b", "OR needs something to look for"),
        ("-", "There is nothing to look for in a word."),
        ('""', "There is nothing to look for in a word."),
        ("a " * 21, "A search has at most 20 words."),
        ("<script>:x <b>:<i> b:<script>", "There is no field “b”."),
    ],
)
def test_a_bad_search_lists_nothing_and_says_why(
    operator: Client, text: str, message: str
) -> None:
    html = page(operator, text)
    assert message in html
    assert 'class="errornote" role="alert"' in html
    assert "<script>:x" not in html
    assert 'class="field-name' not in html
    assert "0 results" in html


def test_a_bad_search_is_not_acted_on(superuser: Client) -> None:
    task = TaskStateFactory.create()
    data = {
        "action": "delete_selected",
        "_selected_action": task.pk,
        "select_across": "1",
        "post": "yes",
    }
    superuser.post(f"{TASKS}?q=nam:x", data)
    task.refresh_from_db()


@pytest.mark.parametrize(
    "query",
    [
        *(
            "q=%00",
            "q=a%00",
            "name=%00",
            "queue=%00x",
            "name__regex=(",
            "args__iregex=x",
        ),
        *("tstamp__year=0", "tstamp__year=99999", "eta__year=99999999"),
        *(f"worker={'0' * 20}{'9' * 30}", f"worker__id__exact={'0' * 5000}1"),
    ],
)
def test_what_no_database_takes_is_refused(operator: Client, query: str) -> None:
    TaskStateFactory.create(name="there")
    response = operator.get(f"{TASKS}?{query}")
    assert response.status_code == 302
    assert response["Location"].endswith("?e=1")
    assert operator.get(f"{TASKS}export/?format=csv&{query}").status_code == 400


NINES = "9" * 30


@pytest.mark.parametrize(
    ("url", "query"),
    [
        *((TASKS, f"{name}__in={NINES}") for name in ("id", "worker", "worker__id")),
        *((TASKS, f"retries__in={number}") for number in (NINES, 2**40, -(2**40))),
        *((TASKS, f"tstamp__year={year}") for year in (2**31, 99999999, NINES)),
        (TASKS, "tstamp__gte=0001-01-01 00:00:00%2B14:00"),
        *((TASKS, f"runtime={number}") for number in ("inf", "-inf", "nan", "1e999")),
        (TASKS, "attempts__contains=x"),
        *((WORKERS, f"pid__in={number}") for number in (NINES, 2**63)),
        (WORKERS, "loadavg__contains=x"),
        (WORKERS, f"last_heartbeat__year={NINES}"),
    ],
)
def test_what_some_database_does_not_take_is_no_error(
    superuser: Client, url: str, query: str
) -> None:
    row_for(url)
    assert superuser.get(f"{url}?{query}").status_code in {200, 302}


@pytest.mark.parametrize("url", [WORKERS, "/admin/celery_monitor/camerastate/"])
@pytest.mark.parametrize("query", ["q=%00", "hostname=%00", "hostname__regex=("])
def test_nor_is_it_of_other_lists(superuser: Client, url: str, query: str) -> None:
    response = superuser.get(f"{url}?{query}")
    assert response.status_code == 302
    assert response["Location"].endswith("?e=1")


@pytest.mark.parametrize("key", ["0" * 20 + "9" * 30, "0" * 5000 + "1"])
@pytest.mark.parametrize("url", [TASKS, WORKERS])
def test_no_row_has_a_key_of_so_many_digits(
    operator: Client, url: str, key: str
) -> None:
    row_for(url)
    data = {"action": "delete_selected", "_selected_action": key}
    assert operator.post(url, data).status_code in {200, 302}


def test_words_that_begin_ids_are_found_as_texts_too(operator: Client) -> None:
    by_id = TaskStateFactory.create(task_id="482913aa")
    by_text = TaskStateFactory.create(task_id="other", args="(482913,)")
    response = operator.get(f"{TASKS}?q=482913")
    page = response.content.decode()
    assert set(response.context["cl"].result_list) == {by_id}
    assert "These are the tasks whose ids begin with it." in page
    [link] = re.findall(r'<a href="([^"]*)">Look for it as a text</a>', page)
    response = operator.get(TASKS + html.unescape(link))
    assert set(response.context["cl"].result_list) == {by_id, by_text}
    assert "whose ids begin" not in response.content.decode()


def test_an_id_that_was_cut_is_found(operator: Client) -> None:
    TaskStateFactory.create(task_id=fit_identifier("x" * 300), name="long")
    assert "long" in operator.get(f"{TASKS}?q={'x' * 300}").content.decode()


def test_what_else_the_address_filters_by_is_said(operator: Client) -> None:
    TaskStateFactory.create(exception="TimeoutError", name="late")
    TaskStateFactory.create(exception="<b>", name="odd")
    page = operator.get(f"{TASKS}?exception=TimeoutError&queue=").content.decode()
    assert "<code>exception=TimeoutError</code>" in page
    assert "Clear all filters" in page
    page = operator.get(f"{TASKS}?exception=<b>&name=odd").content.decode()
    assert '<code>exception=&lt;b&gt;</code> <a href="?name=odd">Remove</a>' in page
    page = operator.get(f"{TASKS}?name=odd").content.decode()
    assert "The address filters by this too" not in page


@settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(text=st.one_of(st.text(), st.lists(st.sampled_from(PIECES)).map("".join)))
def test_no_search_raises_anything_but_what_is_wrong_with_it(text: str) -> None:
    with contextlib.suppress(ValidationError):
        alternatives = search.parse(text)
        assert all(word.value for words in alternatives for word in words)
        assert all(alternatives) or not text.strip()


@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(text=st.lists(st.sampled_from(PIECES), max_size=8).map("".join))
def test_any_search_has_a_page(operator: Client, text: str) -> None:
    assert operator.get(TASKS, {"q": text}).status_code == 200


def test_the_page_says_what_can_be_typed(operator: Client) -> None:
    html = operator.get(TASKS).content.decode()
    assert 'id="searchbar_helptext"' in html
    for field in search.FIELDS:
        assert f"{field}:" in html
