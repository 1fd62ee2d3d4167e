"""Sentences: finding their ends, completing telegraphic ones, and choosing between equivalent wordings."""

from __future__ import annotations

import re
import zlib
from functools import cache

_END = re.compile(r"[.!?]+[\"')\]]*\s+(?=[A-Z0-9(\"])")
_TITLE = re.compile(r"(?:\b(?:Dr|Mr|Mrs|Ms|Prof|St|Jr|Sr|vs|Fig|approx|cf|etc|Vol|[A-Z]|[a-z](?:\.[a-z])+)|^\d{1,2})$")
_NUMBERED = re.compile(r"\b[Nn]o\.\s+\d")


def split_sentences(text: str) -> list[str]:
    """Split running text at sentence ends.

    "Dr. A", "b.i.d.", "No. 10", "98.6" and "vs." do not end a sentence.
    """
    sentences, start = [], 0
    for match in _END.finditer(text):
        dot = match.start()
        recent = text[max(start, dot - 12) : dot]
        if _TITLE.search(recent) or _NUMBERED.match(text, max(0, dot - 2)):
            continue
        sentences.append(text[start : match.end()].rstrip())
        start = match.end()
    sentences.append(text[start:].rstrip())
    return [sentence for sentence in sentences if sentence]


_FINITE = re.compile(
    r"\b(?:is|are|was|were|has|have|had|does|do|did|will|would|can|could|may|should|denie[sd]|complain(?:s|ed)|reports"
    r"|reported|states|stated|present(?:s|ed)|show(?:s|ed)?|reveal(?:s|ed)?|demonstrate[sd]|underwent|appear(?:s|ed)"
    r"|remain(?:s|ed)|developed|received|tolerated|came|went|took|takes|noted|feels|felt|began|lives|works|smokes|drinks"
    r"|quit|died|continue[sd]?|recommend(?:s|ed)?|indicate[sd]|note[sd]|admit(?:s|ted)|worsened|improved|resolved)\b"
    r"|^(?:I|We|He|She|They)\b"
)


def has_verb(sentence: str) -> bool:
    """Whether a sentence looks complete, by a finite verb that is common in notes."""
    return _FINITE.search(sentence.lower() if sentence.isupper() else sentence) is not None


_DROPPED_SUBJECT = re.compile(
    r"(?P<verb>Denies|Denied|Complains of|Complained of|Reports|Reported|Present(?:s|ed) (?:with|to|for)"
    r"|Admits to|Endorses|Tolerated|Remains|Remained|Underwent|Lives|Smokes|Drinks|Quit|Takes|Has|Had|Is|Was"
    r"|Does not|Did not|Feels|Appears)(?= [^?]*$)"
)
_DROPPED_AUXILIARY = re.compile(
    r"(?P<verb>Tolerating|Ambulating|Doing well|Resting|Awake|Alert|Afebrile|Status post"
    r"|Well[- ]developed|Well[- ]nourished|(?:Seen|Evaluated) (?:by|in)|Admitted (?:to|for|with|on)"
    r"|Discharged (?:to|home|on)|Transferred (?:to|from)|Started on|Extubated|Intubated)\b"
)
_PRESENT = ("Tolerating", "Ambulating", "Doing", "Resting", "Status")
_OTHERS = re.compile(
    r"\b(?:mother|father|parents?|wife|husband|spouse|daughter|son|sister|brother|family|caregiver|nurse|aunt|uncle|cousin"
    r"|grand\w+|baby|infant|newborn|partner|donor|fetus|child(?:ren)?|doctor|Dr)\b",
    re.IGNORECASE,
)
_ABSENT_PLURAL = re.compile(
    r"No (?:(?!in |of |on |to |at |or |and |with |for )[\w-]+ ){0,4}?\w*[^aiusx\W]s"
    r"(?=[,.;]|$| (?:in|of|on|to|at|or|and|with|for)\b)"
)
_ABSENT = re.compile(
    r"No (?!known (?!drug allergies|allergies)|change|further|one\b|evidence of [^.]*\bbut\b|longer|\d"
    r"|[^.]*\b(?:unless|until|if)\b)"
)
_MEASURES = re.compile(
    r"(?:blood pressure|heart rate|respiratory rate|temperature|pulse|weight|height|sodium|potassium|chloride"
    r"|creatinine|hemoglobin|hematocrit|white blood cell count|white count|platelets?|glucose|blood urea nitrogen"
    r"|O2 saturation|respirations|calcium|magnesium|vital signs|albumin|total bilirubin)(?=:? \d)",
    re.IGNORECASE,
)
_MISREAD = re.compile(r"\b(with|her|his|the|of|no|multiple|main|chief|for|any|initial) complains of\b")


