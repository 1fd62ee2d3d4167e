"""One invented patient with one coherent case: who, which condition and side, which drugs, and how the stay evolves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from random import Random

from simulations.synthetic_grammar import conditions, drugs, fill, lexicon

_ROUTES = {
    "po": "by mouth", "iv": "intravenously", "im": "intramuscularly", "sq": "subcutaneously", "inh": "by inhalation",
    "eye": "to the {side} eye", "ear": "to the {side} ear", "nose": "to each nostril",
}  # fmt: skip
_FREQUENCIES = {
    "bid": "twice daily", "tid": "three times daily", "qid": "four times daily", "daily": "once daily",
    "qhs": "at bedtime", "prn": "as needed", "q4h": "every 4 hours", "q6h": "every 6 hours", "q8h": "every 8 hours",
    "q12h": "every 12 hours",
}  # fmt: skip
_HOME_DRUGS_WORDS = """
    amlodipine lisinopril losartan metformin atorvastatin levothyroxine pantoprazole famotidine sertraline
    escitalopram warfarin hydrochlorothiazide glipizide simvastatin trazodone gabapentin montelukast
    latanoprost_drops citalopram valsartan zolpidem ramipril pravastatin hydroxychloroquine donepezil digoxin
    quetiapine venlafaxine verapamil clonidine hydralazine cetirizine isosorbide_mononitrate polyethylene_glycol
    fluoxetine temazepam diclofenac
