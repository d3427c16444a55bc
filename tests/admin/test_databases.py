"""The pages of rows that are in another database than the default one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest
from django.db import connections
from django.db.backends.dummy.base import DatabaseWrapper
from django.test import Client

from tests.admin.conftest import TASKS, WORKERS, row_for
from tests.factories import UserFactory

if TYPE_CHECKING:
    from pytest_django import Settings


class ToOther:
    """Routes everything to one database."""

    def db_for_read(self, *_: Any, **hints: Any) -> str:
        return "other"

    db_for_write = db_for_read


@pytest.fixture
def _no_default(db: None, settings: Settings) -> Iterator[None]:
    """Have a default database that is none, as ``DATABASES`` may."""
    settings.DATABASE_ROUTERS = [ToOther()]
    default = connections["default"]
    connections["default"] = DatabaseWrapper({**default.settings_dict})
    yield
    connections["default"] = default


@pytest.mark.django_db(databases=["default", "other"])
@pytest.mark.usefixtures("_no_default")
@pytest.mark.parametrize("url", [TASKS, WORKERS])
def test_default_database_is_not_asked(client: Client, url: str) -> None:
    client.force_login(UserFactory.create(is_staff=True, is_superuser=True))
    row = row_for(url)
    for page in (url, f"{url}{row.pk}/change/", f"{url}?q=x"):
        assert client.get(page).status_code == 200
