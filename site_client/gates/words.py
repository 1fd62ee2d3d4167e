"""Words in one form: stems, and synonyms and abbreviations from the tables of this folder brought to one meaning."""

from __future__ import annotations

from functools import cache, lru_cache
from pathlib import Path

_FOLDER = Path(__file__).parent
_SUFFIXES = (
    "izations", "ization", "ational", "ations", "ation", "ically", "ities", "ility", "iness", "ments", "ation",
    "ingly", "atous", "ional", "ition", "itis", "ment", "ness", "edly", "ings", "ions", "ical", "ally", "ance",
    "ence", "ancy", "ency", "able", "ible", "ious", "ular", "ated", "ates", "ate", "ing", "ion", "ies", "ied",
    "ian", "ily", "ive", "ity", "ial", "ous", "ary", "ers", "ant", "ent", "ure", "al", "ar", "er", "ed", "es",
    "is", "ic", "ly", "um", "us", "ae", "or", "a", "e", "i", "o", "s", "y",
)  # fmt: skip
_BY_LAST = {c: tuple(s for s in _SUFFIXES if s[-1] == c) for c in {s[-1] for s in _SUFFIXES}}
_SHORTEST_STEM = 4
_FINDINGS = ("disease", "symptom")


@cache
def table(name: str) -> tuple[tuple[str, ...], ...]:
    """Rows of a table of this folder, without its header.

    Args:
        name: file name without ``.tsv``.

    Returns:
        The rows as tuples of columns.
    """
    lines = (_FOLDER / f"{name}.tsv").read_text(encoding="utf-8").splitlines()[1:]
    return tuple(tuple(line.split("\t")) for line in lines if line)


@lru_cache(maxsize=1 << 16)
def stem(word: str) -> str:
    """Cut endings until a short root is left: "obstruction", "obstructed" and "obstructive" share one.

    Args:
        word: a word in lower case.

    Returns:
        A key for comparisons; it is no word.
    """
    for _ in range(3):
        for suffix in _BY_LAST.get(word[-1:], ()):
            if len(word) - len(suffix) >= _SHORTEST_STEM and word.endswith(suffix):
                word = word[: -len(suffix)]
                break
        else:
            break
    if len(word) > _SHORTEST_STEM and word[-1] == word[-2]:
        word = word[:-1]
    return word


@cache
def meanings() -> dict[str, tuple[tuple[tuple[str, ...], tuple[str, ...]], ...]]:
    """Phrases with a common meaning, by first word and longest first: ``(words, keys of the meaning)``."""
    found: dict[tuple[str, ...], tuple[str, ...]] = {}
    for meaning, forms in table("synonyms"):
        keys = tuple(stem(word) for word in meaning.split())
        for form in (*forms.split("|"), meaning):
            words = tuple(form.replace("-", " - ").split())
            # "No" has to stay visible to the gate of negation.
            if words[0] not in ("no", "not"):
                found.setdefault(words, keys)
    by_first: dict[str, list[tuple[tuple[str, ...], tuple[str, ...]]]] = {}
    for words, keys in sorted(found.items(), key=lambda item: -len(item[0])):
        by_first.setdefault(words[0], []).append((words, keys))
    return {first: tuple(phrases) for first, phrases in by_first.items()}


@cache
def stem_meanings() -> dict[str, tuple[str, ...]]:
    """Meanings of single words by stem, for endings that the table does not list."""
    found: dict[str, tuple[str, ...]] = {}
    for first, phrases in meanings().items():
        for words, keys in phrases:
            if len(words) == 1 and len(first) > _SHORTEST_STEM:
                found.setdefault(stem(first), keys)
    return found


@cache
def cues(kind: str) -> frozenset[str]:
    """Words of a kind from the table of cues."""
    return frozenset(word for name, words in table("cues") if name == kind for word in words.split())


@cache
def shorthand() -> dict[str, tuple[str, ...]]:
    """Abbreviations, spelt exactly, that hold words which a gate reads, such as the side in RUE."""
    return {short: tuple(words.split()) for short, words in table("shorthand")}


@cache
def function_words() -> frozenset[str]:
    """Words without content of their own."""
    rows = table("general_words")
    return frozenset(word for kind, words in rows if kind in ("function", "counting") for word in words.split())


@cache
def narrative_stems() -> frozenset[str]:
    """Stems of words that tell of any patient alike and carry little by themselves."""
    return frozenset(
        stem(word)
        for kind, words in table("general_words")
        if kind in ("narrative", "action", "layout")
        for word in words.split()
    )


@cache
def clinical_keys() -> frozenset[str]:
    """Keys of words that name a disease, a symptom, a treatment, a test or a part of the body."""
    known = {stem(word) for _, words in table("clinical_words") for word in words.split()}
    known.update(key for phrases in meanings().values() for _, keys in phrases for key in keys)
    return frozenset(known - narrative_stems())


@cache
def everyday_meanings() -> frozenset[tuple[str, ...]]:
    """Meanings of words that any text has, such as "trouble" or "increase"; they name nothing of medicine."""
    return frozenset(
        tuple(stem(word) for word in meaning.split("-"))
        for kind, meanings_ in table("general_words")
        if kind == "everyday"
        for meaning in meanings_.split()
    )


@cache
def finding_meanings() -> frozenset[tuple[str, ...]]:
    """Whole meanings of words that name a disease or a symptom."""
    known = {stem(word) for kind, words in table("clinical_words") if kind in _FINDINGS for word in words.split()}
    narrative = narrative_stems()
    return frozenset(stem_meanings().get(root, (root,)) for root in known if root not in narrative)


@cache
def disease_keys() -> frozenset[str]:
    """Keys of words that name a disease or a symptom."""
    known: set[str] = set()
    for kind, words in table("clinical_words"):
        if kind in _FINDINGS:
            for word in words.split():
                root = stem(word)
                known.update(stem_meanings().get(root, (root,)))
    return frozenset(known - narrative_stems())
