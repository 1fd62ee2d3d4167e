"""The model's own second opinion on a rephrasing that passed the gates (``--judge``).

Off by default: it doubles the work, and a small model is a weak judge of its own text. It only ever rejects.
"""

from __future__ import annotations

import re

from site_client.engines.engine import Request, Sampling

REASON = "judge"
_TEMPLATE = """
Compare a rewritten clinical text with its source. Answer UNFAITHFUL if the rewritten text changes, adds or leaves out any clinical fact of the source: a number, unit, dose, date, side of the body, negation, drug, certainty, severity, or whom something concerns. Otherwise answer FAITHFUL. General explanations of terms are allowed. Answer with that one word.

Source: {source}

Rewritten text: {text}
""".strip()  # noqa: E501 - one paragraph is one line for the model
_ANSWER = re.compile(r"\b(UN)?FAITHFUL\b")
_SLOT = re.compile(r"\{(source|text)\}")


def question(source: str, text: str, seed: int) -> Request:
    """Ask whether a text is faithful to its source."""
    values = {"source": source, "text": text}
    return Request(
        prompt=_SLOT.sub(lambda slot: values[slot[1]], _TEMPLATE),
        prompt_name="judge",
        source=source,
        max_tokens=16,
        sampling=Sampling(temperature=0.0),
        seed=seed,
    )


def says_faithful(answer: str) -> bool:
    """Read the answer; one that says neither is a no."""
    found = _ANSWER.search(answer.upper())
    return found is not None and found[1] is None
