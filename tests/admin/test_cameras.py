"""The pages of cameras: who sees them, what they say."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from django.utils.translation import override

from django_celery_monitor.models import CameraState
from tests.admin.conftest import StaffClient, post_action
from tests.factories import CameraStateFactory

CAMERAS = "/admin/celery_monitor/camerastate/"
NOBODY = "No camera is watching."
HOSTILE = "\"'><script>alert(1)</script>{{ 7|add:7 }}"

pytestmark = pytest.mark.django_db


@pytest.fixture
def viewer(staff: StaffClient) -> Client:
    """Return the client of somebody who may see cameras, and no more."""
    return staff("view_camerastate")


def ago(**delta: float) -> Any:
    """Return a time before now as the database has it."""
    return timezone.now() - timedelta(**delta)


def rows(page: Any) -> list[dict[str, str]]:
    """Return the text of each cell of a list, row by row."""
    html = page.content.decode()
    # What is for those who hear the page.
    html = re.sub(r'<span class="visually-hidden">.*?</span>', "", html)
    found = []
    for row in re.findall(r"<tr[^>]*>(.*?)</tr>", html, re.DOTALL):
        cells = re.findall(
            r'<t[dh] class="field-(\w+)[^"]*">(.*?)</t[dh]>', row, re.DOTALL
        )
        if cells:
            found.append({name: re.sub(r"<[^>]+>", "", c).strip() for name, c in cells})
    return found


def change(camera: CameraState) -> str:
    """Return the URL of a camera's page."""
    return f"{CAMERAS}{camera.pk}/change/"


def test_the_section_of_the_index(viewer: Client) -> None:
    html = viewer.get("/admin/").content.decode()
    assert re.search(rf'href="{CAMERAS}"[^>]*>\s*Cameras', html)


def test_only_those_who_may_view_see_anything(
    client: Client, staff: StaffClient, viewer: Client
) -> None:
    camera = CameraStateFactory.create()
    stranger = staff("view_taskstate", "view_workerstate", "control_workers")
    for page in (CAMERAS, change(camera), f"{CAMERAS}{camera.pk}/history/"):
        assert client.get(page).status_code == 302
        assert stranger.get(page).status_code == 403
        assert viewer.get(page).status_code == 200


def test_nobody_adds_or_changes(superuser: Client) -> None:
    camera = CameraStateFactory.create()
    data = {"hostname": "x", "pid": "1", "received": "5"}
    assert superuser.post(change(camera), data).status_code == 403
    assert superuser.get(f"{CAMERAS}add/").status_code == 403
    assert superuser.post(f"{CAMERAS}add/", data).status_code == 403
    assert CameraState.objects.values_list("hostname", flat=True).get() == (
        camera.hostname
    )
    page = superuser.get(change(camera)).content.decode()
    assert 'name="_save"' not in page


def test_those_who_may_delete_delete(viewer: Client, staff: StaffClient) -> None:
    camera = CameraStateFactory.create()
    forged = {"post": "yes"}
    assert viewer.post(f"{CAMERAS}{camera.pk}/delete/", forged).status_code == 403
    post_action(viewer, CAMERAS, "delete_selected", camera, **forged)
    assert CameraState.objects.count() == 1

    deleter = staff("view_camerastate", "delete_camerastate")
    html = deleter.get(CAMERAS).content.decode()
    options = re.findall(r'<option value="(\w+)"', html)
    assert options == ["delete_selected"]
    post_action(deleter, CAMERAS, "delete_selected", camera, **forged)
    assert CameraState.objects.count() == 0


def test_the_list(viewer: Client) -> None:
    camera = CameraStateFactory.create(
        hostname="web1",
        pid=4711,
        started_at=ago(hours=3),
        last_shot=ago(seconds=2),
        last_commit=ago(minutes=4, seconds=30),
        lag=0.25,
        received=120_000,
        saved=40_000,
        dropped=3,
        quarantined=2,
        poison=1,
    )
    page = viewer.get(CAMERAS)
    (shown,) = rows(page)
    assert shown.pop("started_at")
    assert shown.pop("last_shot").endswith("ago")
    assert shown == {
        "camera_state": "WATCHING",
        "hostname": "web1",
        "pid": "4711",
        "version": "2.0.0",
        "last_commit": "4 minutes ago",
        "lag": "0.250 s",
        "received": "120000",
        "saved": "40000",
        "dropped": "3",
        "quarantined": "2",
        "poison": "1",
        "gap": "-",
    }
    html = page.content.decode()
    assert "<h1>Cameras</h1>" in html
    assert f'href="{change(camera)}"' in html
    assert NOBODY not in html


