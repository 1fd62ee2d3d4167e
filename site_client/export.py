"""Exporting synthetic text: refused unless the site's own configuration and a fresh leakage report allow it.

An export is texts in an order that nobody can trace, with what wrote them: no key of a patient, note, chunk or job.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from protocols.durable import storage_failures_told, whole_file
from protocols.errors import UsageError, WorkError
from site_client.export_rows import SUFFIXES, ExportRow, Shuffled, write_rows
from site_client.folder import SiteConfig, SiteFolder
from site_client.leakage.covered import Covered
from site_client.leakage.limits import passed_limits
from site_client.leakage.report import ArmLeakage, read_report
from site_client.leakage.scratch import scratch
from site_client.rephrasing.arm import Arm
from site_client.rephrasing.corpus_folder import ArmFolder, CorpusFolder

LOG_FILE = "exports.jsonl"
_MEASURE = "fednotes site corpus leakage"


@dataclass(frozen=True, kw_only=True)
class ExportReport:
    """What was, or would be, exported.

    Attributes:
        out: the file.
        arms: texts by arm.
        rows: texts of all arms.
        bytes: size of the file; 0 when it was not written.
        sha256: of the file (hex); empty when it was not written.
        written: whether it was.
    """

    out: str
    arms: dict[str, int]
    rows: int
    bytes: int
    sha256: str
    written: bool


class ExportEntry(BaseModel):
    """One line of ``corpus/exports.jsonl``; written before the file has its name, so that no export lacks one.

    Attributes:
        time: UTC, ISO 8601.
        file: name of the file, without its folder.
        arms: texts by arm.
        digests: of the results behind them, as in the leakage report.
        rows: texts of all arms.
        bytes: size of the file.
        sha256: of the file (hex).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    time: str
    file: str
    arms: dict[str, int]
    digests: dict[str, str]
    rows: int
    bytes: int
    sha256: str


def export_corpus(
    site: SiteFolder, out: Path, names: Sequence[str] = (), *, dry_run: bool = False, overwrite: bool = False
) -> ExportReport:
    """Write the accepted rephrasings of some arms to a file, whole or not at all.

    Args:
        site: whose corpus.
        out: ``.jsonl`` or ``.parquet``; only its owner can read it.
        names: arms; all of them when empty.
        dry_run: check everything and write nothing.
        overwrite: whether a file of that name may be replaced.

    Raises:
        UsageError: the site allows no export, there is no report or arm, or the file cannot be that one.
        WorkError: the report is stale, an arm is beyond a limit or has too few patients, or the disk is full.
    """
    config = site.config()
    _check_words(config, site.path / "site.toml", out, overwrite=overwrite)
    corpus = CorpusFolder(site)
    report = {arm.arm: arm for arm in read_report(corpus.path).arms}
    arms = _choose(corpus, names)
    chosen = [_measured(report, arm) for _, arm in arms]
    _check_limits(chosen, config)
    with scratch(corpus.path) as folder:
        shuffled = Shuffled(folder)
        for (arm_folder, arm), measured in zip(arms, chosen, strict=True):
            covered = Covered(corpus, arm_folder, arm)
            _take(covered, arm, measured, shuffled)
            _check_patients(arm.name, covered.patients, config)
        counts = {m.arm: m.rephrasings for m in chosen}
        if dry_run:
            return ExportReport(out=str(out), arms=counts, rows=sum(counts.values()), bytes=0, sha256="", written=False)
        with whole_file(out) as partial:
            write_rows(partial, shuffled, out.suffix)
            entry = _entry(partial, out, chosen, counts)
            _log(corpus.path / LOG_FILE, entry)
    return ExportReport(
        out=str(out), arms=counts, rows=entry.rows, bytes=entry.bytes, sha256=entry.sha256, written=True
    )


