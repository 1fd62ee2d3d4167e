"""Who gets which note: by the values of a column, by a map from values to hospitals, or dealt out by patient."""

from __future__ import annotations

import hashlib
import tomllib
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, ValidationError

from protocols.errors import UsageError
from site_client.duplicates import UniqueNote

MAX_HOSPITALS = 999
MAX_NAME_LENGTH = 80  # [characters]

REST = "rest"
"""Evaluation set of the notes that no hospital of a map claims."""


class SiteMap(BaseModel):
    """A map from values of the grouping column to hospitals, as written in a TOML file.

    Attributes:
        min_words: shorter texts are left out.
        hold_out: {evaluation set: values}; such notes are taken out of every hospital.
        hospitals: {hospital: values}; a note goes to the first hospital that one of its values names.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    min_words: int = 1
    hold_out: dict[str, list[str]] = {}
    hospitals: dict[str, list[str]]

    @classmethod
    def load(cls, name_or_path: str) -> Self:
        """Read a built-in map by name, or a file.

        Raises:
            UsageError: there is none, or it does not hold a map.
        """
        built_in = files("simulations").joinpath("site_maps", f"{name_or_path}.toml")
        try:
            text = built_in.read_text("utf-8") if built_in.is_file() else Path(name_or_path).read_text("utf-8")
            return cls.model_validate(tomllib.loads(text))
        except OSError as error:
            raise UsageError(f"There is no site map {name_or_path!r}.", hint="name a TOML file") from error
        except (tomllib.TOMLDecodeError, ValidationError) as error:
            raise UsageError(f"{name_or_path} is no site map: {error}") from error


@dataclass(kw_only=True)
class Assignment:
    """Notes by hospital and by evaluation set.

    Attributes:
        hospitals: in the order of their numbers.
        held_out: further evaluation sets.
        dropped: notes that went nowhere, by reason.
    """

    hospitals: dict[str, list[UniqueNote]]
    held_out: dict[str, list[UniqueNote]] = field(default_factory=dict)
    dropped: Counter[str] = field(default_factory=Counter)


def by_map(notes: Sequence[UniqueNote], site_map: SiteMap) -> Assignment:
    """Assign notes by a map."""
    result = Assignment(hospitals={name: [] for name in site_map.hospitals})
    for note in notes:
        if len(note.note.text.split()) < site_map.min_words:
            result.dropped["too_short"] += 1
        elif (name := _first(site_map.hold_out, note)) is not None:
            result.held_out.setdefault(name, []).append(note)
        elif (name := _first(site_map.hospitals, note)) is not None:
            result.hospitals[name].append(note)
        else:
            result.held_out.setdefault(REST, []).append(note)
    return result


def by_group(notes: Sequence[UniqueNote], sites: int | None) -> Assignment:
    """Assign notes by the value of the grouping column.

    With fewer sites than values, the values are dealt out, largest first, each to the site that has the fewest notes.

    Args:
        notes: notes with at least one group each; those without are dropped as "no_group".
        sites: number of hospitals; one a value when None.

    Raises:
        UsageError: more sites than values, or values that do not look like names of hospitals.
    """
    result = Assignment(hospitals={})
    groups: dict[str, list[UniqueNote]] = {}
    for note in notes:
        if note.groups and note.groups[0].strip():
            groups.setdefault(note.groups[0].strip(), []).append(note)
        else:
            result.dropped["no_group"] += 1
    _require_hospitals(groups, len(notes))
    wanted = len(groups) if sites is None else sites
    if wanted > len(groups):
        raise UsageError(
            f"{wanted} sites are asked for, but the column has {len(groups)} different values.",
            hint=f"choose --sites {len(groups)} or fewer, or leave --site-by out to deal patients out",
        )
    bins: list[list[str]] = [[] for _ in range(wanted)]
    for name in sorted(groups, key=lambda g: (-len(groups[g]), g)):
        min(bins, key=lambda b: sum(len(groups[g]) for g in b)).append(name)
    for names in bins:
        title = names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"
        result.hospitals[title] = [n for name in names for n in groups[name]]
    return result


def _require_hospitals(groups: Collection[str], notes: int) -> None:
    """Refuse a column of identifiers or of texts; its values would become names in the report, so none is shown here.

    Raises:
        UsageError: no value, too many, or too long ones.
    """
    long = sum(len(group) > MAX_NAME_LENGTH for group in groups)
    if not groups:
        problem = f"is empty in all {notes:,} notes"
    elif len(groups) > MAX_HOSPITALS:
        problem = f"has {len(groups):,} different values, more than the {MAX_HOSPITALS} hospitals that there can be"
    elif long:
        problem = f"has {long:,} values that are longer than {MAX_NAME_LENGTH} characters"
    else:
        return
    raise UsageError(
        f"The column of --site-by {problem}: it does not hold hospitals.",
        hint="name another column, or leave --site-by out to deal patients out",
    )


def by_patient(notes: Sequence[UniqueNote], sites: int) -> Assignment:
    """Deal patients out to hospitals by a hash of their identifier."""
    hospitals: dict[str, list[UniqueNote]] = {f"site-{i + 1}": [] for i in range(sites)}
    names = list(hospitals)
    for note in notes:
        patient = note.note.patient_id or note.note.note_id
        place = int.from_bytes(hashlib.sha256(patient.encode("utf-8", "replace")).digest()[:8], "big")
        hospitals[names[place % sites]].append(note)
    return Assignment(hospitals=hospitals)


def _first(choices: dict[str, list[str]], note: UniqueNote) -> str | None:
    groups = {g.strip() for g in note.groups}
    return next((name for name, values in choices.items() if groups & set(values)), None)