def complete(sentence: str, previous: str, seed: int) -> str:
    """Give a telegraphic sentence the subject or verb that it lacks, where only one reading is possible.

    Args:
        sentence: abbreviations already expanded.
        previous: the sentence before it; a relative or carer named there may be the one who speaks here.
        seed: chooses between equivalent forms.

    Returns:
        The completed sentence, or the sentence as it was.
    """
    if "complains of" in sentence:
        sentence = _MISREAD.sub(r"\1 complaints of", sentence)
    if _DROPPED_SUBJECT.match(sentence) and not _ambiguous(sentence, previous):
        return "The patient " + decapitalise(sentence)
    if has_verb(sentence):
        return sentence
    match = _DROPPED_AUXILIARY.match(sentence)
    if match and not _ambiguous(sentence, previous):
        verb = "is" if match["verb"].startswith(_PRESENT) else "was"
        return f"The patient {verb} {decapitalise(sentence)}"
    if _ABSENT.match(sentence) and not _ambiguous(sentence, previous):
        be = "are" if sentence.startswith("No known") else "were" if _ABSENT_PLURAL.match(sentence) else "was"
        return f"There {be} {decapitalise(sentence)}"
    if _MEASURES.match(sentence):
        lead = choose(("The measurements were", "The recorded values were", "Measured values were"), sentence, seed)
        return f"{lead} {decapitalise(sentence)}"
    return sentence


def _ambiguous(sentence: str, previous: str) -> bool:
    """Whether somebody other than the patient may be meant."""
    return _OTHERS.search(sentence) is not None or _OTHERS.search(previous) is not None


def choose(forms: tuple[str, ...], sentence: str, seed: int) -> str:
    """Pick one of several equivalent forms by a hash of the seed and the sentence."""
    return forms[zlib.crc32(sentence.encode("utf-8", "surrogatepass"), seed & 0xFFFFFFFF) % len(forms)]


_PROPER_WORDS = """
    I Coumadin Lasix Tylenol Foley Crohn Parkinson Alzheimer Plavix Lipitor Lovenox Zofran Percocet Vicodin
    Glucophage Norvasc Ativan Xanax Zoloft Prozac Synthroid Nexium Prilosec Zantac Pepcid Toprol Lopressor Altace
    Zocor Crestor Celebrex Motrin Advil Aleve Neurontin Dilantin Keppra Depakote Tegretol Haldol Risperdal
    Seroquel Zyprexa Abilify Lexapro Celexa Paxil Effexor Wellbutrin Cymbalta Ambien Levaquin Cipro Flagyl
    Zithromax Augmentin Keflex Rocephin Bactrim Vancomycin Ancef Betadine Marcaine Xylocaine Vicryl Prolene
    Monocryl Steri-Strips Bovie Kocher Babcock Allis Adson Weitlaner Trendelenburg Doppler Holter Babinski Romberg
    Glasgow Apgar Hodgkin Hashimoto Graves Barrett Bell Dupuytren Colles Baker Dobhoff Penrose Jackson-Pratt
    Hemovac Swan-Ganz Pap Caucasian Hispanic African American English Spanish January February March April June
    July August September October November December Monday Tuesday Wednesday Thursday Friday Saturday Sunday Dr Mr
    Mrs Ms Albuterol Advair Spiriva Singulair Lantus Humalog Novolog Versed Fentanyl Demerol Dilaudid Propofol
    Staphylococcus Streptococcus Escherichia Clostridioides Gram Medicare Medicaid
"""
_PROPER = frozenset(_PROPER_WORDS.split())
_FIRST_WORD = re.compile(r"[A-Z][a-z]+(?:-[A-Za-z]+)?(?![\w'-])(?! [A-Z][a-z])|A(?= )")


def decapitalise(sentence: str) -> str:
    """Lower the first letter unless the first word is, or may be, a name or an acronym."""
    match = _FIRST_WORD.match(sentence)
    if match is None or match[0] in _PROPER:
        return sentence
    return sentence[0].lower() + sentence[1:]


