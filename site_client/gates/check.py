"""Judging a file of pairs from elsewhere: the rephrasings of another engine, or a labelled set."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypedDict

from protocols.errors import UsageError
from site_client.gates.candidate import Allowance, Candidate
from site_client.gates.judge import judge

_FIELDS = ("id", "source_text", "rephrased_text", "style")
_HINT = f"every line is a JSON object with the texts {', '.join(_FIELDS)}"


class Verdict(TypedDict):
    """What the gates say of one pair."""

    id: str
    accepted: bool
    reasons: list[str]


def check_pairs(path: Path, allowance_of: Callable[[str], Allowance]) -> Iterator[Verdict]:
    """Judge the pairs of a JSON Lines file, one at a time.

    Args:
        path: the file; each line has the fields id, source_text, rephrased_text and style, and may have others.
        allowance_of: what the prompt of a style permits.

    Yields:
        One verdict a line, in the order of the file.

    Raises:
        UsageError: the file cannot be read, or a line is no such pair. The message has the number of the line and
            nothing of its text.
    """
    try:
        with path.open("rb") as lines:
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    yield _verdict(_pair(line, path, number), allowance_of)
    except OSError as error:
        raise UsageError(f"{path.name} cannot be read", hint="check the path and its permissions") from error


def _pair(line: bytes, path: Path, number: int) -> dict[str, str]:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        raise UsageError(f"{path.name}, line {number} is not JSON", hint=_HINT) from None
    if not isinstance(record, dict):
        raise UsageError(f"{path.name}, line {number} is no JSON object", hint=_HINT)
    for name in _FIELDS:
        if not isinstance(record.get(name), str):
            raise UsageError(f"{path.name}, line {number} has no text in its field {name}", hint=_HINT)
    return {name: record[name] for name in _FIELDS}


def _verdict(pair: dict[str, str], allowance_of: Callable[[str], Allowance]) -> Verdict:
    candidate = Candidate(source=pair["source_text"], text=pair["rephrased_text"], allows=allowance_of(pair["style"]))
    reasons = judge(candidate)
    return {"id": pair["id"], "accepted": not reasons, "reasons": list(reasons)}