@pytest.mark.parametrize(
    ("fields", "text", "color"),
    [
        ({}, "WATCHING", "green"),
        ({"stopped_at": 1}, "STOPPED", "gray"),
        ({"last_shot": 200}, "GONE silent for 3 minutes", "red"),
    ],
)
def test_the_state(
    viewer: Client, fields: dict[str, int], text: str, color: str
) -> None:
    times = {name: ago(seconds=seconds) for name, seconds in fields.items()}
    camera = CameraStateFactory.create(**{"last_shot": ago(), **times})
    page = viewer.get(CAMERAS)
    (shown,) = rows(page)
    assert shown["camera_state"].replace("\xa0", " ") == text
    badge = f'class="celery-monitor-state celery-monitor-{color}"'
    assert badge in page.content.decode()
    assert badge in viewer.get(change(camera)).content.decode()


def test_the_list_says_when_nobody_was_watching(viewer: Client) -> None:
    CameraStateFactory.create(started_at=ago(hours=9), stopped_at=ago(hours=8))
    CameraStateFactory.create(started_at=ago(hours=6), last_shot=ago(hours=1))
    CameraStateFactory.create(started_at=ago(hours=2), stopped_at=ago(hours=1.5))
    last = CameraStateFactory.create(started_at=ago(minutes=59, seconds=30))
    page = viewer.get(CAMERAS)
    found = [row["gap"].replace("\xa0", " ") for row in rows(page)]
    assert found == ["30 s", "-", "2 hours", "-"]
    assert NOBODY in page.content.decode()
    html = viewer.get(change(last)).content.decode()
    assert "30 s" in html
    assert NOBODY not in html


def test_a_search_does_not_hide_who_was_watching(viewer: Client) -> None:
    CameraStateFactory.create(
        hostname="a", started_at=ago(hours=3), last_shot=ago(seconds=1)
    )
    CameraStateFactory.create(
        hostname="b", started_at=ago(hours=2), stopped_at=ago(hours=1)
    )
    page = viewer.get(CAMERAS, {"q": "b"})
    assert [row["gap"] for row in rows(page)] == ["-"]
    assert NOBODY not in page.content.decode()


def test_the_list_without_a_camera(viewer: Client) -> None:
    assert NOBODY in viewer.get(CAMERAS).content.decode()


def test_the_page_has_every_counter_and_what_it_means(viewer: Client) -> None:
    camera = CameraStateFactory.create(received=12, made_fit=34, reconnects=56)
    html = viewer.get(change(camera)).content.decode()
    assert "<h1>Camera detail</h1>" in html
    for field in CameraState._meta.fields:
        if field.name != "id":
            assert f"field-{field.name}" in html, field.name
            assert str(field.help_text) in html
    for number in (12, 34, 56):
        assert f'<div class="readonly">{number}</div>' in html


def test_markup_of_a_row_is_text(viewer: Client) -> None:
    camera = CameraStateFactory.create(hostname=HOSTILE, version=HOSTILE)
    for url in (CAMERAS, change(camera)):
        html = viewer.get(url).content.decode()
        assert "<script>alert" not in html
        assert "&lt;script&gt;alert" in html
        assert "{{ 7|add:7 }}" in html


def test_the_number_of_queries_does_not_grow(viewer: Client) -> None:
    def queries() -> int:
        with CaptureQueriesContext(connection) as captured:
            viewer.get(CAMERAS)
        return len(captured)

    CameraStateFactory.create(started_at=ago(hours=1))
    few = queries()
    for hours in range(2, 32):
        CameraStateFactory.create(started_at=ago(hours=hours))
    assert queries() == few


def test_every_order_of_the_list_works(viewer: Client) -> None:
    CameraStateFactory.create_batch(3)
    for column in range(1, 15):
        assert viewer.get(CAMERAS, {"o": f"-{column}"}).status_code == 200


def test_the_page_to_confirm_a_deletion_names_the_camera(superuser: Client) -> None:
    camera = CameraStateFactory.create(hostname="web1", pid=42)
    page = post_action(superuser, CAMERAS, "delete_selected", camera)
    assert "web1 (42)" in page.content.decode()


def test_the_list_in_another_language(viewer: Client) -> None:
    CameraStateFactory.create(started_at=ago(hours=2))
    viewer.defaults["HTTP_ACCEPT_LANGUAGE"] = "de"
    with override(None):
        assert len(rows(viewer.get(CAMERAS))) == 1
