"""Verdicts and endings in the words of people who never saw a gate."""

from __future__ import annotations

from collections.abc import Sequence

from site_client.show.visible import visible

_REASONS = {
    "empty": "nothing was written",
    "truncated": "it was cut off before its end",
    "copy": "it copies the wording of the source",
    "length": "it is much shorter or longer than the source",
    "drift": "it leaves the subject of the source",
    "repetition": "it repeats itself",
    "preamble": "it talks about the task instead of the patient",
    "refusal": "the model refused to answer",
    "language": "it is in another language",
    "layout": "it has headings or lists that were not asked for",
    "numbers": "a number is missing, new or changed",
    "units": "a unit of measurement changed",
    "dates": "a date or time is missing, new or changed",
    "frequency": "how often something is done or taken changed",
    "negation": "something denied is affirmed, or the other way round",
    "laterality": "left and right, or another side or direction, changed",
    "medications": "a drug, its dose or its route is missing, new or changed",
    "certainty": "something only possible became certain, or the other way round",
    "severity": "how severe or how acute something is changed",
    "attribution": "something is said of, or by, another person",
    "omission": "findings of the source are missing",
    "invention": "it says something that the source does not say",
    "judge": "the model itself, asked again, called it unfaithful",
}
_ENDINGS = {
    "stop": "finished by itself",
    "length": "cut off at the length limit",
    "prompt_too_long": "not begun: the passage was too long for the model",
}


def reason_words(reason: str) -> str:
    """Say what a gate found, as a clause.

    Args:
        reason: name of a gate. One that is not known here, as of an older version, is named as it is.
    """
    return _REASONS.get(reason) or f"it failed the check named {visible(reason)}"


def verdict_words(reasons: Sequence[str]) -> str:
    """A verdict in one line.

    Example:
        >>> verdict_words(["numbers"])
        'Rejected: a number is missing, new or changed'
    """
    said = dict.fromkeys(map(reason_words, reasons))
    return f"Rejected: {'; '.join(said)}" if said else "Accepted"


def ending_words(finish_reason: str) -> str:
    """Say why the model stopped writing."""
    return _ENDINGS.get(finish_reason) or visible(finish_reason)


def share_words(accepted: int, judged: int) -> str:
    """A share of acceptance as a whole percentage that says 0 or 100 only where it is exact."""
    if not judged:
        return "-"
    percent = round(100 * accepted / judged)
    if 0 < accepted < judged:
        percent = min(max(percent, 1), 99)
    return f"{percent} %"
