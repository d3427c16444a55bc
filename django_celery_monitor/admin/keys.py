"""Keys of rows, as they come in addresses and forms."""

from __future__ import annotations


def is_key(text: str) -> bool:
    """Return whether ``text`` can be the key of a row."""
    # Python refuses to read a number of too many digits.
    return text.isascii() and text.isdigit() and len(text) < 20 and int(text) < 2**63
