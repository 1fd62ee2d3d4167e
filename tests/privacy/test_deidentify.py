from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from privacy.deidentify import clean
from privacy.note_types import RawNote

KEY = b"k" * 32


def raw(text: str, **fields: object) -> RawNote:
    values = {"note_id": "n1", "patient_id": "p1", "source": "a.csv", "position": 1, **fields}
    return RawNote(text=text, **values)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("kind", "identifier"),
    [
        ("email", "jane.roe+x@mail.example.org"),
        ("url", "https://portal.example.org/p?id=77"),
        ("url", "www.example.org/roe"),
        ("ssn", "123-45-6789"),
        ("record_number", "MRN: 0012345"),
        ("record_number", "Medical Record Number #AB-99887"),
        ("record_number", "account no. 4455667"),
        ("phone", "(617) 555-0123"),
        ("phone", "617-555-0123"),
        ("phone", "+1 617 555 0123"),
        ("phone", "617.555.0123"),
        ("ip_address", "10.20.30.40"),
        ("birth_date", "DOB: 3/14/1952"),
        ("birth_date", "date of birth 1952-03-14"),
        ("birth_date", "born on March 14, 1952"),
        ("street", "12 Elm Street"),
        ("street", "4500 North Old Mill Rd."),
    ],
)
def test_identifier_of_each_kind_is_replaced_and_nothing_else_changes(kind, identifier):
    before, after = "Seen today; contact ", " (see chart), BP 142/88, returns 6-12 weeks."
    note = clean(raw(before + identifier + after), KEY)
    assert note.text == f"{before}[{kind}]{after}"
    assert note.removed == {kind: 1}


@pytest.mark.parametrize(
    "text",
    [
        "BP 142/88, HR 72, temp 98.6, O2 sat 98% on 2 L.",
        "Glucose 110-120, potassium 4.1, creatinine 1.2 mg/dL.",
        "Takes 500 mg twice daily; 10-20-30 taper; INR 2.5.",
        "Seen 3/14/2021 for follow-up; next visit 6/1.",
        "Born at term. The account is consistent. Drive restricted for 6 weeks.",
        "Ratio 1:200, 0.25% marcaine, size 15 French, No. 10 blade.",
        "",
    ],
)
def test_clinical_numbers_and_words_stay(text):
    note = clean(raw(text), KEY)
    assert note.text == text
    assert note.removed == {}


def test_every_occurrence_is_counted():
    note = clean(raw("a@b.org or c@d.org, 617-555-0123"), KEY)
    assert note.text == "[email] or [email], [phone]"
    assert note.removed == {"email": 2, "phone": 1}


def test_method_none_leaves_the_text_and_still_hides_the_keys():
    note = clean(raw("DOB: 3/14/1952"), KEY, method="none")
    assert note.text == "DOB: 3/14/1952"
    assert note.removed == {}
    assert "p1" not in note.patient_key


def test_notes_of_one_patient_share_a_unit_and_have_keys_of_their_own():
    one, two = clean(raw("x"), KEY), clean(raw("x", note_id="n2"), KEY)
    assert one.patient_key == two.patient_key
    assert one.note_key != two.note_key


def test_note_without_a_patient_is_a_unit_of_its_own():
    alone = clean(raw("x", patient_id=None), KEY)
    other = clean(raw("x", patient_id=None, note_id="n2"), KEY)
    namesake = clean(raw("x", patient_id="n1"), KEY)
    assert len({alone.patient_key, other.patient_key, namesake.patient_key}) == 3
    assert alone.patient_key == clean(raw("y", patient_id=None), KEY).patient_key


def test_note_type_is_kept():
    assert clean(raw("x", note_type="Discharge summary"), KEY).note_type == "Discharge summary"


@given(text=st.text(max_size=200))
def test_cleaning_twice_changes_nothing_more(text):
    once = clean(raw(text), KEY).text
    assert clean(raw(once), KEY).text == once
