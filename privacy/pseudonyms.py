"""Pseudonyms: keyed hashes that stand for source identifiers, which are stored nowhere."""

from __future__ import annotations

import hashlib
import hmac

_HEX_DIGITS = 32  # 128 bits: no collisions at any hospital's size


def pseudonym(key: bytes, kind: str, identifier: str) -> str:
    """HMAC-SHA-256 of an identifier, cut to 128 bits (hex).

    Without the key nobody can try out identifiers, however few there are.

    Args:
        key: the site's secret.
        kind: "patient" or "note"; the same identifier gets different pseudonyms in different roles.
        identifier: as the source spells it; surrounding white space does not count.
    """
    message = f"{kind}\0{identifier.strip()}".encode()
    return hmac.new(key, message, hashlib.sha256).hexdigest()[:_HEX_DIGITS]