# Wordings of equal meaning. Those behind ">" replace the others but, having other uses too, are never replaced.
# None adds certainty, severity, a cause, a time or a number that its neighbours lack.
_EQUIVALENT = (
    "was noted|was observed > was seen",
    "were noted|were observed > were seen",
    "was noted to|was observed to|was found to|was seen to",
    "was performed|was carried out > was done",
    "were performed|were carried out > were done",
    "was then|was subsequently",
    "were then|were subsequently",
    "revealed|demonstrated > showed",
    "reveals|demonstrates > shows",
    "approximately > about|roughly",
    "prior to > before",
    "was utilized|was used|was employed",
    "were utilized|were used|were employed",
    "is significant for|is notable for|is remarkable for",
    "was significant for|was notable for|was remarkable for",
    "in order to > so as to|to",
    "currently|at present|presently",
    "at this time > at this point|at present",
    "additionally|in addition|furthermore",
    "was brought to|was taken to",
    "was admitted to the hospital > was hospitalized",
    "was discharged home > was sent home|was discharged to home",
    "was identified > was found",
    "were identified > were found",
    "was inserted > was introduced",
    "past medical history|previous medical history|prior medical history",
    "presented with > came in with|arrived with",
    "presents with > comes in with|arrives with",
    "is a very pleasant > is a pleasant",
    "because of > due to|owing to",
    "secondary to > due to|because of",
    "as well as > along with|together with",
    "however|nevertheless",
    "therefore|hence > for this reason",
    "large amount of|substantial amount of",
    "mainly|primarily|chiefly",
    "usually|generally|typically",
    "regarding|concerning > about",
    "upon > on",
    "once again > again",
    "has been taking > has been using",
    "in a sterile fashion|in sterile fashion > under sterile conditions",
    "in the usual fashion|in the usual manner|in the customary manner",
    "without difficulty|with no difficulty",
    "without any difficulty|with no difficulty at all",
    "without complications|with no complications",
    "tolerated the procedure well > did well with the procedure",
    "was discussed with|was reviewed with",
    "evaluated|assessed",
    "evaluation|assessment",
    "multiple|numerous > many",
    "requires > needs",
    "required > needed",
    "initially > at first",
    "difficulty with > trouble with",
    "subsequently > afterwards|thereafter",
    "irrigated > rinsed",
    "exhibited|displayed",
    "per day > a day|each day",
    "under the care of > in the care of",
    "has been having > has had",
    "in good condition|in satisfactory condition",
    "in stable condition > in a stable condition",
    "will continue > is to continue",
    "was continued on > was kept on",
    "located > situated",
    "consistent with > in keeping with|compatible with",
)


@cache
def _choices() -> dict[str, tuple[str, ...]]:
    """All forms of equal meaning, by each wording that may be replaced."""
    table: dict[str, tuple[str, ...]] = {}
    for group in _EQUIVALENT:
        replaceable, _, targets = group.partition(" > ")
        forms = (*replaceable.split("|"), *(targets.split("|") if targets else ()))
        for wording in replaceable.split("|"):
            table.setdefault(wording, forms)
    return table


@cache
def _equivalent() -> re.Pattern[str]:
    """One pattern for all wordings, longest first, grouped by initial so that most words fail on their first letter."""
    by_initial: dict[str, list[str]] = {}
    for wording in sorted(_choices(), key=len, reverse=True):
        by_initial.setdefault(wording[0], []).append(re.escape(wording[1:]))
    branches = "|".join(
        f"[{initial}{initial.upper()}](?:{'|'.join(tails)})" for initial, tails in sorted(by_initial.items())
    )
    return re.compile(rf"(?<![\w-])(?:{branches})(?![\w-])")


_JOINED = re.compile(r", and (?=(?:the patient|he|she|there|this|these) (?:was|is|has|had|were|did|does|will)\b)")


def vary(sentence: str, seed: int) -> str:
    """Replace wordings by equivalent ones and part long compound sentences, the same way for the same seed."""
    state = zlib.crc32(sentence.encode("utf-8", "surrogatepass"), seed & 0xFFFFFFFF)
    choices = _choices()

    def swap(match: re.Match[str]) -> str:
        nonlocal state
        wording = match[0]
        key = wording[0].lower() + wording[1:]
        state = (state * 1_103_515_245 + 12_345) & 0x7FFFFFFF
        forms = choices[key]
        form = forms[(state >> 8) % len(forms)]
        return form[0].upper() + form[1:] if wording[0].isupper() else form

    sentence = _equivalent().sub(swap, sentence)
    if len(sentence) > 120:
        sentence = _JOINED.sub(". ", sentence, count=1)
        head, dot, tail = sentence.partition(". ")
        if dot and tail and tail[0].islower():
            sentence = f"{head}. {tail[0].upper()}{tail[1:]}"
    return sentence
