"""Celery monitoring in the Django admin."""

from typing import NamedTuple

__version__ = "2.0.0.dev0"


class VersionInfo(NamedTuple):
    """The parts of the version; ``releaselevel`` is ``final`` for a release."""

    major: int
    minor: int
    micro: int
    releaselevel: str
    serial: int


VERSION = version_info = VersionInfo(2, 0, 0, "dev", 0)
