"""Synthetic hospital notes: one export of several invented hospitals, with tracers and identifiers planted in it.

Everything is invented: no sentence is copied and no person is real. The planted strings let a test search whatever
leaves a site for them. The same grammar, under a seed stream of its own and with nothing planted, gives text to train
a tokenizer on.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path
from random import Random

import pyarrow as pa
import pyarrow.parquet as pq

from protocols.errors import UsageError
from simulations.synthetic_cases import Case, draw_case
from simulations.synthetic_note_types import NOTE_TYPES, Writer
from simulations.synthetic_styles import HospitalStyle, hospital_style

COLUMNS = ("note_id", "patient_id", "encounter_id", "hospital", "note_type", "chart_time", "text")
MAX_HOSPITALS = 64
_SIZES = (34, 26, 18, 13, 9)  # relative numbers of notes; hospitals take turns
_SPECIALTIES = (
    ("cardiology", "pulmonology", "nephrology"),
    ("orthopaedics", "infectious disease"),
    ("gastroenterology", "oncology", "urology"),
    ("neurology", "psychiatry", "ophthalmology"),
    ("obstetrics", "paediatrics", "endocrinology"),
)
_TRACED, _IDENTIFIED = 0.12, 0.4  # shares of patients
_DUPLICATES, _EMPTY = 0.025, 0.004  # shares of notes
_ALPHABET = "abcdefghijkmnpqrstuvwxyz23456789"


@dataclass(frozen=True)
class HospitalCounts:
    """Rows of one hospital; duplicates and empty rows are part of ``notes``."""

    notes: int
    patients: int
    duplicates: int
    empty: int


@dataclass(frozen=True)
class PlantedFacts:
    """What was planted where.

    Attributes:
        tracers: improbable strings by hospital; each stands in exactly one patient's notes.
        identifiers: identifiers in note texts by kind ("name", "phone", "ssn", "mrn", "email", "street", "birth_date").
        counts: rows by hospital.
    """

    tracers: dict[str, list[str]]
    identifiers: dict[str, list[str]]
    counts: dict[str, HospitalCounts]

    def to_json(self) -> str:
        """The same facts as a JSON object. It holds planted identifiers: test material, not for a site."""
        return json.dumps(asdict(self), indent=2)


def write_export(path: Path, *, hospitals: int = 5, notes: int = 1500, seed: int = 0) -> PlantedFacts:
    """Write one export with the notes of several hospitals.

    Args:
        path: target; ``.csv`` or ``.parquet``.
        hospitals: 1 to 64.
        notes: number of rows, at least one per hospital.
        seed: equal seeds give equal files.

    Returns:
        What was planted.

    Raises:
        UsageError: another suffix, or a number out of range.
    """
    if path.suffix not in (".csv", ".parquet"):
        raise UsageError(f"cannot write an export with suffix '{path.suffix}'", hint="use .csv or .parquet")
    if not 1 <= hospitals <= MAX_HOSPITALS:
        raise UsageError(f"{hospitals} hospitals asked for, from 1 to {MAX_HOSPITALS} are possible")
    if notes < hospitals:
        raise UsageError(
            f"{notes} notes are too few for {hospitals} hospitals", hint="ask for one note per hospital or more"
        )
    planted = PlantedFacts({}, {}, {})
    rows: list[tuple[str, ...]] = []
    for index, size in enumerate(_sizes(hospitals, notes)):
        rows += _Hospital(index, seed, planted).rows(size)
    if path.suffix == ".csv":
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(COLUMNS)
            writer.writerows(rows)
    else:
        columns = zip(*rows, strict=True)
        pq.write_table(pa.table({name: list(column) for name, column in zip(COLUMNS, columns, strict=True)}), path)
    return planted


def iter_training_text(seed: int) -> Iterator[str]:
    """Endless note texts of all styles and specialties, nothing planted, from a seed stream that no export uses."""
    rng = Random(f"training text {seed}")  # noqa: S311 - invented text needs no secrecy
    styles = [hospital_style(index, rng) for index in range(len(_SPECIALTIES))]
    while True:
        case = draw_case(rng, rng.choice(_SPECIALTIES))
        style = rng.choice(styles)
        for _, day, text in _stay(case, style, rng):
            del day
            yield text


def _sizes(hospitals: int, notes: int) -> list[int]:
    """Uneven sizes that add up to ``notes``, none of them zero."""
    weights = [_SIZES[index % len(_SIZES)] for index in range(hospitals)]
    spare, total = notes - hospitals, sum(weights)
    edges = [round(spare * sum(weights[:index]) / total) for index in range(hospitals + 1)]
    return [1 + edges[index + 1] - edges[index] for index in range(hospitals)]


def _stay(case: Case, style: HospitalStyle, rng: Random) -> Iterator[tuple[str, int, str]]:
    """Note type, day and text of the notes of one stay, in order."""
    kinds = ["Emergency note", "Consultation", "Radiology report", "Operative note", "Nursing note", "Progress note"]
    chosen = [kind for kind in kinds if rng.random() < 0.6] or ["Progress note"]
    chosen += ["Progress note"] * rng.randint(0, 2) + ["Discharge summary"] * (rng.random() < 0.6)
    chosen += ["Clinic note"] * (rng.random() < 0.3)
    for position, kind in enumerate(chosen):
        last = kind in ("Discharge summary", "Clinic note")
        day = case.days if last else min(case.days, position * case.days // len(chosen))
        yield kind, day, style.write(NOTE_TYPES[kind](Writer(case, day, rng)), rng)


class _Hospital:
    """Writes the rows of one hospital and records what it plants."""

    def __init__(self, index: int, seed: int, planted: PlantedFacts) -> None:
        self.name = f"hospital_{chr(ord('a') + index)}" if index < 26 else f"hospital_{index + 1}"
        self.rng = Random(f"export {seed} hospital {index}")  # noqa: S311 - invented text needs no secrecy
        self.prefix = f"{seed % 10_000:04d}{index:02d}"
        self.style = hospital_style(index, self.rng)
        self.specialties = _SPECIALTIES[index % len(_SPECIALTIES)]
        self.planted = planted

    def rows(self, size: int) -> list[tuple[str, ...]]:
        """Exactly ``size`` rows, patient by patient."""
        rows: list[tuple[str, ...]] = []
        patients = duplicates = empty = 0
        tracers = self.planted.tracers.setdefault(self.name, [])
        while len(rows) < size:
            patients += 1
            case = draw_case(self.rng, self.specialties)
            texts = list(_stay(case, self.style, self.rng))[: size - len(rows)]
            # The first patient always carries a tracer, so that no hospital is without one.
            marks = self._marks(case, traced=patients == 1 or self.rng.random() < _TRACED, tracers=tracers)
            where = self.rng.randrange(len(texts))
            for position, (kind, day, text) in enumerate(texts):
                if position == where and marks:
                    text = self._plant(text, marks)
                elif self.rng.random() < _EMPTY:
                    text, empty = "", empty + 1
                rows.append(self._row(len(rows), patients, case, kind, day, text))
                if text and len(rows) < size and self.rng.random() < _DUPLICATES:
                    rows.append(self._row(len(rows), patients, case, kind, day, text))
                    duplicates += 1
                if len(rows) == size:
                    break
        self.planted.counts[self.name] = HospitalCounts(size, patients, duplicates, empty)
        return rows

    def _row(self, number: int, patient: int, case: Case, kind: str, day: int, text: str) -> tuple[str, ...]:
        time = case.admitted + timedelta(days=day, minutes=self.rng.randrange(600))
        patient_id = f"P{self.prefix}{patient:05d}"
        visit = 2 if kind == "Clinic note" else 1
        return (
            f"N{self.prefix}{number:06d}", patient_id, f"E{patient_id[1:]}-{visit}", self.name, kind,
            time.isoformat(sep=" ", timespec="seconds"), text,
        )  # fmt: skip

    def _marks(self, case: Case, *, traced: bool, tracers: list[str]) -> list[str]:
        """Sentences that carry this patient's planted strings."""
        rng, who, marks = self.rng, case.identity, []
        if traced:
            tracer = "zqx7-" + "".join(rng.choices(_ALPHABET, k=14))
            tracers.append(tracer)
            marks.append(
                rng.choice((f"Device tag {tracer}.", f"Specimen label {tracer}.", f"Outside record {tracer} reviewed."))
            )
        if rng.random() >= _IDENTIFIED:
            return marks
        sentences = {
            "name": (f"Patient: {who.name}.", f"{who.name} was seen with family.", f"Discussed with {who.name}."),
            "phone": (f"Contact by phone at {who.phone}.", f"Tel. {who.phone}.", f"Next of kin: {who.phone}."),
            "ssn": (f"SSN {who.ssn}.", f"Social security number {who.ssn} on file."),
            "mrn": (f"MRN: {who.mrn}.", f"Medical record number {who.mrn}."),
            "email": (f"Results to {who.email}.", f"E-mail {who.email}."),
            "street": (f"Address {who.street}.", f"Lives at {who.street}."),
            "birth_date": (f"DOB: {who.birth_date}.", f"Date of birth {who.birth_date}."),
        }
        for kind in sorted(rng.sample(sorted(sentences), rng.randint(2, 5))):
            known = self.planted.identifiers.setdefault(kind, [])
            known += [getattr(who, kind)] if getattr(who, kind) not in known else []
            marks.append(rng.choice(sentences[kind]))
        return marks

    def _plant(self, text: str, marks: list[str]) -> str:
        """The text with the marks before or behind it, in the way of the layout."""
        line = " ".join(marks)
        break_ = "\n" if "\n" in text else ","
        return (
            f"{line}{break_}{text}"
            if self.rng.random() < 0.5
            else f"{text}{break_ if break_ == chr(10) else ' '}{line}"
        )
