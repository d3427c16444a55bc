"""Keys of rows, as they come in addresses and forms."""

from __future__ import annotations


def is_key(text: str) -> bool:
    """Return whether ``text`` can be the key of a row."""
    return text.isascii() and text.isdigit() and int(text[:20]) < 2**63
