"""From an export to simulated hospitals: site folders with clean, split notes, and the evaluation sets beside them."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from privacy.deidentify import Method, clean
from privacy.note_types import CleanNote
from privacy.policy import PrivacyPolicy
from privacy.split import Split, split_patients
from protocols.errors import UsageError
from protocols.messages import SiteLimits
from simulations.assignment import Assignment
from simulations.options import PrivacyOptions
from simulations.private_arm import policy
from simulations.results import SiteFacts
from site_client.duplicates import fingerprint
from site_client.folder import SiteConfig, SiteFolder
from site_client.privacy_account import open_account
from site_client.store import write_notes

MIN_PATIENTS_TO_SPLIT = 3
MIN_TEST_PATIENTS = 2
_LONGEST_NOTE_TYPE = 60
_MOST_NOTE_TYPES = 20


@dataclass(frozen=True, kw_only=True)
class Hospital:
    """One simulated hospital.

    Attributes:
        name: in the report.
        folder: its site folder.
        facts: counts, with token counts still zero.
    """

    name: str
    folder: SiteFolder
    facts: SiteFacts


def make_hospitals(
    assignment: Assignment,
    sites: Path,
    *,
    model: Path,
    seed: int,
    deidentify: Method,
    skip_small: bool,
    dropped: Counter[str],
    privacy: PrivacyOptions | None = None,
) -> list[Hospital]:
    """Write one site folder a hospital.

    All hospitals of a simulation share one pseudonym key, made from the seed: a patient who was seen at two of them has
    one key, lies on one side of the split, and the run can be repeated. A real site draws its own secret.

    Args:
        assignment: notes by hospital, duplicates already gone.
        sites: gets the folders.
        model: folder of the study's model.
        seed: of key and split.
        deidentify: how notes are cleaned.
        skip_small: leave out hospitals that are too small instead of refusing.
        dropped: counts the notes of hospitals that were left out.
        privacy: opens an account of differential privacy at every hospital.

    Raises:
        UsageError: a hospital has too few patients to train on and to hold out.
    """
    key = simulation_key(seed)
    cleaned = {name: [clean(n.note, key, deidentify) for n in notes] for name, notes in assignment.hospitals.items()}
    _drop_copies(cleaned, dropped)
    splits = _split(cleaned.values(), seed)
    hospitals: list[Hospital] = []
    for name, notes in cleaned.items():
        if (problem := _too_small(notes, splits)) is not None:
            if not skip_small:
                # By its number: the values of a wrongly chosen column may be anything, names of patients too.
                raise UsageError(
                    f"Hospital {list(cleaned).index(name) + 1} of {len(cleaned)} {problem}.",
                    hint="use --skip-small-sites to leave it out, fewer --sites, or more notes",
                )
            dropped["site_too_small"] += len(notes)
            continue
        number = len(hospitals)
        folder = SiteFolder.create(
            sites / f"{number:03d}-{_slug(name)}",
            SiteConfig(
                name=name,
                number=number,
                model=str(Path("..", "..") / model.relative_to(sites.parent)),
                privacy=_policy(privacy, notes, splits),
            ),
            pseudonym_key=key,
        )
        write_notes(folder.notes, notes, splits)
        if privacy is not None:
            open_account(folder)
        hospitals.append(Hospital(name=name, folder=folder, facts=_facts(name, notes, splits)))
    if not hospitals:
        raise UsageError("No hospital has enough notes.", hint="give more notes")
    return hospitals


def _policy(options: PrivacyOptions | None, notes: Sequence[CleanNote], splits: Mapping[str, Split]) -> PrivacyPolicy:
    if options is None:
        return PrivacyPolicy()
    training = [n for n in notes if splits[n.patient_key] == "train"]
    patients = {n.patient_key for n in training}
    return policy(options, len(patients) if options.unit == "patient" else len(training))


def simulation_key(seed: int) -> bytes:
    """The pseudonym key of a simulation: made from the seed, so that a run can be repeated; it is no secret."""
    return hashlib.sha256(f"fednotes simulation {seed}".encode()).digest()


def _drop_copies(cleaned: dict[str, list[CleanNote]], dropped: Counter[str]) -> None:
    """Drop notes that became equal when identifiers went: one letter sent to two patients is one text."""
    seen: set[bytes] = set()
    for name, notes in cleaned.items():
        kept: list[CleanNote] = []
        for note in notes:
            mark = fingerprint(note.text)
            if mark not in seen:
                kept.append(note)
            seen.add(mark)
        dropped["duplicate_text_after_cleaning"] += len(notes) - len(kept)
        cleaned[name] = kept


def _split(hospitals: Iterable[Sequence[CleanNote]], seed: int) -> dict[str, Split]:
    """Split each hospital's patients; a patient seen before keeps the side of the first hospital."""
    splits: dict[str, Split] = {}
    for notes in hospitals:
        splits = {**split_patients((n.patient_key for n in notes), str(seed)), **splits}
    return splits


def _too_small(notes: Sequence[CleanNote], splits: Mapping[str, Split]) -> str | None:
    patients = {n.patient_key for n in notes}
    if len(patients) < MIN_PATIENTS_TO_SPLIT:
        return f"has {len(patients)} patients, fewer than the {MIN_PATIENTS_TO_SPLIT} that a split needs"
    training, least = sum(splits[p] == "train" for p in patients), SiteLimits().min_patients
    if training < least:
        return f"has {training} patients left to train on, fewer than the {least} that a site may learn from"
    held_out = sum(splits[p] == "test" for p in patients)
    if held_out < MIN_TEST_PATIENTS:
        return f"has {held_out} patients to test on, fewer than the {MIN_TEST_PATIENTS} that an interval needs"
    return None


def _facts(name: str, notes: Sequence[CleanNote], splits: Mapping[str, Split]) -> SiteFacts:
    names: tuple[Split, ...] = ("train", "validation", "test")
    patients = {n.patient_key for n in notes}
    return SiteFacts(
        name=name,
        notes={s: sum(splits[n.patient_key] == s for n in notes) for s in names},
        patients={s: sum(splits[p] == s for p in patients) for s in names},
        note_types=_note_types(notes),
        real_tokens=0,
        synthetic_tokens=0,
        dropped={},  # duplicates go before hospitals are made, so that none lies on two sides of a split
    )


def _note_types(notes: Sequence[CleanNote]) -> dict[str, int]:
    """Count note types. Rare and long ones are joined: where titles are typed by hand, they can name a patient."""
    counts: Counter[str] = Counter()
    for name, count in Counter(n.note_type or "unknown" for n in notes).most_common():
        common = (
            count >= SiteLimits().min_patients and len(name) <= _LONGEST_NOTE_TYPE and len(counts) < _MOST_NOTE_TYPES
        )
        counts[name if common else "other"] += count
    return dict(counts)


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:40] or "site"
