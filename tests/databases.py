"""Turns the ``DATABASE_URL`` of a test run into a Django database."""

from typing import Any
from urllib.parse import unquote, urlsplit

ENGINES = {
    "sqlite": "django.db.backends.sqlite3",
    "postgres": "django.db.backends.postgresql",
    "postgresql": "django.db.backends.postgresql",
    "mysql": "django.db.backends.mysql",
}


def sqlite(name: str) -> dict[str, Any]:
    """Return an SQLite database set up as the documentation advises."""
    return {
        "ENGINE": ENGINES["sqlite"],
        "NAME": name,
        "OPTIONS": {
            "transaction_mode": "IMMEDIATE",
            "timeout": 20,
            "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;",
        },
        # Without a name of its own the test database of a file is in memory,
        # out of reach of the processes that integration tests start.
        "TEST": {"NAME": None if name == ":memory:" else f"{name}.test"},
    }


def database(url: str) -> dict[str, Any]:
    """Return the Django database that ``url`` names.

    ``sqlite:///relative/path``, ``sqlite:////absolute/path``, ``sqlite:///:memory:``,
    ``postgres://user:password@host:port/name`` or ``mysql://...``.

    Raises ValueError for any other scheme and for a server without a database
    name: a typing error must not end in tests on another database.
    """
    scheme, separator, rest = url.partition("://")
    if not separator or scheme not in ENGINES:
        known = ", ".join(sorted(ENGINES))
        raise ValueError(f"DATABASE_URL must start with one of {known}, got {scheme!r}")
    if scheme == "sqlite":
        name = rest.removeprefix("/")
        if not name:
            raise ValueError("DATABASE_URL names no SQLite file")
        return sqlite(name)
    parts = urlsplit(url)
    name = unquote(parts.path.removeprefix("/"))
    if not name:
        raise ValueError("DATABASE_URL names no database")
    return {
        "ENGINE": ENGINES[scheme],
        "NAME": name,
        "USER": unquote(parts.username or ""),
        "PASSWORD": unquote(parts.password or ""),
        "HOST": parts.hostname or "",
        "PORT": str(parts.port or ""),
    }
