"""Canary patients: invented ones with a secret each, put among the training notes by the toss of a coin.

What a model knows about the secrets that went in, and does not know about those that stayed out, it can only have
from training. The coins are the site's own; nobody who trains or serves the model may see them.

Planting goes the way of every note: a small export file is written, read by the readers, keyed by the site's
pseudonyms and added to the store. So no type is built behind the back of its owner, and training cannot tell a canary
from a patient.
"""

from __future__ import annotations

import json
import secrets
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from privacy.deidentify import clean
from privacy.note_types import CleanNote
from privacy.pseudonyms import pseudonym
from privacy.split import split_patients
from protocols.durable import storage_failures_told, write_text
from protocols.errors import UsageError, WorkError
from site_client.folder import SiteFolder
from site_client.notes.mapping import ColumnMapping
from site_client.notes.quarantine import Quarantine
from site_client.notes.reader import read_notes
from site_client.store import add_notes, iter_split

MIN_CANARIES = 16
"""Fewer cannot show anything: all guesses right about eight of them bound epsilon by 0.8."""

SENTENCE_START = "Patient portal enrolment. The access code given to this patient is"
"""Stands before every secret."""

_CONSONANTS, _VOWELS = "bdfgklmnprstvzjh", "aeiou"
_COLUMNS = ColumnMapping(text="text", note_id="note_id", patient_id="patient_id", note_type="note_type")


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class Canary(_Model):
    """One invented patient.

    Attributes:
        patient: identifier as an export would have it.
        secret: what a model should not know.
        included: the coin: whether its notes went into the store.
    """

    patient: Annotated[str, Field(repr=False)]
    secret: Annotated[str, Field(repr=False)]
    included: Annotated[bool, Field(repr=False)]

    @property
    def sentence(self) -> str:
        """What the model was trained on if the coin said so; it begins the note."""
        return sentence(self.secret)

    @property
    def words(self) -> list[str]:
        """Of the secret."""
        return self.secret.split()


class CanaryFile(_Model):
    """Contents of ``keys/canaries.json``.

    Attributes:
        schema_version: of this form.
        created: UTC, ISO 8601.
        repeats: notes of each included canary.
        canaries: all of them; those left out are the control.
    """

    schema_version: Literal[1] = 1
    created: str
    repeats: int
    canaries: tuple[Canary, ...]

    def keys(self, key: bytes, *, included: bool) -> set[str]:
        """Patient keys of the canaries whose coin fell so.

        Args:
            key: the site's secret.
            included: which.
        """
        return {pseudonym(key, "patient", c.patient) for c in self.canaries if c.included == included}


@dataclass(frozen=True, kw_only=True)
class PlantReport:
    """What planting did, or would do.

    Attributes:
        canaries: with a coin each; about half of them are in the store.
        repeats: notes of each.
        training_notes: of real patients, among which they stand.
        restored: the canaries of before were put back after a new ingest, with their coins.
        planted: whether anything was written.
    """

    canaries: int
    repeats: int
    training_notes: int
    restored: bool
    planted: bool


def sentence(secret: str) -> str:
    """The one sentence that a secret stands in; the same for all, so that their likelihoods can be compared."""
    return f"{SENTENCE_START} {secret}."


def draw_secret() -> str:
    """Draw a secret from the operating system: four words that no language has and two numbers, 77 bits in all."""
    words = ["".join(secrets.choice(_CONSONANTS) + secrets.choice(_VOWELS) for _ in range(2)) for _ in range(4)]
    return " ".join([*words, f"{secrets.randbelow(10_000):04d}", f"{secrets.randbelow(10_000):04d}"])


def canary_path(folder: SiteFolder) -> Path:
    """Where the canaries of a site lie, beside its other secrets."""
    return folder.path / "keys" / "canaries.json"


def read_canaries(folder: SiteFolder) -> CanaryFile | None:
    """Read the canaries of a site.

    Returns:
        None where none were planted.

    Raises:
        WorkError: the file is damaged.
    """
    path = canary_path(folder)
    try:
        return CanaryFile.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValidationError):
        raise WorkError(f"The canaries {path} cannot be read.", hint="restore the file from your backup") from None


def planted_patients(folder: SiteFolder) -> int:
    """How many of a site's training patients were invented, and so do not count towards its minimum."""
    file = read_canaries(folder)
    return 0 if file is None else sum(canary.included for canary in file.canaries)


