"""Headings turned into sentences: "LUNGS: Clear." becomes "The lungs were clear."."""

from __future__ import annotations

import re

from site_client.engines.rules_layout import Block
from site_client.engines.rules_phrases import choose, decapitalise, has_verb

# Spelling of headings as a phrase, where lower-casing the heading does not already give it.
_PHRASES = {
    "hpi": "history of present illness", "pmh": "past medical history", "pmhx": "past medical history",
    "psh": "past surgical history", "ros": "review of systems", "cc": "chief complaint",
    "heent": "head, eyes, ears, nose and throat", "abd": "abdomen", "ext": "extremities", "neuro": "nervous system",
    "neurologic": "nervous system", "neurological": "nervous system", "cv": "cardiovascular system",
    "cardiovascular": "cardiovascular system", "resp": "respiratory system", "respiratory": "respiratory system",
    "pulm": "lungs", "pulmonary": "lungs", "gi": "gastrointestinal system", "gu": "genitourinary system",
    "genitourinary": "genitourinary system", "vs": "vital signs", "vitals": "vital signs",
    "ebl": "estimated blood loss", "meds": "medications", "psych": "mental state", "psychiatric": "mental state",
    "musculoskeletal": "musculoskeletal system", "msk": "musculoskeletal system", "hematologic": "blood",
    "ekg": "electrocardiogram", "ecg": "electrocardiogram", "cxr": "chest x-ray", "labs": "laboratory results",
    "preop diagnosis": "preoperative diagnosis", "postop diagnosis": "postoperative diagnosis", "ct": "CT",
    "mri": "MRI", "cardiac": "heart", "a/p": "assessment and plan", "s": "subjective part", "o": "objective part",
    "a": "assessment", "p": "plan", "subjective": "subjective part", "objective": "objective part",
    "rectal": "rectal examination", "pelvic": "pelvic examination", "dx": "diagnosis", "hx": "history",
    "i&d": "incision and drainage",
}  # fmt: skip
_LEADS = {
    "physical examination": ("On examination", "On physical examination"),
    "physical exam": ("On examination", "On physical examination"),
    "exam": ("On examination", "On physical examination"),
    "examination": ("On examination", "On physical examination"),
    "hospital course": ("During the hospital course", "In the course of the hospital stay"),
    "hospital course and treatment": ("During the hospital course", "In the course of the hospital stay"),
    "emergency department course": ("In the emergency department", "During the emergency department stay"),
    "review of systems": ("On review of systems", "In the review of systems"),
    "impression": ("In summary", "The impression is as follows:"),
    "assessment": ("In summary", "The assessment is as follows:"),
    "plan": ("As for the plan", "The plan is as follows:"),
    "general": ("In general", "Overall"),
    "general appearance": ("In general", "Overall"),
    "constitutional": ("In general", "Overall"),
}
_EXAMINED_WORDS = """
    lungs lung heart abdomen neck chest extremities skin head eyes ears nose mouth throat back spine
    nervous-system lymph-nodes breasts cardiovascular-system respiratory-system musculoskeletal-system
    genitourinary-system gastrointestinal-system mental-state
"""
_EXAMINED = frozenset(_EXAMINED_WORDS.split())
_ADJECTIVE = re.compile(
    r"(?:Clear|Normal|Soft|Supple|Regular(?! rate| rhythm)|Benign|Warm|Dry|Intact|Nontender|Non-tender|Unremarkable"
    r"|Negative|Within|Alert|Awake|Symmetric(?:al)?|Obese|Flat|Distended|Tender|Nondistended|Anicteric|Normocephalic|Atraumatic|Moist"
    r"|Grossly|Stable|Noncontributory|Afebrile)(?=[ ,.;]|$)"
)
_CLAUSE_START = re.compile(
    r"(?:The|This|That|These|He|She|It|They|There|His|Her|Patient|An?|In|On|At|After|Before|During|With|Under|Initially|Then|Once|No|Both"
    r"|Following|Upon|As|I|We|Since|Over)(?= )"
)
_NO = re.compile(r"(?<=[a-z]), no (?=[a-z]+)")
_NIL = re.compile(
    r"(?:None|Nil|No known|Unknown|Negative|Noncontributory|Non-contributory|Unremarkable|As above"
    r"|Deferred|Denied|Denies|No )",
    re.I,
)
_STATED = re.compile(r"(?:Significant|Notable|Remarkable|Positive|Pertinent)\b", re.I)
_COLLECTED = re.compile(
    r"(?:history|diagnos[ie]s|diagnoses|medications?|allerg(?:y|ies)|problems?|procedures?|operations?|problem list)\b"
)
_PROPER_BODIES = re.compile(r"medication|allerg|drug")
_PLAIN_WORD = re.compile(r"[a-z]+(?=[ ,])")
_ACRONYM = 3  # [letters] longer headings in capitals are ordinary words ("EXAM")
_PERSON = re.compile(r"(?:An?|This|\d)[^.]{0,40}\b(?:male|female|man|woman|boy|girl|gentleman|lady|patient)\b")
_PLURAL = re.compile(r"(?:[^siu]s|ses|data)$")


def heading_phrase(heading: str) -> str:
    """The heading as it reads inside a sentence: "PMH" is "past medical history"."""
    lowered = " ".join(heading.lower().split())
    phrase = _PHRASES.get(lowered)
    if phrase is not None:
        return phrase
    if heading.isupper() and len(heading) > _ACRONYM:
        return lowered
    return " ".join(word if word.isupper() and len(word) <= _ACRONYM else word.lower() for word in heading.split())


