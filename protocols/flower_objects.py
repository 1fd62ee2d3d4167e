"""How Flower 1.32 lays out a message as objects: ``<Type> <ids of children,> <length of body>`` NUL body.

An object is named by the SHA-256 of its content, and a parent names its children: the id of a message is a hash over
everything in it. That is why receipts at both ends of a line can be compared by that id alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

_DIVIDER = b"\x00"
_MAX_HEAD_BYTES = 1_500_000  # an array record of the largest manifest names 10,000 children of 65 characters


@dataclass(frozen=True, slots=True, repr=False)
class FlowerObject:
    """One object, taken apart.

    Attributes:
        kind: "Message", "RecordDict", "ArrayRecord", "Array", "ArrayChunk", "MetricRecord" or "ConfigRecord".
        children: ids, in order, without repetition.
        body: what is left.
    """

    kind: str
    children: tuple[str, ...]
    body: memoryview


def pack(kind: str, children: Sequence[str], body: bytes | memoryview) -> bytes:
    """Lay an object out."""
    return f"{kind} {','.join(children)} {len(body)}".encode() + _DIVIDER + bytes(body)


def unpack(content: bytes) -> FlowerObject:
    """Take an object apart.

    Raises:
        ValueError: it is not laid out exactly like that.
    """
    end = content.find(_DIVIDER, 0, _MAX_HEAD_BYTES)
    if end < 0:
        raise ValueError("object without a head")
    try:
        kind, children, length = content[:end].decode("ascii").split(" ")
    except ValueError:
        raise ValueError("head of an object") from None
    body = memoryview(content)[end + 1 :]
    ids = tuple(children.split(",")) if children else ()
    if length != str(len(body)) or len(set(ids)) != len(ids) or not all(map(is_object_id, ids)):
        raise ValueError("head and body of an object differ")
    return FlowerObject(kind, ids, body)


def object_id(content: bytes) -> str:
    """The name of an object."""
    return hashlib.sha256(content).hexdigest()


def is_object_id(text: str) -> bool:
    """Whether a text has the one form that an id has."""
    return len(text) == 64 and all(c in "0123456789abcdef" for c in text)