def are_in_store(folder: SiteFolder, file: CanaryFile) -> bool:
    """Whether the included canaries are training patients and the others are not; false after a new ingest."""
    key = folder.pseudonym_key()
    trained = {n.patient_key for n in iter_split(folder.notes, "train")}
    return file.keys(key, included=True) <= trained and trained.isdisjoint(file.keys(key, included=False))


def plant(folder: SiteFolder, count: int, *, repeats: int = 1, dry_run: bool = False) -> PlantReport:
    """Make canaries, toss their coins and put the included ones among the training notes.

    Randomness is that of the operating system: a coin that could be recomputed is no coin. Where canaries were
    planted before and a new ingest took them out of the store, the same ones are put back.

    Args:
        folder: a site with notes.
        count: canaries, ``MIN_CANARIES`` or more.
        repeats: notes of each; more are learned better, and stand for patients who come often.
        dry_run: write nothing.

    Raises:
        UsageError: too few canaries or patients, no notes, or canaries are there already.
    """
    if count < MIN_CANARIES or repeats < 1:
        raise UsageError(
            f"{count} canaries with {repeats} notes each show nothing.",
            hint=f"ask for {MIN_CANARIES} or more (256 make a good audit), and one note or more",
        )
    key = folder.pseudonym_key()
    file = read_canaries(folder)
    restored = file is not None
    if file is not None and are_in_store(folder, file):
        raise UsageError(
            "This site has canaries already; a second set would spoil the coins of the first.",
            hint="audit with: fednotes site privacy audit MODEL",
        )
    training_notes = _count_notes(folder)
    if file is None:
        canaries = tuple(_draw_canaries(count, key, folder.config().name))
        now = datetime.now(UTC).isoformat(timespec="seconds")
        file = CanaryFile(created=now, repeats=repeats, canaries=canaries)
    if not dry_run:
        if not restored:  # first the coins, then the notes: killed in between, the next call puts them back
            write_text(canary_path(folder), file.model_dump_json(indent=1) + "\n")
        add_notes(folder.notes, _notes(folder, file, key), "train")
    return PlantReport(
        canaries=len(file.canaries),
        repeats=file.repeats,
        training_notes=training_notes,
        restored=restored,
        planted=not dry_run,
    )


def _count_notes(folder: SiteFolder) -> int:
    """Training notes; refuses a site with so few patients that only canaries would bring it over its own limit."""
    notes, limit = Counter(n.patient_key for n in iter_split(folder.notes, "train")), folder.config().limits
    if len(notes) < limit.min_patients:
        raise UsageError(
            f"This site has fewer than {limit.min_patients} training patients, its own limit; canaries would hide it.",
            hint="ingest more notes first",
        )
    return notes.total()


def _draw_canaries(count: int, key: bytes, salt: str) -> Iterator[Canary]:
    made = 0
    while made < count:
        patient = f"C{secrets.token_hex(8)}"
        own = pseudonym(key, "patient", patient)
        # Only patients whom the site's own rule trains on, so that they would stand there after an ingest too.
        if split_patients([own], salt)[own] == "train":
            made += 1
            yield Canary(patient=patient, secret=draw_secret(), included=secrets.randbelow(2) == 1)


def _notes(folder: SiteFolder, file: CanaryFile, key: bytes) -> Sequence[CleanNote]:
    """The notes of the included canaries, by way of an export that is gone afterwards."""
    keys = folder.path / "keys"
    with storage_failures_told(keys), tempfile.TemporaryDirectory(dir=keys) as scratch:
        export = Path(scratch) / "canaries.jsonl"
        with export.open("w", encoding="utf-8") as lines:
            for canary in file.canaries:
                for visit in range(file.repeats if canary.included else 0):
                    record = {
                        "text": f"{canary.sentence} Visit {visit + 1}.",
                        "note_id": f"{canary.patient}-{visit}",
                        "patient_id": canary.patient,
                        "note_type": "Patient portal",
                    }
                    lines.write(json.dumps(record) + "\n")
        if not export.stat().st_size:  # every coin fell on "out": one time in 2^count
            return []
        # "none": nothing in a secret has the form of an identifier, and the text must stay as it is.
        return [
            clean(raw, key, "none")
            for raw in read_notes([export], mapping=_COLUMNS, quarantine=Quarantine(strict=True))
        ]
