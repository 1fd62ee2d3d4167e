from __future__ import annotations

import pytest

# What a good rephrasing does: none of it may be punished.
MOVES = [
    ("Pt c/o SOB and CP.", "The patient complains of shortness of breath and chest pain."),
    ("S/p TAH in 2003 for menorrhagia.", "In 2003 she had a total abdominal hysterectomy because of menorrhagia."),
    ("She has 3 children, alive and well.", "She has three children, who are alive and well."),
    ("Seen in clinic on 02/07/09 for cough.", "The patient was seen in clinic for cough on February 7, 2009."),
    ("Last colonoscopy in 03/05 was normal.", "The most recent colonoscopy, in March 2005, was normal."),
    ("Plan: 1. Rest. 2. Ice for 20 minutes.", "The plan is to rest and to use ice for 20 minutes."),
    ("1) Rest\n2) Ice for 20 minutes", "He should rest, and use ice for 20 minutes."),
    ("Denies chest pain.", "The patient reports no chest pain."),
    ("Abdomen is soft, nontender.", "The abdomen was soft and not tender."),
    ("Temp afebrile. Neck supple.", "There was no fever, and the neck was supple."),
    ("BP today 142/88, HR 72, stable.", "The heart rate is 72 and the blood pressure is 142/88, stable."),
    ("Left knee pain since spring.", "There is pain in the left knee; the left side has hurt since spring."),
    ("Toprol 25 mg p.o. b.i.d., Lasix 40 mg q.d.", "Toprol 25 mg orally twice daily and Lasix 40 mg once a day."),
    ("Vicodin one tab q.6h. p.r.n. pain.", "For pain, one tablet of Vicodin is taken every six hours as needed."),
    ("Levothyroxine 75 mcg daily.", "The patient takes levothyroxine 75 micrograms every day."),
    ("Alert and oriented x 3.", "The patient was alert and oriented to person, place and time."),
    ("Weakness of RUE and LLE.", "There is weakness of the right arm and of the left leg."),
    ("Bilateral otitis media.", "There is otitis media in both ears."),
    ("Pain worse over the past 0.5 hour.", "The pain has become worse over the past half hour."),
    ("5 cm incision with a #15 blade; 3-0 silk.", "A 5 cm incision was made with a 15 blade; 3-0 silk was used."),
    ("Chest tube x2 placed.", "Two chest tubes were placed."),
    ("T11 compression fracture.", "There is a compression fracture of the eleventh thoracic vertebra (T11)."),
    ("FHX: Mother with breast cancer.", "Her mother had breast cancer."),
    ("Complications: None.", "There were no complications."),
    ("O2 sat 93% on room air.", "Oxygen saturation was 93% on room air."),
    ("Possible pneumonia on CXR.", "The chest x-ray shows a possible pneumonia."),
    ("Findings likely represent scarring.", "The findings probably represent scarring."),
    ("WBC 12,400.", "The white blood cell count was 12400."),
    ("Grade II/VI systolic murmur.", "There is a grade 2/6 systolic murmur."),
    ("He was left with weakness in the right hand.", "Weakness of the right hand remained."),
    ("Chronic tinnitus and snoring.", "He snores, and has a chronic ringing in the ears."),
    ("N.p.o. since midnight.", "She has had nothing by mouth since midnight."),
    ("He has had trouble with his balance.", "He has had difficulty with his balance."),
]  # fmt: skip

EXPLAINED = [
    (
        "Pt has HTN and anemia, takes Altace 5 mg daily.",
        "The patient has hypertension (high blood pressure) and anemia, a lack of red blood cells, and takes Altace "
        "(ramipril, an ACE inhibitor) 5 mg daily.",
    ),
    (
        "S/p laparoscopic cholecystectomy in 2006 without complications.",
        "The patient had a laparoscopic cholecystectomy, which is the removal of the gallbladder, in 2006 "
        "without complications.",
    ),
]


@pytest.mark.parametrize(("source", "text"), MOVES)
def test_good_moves_are_accepted(reasons, source, text):
    assert reasons(source, text, min_length_ratio=0.1) == ()


@pytest.mark.parametrize(("source", "text"), EXPLAINED)
def test_explanations_are_accepted_where_the_prompt_asks_for_them(reasons, source, text):
    assert reasons(source, text, explanations=True) == ()


def test_explanations_are_inventions_where_it_does_not(reasons):
    assert "invention" in reasons(*EXPLAINED[1]) or "invention" in reasons(*EXPLAINED[0])


def test_whole_notes_are_accepted(pairs, reasons):
    assert [reasons(source, text) for source, text in pairs] == [()] * len(pairs)