def render(block: Block, items: list[list[str]], seed: int) -> str:
    """Write a block as prose.

    Args:
        block: heading and layout.
        items: for each item of the block its finished sentences.
        seed: chooses between equivalent forms.

    Returns:
        Sentences, separated by single spaces.
    """
    sentences = [sentence for item in items for sentence in item]
    if not block.heading:
        return " ".join(_closed(sentence) for sentence in sentences)
    phrase = heading_phrase(block.heading)
    if not sentences:
        return f"{_capital(phrase)}:"
    fragments = [item for item in items if len(item) == 1 and not has_verb(item[0])]
    if block.is_list and len(items) > 1 and len(fragments) == len(items):
        return _enumeration(phrase, [item[0] for item in items], seed)
    first, rest = sentences[0], sentences[1:]
    opening = _narrative(phrase, first, seed) if has_verb(first) else _fragment(phrase, first, seed)
    return " ".join([opening, *(_closed(sentence) for sentence in rest)])


def _enumeration(phrase: str, entries: list[str], seed: int) -> str:
    joiner = "; " if any("," in entry for entry in entries) else ", "
    bare = [_lowered(phrase, entry.rstrip(" .;,")) for entry in entries]
    listed = f"{joiner.join(bare[:-1])}{';' if joiner == '; ' else ''} and {bare[-1]}"
    verb = _verb(phrase)
    if _COLLECTED.search(phrase):
        forms = ("includes", "comprises") if verb == "was" else ("include", "are")
        return _closed(f"The {phrase} {choose(forms, listed, seed)} {listed}")
    if phrase.endswith(("plan", "recommendations", "follow-up")):
        return _closed(f"The {phrase} {verb} as follows: {listed}")
    return _closed(f"The {phrase} {verb} {choose(('as follows:', 'given as', 'recorded as'), listed, seed)} {listed}")


def _narrative(phrase: str, sentence: str, seed: int) -> str:
    """A heading above full sentences becomes their lead-in, or a short sentence of its own."""
    lead = _LEADS.get(phrase)
    if lead and _CLAUSE_START.match(sentence):
        opening = choose(lead, sentence, seed)
        return _closed(f"{opening} {sentence}" if opening.endswith(":") else f"{opening}, {decapitalise(sentence)}")
    if phrase in ("subjective part", "objective part"):
        return _closed(sentence)
    if _is_examined(phrase) and _CLAUSE_START.match(sentence):
        return _closed(
            f"{choose(('As to', 'Regarding', 'As for'), sentence, seed)} the {phrase}, {decapitalise(sentence)}"
        )
    verb = "is" if _verb(phrase) == "was" else "are"
    forms = (f"The {phrase} {verb} as follows.", f"The note gives the {phrase} as follows.", f"As to the {phrase}:")
    return f"{choose(forms, sentence, seed)} {_closed(sentence)}"


def _fragment(phrase: str, body: str, seed: int) -> str:
    """A heading above a few words becomes the subject of a sentence about them."""
    verb = _verb(phrase)
    adjective = _ADJECTIVE.match(body)
    if _is_examined(phrase):
        body = _NO.sub(", with no ", body, count=1) if adjective else body
        if adjective and not phrase.startswith("head, eyes"):
            return _closed(f"The {phrase} {verb} {decapitalise(body)}")
        finding = choose(("showed", "revealed", "found"), body, seed)
        return _closed(f"Examination of the {phrase} {finding} {decapitalise(body)}")
    if phrase in ("general", "general appearance", "constitutional") and adjective:
        return _closed(f"In general, the patient was {decapitalise(body)}")
    if _STATED.match(body):
        return _closed(f"The {phrase} {'is' if verb == 'was' else 'are'} {decapitalise(body)}")
    if _NIL.match(body):
        return _closed(
            f"The {phrase} {verb} {choose(('recorded as', 'given as', 'noted as'), body, seed)} {decapitalise(body)}"
        )
    if phrase.endswith(
        (
            "diagnosis",
            "diagnoses",
            "procedure",
            "operation",
            "complaint",
            "anesthesia",
            "blood loss",
            "condition",
            "disposition",
            "diet",
        )
    ):
        return _closed(f"The {phrase} {verb} {_lowered(phrase, body)}")
    if _PERSON.match(body):
        return _closed(f"The {phrase} is that of {decapitalise(body)}")
    if phrase.endswith(("history", "medications", "problems", "problem list")):
        return _closed(f"The {phrase} {'includes' if verb == 'was' else 'include'} {_lowered(phrase, body)}")
    forms = (f"The {phrase} {verb} recorded as", f"The {phrase} {verb} given as", f"The note gives the {phrase} as")
    return _closed(f"{choose(forms, body, seed)} {_lowered(phrase, body)}")


def _is_examined(phrase: str) -> bool:
    return phrase.replace(" ", "-") in _EXAMINED or phrase.startswith("head, eyes")


def _verb(phrase: str) -> str:
    return "were" if _PLURAL.search(phrase) or " and " in phrase else "was"


def _lowered(phrase: str, body: str) -> str:
    """Drug names keep their capital; other bodies start like the middle of a sentence."""
    return body if _PROPER_BODIES.search(phrase) else decapitalise(body)


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _closed(sentence: str) -> str:
    sentence = sentence.rstrip(" ,;")
    if _PLAIN_WORD.match(sentence):
        sentence = _capital(sentence)
    return sentence if sentence[-1:] in ".!?:" else sentence + "."
