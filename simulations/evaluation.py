"""Bits per byte on held-out notes, with intervals bootstrapped by patient."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from modeling.bits_per_byte import Score, bits_per_byte, score_texts
from privacy.deidentify import clean
from privacy.note_types import CleanNote
from protocols.errors import UsageError
from simulations.results import Interval
from site_client.duplicates import unique_notes
from site_client.notes.mapping import ColumnMapping
from site_client.notes.quarantine import Quarantine
from site_client.notes.reader import read_notes

_RESAMPLES = 2_000
ALL = "all"
"""Evaluation set that joins the held-out notes of all hospitals."""


def evaluate(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    sets: Mapping[str, Sequence[CleanNote]],
    joined: Sequence[str],
    progress: Callable[[int], None] | None = None,
) -> dict[str, Interval]:
    """Score a model on every evaluation set.

    Args:
        model: causal language model.
        tokenizer: its own.
        sets: notes by evaluation set.
        joined: names of the sets whose union is reported as "all".
        progress: told the number of windows just scored.
    """
    scored: dict[str, list[tuple[str, Score]]] = {}
    for name, notes in sets.items():
        scores = score_texts(model, tokenizer, [n.text for n in notes], progress=progress)
        scored[name] = [(n.patient_key, s) for n, s in zip(notes, scores, strict=True)]
    everything = [pair for name in joined for pair in scored[name]]
    return {name: bootstrap(pairs) for name, pairs in {ALL: everything, **scored}.items()}


def evaluate_notes(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    paths: Sequence[Path],
    columns: ColumnMapping,
    quarantine: Quarantine,
    progress: Callable[[int], None] | None = None,
) -> dict[str, Interval]:
    """Score a model on the notes of exports: all together, and by note type.

    Args:
        model: causal language model.
        tokenizer: its own.
        paths: export files and folders.
        columns: which column holds what.
        quarantine: counts what cannot be read.
        progress: told the number of windows just scored.

    Raises:
        UsageError: no note could be read.
    """
    key = secrets.token_bytes(32)  # pseudonyms live as long as this call
    notes = [
        clean(u.note, key, "none") for u in unique_notes(read_notes(paths, mapping=columns, quarantine=quarantine))
    ]
    if not notes:
        raise UsageError("No note could be read.", hint="look at the columns: --text-column NAME")
    by_type: dict[str, list[CleanNote]] = {}
    for note in notes:
        by_type.setdefault(note.note_type or "unknown type", []).append(note)
    return evaluate(model, tokenizer, by_type, list(by_type), progress)


def bootstrap(pairs: Sequence[tuple[str, Score]], resamples: int = _RESAMPLES, seed: int = 0) -> Interval:
    """Bits per byte with a 95 % percentile interval that resamples patients, not notes.

    Notes of one patient resemble each other; resampling notes would pretend to more evidence than there is.

    Args:
        pairs: (patient key, score) of every note; at least one with a byte.
        resamples: bootstrap samples.
        seed: the same scores always give the same interval.
    """
    units: dict[str, list[float]] = {}
    for patient, score in pairs:
        unit = units.setdefault(patient, [0.0, 0.0])
        unit[0] += score.bits
        unit[1] += score.num_bytes
    sums = np.array(list(units.values()))  # (patients, 2)
    rng = np.random.default_rng(seed)
    ratios = np.empty(resamples)
    for i in range(resamples):
        bits, num_bytes = sums[rng.integers(len(sums), size=len(sums))].sum(axis=0)
        ratios[i] = bits / num_bytes
    low, high = np.percentile(ratios, [2.5, 97.5])
    value = bits_per_byte([s for _, s in pairs])
    return Interval(value=round(value, 5), ci_low=round(float(low), 5), ci_high=round(float(high), 5))
