"""The lexicon of the synthetic notes and the small grammar that its phrases are written in.

In braces: ``{a|b}`` picks one alternative, ``{2-9}`` a number, ``{name}`` a fact of the case. Braces nest.
"""

from __future__ import annotations

import csv
import re
import tomllib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

_INNERMOST = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"(\d+)-(\d+)$")


def fill(template: str, facts: Mapping[str, str], rng: Random) -> str:
    """Expand a template from the inside out.

    Args:
        template: text with braces.
        facts: values for ``{name}``; they may hold braces themselves.
        rng: source of all choices.

    Returns:
        The text without braces.

    Raises:
        KeyError: a name that is no fact.
    """

    def expand(match: re.Match[str]) -> str:
        inside = match[1]
        if "|" in inside:
            alternatives: list[str] = inside.split("|")
            return alternatives[rng.randrange(len(alternatives))]
        bounds = _RANGE.match(inside)
        return str(rng.randint(int(bounds[1]), int(bounds[2]))) if bounds else facts[inside]

    while "{" in template:
        template = _INNERMOST.sub(expand, template)
    return template


@cache
def lexicon() -> dict[str, dict[str, Any]]:
    """Phrases by section, from ``synthetic_lexicon.toml``."""
    return tomllib.loads(_folder().joinpath("synthetic_lexicon.toml").read_text(encoding="utf-8"))


@cache
def conditions() -> tuple[dict[str, str], ...]:
    """Conditions with their findings, study, procedure, drugs and laboratory values; one mapping per row."""
    return _rows("synthetic_conditions.tsv")


@cache
def drugs() -> dict[str, dict[str, str]]:
    """Doses, unit, route and frequency by drug name."""
    return {row["name"]: row for row in _rows("synthetic_drugs.tsv")}


def _rows(name: str) -> tuple[dict[str, str], ...]:
    with _folder().joinpath(name).open(encoding="utf-8", newline="") as file:
        return tuple(csv.DictReader(file, delimiter="\t"))


def _folder() -> Path:
    return Path(__file__).parent
