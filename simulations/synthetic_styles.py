"""How the hospitals write: five layouts, and the shorthand that a hospital's staff happen to use."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from random import Random

from simulations.synthetic_grammar import lexicon
from simulations.synthetic_note_types import Section

_ARTICLES = re.compile(r"\b(?:[Tt]he|[Aa]n?) (?!\d)")
_SOAP = {"S": "Subjective", "O": "Objective", "A": "Assessment", "P": "Plan"}
_SOAP_PARTS = {
    "Physical examination": "O", "Laboratory data": "O", "Findings": "O", "Nursing assessment": "O", "Technique": "O",
    "Hospital course": "O", "Emergency department course": "O", "Description of procedure": "O",
    "Estimated blood loss": "O", "Anesthesia": "O", "Assessment": "A", "Impression": "A", "Discharge diagnosis": "A",
    "Preoperative diagnosis": "A", "Postoperative diagnosis": "A", "Plan": "P", "Recommendations": "P",
    "Follow-up": "P", "Plan of care": "P", "Disposition": "P", "Discharge medications": "P", "Medications given": "P",
    "Condition at discharge": "A",
}  # fmt: skip

_INITIALS = {
    "Past medical history": "PMH", "History of present illness": "HPI", "Chief complaint": "CC", "Medications": "Meds",
    "Physical examination": "PE", "Laboratory data": "Labs", "Assessment": "A", "Family history": "FHx",
    "Social history": "SHx", "Past surgical history": "PSH", "Estimated blood loss": "EBL",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class HospitalStyle:
    """A layout, the shorthand entries in use, and how often each is used."""

    layout: Callable[[Sequence[Section], Random], str]
    shorthand: tuple[str, ...]
    habit: float

    def write(self, sections: Sequence[Section], rng: Random) -> str:
        """The text of a note."""
        text = self.layout(sections, rng)
        if rng.random() >= self.habit or not self.shorthand:
            return text
        table: dict[str, str] = lexicon()["shorthand"]
        return _pattern(self.shorthand).sub(lambda match: table[match[0]], text)


def hospital_style(index: int, rng: Random) -> HospitalStyle:
    """The style of the hospital at an index; layouts take turns, shorthand is drawn."""
    layout, share, habit = _LAYOUTS[index % len(_LAYOUTS)]
    entries = sorted(lexicon()["shorthand"])
    return HospitalStyle(layout, tuple(sorted(rng.sample(entries, round(share * len(entries))))), habit)


@cache
def _pattern(entries: tuple[str, ...]) -> re.Pattern[str]:
    ordered = sorted(entries, key=len, reverse=True)
    return re.compile("|".join(rf"(?<!\w){re.escape(entry)}" for entry in ordered))


def _telegraphic(sections: Sequence[Section], rng: Random) -> str:
    """One line per section, articles dropped, fragments joined by semicolons."""
    lines = []
    for section in sections:
        mark = "; " if rng.random() < 0.4 else ". "
        body = mark.join(_ARTICLES.sub("", sentence.rstrip(".")) for sentence in section.sentences)
        name = section.heading if rng.random() < 0.7 else _initials(section.heading)
        lines.append(f"{name}: {body}" if rng.random() < 0.9 else body)
    return "\n".join(lines)


def _initials(heading: str) -> str:
    return _INITIALS.get(heading, heading)


def _dictated(sections: Sequence[Section], rng: Random) -> str:
    """Paragraphs as dictated, most without headings; lists become enumerations."""
    paragraphs = []
    for section in sections:
        if section.is_list and len(section.sentences) > 1:
            items = [sentence.rstrip(".") for sentence in section.sentences]
            first, *rest = [item[0].lower() + item[1:] for item in items]
            lead = rng.choice(("include", "are", "are noted as"))
            subject = section.heading if section.heading.endswith("s") else f"{section.heading} items"
            paragraphs.append(f"{subject} {lead} {', '.join([first, *rest[:-1]])} and {rest[-1]}.")
        elif section.is_list or rng.random() < 0.35:
            paragraphs.append(f"{section.heading}: {' '.join(section.sentences)}")
        else:
            paragraphs.append(" ".join(section.sentences))
    return "\n\n".join(paragraphs)


def _templated(sections: Sequence[Section], _: Random) -> str:
    """Headings in capitals on lines of their own, lists numbered."""
    blocks = []
    for section in sections:
        if section.is_list:
            body = "\n".join(f"{number}. {sentence}" for number, sentence in enumerate(section.sentences, 1))
        else:
            body = " ".join(section.sentences)
        blocks.append(f"{section.heading.upper()}:\n{body}")
    return "\n\n".join(blocks)


def _lost_newlines(sections: Sequence[Section], rng: Random) -> str:
    """The templated layout after an export that turned line ends into commas."""
    return re.sub(r"\n+", ",", _templated(sections, rng)).replace(":,", rng.choice((":,", ": ,", ":  ,")))


def _soap(sections: Sequence[Section], rng: Random) -> str:
    """Subjective, objective, assessment and plan, with dashes for lists."""
    parts: dict[str, list[str]] = {key: [] for key in _SOAP}
    for section in sections:
        items = (
            [f"- {sentence}" for sentence in section.sentences] if section.is_list else [" ".join(section.sentences)]
        )
        parts[_SOAP_PARTS.get(section.heading, "S")] += items
    full = rng.random() < 0.5
    return "\n".join(f"{_SOAP[key] if full else key}:\n" + "\n".join(lines) for key, lines in parts.items() if lines)


# Layout, share of the shorthand table that the staff know, and the share of notes in which they use it.
_LAYOUTS: tuple[tuple[Callable[[Sequence[Section], Random], str], float, float], ...] = (
    (_telegraphic, 0.9, 1.0),
    (_dictated, 0.1, 0.3),
    (_templated, 0.3, 0.5),
    (_lost_newlines, 0.3, 0.6),
    (_soap, 0.7, 0.9),
)
