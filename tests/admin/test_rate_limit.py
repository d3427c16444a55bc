"""The action that limits the rate of tasks, and its form."""

from __future__ import annotations

import pytest
from celery.utils.time import rate
from django.contrib.admin.models import LogEntry
from django.test import Client

from django_celery_monitor.admin import TaskMonitor
from django_celery_monitor.admin.forms import RateLimitForm
from django_celery_monitor.sanitize import fit_identifier
from tests.admin.conftest import TASKS, Heard, act, confirm, post_action, told
from tests.factories import TaskStateFactory

pytestmark = pytest.mark.django_db

SILENCE = "No worker has answered."


@pytest.mark.parametrize(
    ("text", "per_second"),
    [
        ("10/m", 10 / 60),
        ("5/s", 5),
        ("100/h", 100 / 3600),
        ("10", 10),
        ("10.5/s", 10.5),
        ("0", 0),
        ("0/m", 0),
        (" 10/m ", 10 / 60),
    ],
)
def test_the_form_takes_what_celery_takes(text: str, per_second: float) -> None:
    form = RateLimitForm({"rate_limit": text})
    assert form.is_valid()
    assert rate(form.cleaned_data["rate_limit"]) == pytest.approx(per_second)


@pytest.mark.parametrize(
    "text",
    [
        *("", " ", "-1", "-1/s", "+1", "ten", "10/", "/m", "10/d", "10/M", "10 / m"),
        *("1e3/s", "inf", "nan", "10/m\n0", "1,5/s", ".5/s", "5./s", "\u0665/s"),
        *("10/m/s", "9" * 21),
    ],
)
def test_the_form_refuses_everything_else(text: str) -> None:
    assert list(RateLimitForm({"rate_limit": text}).errors) == ["rate_limit"]


def test_each_name_is_limited_once(operator: Client, heard: Heard) -> None:
    tasks = [TaskStateFactory.create(name=name) for name in ("b", "a", "b")]
    TaskStateFactory.create(name="c")

    messages = act(operator, TASKS, "rate_limit_tasks", *tasks, rate_limit="10/m")

    assert messages == [
        f"The workers were told the rate limit of 2 task names. {SILENCE}"
    ]
    assert [(each["method"], each["arguments"]) for each in heard()] == [
        ("rate_limit", {"task_name": "a", "rate_limit": "10/m"}),
        ("rate_limit", {"task_name": "b", "rate_limit": "10/m"}),
    ]
    entries = LogEntry.objects.all()
    assert {entry.object_id for entry in entries} == {str(task.pk) for task in tasks}
    assert {entry.get_change_message() for entry in entries} == {
        f"Told the workers to limit tasks of its name to 10/m. {SILENCE}"
    }


def test_the_page_lists_names_and_asks_for_the_rate(
    operator: Client, heard: Heard
) -> None:
    tasks = [TaskStateFactory.create(name=name) for name in ("b", "a", "b")]
    page = post_action(operator, TASKS, "rate_limit_tasks", *tasks)
    html = page.content.decode()
    assert "<h2>2 task names</h2>" in html
    assert html.count("<li> a</li>") == html.count("<li> b</li>") == 1
    assert '<input type="text" name="rate_limit"' in html
    # Nobody has made an error yet.
    assert "errorlist" not in html
    assert next(template.name for template in page.templates) == (
        TaskMonitor.rate_limit_confirmation_template
    )
    assert heard() == []


def test_an_error_is_shown_at_the_field_and_can_be_mended(
    operator: Client, heard: Heard
) -> None:
    tasks = TaskStateFactory.create_batch(2, name="a")
    page = post_action(operator, TASKS, "rate_limit_tasks", *tasks)

    page = confirm(operator, TASKS, page, rate_limit='10/d"><b>')
    html = page.content.decode()
    assert page.status_code == 200
    assert "Enter a number, alone or with /s, /m or /h after it: 10/m." in html
    assert 'aria-invalid="true"' in html
    assert 'value="10/d&quot;&gt;&lt;b&gt;"' in html
    assert heard() == []
    assert not LogEntry.objects.exists()

    page = confirm(operator, TASKS, page, rate_limit="0")
    assert told(page) == [
        f"The workers were told the rate limit of 1 task name. {SILENCE}"
    ]
    assert [each["arguments"]["rate_limit"] for each in heard()] == ["0"]


def test_tasks_without_a_name_are_left_out(operator: Client, heard: Heard) -> None:
    named = TaskStateFactory.create(name="a")
    nameless = TaskStateFactory.create(name=None)
    cut = TaskStateFactory.create(name=fit_identifier("n" * 300))

    page = post_action(operator, TASKS, "rate_limit_tasks", named, nameless, cut)
    (message,) = page.context["messages"]
    assert told(page) == ["These tasks are left out:"]
    for line in (
        f"{cut.name} {cut.task_id}: its name was cut",
        f"unknown {nameless.task_id}: its name is unknown",
    ):
        assert line in str(message)
    response = confirm(operator, TASKS, page, rate_limit="1/s")
    assert told(response) == [
        f"The workers were told the rate limit of 1 task name. {SILENCE}"
    ]
    assert [each["arguments"]["task_name"] for each in heard()] == ["a"]
    assert LogEntry.objects.get().object_id == str(named.pk)


def test_nothing_is_left_of_tasks_without_a_name(
    operator: Client, heard: Heard
) -> None:
    task = TaskStateFactory.create(name=None)
    response = operator.post(
        TASKS,
        {"action": "rate_limit_tasks", "index": "0", "_selected_action": task.pk},
        follow=True,
    )
    assert told(response) == [
        "These tasks are left out:",
        "Nothing was done: none of the selected rows is left.",
    ]
    assert heard() == []


def test_many_names_are_listed_in_part_and_all_limited(
    operator: Client, heard: Heard
) -> None:
    names = [f"name-{n:03}" for n in range(102)]
    tasks = [TaskStateFactory.create(name=name, worker=None) for name in names]
    page = post_action(operator, TASKS, "rate_limit_tasks", tasks[0], select_across="1")
    html = page.content.decode()
    assert "<h2>102 task names</h2>" in html
    assert "name-099" in html
    assert "name-100" not in html
    assert "<li>and 2 more</li>" in html

    confirm(operator, TASKS, page, rate_limit="1/s")
    assert [each["arguments"]["task_name"] for each in heard()] == names