"""
_HOME_DRUGS = _HOME_DRUGS_WORDS.split()


@dataclass(frozen=True, slots=True)
class Identity:
    """Invented direct identifiers of one patient, by kind."""

    name: str
    phone: str
    ssn: str
    mrn: str
    email: str
    street: str
    birth_date: str


@dataclass(frozen=True, slots=True)
class Case:
    """What stays true over all notes of one patient.

    Attributes:
        age: in years; 0 for a newborn.
        sex: "female" or "male".
        identity: direct identifiers; written into notes only when asked to.
        facts: values for the grammar, among them ``side``, ``he_she``, ``complaint``, ``procedure``.
        comorbidities, home_drugs, inpatient_drugs, findings, results: phrases.
        labs: names of the laboratory values that matter here.
        severity: where in the abnormal range the values start, from 0 to 1, by laboratory name.
        admitted: start of the stay.
        days: length of the stay.
    """

    age: int
    sex: str
    identity: Identity
    facts: dict[str, str]
    comorbidities: tuple[str, ...]
    home_drugs: tuple[str, ...]
    inpatient_drugs: tuple[str, ...]
    findings: tuple[str, ...]
    results: tuple[str, ...]
    labs: tuple[str, ...]
    severity: dict[str, float]
    admitted: datetime
    days: int

    @property
    def person(self) -> str:
        """For example "67-year-old woman"."""
        if self.age == 0:
            return f"newborn {'girl' if self.sex == 'female' else 'boy'}"
        adult, child = ("woman", "girl") if self.sex == "female" else ("man", "boy")
        return f"{self.age}-year-old {adult if self.age >= 18 else child}"

    def lab(self, name: str, day: int, rng: Random) -> str:
        """A laboratory value on a day of the stay, as "potassium 5.4 mmol/L"; it moves towards the usual range."""
        _, unit, low, high, usual_low, usual_high, decimals = lexicon()["labs"][name]
        severity = self.severity[name]
        goal = usual_low + severity * (usual_high - usual_low)
        start = low + severity * (high - low) if name in self.labs else goal
        left = max(0.0, 1 - day / (self.days + 1)) ** 1.3
        value = (goal + (start - goal) * left) * rng.uniform(0.96, 1.04)
        return f"{name} {value:.{decimals}f}{'' if unit in ('', '%') else ' '}{unit}"


def draw_case(rng: Random, specialties: Sequence[str]) -> Case:
    """Draw one patient whose condition belongs to one of the specialties (the first ones are likelier)."""
    specialty = rng.choices(specialties, weights=[1 / (rank + 1) for rank in range(len(specialties))])[0]
    condition = rng.choice([row for row in conditions() if row["specialty"] == specialty])
    sex = "female" if specialty == "obstetrics" or rng.random() < 0.5 else "male"
    if condition["short"] == "BPH":
        sex = "male"
    age = _age(rng, condition)
    facts = _facts(rng, condition, sex, specialty)
    history = lexicon()["history"]
    pool = history["child_comorbidities" if age < 16 else "comorbidities"]
    if age >= 55:
        pool = pool + history["older_comorbidities"] + ["benign prostatic hyperplasia"] * (sex == "male")
    comorbidities = [] if age == 0 else rng.sample(pool, rng.randint(1, 2 if age < 16 else 5))
    names = condition["drugs"].split(";")
    home = [] if age < 16 else [drug.replace("_", " ") for drug in rng.sample(_HOME_DRUGS, rng.randint(1, 5))]
    inpatient = tuple(dose(name, facts, rng) for name in names)
    labs = tuple(condition["labs"].split(";"))
    facts |= {
        "drug_a": inpatient[0],
        "drug_a_name": names[0],
        "drug_b": inpatient[-1],
        "drug_b_name": names[-1],
        "lab_a_name": labs[0],
    }
    results = tuple(fill(result, facts, rng) for result in condition["results"].split(";"))
    facts["result_a"] = results[0]
    return Case(
        age=age,
        sex=sex,
        identity=_identity(rng, sex, age),
        facts=facts,
        comorbidities=tuple(fill(item, facts, rng) for item in comorbidities),
        home_drugs=tuple(dose(name, facts, rng) for name in home if name not in names),
        inpatient_drugs=inpatient,
        findings=tuple(fill(finding, facts, rng) for finding in condition["findings"].split(";")),
        results=results,
        labs=labs,
        severity={name: rng.random() for name in lexicon()["labs"]},
        admitted=datetime(2012, 1, 1) + timedelta(minutes=rng.randrange(10 * 365 * 24 * 60)),
        days=rng.randint(2, 9),
    )


def dose(name: str, facts: dict[str, str], rng: Random) -> str:
    """A drug with a plausible dose, as "lisinopril 10 mg by mouth once daily"."""
    row = drugs()[name]
    amount = rng.choice(row["doses"].split(","))
    route = fill(_ROUTES[row["route"]], facts, rng)
    unit = row["unit"]
    frequency = _FREQUENCIES.get(row["frequency"], row["frequency"])
    return f"{name} {amount}{'' if unit == '%' else ' '}{unit} {route} {frequency}"


def _age(rng: Random, condition: dict[str, str]) -> int:
    if condition["short"] == "jaundice":
        return 0
    low, high = {"paediatrics": (1, 14), "obstetrics": (18, 43), "psychiatry": (19, 74)}.get(
        condition["specialty"], (24, 91)
    )
    return rng.randint(low, high)


def _facts(rng: Random, condition: dict[str, str], sex: str, specialty: str) -> dict[str, str]:
    female = sex == "female"
    facts = {
        "side": rng.choice(("left", "right")),
        "he_she": "she" if female else "he",
        "he_she_cap": "She" if female else "He",
        "his_her": "her" if female else "his",
        "specialty": specialty,
        "condition": condition["name"],
        "short": condition["short"],
    }
    for key in ("complaint", "procedure", "study"):
        facts[key] = fill(condition[key], facts, rng)
    facts["study_cap"] = facts["study"][0].upper() + facts["study"][1:]
    facts["target"] = f"{facts['side']} field" if "{side}" in condition["procedure"] else "operative field"
    return facts


def _identity(rng: Random, sex: str, age: int) -> Identity:
    people = lexicon()["people"]
    first, last = rng.choice(people[f"first_{sex}"]), rng.choice(people["last"])
    return Identity(
        name=f"{first} {last}",
        # 555-01xx is set aside for fiction; numbers that begin with 9 were never issued; example.org belongs to nobody.
        phone=f"({rng.randint(201, 989)}) 555-01{rng.randint(0, 99):02d}",
        ssn=f"9{rng.randint(0, 99):02d}-{rng.randint(10, 99)}-{rng.randint(1000, 9999)}",
        mrn=f"{rng.randint(10_000_000, 99_999_999)}",
        email=f"{first}.{last}{rng.randint(1, 999)}@example.org".lower(),
        street=f"{rng.randint(2, 1899)} {rng.choice(people['streets'])}",
        birth_date=f"{rng.randint(1, 12):02d}/{rng.randint(1, 28):02d}/{2017 - age}",
    )
