"""The list of workers: which are alive, and since when the others are not."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone

import pytest
import time_machine
from django.test import Client
from pytest_django import DjangoAssertNumQueries

from django_celery_monitor.models import WorkerState
from django_celery_monitor.utils import correct_awareness
from tests.admin.conftest import WORKERS
from tests.factories import WorkerStateFactory

NOW = datetime(2026, 3, 2, 10, 0, tzinfo=timezone.utc)

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("_clock")]


@pytest.fixture
def _clock() -> Iterator[None]:
    with time_machine.travel(NOW, tick=False):
        yield


def ago(**delta: float) -> datetime:
    """Return a time before NOW as the database has it."""
    return correct_awareness(NOW - timedelta(**delta))


@pytest.fixture
def workers() -> list[WorkerState]:
    """Return one worker of each kind."""
    return [
        WorkerStateFactory.create(hostname=name, last_heartbeat=beat, offline_at=off)
        for name, beat, off in (
            ("alive", ago(seconds=2), None),
            ("back", ago(seconds=3), ago(hours=1)),
            ("stopped", ago(hours=3), ago(hours=2)),
            ("killed", ago(hours=4), None),
            ("never", None, None),
        )
    ]


def listed(client: Client, query: str = "") -> dict[str, str]:
    """Return the names in the list, with the text of the column "offline since"."""
    response = client.get(f"{WORKERS}{query}")
    assert response.status_code == 200
    page = response.content.decode()
    names = re.findall(r'<th class="field-hostname">.*?>(.*?)</a>', page)
    since = re.findall(r'<td class="field-offline_since">(.*?)</td>', page)
    return dict(zip(names, (re.sub("<.*?>", "", s) for s in since), strict=True))


@pytest.mark.usefixtures("workers")
def test_since_when_they_are_offline(operator: Client) -> None:
    since = listed(operator)
    assert set(since) == {"alive", "back", "stopped", "killed", "never"}
    assert [since[name] for name in ("alive", "back", "never")] == ["-", "-", "-"]
    assert "2 hours ago" in since["stopped"]
    assert "4 hours ago" in since["killed"]


@pytest.mark.usefixtures("workers")
def test_the_filter_follows_is_alive(
    operator: Client, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    alive = {each.hostname for each in WorkerState.objects.all() if each.is_alive()}
    assert set(listed(operator, "?alive=yes")) == alive == {"alive", "back"}
    assert set(listed(operator, "?alive=no")) == {"stopped", "killed", "never"}
    with django_assert_num_queries(8):
        operator.get(f"{WORKERS}?alive=yes")


@pytest.mark.usefixtures("workers")
@pytest.mark.parametrize("value", ["", "maybe", "yes&alive=no", "1"])
def test_an_odd_filter_is_none_or_the_last(operator: Client, value: str) -> None:
    assert len(listed(operator, f"?alive={value}")) in {3, 5}


def test_the_choices(operator: Client) -> None:
    page = operator.get(WORKERS).content.decode()
    assert "?alive=yes" in page
    assert "?alive=no" in page
    assert operator.get(f"{WORKERS}?_facets=True").status_code == 200
