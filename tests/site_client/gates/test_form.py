from __future__ import annotations

import pytest

from site_client.gates.candidate import Allowance, Candidate
from site_client.gates.judge import GATES, VERSION, GateCounts, judge


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
        ("refusal", SOURCE, "I'm sorry, but I cannot help with this request."),
        ("refusal", SOURCE, "As an AI language model, I do not have access to notes."),
        ("refusal", SOURCE, "Please provide the paragraph that you would like me to paraphrase."),
        ("preamble", SOURCE, "Sure! " + GOOD),
        ("preamble", SOURCE, "Here is a paraphrase of the paragraph: " + GOOD),
        ("preamble", SOURCE, "Rephrased text: " + GOOD),
        ("preamble", SOURCE, GOOD + " Let me know if you need anything else."),
        ("layout", SOURCE, "## Knee\n" + GOOD),
        ("layout", SOURCE, "- " + GOOD.replace(". ", ".\n- ")),
        ("layout", SOURCE, "Question: Is there fever?\nAnswer: No.\n" + GOOD),
        ("truncated", SOURCE, GOOD + " The knee was examined and the"),
        (
            "language",
            SOURCE,
            "El paciente es un hombre de 45 años con dolor en la rodilla izquierda desde hace 3 semanas.",
        ),
        ("language", SOURCE, "患者は45歳の男性で、3週間前から左膝に痛みがある。発熱はない。"),
        ("copy", SOURCE, SOURCE),
        ("copy", SOURCE, SOURCE.upper().replace(".", " ;")),
        ("length", SOURCE, "Left knee pain, 45, 3. No."),
        ("length", SOURCE, GOOD + " He was seen in clinic and examined with care." * 6),
        ("repetition", "He has pain." * 12, "the pain is in the knee " * 6),
        ("repetition", "He has pain in the knee.", "He has pain pain pain pain pain pain in the knee."),
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


def test_a_text_about_something_else_has_drifted():
    source = (
        "Pt with COPD has cough, wheezing, dyspnea, fatigue, fever, rhonchi and edema of both ankles after pneumonia."
    )
    text = "The committee met in spring, elected a chairman, planted tulips and approved the budget."
    assert "drift" in judge(Candidate(source=source, text=text))


def test_a_reply_cut_at_the_token_bound_is_truncated():
    assert judge(Candidate(source=SOURCE, text=GOOD, finish_reason="length")) == ("truncated",)


def test_formats_may_have_their_layout_where_the_prompt_asks_for_it():
    text = "## Problems\n- Pain in the left knee for 3 weeks in a 45-year-old man\n- No fever"
    assert judge(Candidate(source=SOURCE, text=text, allows=Allowance(layout=True))) == ()
    assert "layout" in judge(Candidate(source=SOURCE, text=text))


def test_a_selecting_format_may_drop_findings():
    text = "The 45-year-old man has left knee pain."
    assert judge(Candidate(source=SOURCE, text=text, allows=Allowance(selection=True))) == ()
    assert "numbers" in judge(Candidate(source=SOURCE, text=text))


def test_names_are_unique_and_part_of_the_version():
    names = [gate.name for gate in GATES]
    assert len(set(names)) == len(names)
    assert [part.partition(":")[0] for part in VERSION.split()] == names
    assert names[:3] == ["empty", "refusal", "preamble"]


def test_counts_keep_the_first_reason():
    counts = GateCounts()
    for reasons in ((), ("numbers", "units"), ("units",)):
        counts.add(reasons)
    assert (counts.judged, counts.accepted, dict(counts.rejected)) == (3, 1, {"numbers": 1, "units": 1})


def test_doses_and_grades_that_repeat_are_no_loop():
    doses = "".join(
        f"{drug} 100 mg by mouth once daily at bedtime. " for drug in ("Alpha", "Beta", "Gamma", "Delta", "Eta")
    )
    filler = " ".join(f"word{chr(97 + i)}{chr(98 + j)}" for i in range(12) for j in range(12))
    for text in (doses + filler, "Strength was 4, 4, 4, 4, 4 and 4 in the left leg."):
        assert "repetition" not in judge(Candidate(source="Strength left leg 4 in six groups.", text=text))


@pytest.mark.parametrize(
    "opening", ["Note type: Consult. ", "Context: Note type: Consult\n", "**Note type: Consult**\n"]
)
def test_a_reply_that_begins_with_its_context_line_is_refused(opening):
    candidate = Candidate(source=SOURCE, text=opening + GOOD, header="Note type: Consult")
    assert "preamble" in judge(candidate)
    assert judge(Candidate(source=SOURCE, text=GOOD, header="Note type: Consult")) == ()
