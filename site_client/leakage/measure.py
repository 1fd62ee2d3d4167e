"""Measuring leakage: the notes once, then the accepted rephrasings of each arm one by one."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime

import numpy as np

from privacy.deidentify import mask
from protocols.errors import UsageError
from site_client.folder import SiteFolder
from site_client.leakage.covered import Covered
from site_client.leakage.identifiers import IdentifierFacts, Planted, PlantedFound
from site_client.leakage.near_copies import NearCopies
from site_client.leakage.rare_ngrams import RareNgrams
from site_client.leakage.report import ArmLeakage, LeakageReport, VerbatimFacts
from site_client.leakage.scratch import scratch
from site_client.leakage.sources import Sources, prepare
from site_client.leakage.spread import Tally
from site_client.leakage.verbatim import longest_shared
from site_client.leakage.words import Words
from site_client.progress import Steps
from site_client.rephrasing.arm import Arm
from site_client.rephrasing.corpus_folder import CorpusFolder

_OPENING_WORDS = 3


def measure_leakage(
    site: SiteFolder, *, planted: Planted | None = None, held_out: bool = True, steps: Steps | None = None
) -> LeakageReport:
    """Measure all current arms of a site.

    Memory does not grow with the length of texts: 8 bytes a rephrasing, 20 bytes a chunk, the keys of the patients and
    parts of tables that lie on the disk. The disk takes about 35 bytes for every word of the notes meanwhile.

    Args:
        site: with notes and rephrasings.
        planted: strings to look for.
        held_out: whether notes that were never rephrased are compared as the control.
        steps: shows how far it is.

    Raises:
        UsageError: there are no notes or no arms, or another process measures.
        StorageError: the disk is full.
    """
    steps = steps or Steps(quiet=True)
    corpus = CorpusFolder(site)
    arms = [(folder, folder.record().arm) for folder in corpus.current_arms()]
    if not arms:
        raise UsageError(f"There are no rephrasings in {corpus.path} yet.", hint="fednotes site rephrase")
    limit = site.config().leakage.max_verbatim_words
    with scratch(corpus.path) as folder:
        with steps.step("leakage", "Reading notes") as advance:
            sources = prepare(site.notes, folder, planted=planted, held_out=held_out, progress=advance)
        measured = []
        with closing(sources.chunks):
            for arm_folder, arm in arms:
                with steps.step("leakage", f"Measuring {arm.name}") as advance:
                    covered = Covered(corpus, arm_folder, arm)
                    measured.append(_measure_arm(covered, arm, sources, planted, limit, advance))
    return LeakageReport(
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        training_patients=len(sources.patients),
        held_out_patients=sources.held_out,
        planted=None if planted is None else len(planted),
        planted_in_notes=sources.planted_in_notes,
        arms=tuple(measured),
    )


def _measure_arm(
    covered: Covered, arm: Arm, sources: Sources, planted: Planted | None, limit: int, progress: Callable[[float], None]
) -> ArmLeakage:
    trained = len(sources.patients)
    words, characters = Tally(), Tally()
    rare, near = RareNgrams(sources.ngrams, trained), NearCopies(sources.shingles, trained)
    identifiers: Counter[str] = Counter()
    found = PlantedFound(planted) if planted is not None else None
    openings = array("Q")
    for result in covered:
        source, rephrased = Words(sources.chunks.text(result.chunk_key)), Words(result.text)
        patient = sources.patients[result.patient_key]
        span = longest_shared(source, rephrased, result.text)
        words.add(span.words)
        characters.add(span.characters)
        rare.add(source, rephrased, patient)
        near.add(rephrased, patient)
        identifiers.update(mask(result.text)[1])
        if found is not None:
            found.add(rephrased)
        openings.extend(map(int, rephrased.runs(_OPENING_WORDS)[:1]))
        progress(1)
    return ArmLeakage(
        arm=arm.name,
        fingerprint=arm.fingerprint,
        rephrasings=covered.count,
        digest=covered.digest,
        patients=covered.patients,
        verbatim=VerbatimFacts(
            words=words.spread(), characters=characters.spread(), share_above=words.share_above(limit)
        ),
        rare_ngrams=rare.facts(sources.ngram_chance),
        near_copies=near.facts(sources.shingle_chance),
        identifiers=IdentifierFacts(
            by_kind=dict(sorted(identifiers.items())),
            per_1000=1000 * identifiers.total() / max(1, covered.count),
            planted_surviving=None if found is None else found.count,
        ),
        opening_share=_commonest(openings) / max(1, covered.count),
    )


def _commonest(hashes: array[int]) -> int:
    """How often the commonest of some hashes occurs."""
    counts = np.unique(np.array(hashes, np.uint64), return_counts=True)[1]
    return int(counts.max(initial=0))
