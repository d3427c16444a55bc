"""Badges and their colours, and the display functions that projects use."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from datetime import timezone as dt_timezone
from pathlib import Path
from typing import Any

import pytest
import time_machine
from django.contrib.staticfiles import finders
from django.utils import timezone

from django_celery_monitor import models
from django_celery_monitor.admin import (
    NODE_STATE_COLORS,
    TASK_STATE_COLORS,
    colored_state,
    eta,
    name,
    node_state,
    tstamp,
)
from tests.factories import TaskStateFactory, WorkerStateFactory

#: Of text of any size, by the Web Content Accessibility Guidelines (level AA).
MIN_CONTRAST = 4.5


def style_sheet() -> str:
    path = finders.find("django_celery_monitor/style.css")
    assert path
    return Path(path).read_text()


def colors() -> dict[str, tuple[list[str], list[str]]]:
    """Return text and background of each colour's rule: for light, for dark."""
    rules = re.findall(
        r"\.celery-monitor-(\w+) \{\s*"
        r"background-color: light-dark\((#\w{6}), (#\w{6})\);\s*"
        r"color: light-dark\((#\w{6}), (#\w{6})\);\s*\}",
        style_sheet(),
    )
    return {
        color: ([text_light, text_dark], [light, dark])
        for color, light, dark, text_light, text_dark in rules
    }


def luminance(color: str) -> float:
    """Return the relative luminance of ``#rrggbb``."""
    parts = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4
        for part in parts
    ]
    return sum(
        weight * part
        for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True)
    )


def contrast(one: str, other: str) -> float:
    """Return the contrast ratio of two colours."""
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def test_every_state_has_a_colour_of_the_style_sheet() -> None:
    assert set(TASK_STATE_COLORS) == set(models.ALL_STATES)
    assert set(NODE_STATE_COLORS) == {"ONLINE", "OFFLINE"}
    used = {*TASK_STATE_COLORS.values(), *NODE_STATE_COLORS.values()}
    assert used == set(colors())
    # No two states of a task look the same.
    assert len(set(TASK_STATE_COLORS.values())) == len(TASK_STATE_COLORS)


def test_every_colour_can_be_read_in_light_and_dark() -> None:
    for color, (texts, backgrounds) in colors().items():
        for text, background in zip(texts, backgrounds, strict=True):
            assert contrast(text, background) >= MIN_CONTRAST, color


def test_contrast_of_the_extremes() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#777777") == 1


@pytest.mark.parametrize("state", [*models.ALL_STATES, "PROGRESS", "<b>", '"x"'])
def test_the_state_of_a_task_is_said_in_words(state: str) -> None:
    html = colored_state(TaskStateFactory.build(state=state, worker=None))
    color = TASK_STATE_COLORS.get(state, "gray")
    assert html.startswith(
        f'<span class="celery-monitor-state celery-monitor-{color}">'
    )
    assert "<b>" not in html
    assert 'x"' not in html
    if state.isalpha():
        assert f">{state}<" in html


def test_a_project_colours_its_own_state(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TASK_STATE_COLORS, "PROGRESS", "teal")
    html = colored_state(TaskStateFactory.build(state="PROGRESS", worker=None))
    assert "celery-monitor-teal" in html


@pytest.mark.parametrize(
    ("age", "word", "color"), [(0, "ONLINE", "green"), (1, "OFFLINE", "gray")]
)
def test_the_state_of_a_worker_is_said_in_words(
    age: int, word: str, color: str
) -> None:
    last = timezone.now() - timedelta(days=age)
    worker = WorkerStateFactory.build(last_heartbeat=last)
    assert node_state(worker) == (
        f'<span class="celery-monitor-state celery-monitor-{color}">{word}</span>'
    )


# An hour later it may be tomorrow.
@time_machine.travel(datetime(2026, 3, 2, 10, tzinfo=dt_timezone.utc), tick=False)
def test_display_functions_of_a_task() -> None:
    task = TaskStateFactory.build(name=None, worker=None, eta=None)
    assert name(task) == "unknown"
    assert eta(task) is None
    task.eta = task.tstamp + timedelta(hours=1, seconds=30)
    task.name = "proj.add"
    assert name(task) == "proj.add"
    assert ">just now</time>" in str(tstamp(task))
    assert "in " in str(eta(task))


def test_naive_times_stay_what_they_are(settings: Any) -> None:
    settings.USE_TZ = False
    tstamp_ = datetime(2026, 3, 2, 10, 0)
    task = TaskStateFactory.build(worker=None, tstamp=tstamp_)
    assert 'datetime="2026-03-02T10:00:00" title="2026-03-02 10:00:00"' in str(
        tstamp(task)
    )
