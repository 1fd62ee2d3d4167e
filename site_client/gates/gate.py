"""One gate: a name, a version, and a question with yes or no for an answer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from site_client.gates.candidate import Candidate


@dataclass(frozen=True, kw_only=True)
class Gate:
    """Judges one property of a rephrasing.

    Attributes:
        name: counted, reported, and part of the reasons of a refusal.
        version: raised whenever a verdict may change.
        passes: True when the rephrasing has no fault of this kind.
    """

    name: str
    version: int
    passes: Callable[[Candidate], bool]
