"""Canary secrets and planted strings in the synthetic corpus: what rephrasing carries on."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from site_client.audit.canaries import CanaryFile
from site_client.audit.report import CorpusFacts
from site_client.folder import SiteFolder
from site_client.leakage.identifiers import Planted, PlantedFound
from site_client.leakage.words import Words
from site_client.rephrasing.reading import read_synthetic


def corpus_facts(
    folder: SiteFolder,
    canaries: CanaryFile | None,
    planted: Sequence[str] | None,
    *,
    min_patients: int,
    progress: Callable[[float], None] = lambda _: None,
) -> CorpusFacts | None:
    """Look for secrets and planted strings in all accepted rephrasings; case and punctuation do not count.

    Args:
        folder: the site.
        canaries: of the site.
        planted: other strings to look for.
        min_patients: with fewer patients in the corpus nothing is reported.
        progress: told of every rephrasing.

    Returns:
        None where there are too few rephrasings.
    """
    included, left_out = (
        PlantedFound(Planted(c.secret for c in (canaries.canaries if canaries else ()) if c.included == coin))
        for coin in (True, False)
    )
    others = None if planted is None else Planted(planted)
    found = None if others is None else PlantedFound(others)
    keys = canaries.keys(folder.pseudonym_key(), included=True) if canaries else set()
    rephrasings, patients = 0, set()
    for chunk in read_synthetic(folder):
        words = Words(chunk.text)
        for looked_for in (included, left_out, found):
            if looked_for is not None:
                looked_for.add(words)
        rephrasings += 1
        patients.add(chunk.patient_key)
        progress(1)
    if len(patients) < min_patients:
        return None
    return CorpusFacts(
        rephrasings=rephrasings,
        canaries_rephrased=len(patients & keys),
        secrets_surviving=included.count,
        left_out_surviving=left_out.count,
        planted=None if others is None else len(others),
        planted_surviving=None if found is None else found.count,
    )
