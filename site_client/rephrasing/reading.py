"""Reading the corpus for training: what was accepted, for notes that are still there."""

from __future__ import annotations

from collections.abc import Iterator

from privacy.note_types import SyntheticChunk
from site_client.folder import SiteFolder
from site_client.rephrasing.corpus_folder import CorpusFolder


def read_synthetic(folder: SiteFolder) -> Iterator[SyntheticChunk]:
    """Give the accepted rephrasings of all current arms, arm by arm and in the order of their jobs.

    A result whose note was taken out, changed, or moved out of the training split belongs to no present job and is
    left out. The order does not depend on which request an engine finished first.
    """
    corpus = CorpusFolder(folder)
    for arm_folder in corpus.current_arms():
        arm = arm_folder.record().arm
        accepted = [r for r in arm_folder.results_of(corpus.jobs(arm)) if not r.reasons]
        for result in sorted(accepted, key=lambda r: r.job):
            yield SyntheticChunk(
                job=result.job,
                arm=arm.name,
                chunk_key=result.chunk_key,
                note_key=result.note_key,
                patient_key=result.patient_key,
                text=result.text,
            )
