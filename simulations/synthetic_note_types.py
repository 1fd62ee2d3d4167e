"""Eight kinds of synthetic note, each a list of sections that hold sentences about one case."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from random import Random

from simulations.synthetic_cases import Case
from simulations.synthetic_grammar import fill, lexicon

_WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday")
# What is measured in anybody; other values only where the condition calls for them.
_PANEL = (
    "sodium", "potassium", "bicarbonate", "creatinine", "urea", "glucose", "calcium", "magnesium", "phosphorus",
    "hemoglobin", "white count", "platelets", "ALT", "AST", "bilirubin", "albumin level", "CRP", "LDL", "TSH",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Section:
    """A heading with sentences; ``is_list`` where a template would number them."""

    heading: str
    sentences: tuple[str, ...]
    is_list: bool = False


class Writer:
    """Writes the sections of one note about a case on a given day of the stay."""

    def __init__(self, case: Case, day: int, rng: Random) -> None:
        self.case, self.day, self.rng = case, day, rng
        earlier = case.admitted - timedelta(days=rng.randint(20, 900))
        self.facts = case.facts | {
            "weekday": rng.choice(_WEEKDAYS),
            "shift_time": f"{rng.choice((7, 15, 19, 23)):02d}{rng.choice((0, 15, 30)):02d}",
            "earlier_date": earlier.strftime("%m/%d/%Y"),
        }

    def say(self, *templates: str) -> str:
        """One of several equivalent sentences."""
        text = fill(self.rng.choice(templates), self.facts, self.rng)
        return text[0].upper() + text[1:] + "."

    def some(self, group: str, key: str, low: int, high: int) -> tuple[str, ...]:
        """Between ``low`` and ``high`` different sentences of a lexicon entry, in its order."""
        pool: list[str] = lexicon()[group][key]
        count = min(len(pool), self.rng.randint(low, high))
        return tuple(self.say(pool[index]) for index in sorted(self.rng.sample(range(len(pool)), count)))

    def complaint(self) -> tuple[str, ...]:
        """Who comes with what, since when, and what else."""
        case, rng = self.case, self.rng
        known = joined(case.comorbidities)
        article = "an" if str(case.age).startswith("8") or case.age in (11, 18) else "a"
        background = rng.choice((f" with a history of {known}", f" who has {known}", "")) if known else ""
        opening = self.say(
            f"the patient is {article} {case.person}{background} who presents with {{complaint}}",
            f"this {case.person}{background} came in with {{complaint}}",
            f"{article} {case.person}{background}, complaining of {{complaint}}",
        )
        absent = rng.sample(lexicon()["history"]["negatives"], rng.randint(2, 4))
        trigger, relief = (rng.choice(lexicon()["history"][key]) for key in ("triggers", "relief"))
        return (
            opening,
            self.say(f"it began {{2-9}} {{hours|days}} ago {trigger}", f"onset was {{gradual|sudden}}, {trigger}"),
            self.say(relief),
            self.say(
                f"the patient denies {joined(absent, 'or')}",
                f"there was no {joined(absent, 'or')}",
                f"{{he_she}} denies {joined(absent, 'and')}",
            ),
        )

    def background(self) -> list[Section]:
        """Past history, operations, home drugs, allergies, social and family history."""
        case, rng, history = self.case, self.rng, lexicon()["history"]
        sections = [Section("Past medical history", tuple(self.say(item) for item in case.comorbidities), True)]
        if case.age >= 16 and rng.random() < 0.7:
            operation = f"{rng.choice(history['operations'])} in {{1994-2011}}"
            sections.append(Section("Past surgical history", (self.say(operation),), True))
        if case.home_drugs:
            sections.append(Section("Medications", tuple(self.say(item) for item in case.home_drugs), True))
        sections.append(Section("Allergies", (self.say(*history["allergies"]),)))
        if case.age >= 16:
            social = (
                f"the patient {{{rng.choice(('is a ', 'works as a '))}|is employed as a }}{rng.choice(history['jobs'])}"
            )
            home, habit = (f"{{he_she}} {rng.choice(history[key])}" for key in ("homes", "habits"))
            sections.append(Section("Social history", (self.say(social), self.say(home), self.say(habit))))
        sections.append(Section("Family history", (self.say(*history["relatives"]),)))
        return [section for section in sections if section.sentences]

    def vitals(self) -> str:
        """Vital signs that calm down over the stay."""
        rng, ill = self.rng, max(0.0, 1 - self.day / (self.case.days + 1))
        pulse = round(72 + 34 * ill + rng.gauss(0, 8))
        values = (
            f"temperature {36.6 + 1.4 * ill * rng.random():.1f}",
            f"blood pressure {rng.randint(98, 164)}/{rng.randint(52, 94)}",
            f"heart rate {pulse}",
            f"respiratory rate {round(14 + 8 * ill * rng.random())}",
            f"oxygen saturation {rng.randint(91, 99)}% on {rng.choice(('room air', 'room air', '2 L nasal cannula'))}",
        )
        return self.say(", ".join(values[: rng.randint(3, 5)]))

    def examination(self) -> Section:
        """Vital signs, general impression, the findings of the condition and some normal ones."""
        exam, findings = lexicon()["exam"], list(self.case.findings)
        if self.day > 1:
            findings = findings[: self.rng.randint(1, len(findings))]
        state = self.say(f"the patient is {self.rng.choice(exam['general'])}")
        found = joined(findings)
        abnormal = self.say(
            f"examination shows {found}",
            f"there is {found}",
            f"notable for {found}",
            f"{{persistent|less marked|unchanged}} {findings[0]}" if self.day > 1 else f"findings include {found}",
        )
        return Section("Physical examination", (self.vitals(), state, abnormal, *self.some("exam", "normal", 2, 5)))

    def laboratory(self) -> Section:
        """The laboratory values that matter, with a few that do not."""
        names = [*self.case.labs, *self.rng.sample(_PANEL, self.rng.randint(2, 7))]
        self.rng.shuffle(names)
        values = joined([self.case.lab(name, self.day, self.rng) for name in dict.fromkeys(names)])
        study = joined(self.case.results)
        sentences = [self.say(values, f"laboratory values show {values}", f"results: {values}")]
        if self.day <= 1:
            sentences.append(
                self.say(f"{{study}} showed {study}", f"{{study}}: {study}", f"on {{study}} there was {study}")
            )
        return Section("Laboratory data", tuple(sentences))

    def impression(self) -> str:
        """The condition in one sentence."""
        return self.say(
            "{condition}", "findings are consistent with {condition}", "{condition}, {improving|day {2-5} of treatment}"
        )


def joined(items: Sequence[str], word: str = "and") -> str:
    """An enumeration in words."""
    return f"{', '.join(items[:-1])} {word} {items[-1]}" if len(items) > 1 else "".join(items)


def _discharge(w: Writer) -> list[Section]:
    drugs = (*w.case.inpatient_drugs, *w.case.home_drugs)
    course = [w.say("the patient was admitted for {condition} and treated with {drug_a} and {drug_b_name}")]
    if w.rng.random() < 0.6:
        course.append(w.say("{procedure} was {performed|carried out} on day {1-3} without {incident|complication}"))
    for key, low, high in (("better", 1, 3), ("setback", 1, 2), ("remarks", 3, 5)):
        course += w.some("course", key, low, high)
    return [
        Section("Discharge diagnosis", (w.say("{condition}"),)),
        Section("History of present illness", w.complaint()),
        *w.background()[: w.rng.randint(2, 4)],
        Section("Hospital course", tuple(course)),
        w.laboratory(),
        Section("Discharge medications", tuple(w.say(drug) for drug in drugs), True),
        Section("Condition at discharge", (w.say(*lexicon()["course"]["condition_at_discharge"]),)),
        Section("Follow-up", w.some("course", "followup", 2, 4), True),
    ]


def _progress(w: Writer) -> list[Section]:
    feeling = w.say(
        "the patient {feels better|slept poorly|has less discomfort|has no new complaints|is tired but comfortable}",
        "{overnight|since yesterday} {he_she} {had no events|needed {drug_a_name} once|tolerated a {soft|liquid} diet}",
        "{complaint} {persists|is improving|has resolved}",
    )
    absent = joined(w.rng.sample(lexicon()["history"]["negatives"], 2), "or")
    return [
        Section("Subjective", (feeling, w.say(f"the patient denies {absent}"), *w.some("course", "remarks", 2, 4))),
        w.examination(),
        w.laboratory(),
        Section("Assessment", (w.impression(), *w.some("course", "setback", 0, 1))),
        Section("Plan", w.some("course", "plan", 3, 6), True),
    ]


def _consult(w: Writer) -> list[Section]:
    return [
        Section(
            "Reason for consultation", (w.say("{evaluation|management} of {condition}", "opinion on {procedure}"),)
        ),
        Section("History of present illness", w.complaint()),
        *w.background(),
        w.examination(),
        Section("Impression", (w.impression(), *w.some("course", "remarks", 2, 4))),
        Section("Recommendations", w.some("course", "plan", 2, 5), True),
    ]


def _emergency(w: Writer) -> list[Section]:
    given = w.say("{drug_a} and {1-2} L of {saline|balanced fluid} were given", "the patient received {drug_b}")
    disposition = w.say("admitted to {the ward|telemetry|intermediate care|observation} under {specialty}")
    return [
        Section("Chief complaint", (w.say("{complaint}"),)),
        Section("History of present illness", w.complaint()),
        *w.background()[:3],
        w.examination(),
        w.laboratory(),
        Section("Emergency department course", (given, w.impression(), *w.some("course", "remarks", 2, 4))),
        Section("Disposition", (disposition,)),
    ]


def _nursing(w: Writer) -> list[Section]:
    events = w.some("nursing", "events", 5, 9)
    return [
        Section("Nursing assessment", (w.vitals(), *events, *w.some("course", "remarks", 3, 5))),
        Section("Medications given", tuple(w.say(drug) for drug in w.case.inpatient_drugs), True),
        Section("Plan of care", w.some("course", "plan", 2, 4)),
    ]


def _operative(w: Writer) -> list[Section]:
    operation = lexicon()["operation"]
    return [
        Section("Preoperative diagnosis", (w.say("{condition}"),)),
        Section("Postoperative diagnosis", (w.say("same", "{condition}"),)),
        Section("Procedure", (w.say("{procedure}"),)),
        Section("Anesthesia", (w.say(*operation["anesthesia"]),)),
        Section("Estimated blood loss", (w.say(*operation["losses"]),)),
        Section("Indications", w.complaint()[:2]),
        Section("Description of procedure", w.some("operation", "steps", 9, 14)),
    ]


def _radiology(w: Writer) -> list[Section]:
    results = [w.say(result) for result in w.case.results]
    return [
        Section("Examination", (w.say("{study}"),)),
        Section("Clinical history", (w.say("{complaint}", f"{w.case.person} with {{complaint}}"),)),
        Section("Technique", w.some("radiology", "technique", 1, 2)),
        Section("Findings", (*results, *w.some("radiology", "normal", 3, 4), *w.some("course", "followup", 0, 1))),
        Section("Impression", (results[0], w.impression()), True),
    ]


def _clinic(w: Writer) -> list[Section]:
    return [
        Section(
            "Interval history",
            (w.say("{he_she} returns {2-9} weeks after {procedure} for {condition}"), *w.complaint()[2:]),
        ),
        Section("Medications", tuple(w.say(drug) for drug in (*w.case.home_drugs, *w.case.inpatient_drugs)), True),
        w.examination(),
        w.laboratory(),
        Section("Assessment", (w.impression(), *w.some("course", "better", 1, 2), *w.some("course", "remarks", 2, 4))),
        Section("Follow-up", w.some("course", "followup", 2, 4), True),
    ]


NOTE_TYPES: dict[str, Callable[[Writer], list[Section]]] = {
    "Emergency note": _emergency,
    "Consultation": _consult,
    "Radiology report": _radiology,
    "Operative note": _operative,
    "Nursing note": _nursing,
    "Progress note": _progress,
    "Discharge summary": _discharge,
    "Clinic note": _clinic,
}
