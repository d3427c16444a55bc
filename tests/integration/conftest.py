"""What the tests share that start processes."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from django.db import connection
from pytest_django import DjangoDbBlocker

from tests.integration.database_servers import SERVERS, Server
from tests.integration.processes import FILES, Project
from tests.scratch import scratch

MakeProject = Callable[..., Project]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Function,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show what the processes wrote with the test that failed."""
    report = yield
    if report.failed:
        for value in item.funcargs.values():
            if isinstance(value, Project):
                report.sections += [
                    (process.log.name, process.output()) for process in value.processes
                ]
    return report


@pytest.fixture(scope="module")
def make_project(
    tmp_path_factory: pytest.TempPathFactory, django_db_blocker: DjangoDbBlocker
) -> Iterator[MakeProject]:
    """Return what makes projects, which all end with the tests of the module."""
    with django_db_blocker.unblock(), ExitStack() as stack:

        def make(kind: str = "sqlite", broker: str = FILES) -> Project:
            folder: Path = tmp_path_factory.mktemp("project")
            database = stack.enter_context(scratch(kind, folder))
            project = Project(folder, database, broker)
            stack.callback(project.end)
            project.prepare()
            return project

        yield make


@pytest.fixture
def project(tmp_path: Path, django_db_blocker: DjangoDbBlocker) -> Iterator[Project]:
    """Return a project of the test's own on files alone."""
    with django_db_blocker.unblock(), scratch("sqlite", tmp_path) as database:
        project = Project(tmp_path / "project", database)
        project.prepare()
        yield project
        project.end()


@pytest.fixture
def server(
    django_db_blocker: DjangoDbBlocker, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Server]:
    """Return a database server of the test's own, of the kind that the tests run on.

    From now on it is the one that ``DATABASE_URL`` names.
    """
    with django_db_blocker.unblock(), SERVERS[connection.vendor]() as made:
        monkeypatch.setenv("DATABASE_URL", made.url)
        yield made
