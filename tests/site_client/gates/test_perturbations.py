"""Random single errors in faithful rephrasings: the share that is caught, by kind of error."""

from __future__ import annotations

import random
import re
from collections.abc import Callable

import pytest

OTHER_WORD = {
    "side": ({"left": "right", "right": "left"}, 0.8),
    "unit": ({"mg": "mcg", "micrograms": "mg", "cm": "mm", "mm": "cm", "kg": "pounds", "hours": "days",
              "weeks": "months", "days": "weeks"}, 0.95),
    "month": ({"March": "April", "July": "June"}, 1.0),
    "relative": ({"mother": "sister", "father": "uncle", "daughter": "son"}, 0.95),
    "drug": ({"lisinopril": "losartan", "albuterol": "ipratropium", "metformin": "glyburide", "warfarin": "heparin",
              "cefazolin": "vancomycin", "ibuprofen": "naproxen", "levothyroxine": "methimazole"}, 0.95),
    "severity": ({"mild": "severe", "severe": "mild", "small": "large", "benign": "malignant"}, 0.75),
    "negation": ({"no": "some", "not": "well", "denies": "reports"}, 0.6),
}  # fmt: skip


def replaced(text: str, words: dict[str, str]) -> list[str]:
    """All texts with one word replaced."""
    pattern = re.compile(rf"\b(?:{'|'.join(words)})\b")
    return [text[: m.start()] + words[m[0]] + text[m.end() :] for m in pattern.finditer(text)]


def share(pairs, reasons, change: Callable[[str], list[str]]) -> float:
    verdicts = [bool(reasons(source, changed)) for source, text in pairs for changed in change(text)]
    assert len(verdicts) > 1
    return sum(verdicts) / len(verdicts)


@pytest.mark.parametrize("kind", OTHER_WORD)
def test_a_changed_word_is_caught(pairs, reasons, kind):
    words, least = OTHER_WORD[kind]
    assert share(pairs, reasons, lambda text: replaced(text, words)) >= least


def test_a_changed_digit_is_caught(pairs, reasons):
    rng = random.Random(1)

    def change(text):
        changed = []
        for m in re.finditer(r"\d", text):
            other = rng.choice([d for d in "23456789" if d != m[0]])
            changed.append(text[: m.start()] + other + text[m.end() :])
        return changed

    assert share(pairs, reasons, change) >= 0.95


def test_a_dropped_sentence_is_caught(pairs, reasons):
    def change(text):
        parts = re.split(r"(?<=\.) ", text)
        return [" ".join(parts[:i] + parts[i + 1 :]) for i in range(len(parts))]

    assert share(pairs, reasons, change) >= 0.6


def test_an_added_finding_is_caught(pairs, reasons):
    added = (
        "Cultures grew Staphylococcus aureus.",
        "There was a history of deep vein thrombosis.",
        "The patient also complained of blurred vision and tinnitus.",
        "A nasogastric tube was left in place.",
        "He was started on intravenous antibiotics for cellulitis.",
    )
    assert share(pairs, reasons, lambda text: [f"{text} {sentence}" for sentence in added]) >= 0.7
