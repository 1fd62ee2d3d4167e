"""The leakage report of a site: counts and shares for every arm, no text and no key."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from protocols.durable import write_text
from protocols.errors import UsageError, WorkError
from site_client.leakage.identifiers import IdentifierFacts
from site_client.leakage.near_copies import NearCopyFacts
from site_client.leakage.rare_ngrams import RareNgramFacts
from site_client.leakage.spread import Spread

REPORT_FILE = "leakage.json"


class _Facts(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class VerbatimFacts(_Facts):
    """Longest run of words that each rephrasing shares with its source.

    Attributes:
        words: its length.
        characters: likewise, as the rephrasing spells it.
        share_above: rephrasings with more words than the site's limit at the time of the report.
    """

    words: Spread
    characters: Spread
    share_above: float


class ArmLeakage(_Facts):
    """What one arm, a model with a prompt, gives away.

    Attributes:
        arm: its name.
        fingerprint: of everything that determines its texts.
        rephrasings: accepted ones for the present notes: what all numbers are about.
        digest: of these (hex); another one makes the report stale.
        patients: whose notes they were made from.
        verbatim: runs of words from the source.
        rare_ngrams: runs of words that single patients have.
        near_copies: runs of words from other patients' notes.
        identifiers: forms of identifiers, and planted strings.
        opening_share: rephrasings that begin with the commonest three words. A large share is a template of the model.
    """

    arm: str
    fingerprint: str
    rephrasings: int
    digest: str
    patients: int
    verbatim: VerbatimFacts
    rare_ngrams: RareNgramFacts
    near_copies: NearCopyFacts
    identifiers: IdentifierFacts
    opening_share: float


class LeakageReport(_Facts):
    """Contents of ``corpus/leakage.json``.

    Attributes:
        schema_version: of this form.
        created: UTC, ISO 8601.
        training_patients: with notes that may be rephrased.
        held_out_patients: of the control; 0 when it was left out.
        planted: strings that were looked for; None without a file of them.
        planted_in_notes: those that training notes have.
        arms: by name.
    """

    schema_version: Literal[1] = 1
    created: str
    training_patients: int
    held_out_patients: int
    planted: int | None
    planted_in_notes: int | None
    arms: tuple[ArmLeakage, ...]


def write_report(corpus: Path, report: LeakageReport) -> None:
    """Write a report in the place of the one before.

    Args:
        corpus: folder of the site's corpus.
        report: of all its arms.

    Raises:
        StorageError: the disk is full.
    """
    write_text(corpus / REPORT_FILE, report.model_dump_json(indent=2) + "\n")


def read_report(corpus: Path) -> LeakageReport:
    """Read the report of a site.

    Raises:
        UsageError: there is none.
        WorkError: it cannot be read.
    """
    path = corpus / REPORT_FILE
    try:
        return LeakageReport.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        raise UsageError("There is no leakage report of this corpus.", hint="fednotes site corpus leakage") from None
    except (OSError, ValidationError):
        raise WorkError(
            f"The leakage report {path} cannot be read.", hint="make it anew: fednotes site corpus leakage"
        ) from None
