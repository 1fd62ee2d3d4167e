"""One line of the doctor's report."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Finding:
    """What a check found.

    Attributes:
        name: of the check.
        state: "ok", "warn" (works, but look at it) or "fail" (a study will not work).
        line: what was found and what to do, in one line.
    """

    name: str
    state: Literal["ok", "warn", "fail"]
    line: str


def ok(name: str, line: str) -> Finding:
    """All is well."""
    return Finding(name, "ok", line)


def warn(name: str, line: str) -> Finding:
    """It works; somebody should look at it."""
    return Finding(name, "warn", line)


def fail(name: str, line: str) -> Finding:
    """It does not work."""
    return Finding(name, "fail", line)
