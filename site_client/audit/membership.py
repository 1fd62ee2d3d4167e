"""Membership inference by patient: can somebody who holds a patient's notes tell whether the model was trained on them?

The attack is the plain one: notes that the model predicts well were probably in training (Yeom et al. 2018, arXiv
1709.01604); subtracting what a model without them needs (a reference) takes out how hard the notes are by themselves
(Carlini et al. 2022, arXiv 2112.03570, section 5). Training patients and held-out ones were split by a hash, so that
nothing but training tells them apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from modeling.bits_per_byte import Score, bits_per_byte
from privacy.note_types import CleanNote
from privacy.split import Split
from site_client.folder import SiteFolder
from site_client.store import iter_split

_RESAMPLES = 1_000
_CHARACTERS = 4_000  # of a note; more takes long and tells little
_GRID = 101  # points of the curve, at false alarms of 0, 1, ... 100 %


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Roster:
    """Notes of some patients.

    Attributes:
        notes: by patient key.
    """

    notes: dict[str, list[CleanNote]]

    @property
    def texts(self) -> list[str]:
        """The beginnings of all texts, patient by patient."""
        return [n.text[:_CHARACTERS] for notes in self.notes.values() for n in notes]

    def per_patient(self, scores: Sequence[Score]) -> NDArray[np.float64]:
        """Bits per byte of each patient.

        Args:
            scores: of ``texts``, in that order.
        """
        values, start = [], 0
        for notes in self.notes.values():
            values.append(bits_per_byte(scores[start : start + len(notes)]))
            start += len(notes)
        return np.array(values, float)


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """How well patients are told apart.

    Attributes:
        auc: chance that a training patient looks more like one than a held-out patient does; 0.5 is guessing.
        auc_low: lower end of the 95 % interval, bootstrapped over patients.
        auc_high: upper end.
        tpr_at_1: training patients found with false alarms for 1 % of the others.
        tpr_at_10: likewise 10 %.
        roc: training patients found, at false alarms of 0, 1, ... 100 %.
    """

    auc: float
    auc_low: float
    auc_high: float
    tpr_at_1: float
    tpr_at_10: float
    roc: tuple[float, ...]


def choose_patients(
    folder: SiteFolder, split: Split, *, patients: int, notes: int, without: frozenset[str] = frozenset()
) -> Roster:
    """Choose the patients of a split with the lowest keys, which are hashes: a sample that is always the same.

    Args:
        folder: the site.
        split: training or held out.
        patients: how many at most.
        notes: of each at most.
        without: keys of patients who are no patients (canaries).

    Raises:
        UsageError: nothing was ingested yet.
    """
    sizes: dict[str, int] = {}
    for note in iter_split(folder.notes, split):
        if note.patient_key not in without and note.text:
            sizes[note.patient_key] = sizes.get(note.patient_key, 0) + 1
    chosen: dict[str, list[CleanNote]] = {key: [] for key in sorted(sizes)[:patients]}
    for note in iter_split(folder.notes, split):
        if note.patient_key in chosen and note.text:
            kept = chosen[note.patient_key]
            kept.append(note)
            kept.sort(key=lambda n: n.note_key)
            del kept[notes:]
    return Roster(notes=chosen)


def tell_apart(trained: NDArray[np.float64], held_out: NDArray[np.float64], seed: int = 0) -> Curve:
    """Measure the attack.

    Args:
        trained: bits per byte of training patients, less those of a reference if there is one; low means trained.
        held_out: likewise of the others.
        seed: of the bootstrap.
    """
    found = roc(trained, held_out)
    generator = np.random.default_rng(seed)
    resampled = [
        auc(generator.choice(trained, len(trained)), generator.choice(held_out, len(held_out)))
        for _ in range(_RESAMPLES)
    ]
    low, high = np.quantile(resampled, [0.025, 0.975])
    return Curve(
        auc=auc(trained, held_out),
        auc_low=float(low),
        auc_high=float(high),
        tpr_at_1=found[1],
        tpr_at_10=found[10],
        roc=tuple(found),
    )


def auc(trained: NDArray[np.float64], held_out: NDArray[np.float64]) -> float:
    """Area under the curve: share of pairs in which the training patient has fewer bits; a tie counts half."""
    ordered = np.sort(held_out)
    below = np.searchsorted(ordered, trained, side="left")
    upto = np.searchsorted(ordered, trained, side="right")
    wins = len(ordered) - (below + upto) / 2
    return float(wins.mean() / len(ordered))


def roc(trained: NDArray[np.float64], held_out: NDArray[np.float64]) -> list[float]:
    """Share of training patients below the strictest threshold that so many held-out patients fall below as well."""
    ordered = np.sort(held_out)
    curve = []
    for percent in range(_GRID):
        # No rounding: 29 * 100 // 100 false alarms are 29, and 0.29 * 100 is 28.999999.
        alarms = percent * len(ordered) // (_GRID - 1)
        curve.append(1.0 if alarms == len(ordered) else float((trained < ordered[alarms]).mean()))
    return curve
