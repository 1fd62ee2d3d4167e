"""First stage of a run: read the export, find duplicates, make hospitals and evaluation sets."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from privacy.deidentify import clean
from privacy.note_types import CleanNote, RawNote
from privacy.split import Split
from protocols.durable import write_text
from protocols.errors import UsageError
from simulations.assignment import Assignment, SiteMap, by_group, by_map, by_patient
from simulations.evaluation import ALL
from simulations.hospitals import Hospital, make_hospitals, simulation_key
from simulations.options import Options
from simulations.results import SiteFacts
from simulations.run_folder import RunFolder
from simulations.scenarios import Scenario
from simulations.synthetic_notes import write_export
from site_client.duplicates import UniqueNote, fingerprint, unique_notes
from site_client.folder import SiteFolder
from site_client.notes.quarantine import Quarantine
from site_client.notes.reader import read_notes
from site_client.progress import Advance
from site_client.store import read_split, write_notes

_GENERATED_NOTES = 2_000
_DEFAULT_SITES = 5


class Prepared(BaseModel):
    """What the first stage made.

    Attributes:
        folders: names of the site folders, in the order of their numbers.
        sites: facts of the sites, token counts still zero.
        sets: names of the further evaluation sets.
        dropped: records that reached no site, by reason.
        quarantined: where records could not be read ("file, line N: reason"), as many as were kept.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    folders: list[str]
    sites: list[SiteFacts]
    sets: list[str]
    dropped: dict[str, int]
    quarantined: list[str]


def prepare(run: RunFolder, options: Options, scenario: Scenario, advance: Advance) -> Prepared:
    """Make the hospitals, or find them made.

    Args:
        run: output folder.
        options: where the notes are and how they become hospitals.
        scenario: may name a map of hospitals.
        advance: told of every record read.

    Raises:
        UsageError: wrong files, columns, or hospitals that are too small.
    """
    if (done := run.read("prepared", Prepared)) is not None:
        return done
    shutil.rmtree(run.sites, ignore_errors=True)  # of a run that was killed in this stage
    dropped: Counter[str] = Counter()
    quarantine = Quarantine(strict=options.strict)
    unique = _read(_exports(run, options), options, quarantine, advance)
    assignment = _assign(unique, options, scenario)
    dropped.update(assignment.dropped)
    dropped["duplicate_text"] += sum(n.copies for n in unique)
    hospitals = make_hospitals(
        assignment,
        run.sites,
        model=run.initial_model,
        seed=options.seed,
        deidentify=options.deidentify,
        skip_small=options.skip_small_sites,
        dropped=dropped,
        privacy=options.privacy,
    )
    sets = _evaluation_sets(assignment.held_out | _eval_files(options, quarantine), hospitals, options, dropped)
    names = [ALL, *sets, *(h.name for h in hospitals)]
    if clash := sorted({name for name in names if names.count(name) > 1}):
        raise UsageError(f"Two evaluation sets would be called {clash[0]!r}.", hint="choose another name")
    for number, notes in enumerate(sets.values()):
        write_notes(run.set_file(number), notes, {n.patient_key: "test" for n in notes})
    dropped.update(quarantine.counts())
    prepared = Prepared(
        folders=[h.folder.path.name for h in hospitals],
        sites=[h.facts for h in hospitals],
        sets=list(sets),
        dropped=dict(+dropped),
        quarantined=[f"{row.where}: {row.reason}" for row in quarantine.rows],
    )
    run.write("prepared", prepared)
    return prepared


def site_folders(run: RunFolder, prepared: Prepared) -> list[SiteFolder]:
    """The site folders, in the order of their numbers."""
    return [SiteFolder(run.sites / name) for name in prepared.folders]


def evaluation_sets(run: RunFolder, prepared: Prepared) -> dict[str, list[CleanNote]]:
    """Held-out notes of every hospital, and the further sets."""
    folders = site_folders(run, prepared)
    held_out = {facts.name: read_split(f.notes, "test") for facts, f in zip(prepared.sites, folders, strict=True)}
    return held_out | {name: read_split(run.set_file(number), "test") for number, name in enumerate(prepared.sets)}


def _exports(run: RunFolder, options: Options) -> Sequence[Path]:
    if options.notes:
        return options.notes
    path = run.path / "notes.csv"
    hospitals = options.sites or _DEFAULT_SITES
    partial = run.path / ".partial.csv"  # the generator tells the format by the suffix
    planted = write_export(partial, hospitals=hospitals, notes=_GENERATED_NOTES, seed=options.seed)
    partial.replace(path)
    write_text(run.path / "planted.json", planted.to_json())
    return [path]


def _read(paths: Sequence[Path], options: Options, quarantine: Quarantine, advance: Advance) -> list[UniqueNote]:
    def counted() -> Iterator[RawNote]:
        for note in read_notes(paths, mapping=columns, quarantine=quarantine):
            advance(1)
            yield note

    group = options.site_by or (None if options.notes else "hospital")
    columns = replace(options.columns, group=group)
    unique = unique_notes(counted())
    if not unique:
        reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(quarantine.counts().items()))
        raise UsageError(f"No note could be read ({reasons or 'the export is empty'}).")
    return unique


def _assign(unique: Sequence[UniqueNote], options: Options, scenario: Scenario) -> Assignment:
    if (site_map := options.site_map or scenario.site_map) is not None:
        if options.site_by is None:
            raise UsageError(f"Site map {site_map!r} needs a column.", hint="name it with --site-by")
        return by_map(unique, SiteMap.load(site_map))
    if options.site_by is not None or not options.notes:
        return by_group(unique, options.sites)
    return by_patient(unique, options.sites or _DEFAULT_SITES)


def _eval_files(options: Options, quarantine: Quarantine) -> dict[str, list[UniqueNote]]:
    """Read the ``--eval`` files; where they lack the columns that were named for the notes, columns are guessed."""
    sets: dict[str, list[UniqueNote]] = {}
    for name, path in options.evals.items():
        try:
            sets[name] = unique_notes(read_notes([path], mapping=options.columns, quarantine=quarantine))
        except UsageError:
            sets[name] = unique_notes(read_notes([path], quarantine=quarantine))
    return sets


def _evaluation_sets(
    sets: dict[str, list[UniqueNote]], hospitals: Sequence[Hospital], options: Options, dropped: Counter[str]
) -> dict[str, list[CleanNote]]:
    """Clean the further evaluation sets; texts and patients that somebody trains on do not belong in them."""
    splits: tuple[Split, ...] = ("train", "validation")
    trained = [n for h in hospitals for split in splits for n in read_split(h.folder.notes, split)]
    patients, texts = {n.patient_key for n in trained}, {fingerprint(n.text) for n in trained}
    key = simulation_key(options.seed)
    cleaned: dict[str, list[CleanNote]] = {}
    for name, notes in sets.items():
        kept: list[CleanNote] = []
        for unique in notes:
            note = clean(unique.note, key, options.deidentify)
            if unique.note.patient_id is not None and note.patient_key in patients:
                dropped["eval_patient_in_training"] += 1
            elif fingerprint(note.text) in texts:
                dropped["eval_text_in_training"] += 1
            else:
                kept.append(note)
        if not kept:
            raise UsageError(
                f"Evaluation set {name!r} is empty: it has no note whose patient and text nobody trains on.",
                hint="leave it out or give other notes",
            )
        cleaned[name] = kept
    return cleaned
