from __future__ import annotations

from collections.abc import Callable

import pytest

from site_client.gates.candidate import Allowance, Candidate
from site_client.gates.judge import judge

# Invented notes with faithful rephrasings.
PAIRS = [
    (
        "CC: Cough x 3 weeks. HPI: 58 y/o female w/ COPD presents with productive cough and mild dyspnea. She "
        "denies fever, chest pain or hemoptysis. Smoked 1 pack per day for 30 years, quit in 2009. FHX: Mother "
        "died of stroke at age 74. Father had prostate cancer. MEDS: Lisinopril 10 mg daily, albuterol 2 puffs "
        "q.4h. p.r.n., metformin 500 mg b.i.d. EXAM: BP 138/84, HR 92, RR 20. Scattered wheezes in the left lower "
        "lobe. Right lung is clear. No edema. Chest x-ray on 03/14/11 showed possible left lower lobe pneumonia.",
        "A 58-year-old woman with chronic obstructive pulmonary disease presents with a three-week history of "
        "productive cough and mild shortness of breath. She reports no fever, chest pain or hemoptysis. She "
        "smoked one pack per day for 30 years and stopped in 2009. Her mother died of a stroke at the age of 74, "
        "and her father had prostate cancer. Her medications are lisinopril 10 mg once daily, albuterol 2 puffs "
        "every 4 hours as needed, and metformin 500 mg twice daily. On examination her blood pressure was 138/84, "
        "her heart rate 92 and her respiratory rate 20. Scattered wheezes were heard in the left lower lobe, "
        "while the right lung was clear, and there was no edema. A chest radiograph on March 14, 2011 showed "
        "possible pneumonia of the left lower lobe.",
    ),
    (
        "PREOPERATIVE DIAGNOSIS: Severe osteoarthritis, right hip. PROCEDURE: Right total hip arthroplasty. "
        "ANESTHESIA: Spinal. ESTIMATED BLOOD LOSS: 250 mL. COMPLICATIONS: None. The patient was placed in the "
        "left lateral decubitus position. A 12 cm posterior incision was made. The acetabulum was reamed to 52 mm "
        "and a cup was impacted. There was no instability of the hip. The sciatic nerve was identified and "
        "protected. Cefazolin 2 g IV was given before the incision. The fascia was closed with #1 Vicryl and the "
        "skin with staples.",
        "The preoperative diagnosis was severe osteoarthritis of the right hip, for which a total hip "
        "arthroplasty was performed on the right under spinal anesthesia. Estimated blood loss was 250 mL and "
        "there were no complications. With the patient lying in the left lateral decubitus position, a posterior "
        "incision of 12 cm was made. After the acetabulum had been reamed to 52 mm, a cup was impacted. The hip "
        "showed no instability, and the sciatic nerve was identified and protected. Before the incision, "
        "cefazolin 2 g was given intravenously. The fascia was closed with #1 Vicryl and the skin with staples.",
    ),
    (
        "MRI of the lumbar spine dated 7/2/08. There is a small central disc herniation at L4-L5 without nerve "
        "root compression. Mild facet arthropathy at L5-S1. The left neural foramen is moderately narrowed; the "
        "right neural foramen is normal. A 6 mm cyst in the right kidney is probably benign. No fracture is seen. "
        "The patient was told to take ibuprofen 600 mg t.i.d. with food for 10 days and to return in 6 weeks.",
        "An MRI of the lumbar spine performed on July 2, 2008 shows a small central herniation of the disk at "
        "L4-L5 with no compression of the nerve roots, together with mild facet arthropathy at L5-S1. There is "
        "moderate narrowing of the left neural foramen, whereas the right neural foramen is normal. In the right "
        "kidney there is a 6 mm cyst, which is probably benign. No fracture was found. The patient was advised to "
        "take ibuprofen 600 mg three times a day with food for ten days and to come back in six weeks.",
    ),
    (
        "Her daughter states that she fell twice last month. PMH: atrial fibrillation, hypothyroidism, glaucoma "
        "of the left eye. ALLERGIES: Penicillin causes hives. MEDICATIONS: warfarin 5 mg daily, levothyroxine 75 "
        "mcg daily. Weight is 61.5 kg. INR 2.4. She is alert but not oriented to place. Strength is 4/5 in the "
        "right arm and 5/5 in the left arm. Gait is unsteady. IMPRESSION: suspected right subdural hematoma. "
        "PLAN: CT of the head, hold warfarin, neurosurgery consultation.",
        "According to her daughter, she had two falls last month. Her past medical history comprises atrial "
        "fibrillation, hypothyroidism and glaucoma of the left eye. Penicillin causes hives. She takes warfarin 5 "
        "mg and levothyroxine 75 micrograms every day. She weighs 61.5 kg, and her INR is 2.4. She is alert but "
        "is not oriented to place. Strength is 4/5 in the right arm and 5/5 in the left, and her gait is "
        "unsteady. The impression is a suspected subdural hematoma on the right. The plan is a CT scan of the "
        "head, withholding of warfarin and a consultation with neurosurgery.",
    ),
]


@pytest.fixture(scope="session")
def pairs() -> list[tuple[str, str]]:
    return PAIRS


@pytest.fixture(scope="session")
def reasons() -> Callable[..., tuple[str, ...]]:
    def of(source: str, text: str, **allows: bool) -> tuple[str, ...]:
        return judge(Candidate(source=source, text=text, allows=Allowance(**allows)))

    return of
