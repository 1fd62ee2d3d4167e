from __future__ import annotations

import pytest

from site_client.gates.candidate import Candidate
from site_client.gates.judge import GATES, judge


def first_failed(source: str, rephrased: str) -> str | None:
    return next(iter(judge(Candidate(source=source, text=rephrased))), None)


SOURCE = "Pt is a 45-year-old male with left knee pain for 3 weeks. No fever."
GOOD = "The patient is a 45-year-old man who has had pain in the left knee for 3 weeks. There is no fever."


def test_good_rephrasing_passes_every_gate():
    assert first_failed(SOURCE, GOOD) is None


@pytest.mark.parametrize(
    ("gate", "source", "rephrased"),
    [
        ("empty", SOURCE, ""),
        ("empty", SOURCE, " \n"),
        ("copy", SOURCE, SOURCE),
        ("copy", SOURCE, SOURCE.upper().replace(".", " ;")),
        ("length", SOURCE, "Left knee pain, 45, 3. No."),
        ("length", SOURCE, GOOD + " He was seen in clinic and examined with care." * 6),
        ("repetition", "He has pain." * 12, "the pain is in the knee " * 6),
        ("numbers", SOURCE, GOOD.replace("45", "54")),
        ("numbers", SOURCE, GOOD.replace("for 3 weeks", "for some weeks")),
        ("numbers", SOURCE, GOOD.replace("3 weeks", "3 weeks, pain 8 of 10")),
        ("numbers", "Dose is 2.5 mg daily now", "The daily dose is now 2 mg and 5"),
        ("negation", SOURCE, GOOD.replace("There is no fever", "There is some fever")),
        ("negation", "Denies chest pain today", "He has had chest pain today"),
        ("laterality", SOURCE, GOOD.replace("left", "right")),
        ("laterality", SOURCE, GOOD.replace("left ", "")),
        ("laterality", "Bilateral lower leg edema", "There is swelling in the legs"),
    ],
)
def test_bad_rephrasing_is_named_by_the_first_gate_that_it_fails(gate, source, rephrased):
    assert first_failed(source, rephrased) == gate


@pytest.mark.parametrize(
    ("source", "rephrased"),
    [
        # Marks of list items are no numbers.
        ("Plan: 1. Rest. 2. Ice for 20 minutes.", "The plan is to rest and to use ice for 20 minutes."),
        ("1) Rest\n2) Ice for 20 minutes", "He should rest, and use ice for 20 minutes."),
        # Another word for a negation is one.
        ("Denies chest pain.", "The patient reports no chest pain."),
        # The order of numbers is free.
        ("BP today 142/88, HR 72, stable.", "The heart rate is 72 and the blood pressure is 142/88."),
        # A side may be repeated.
        ("Left knee pain since spring.", "There is pain in the left knee; the left side hurts."),
    ],
)
def test_faithful_rephrasings_pass(source, rephrased):
    assert first_failed(source, rephrased) is None


def test_gates_are_tried_in_their_listed_order():
    assert [gate.name for gate in GATES] == [
        "empty",
        "copy",
        "length",
        "repetition",
        "numbers",
        "negation",
        "laterality",
    ]
