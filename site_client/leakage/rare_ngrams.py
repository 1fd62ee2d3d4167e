"""Rare n-grams: runs of five words that stand in the notes of one single patient of the site.

Those of the own source that survive tell how much of what makes a patient recognisable is left. Those of other patients
tell of texts that got mixed. As some of the latter occur by chance, the same is counted with patients who were held
out: no rephraser ever saw their notes, so all that is theirs in a rephrasing is chance.
"""

from __future__ import annotations

import numpy as np
from pydantic import BaseModel, ConfigDict

from site_client.leakage.run_index import MANY, RunIndex
from site_client.leakage.words import Words

RARE_WORDS = 5


class RareNgramFacts(BaseModel):
    """Rare n-grams in the rephrasings of one arm.

    Attributes:
        in_sources: distinct rare n-grams of a source chunk, over all chunks.
        kept: those that stand in the rephrasing of that chunk.
        share_kept: of the two; 0 without any.
        of_others_per_1000: n-grams of a rephrasing that another training patient alone has, to 1,000 of all.
        by_chance_per_1000: the same for held-out patients, as if they had as many rare n-grams as the training
            patients; None when none are held out.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    in_sources: int
    kept: int
    share_kept: float
    of_others_per_1000: float
    by_chance_per_1000: float | None


class RareNgrams:
    """Counts rare n-grams over the rephrasings of one arm.

    Args:
        index: of all notes; its runs are the n-grams.
        trained: patients with smaller numbers are training patients, the others are held out.
    """

    def __init__(self, index: RunIndex, trained: int) -> None:
        self._index, self._trained = index, trained
        self._in_sources = self._kept = self._all = self._of_others = self._of_held_out = 0

    def add(self, source: Words, rephrased: Words, patient: int) -> None:
        """Count one rephrasing.

        Args:
            source: words of its source chunk.
            rephrased: its own words.
            patient: number of its patient.
        """
        theirs, ours = source.distinct(self._index.n), rephrased.distinct(self._index.n)
        rare = theirs[self._index.owners(theirs).only == patient]
        owner = self._index.owners(ours).only
        self._in_sources += len(rare)
        self._kept += int(np.isin(rare, ours, assume_unique=True).sum())
        self._all += len(ours)
        self._of_others += int(((owner < self._trained) & (owner != patient)).sum())
        self._of_held_out += int(((owner >= self._trained) & (owner < MANY)).sum())

    def facts(self, chance: float | None) -> RareNgramFacts:
        """The counts so far.

        Args:
            chance: rare n-grams of training patients to one of held-out patients; None when none are held out.
        """
        thousands = max(1, self._all) / 1000
        return RareNgramFacts(
            in_sources=self._in_sources,
            kept=self._kept,
            share_kept=self._kept / max(1, self._in_sources),
            of_others_per_1000=self._of_others / thousands,
            by_chance_per_1000=None if chance is None else chance * self._of_held_out / thousands,
        )
