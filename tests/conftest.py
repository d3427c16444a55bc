"""What every test shares: hypothesis' profile, the servers that a test may need."""

import os
import socket
from collections.abc import Iterator
from urllib.parse import urlsplit

import hypothesis
import pytest
from django.utils import translation

# How long an example takes says more about the machine than about the code.
hypothesis.settings.register_profile("monitor", deadline=None, max_examples=50)
hypothesis.settings.load_profile("monitor")

DEFAULT_PORTS = {
    "postgres": 5432,
    "postgresql": 5432,
    "mysql": 3306,
    "redis": 6379,
    "amqp": 5672,
}


@pytest.fixture(autouse=True)
def _language() -> Iterator[None]:
    """Speak the language of the settings again: a page leaves its own behind."""
    yield
    translation.deactivate()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a test whose servers nobody named; fail one whose servers are away."""
    for marker in item.iter_markers("services"):
        if not marker.args:
            pytest.fail("services needs the variables that name the servers")
        for variable in marker.args:
            require_server(variable)


def require_server(variable: str) -> None:
    """Skip unless ``variable`` holds the URL of a server; fail if it is away."""
    url = os.environ.get(variable, "")
    if not url or url.startswith("sqlite:"):
        pytest.skip(f"{variable} names no server")
    parts = urlsplit(url)
    if parts.scheme not in DEFAULT_PORTS:
        pytest.fail(f"{variable} has the unknown scheme {parts.scheme!r}")
    address = (parts.hostname or "127.0.0.1", parts.port or DEFAULT_PORTS[parts.scheme])
    try:
        socket.create_connection(address, timeout=5).close()
    except OSError as error:
        pytest.fail(f"{variable} is set, but {address} does not answer: {error}")
