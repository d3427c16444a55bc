"""What a camera counts."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Counters:
    """What has become of the events that one camera received."""

    received: int = 0
    merged: int = 0
    saved: int = 0
    retried: int = 0
    dropped: int = 0
    made_fit: int = 0
    quarantined: int = 0
    poison: int = 0
    reconnects: int = 0
    lag: float = 0.0
