"""Random single errors in faithful rephrasings: the share that is caught, by kind of error."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from itertools import pairwise

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


def swapped(text: str, pattern: str) -> list[str]:
    """All texts with two neighbouring matches of a pattern in each other's place."""
    found = list(re.finditer(pattern, text))
    return [
        text[: a.start()] + b[0] + text[a.end() : b.start()] + a[0] + text[b.end() :]
        for a, b in pairwise(found)
        if a[0] != b[0] and b.start() - a.end() < 120
    ]


@pytest.mark.parametrize(
    ("pattern", "least"), [(r"\b(?:left|right)\b", 0.6), (r"(?<![\d/:.-])\d+(?:\.\d+)?(?![\d/:.-])", 0.6)]
)
def test_two_values_that_changed_places_are_caught(pairs, reasons, pattern, least):
    assert share(pairs, reasons, lambda text: swapped(text, pattern)) >= least


FAITHFUL = [
    ("She takes Zantac 150 mg p.o. q.12h. and codeine 15 mg p.o. q.6h.",
     "She takes 150 mg of Zantac by mouth every twelve hours and 15 mg of codeine by mouth every six hours."),
    ("Two polyps were noted at the cardia. No reflex was obtained from the left knee.",
     "At the cardia, right at the margin, two polyps were noted. No reflex could be elicited from the left knee."),
    ("Cough refractory to inhaled therapy. We will call him if the biopsy is not helpful.",
     "He has a cough that has not responded to inhaled therapy. If the biopsy is of no help, we will call him."),
    ("The burn covered 50% of the back. Dr. A and Dr. B agreed.",
     "Half of the back was burned. Drs. A and B agreed."),
    ("No nodule in the thyroid or parotid gland. Thyroid was mobile.",
     "The thyroid and the parotid gland showed no nodule. The thyroid was mobile."),
    ("BP on the right arm is 151/77, left arm 139/70. Pulse 66.",
     "Blood pressure was 151/77 in the right arm and 139/70 in the left arm. The pulse was 66."),
    ("Surgery took place on the 4th of November 2010.", "Surgery took place on November 4, 2010."),
]  # fmt: skip


@pytest.mark.parametrize(("source", "text"), FAITHFUL)
def test_other_words_for_the_same_values_pass(reasons, source, text):
    assert not {"numbers", "units", "dates", "laterality", "medications", "negation", "attribution", "certainty"} & set(
        reasons(source, text)
    )


ERRORS = [
    ("dates", "Lunch is at 12:45 and he sleeps at 22:00.", "He has lunch at 12:35 and sleeps at 22:00."),
    ("numbers", "1. Colitis. 2. Fever. 3. Two polyps were resected.", "Colitis and fever; three polyps were resected."),
    ("numbers", "The skin was closed with 4-0 Vicryl.", "The skin was closed with 3-0 Vicryl; 4 sutures were placed."),
    ("units", "A 3-0 suture was placed under 1% lidocaine.", "A 3-0 suture was placed under 3% lidocaine."),
    ("numbers", "Heart rate 81, respiratory rate 19.", "The heart rate was 19 and the respiratory rate 81."),
]


@pytest.mark.parametrize(("gate", "source", "text"), ERRORS)
def test_a_value_of_another_place_is_named(reasons, gate, source, text):
    assert gate in reasons(source, text)


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
    assert share(pairs, reasons, lambda text: [f"{text} {sentence}" for sentence in added]) >= 0.5
