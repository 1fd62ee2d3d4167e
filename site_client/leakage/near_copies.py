"""Near-copies of other patients' notes: how much of a rephrasing stands word for word in the notes of somebody else.

Runs of eight words (shingles) are compared. Those of three patients or more are templates: what a hospital writes about
everybody gives nobody away. Those that the own patient's notes have come from there. Of what is left, the largest part
that one other patient has is the score of the rephrasing.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict

from site_client.leakage.run_index import MANY, NOBODY, Owners, RunIndex
from site_client.leakage.words import Words

SHINGLE_WORDS = 8
NEAR_COPY = 0.1  # a copied sentence among ten


class NearCopyFacts(BaseModel):
    """Near-copies among the rephrasings of one arm.

    Attributes:
        share: of the rephrasings, those with a tenth or more of their shingles in the notes of one other patient.
        largest: greatest such part of any rephrasing.
        share_by_chance: the share for held-out patients, as if they had as many shingles as the training patients;
            None when none are held out.
        template_share: of all shingles, those that three patients or more have.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    share: float
    largest: float
    share_by_chance: float | None
    template_share: float


class NearCopies:
    """Counts near-copies over the rephrasings of one arm.

    Args:
        index: of all notes; its runs are the shingles.
        trained: patients with smaller numbers are training patients, the others are held out.
    """

    def __init__(self, index: RunIndex, trained: int) -> None:
        self._index, self._trained = index, trained
        self._rephrasings = self._near = self._near_by_chance = self._shingles = self._templates = 0
        self._largest = 0.0

    def add(self, rephrased: Words, patient: int) -> None:
        """Count one rephrasing.

        Args:
            rephrased: its words.
            patient: number of its patient.
        """
        owners = self._index.owners(rephrased.distinct(self._index.n))
        template = owners.first == MANY
        left = max(1, len(template) - int(template.sum()))
        foreign = ~template & (owners.first != patient) & (owners.second != patient)
        candidates = np.concatenate((owners.first[foreign], owners.second[foreign]))
        candidates = candidates[candidates != NOBODY]
        score = _most_of_one(candidates[candidates < self._trained]) / left
        self._rephrasings += 1
        self._near += score >= NEAR_COPY
        self._near_by_chance += _most_of_one(candidates[candidates >= self._trained]) / left >= NEAR_COPY
        self._largest = max(self._largest, score)
        self._shingles += len(template)
        self._templates += int(template.sum())

    def facts(self, chance: float | None) -> NearCopyFacts:
        """The counts so far.

        Args:
            chance: shingles of training patients to one of held-out patients; None when none are held out.
        """
        of_all = max(1, self._rephrasings)
        return NearCopyFacts(
            share=self._near / of_all,
            largest=self._largest,
            share_by_chance=None if chance is None else min(1.0, chance * self._near_by_chance / of_all),
            template_share=self._templates / max(1, self._shingles),
        )


def _most_of_one(patients: npt.NDArray[np.uint32]) -> int:
    """How often the commonest number occurs."""
    return int(np.unique(patients, return_counts=True)[1].max()) if len(patients) else 0


def owned_by(low: int, high: int, owners: Owners) -> npt.NDArray[np.bool_]:
    """Which runs a patient has whose number is in a range."""
    return ((owners.first >= low) & (owners.first < high)) | ((owners.second >= low) & (owners.second < high))
