"""One error in a faithful rephrasing, and the gate that has to name it."""

from __future__ import annotations

import pytest

CASES = [
    # chunk, gate, words of the faithful rephrasing, words in their place
    (0, "numbers", "138/84", "138/94"),
    (0, "numbers", "age of 74", "age of 47"),
    (0, "numbers", "A 58-year-old", "A 53-year-old"),
    (0, "units", "metformin 500 mg", "metformin 500 mcg"),
    (0, "numbers", "three-week", "five-week"),
    (0, "units", "three-week", "three-day"),
    (0, "dates", "March 14, 2011", "March 14, 2012"),
    (0, "dates", "March 14, 2011", "May 14, 2011"),
    (0, "frequency", "every 4 hours", "every 6 hours"),
    (0, "medications", "500 mg twice daily", "500 mg once daily"),
    (0, "medications", "metformin", "glipizide"),
    (0, "medications", ", albuterol 2 puffs every 4 hours as needed,", ""),
    (0, "negation", "reports no fever", "reports fever"),
    (0, "negation", "there was no edema", "there was edema"),
    (0, "laterality", "wheezes were heard in the left", "wheezes were heard in the right"),
    (0, "laterality", "while the right lung was clear", "while the left lung was clear"),
    (0, "attribution", "her father had prostate cancer", "her brother had prostate cancer"),
    (0, "attribution", "Her mother died of a stroke", "Her aunt died of a stroke"),
    (0, "certainty", "possible pneumonia", "pneumonia"),
    (0, "severity", "mild shortness of breath", "severe shortness of breath"),
    (0, "invention", "there was no edema", "there was no edema, and the spleen was enlarged"),
    (1, "units", "incision of 12 cm", "incision of 12 mm"),
    (1, "numbers", "52 mm", "54 mm"),
    (1, "laterality", "osteoarthritis of the right hip", "osteoarthritis of the left hip"),
    (1, "laterality", "in the left lateral", "in the right lateral"),
    (1, "laterality", "a posterior incision", "an anterior incision"),
    (1, "negation", "showed no instability", "showed instability"),
    (1, "severity", "severe osteoarthritis", "mild osteoarthritis"),
    (1, "omission", ", and the sciatic nerve was identified and protected", ""),
    (1, "invention", "the skin with staples.", "the skin with staples. A urinary catheter drained bloody urine."),
    (2, "numbers", "L4-L5", "L3-L5"),
    (2, "units", "six weeks", "six months"),
    (2, "laterality", "right kidney", "left kidney"),
    (2, "laterality", "the left neural foramen, whereas the right", "the right neural foramen, whereas the left"),
    (2, "certainty", "which is probably benign", "which is benign"),
    (2, "severity", "probably benign", "probably malignant"),
    (2, "severity", "a small central", "a large central"),
    (2, "negation", "with no compression", "with compression"),
    (2, "omission", ", together with mild facet arthropathy at L5-S1", ""),
    (3, "numbers", "61.5", "65.1"),
    (3, "units", "61.5 kg", "61.5 pounds"),
    (3, "medications", "withholding of warfarin", "withholding of heparin"),
    (3, "medications", "warfarin 5 mg and levothyroxine 75 mic", "warfarin 75 mg and levothyroxine 5 mic"),
    (3, "attribution", "According to her daughter", "According to her son"),
    (3, "attribution", "According to her daughter, she had", "I had"),
    (3, "negation", "is not oriented", "is oriented"),
    (3, "certainty", "a suspected subdural", "a confirmed subdural"),
]  # fmt: skip


@pytest.mark.parametrize(("chunk", "gate", "right", "wrong"), CASES)
def test_an_error_is_named(pairs, reasons, chunk, gate, right, wrong):
    source, text = pairs[chunk]
    assert right in text
    assert gate in reasons(source, text.replace(right, wrong, 1))