def _check_words(config: SiteConfig, path: Path, out: Path, *, overwrite: bool) -> None:
    if not config.leakage.export_allowed:
        raise UsageError(
            f"{path} does not allow an export: synthetic text is patient data.",
            hint="if your data protection officer agrees, set export_allowed = true in [leakage]",
        )
    if out.suffix not in SUFFIXES:
        raise UsageError(f"{out.name} is neither .jsonl nor .parquet.", hint="give the file one of these endings")
    if out.exists() and not overwrite:
        raise UsageError(f"{out} exists already.", hint="choose another name, or add --overwrite")


def _choose(corpus: CorpusFolder, names: Sequence[str]) -> list[tuple[ArmFolder, Arm]]:
    known = {arm.name: (folder, arm) for folder in corpus.current_arms() for arm in [folder.record().arm]}
    if not known:
        raise UsageError(f"There are no rephrasings in {corpus.path} yet.", hint="fednotes site rephrase")
    for name in names:
        if name not in known:
            raise UsageError(f"There is no arm {name!r}.", hint=f"choose of: {', '.join(known)}")
    return [pair for name, pair in known.items() if name in names or not names]


def _measured(report: dict[str, ArmLeakage], arm: Arm) -> ArmLeakage:
    measured = report.get(arm.name)
    if measured is None:
        raise WorkError(f"The leakage report does not cover {arm.name}.", hint=f"measure again: {_MEASURE}")
    if measured.fingerprint != arm.fingerprint:
        raise WorkError(
            f"The leakage report is stale: {arm.name} has another prompt, model or seed now.",
            hint=f"measure again: {_MEASURE}",
        )
    return measured


def _check_limits(chosen: Sequence[ArmLeakage], config: SiteConfig) -> None:
    passed = {m.arm: passed_limits(m, config.leakage) for m in chosen}
    lines = [f"{arm}: {what}" for arm, found in passed.items() for what in found.values()]
    if lines:
        good = [arm for arm, found in passed.items() if not found]
        raise WorkError(
            f"Nothing was exported. Beyond the limits of [leakage] in site.toml: {'; '.join(lines)}.",
            hint=f"export what keeps to them: {' '.join(f'--arm {a}' for a in good)}"
            if good
            else "rephrase with another model or prompt; a limit is the site's to change",
        )


def _take(covered: Covered, arm: Arm, measured: ArmLeakage, shuffled: Shuffled) -> None:
    """Take the texts of an arm over and compare them with those that were measured."""
    for result in covered:
        text = result.text.encode("utf-8", "replace").decode()  # half a surrogate pair is in no UTF-8 file
        shuffled.add(ExportRow(text=text, arm=arm.name, prompt=arm.prompt.name, model=arm.model, revision=arm.revision))
    if covered.digest != measured.digest:
        raise WorkError(
            f"The leakage report is stale: {arm.name} has {covered.count:,} accepted rephrasings that are not the "
            f"{measured.rephrasings:,} measured ones.",
            hint=f"measure again: {_MEASURE}",
        )


def _check_patients(arm: str, patients: int, config: SiteConfig) -> None:
    least = config.limits.min_patients
    if patients < least:
        # How many there are is not said: an error may be passed on, and a number below the minimum must not be.
        raise WorkError(
            f"Nothing was exported. {arm} has rephrasings of fewer patients than min_patients = {least} in [limits] of "
            "site.toml.",
            hint="rephrase more notes, or name other arms with --arm",
        )


def _entry(partial: Path, out: Path, chosen: Sequence[ArmLeakage], counts: dict[str, int]) -> ExportEntry:
    with partial.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return ExportEntry(
        time=datetime.now(UTC).isoformat(timespec="seconds"),
        file=out.name,
        arms=counts,
        digests={m.arm: m.digest for m in chosen},
        rows=sum(counts.values()),
        bytes=partial.stat().st_size,
        sha256=digest,
    )


def _log(path: Path, entry: ExportEntry) -> None:
    """Append a line and wait until the disk has it."""
    with storage_failures_told(path), path.open("a", encoding="utf-8") as file:
        path.chmod(0o600)
        file.write(entry.model_dump_json() + "\n")
        file.flush()
        os.fsync(file.fileno())
