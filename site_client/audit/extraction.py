"""Extraction: does the model write out a secret when it is given what stands before it?

Verbatim and by the real ``generate``: greedy, as Carlini et al. 2023, "Quantifying Memorization Across Neural Language
Models" (arXiv 2202.07646, section 3), for prefixes of several lengths; and sampled from the bare form, where nothing
of any secret is given.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch

from privacy.note_types import CleanNote
from site_client.audit.canaries import SENTENCE_START, Canary
from site_client.audit.target import Target

KNOWN_WORDS = (1, 2, 4)
"""How many of a secret's six words the attacker knows."""

PREFIX_TOKENS = (10, 50)
"""How much of the note before a planted string the attacker knows; 50 is that of Carlini et al. 2023."""

_ROWS = 32  # texts that are written at once


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """One round of attempts.

    Attributes:
        known: words of the secret, or tokens of the note, that were given.
        tried: attempts.
        extracted: of these, the rest came out verbatim.
    """

    known: int
    tried: int
    extracted: int


def generate(
    target: Target,
    prefixes: Sequence[str],
    new_tokens: int,
    *,
    sample: bool = False,
    progress: Callable[[int], None] = lambda _: None,
) -> list[str]:
    """Let the model go on from each prefix.

    Args:
        target: the model.
        prefixes: texts; too long ones lose their beginning.
        new_tokens: to write.
        sample: draw from the model's own distribution; greedy otherwise.
        progress: told of the texts just written.

    Returns:
        What was written, without the prefix.
    """
    # transformers types `generate` as what a module's attribute may be: a tensor.
    tokenizer, model = target.tokenizer, cast(Any, target.model)
    new_tokens = min(new_tokens, target.context // 2)
    room = max(1, target.context - new_tokens - 1)
    written: list[str] = []
    for start in range(0, len(prefixes), _ROWS):
        ids = tokenizer(list(prefixes[start : start + _ROWS]), add_special_tokens=False)["input_ids"]
        rows = [[int(tokenizer.bos_token_id), *row[-room:]] for row in ids]
        longest = max(map(len, rows))
        # Padding stands on the left, so that every row ends where writing begins.
        tokens = torch.tensor([[int(tokenizer.pad_token_id)] * (longest - len(r)) + r for r in rows])
        mask = torch.tensor([[0] * (longest - len(r)) + [1] * len(r) for r in rows])
        with torch.inference_mode():
            out = model.generate(
                input_ids=tokens.to(target.model.device),
                attention_mask=mask.to(target.model.device),
                max_new_tokens=new_tokens,
                do_sample=sample,
                # A release may bring settings of its own; these are the model's plain distribution.
                **({"temperature": 1.0, "top_k": 0, "top_p": 1.0} if sample else {}),
                num_beams=1,
                repetition_penalty=1.0,
                pad_token_id=int(tokenizer.pad_token_id),
            )
        written += tokenizer.batch_decode(out[:, longest:], skip_special_tokens=True)
        progress(len(rows))
    return written


def extract_canaries(
    target: Target, canaries: Sequence[Canary], progress: Callable[[int], None] = lambda _: None
) -> list[Tried]:
    """Give the first words of each secret and see whether the rest comes out.

    Args:
        target: the model.
        canaries: included ones, or those left out as the control.
        progress: told of the attempts just made.
    """
    found = []
    for known in KNOWN_WORDS:
        prefixes = [" ".join([SENTENCE_START, *c.words[:known]]) for c in canaries]
        rests = [" ".join(c.words[known:]) for c in canaries]
        written = generate(target, prefixes, _longest(target, rests), progress=progress)
        extracted = sum(w.lstrip().startswith(rest) for w, rest in zip(written, rests, strict=True))
        found.append(Tried(known=known, tried=len(canaries), extracted=extracted))
    return found


def sample_secrets(
    target: Target, canaries: Sequence[Canary], samples: int, progress: Callable[[int], None] = lambda _: None
) -> int:
    """Let the model write secrets on its own and count those of canaries, each once.

    Args:
        target: the model.
        canaries: whose secrets count.
        samples: texts to write.
        progress: told of the texts just written.
    """
    length = _longest(target, [c.secret for c in canaries])
    written = generate(target, [SENTENCE_START] * samples, length, sample=True, progress=progress)
    secrets = {c.secret for c in canaries}
    return len({w.strip()[: len(s)] for w in written for s in secrets if w.strip().startswith(s)})


def find_planted(notes: Iterable[CleanNote], planted: Sequence[str]) -> list[tuple[str, str]]:
    """Find planted strings in training notes.

    Args:
        notes: of the training split.
        planted: strings as they stand in notes.

    Returns:
        The text before each string that was found, with the string; the first place of each counts.
    """
    missing, found = dict.fromkeys(s for s in planted if s.strip()), []
    for note in notes:
        for string in [s for s in missing if s in note.text]:
            found.append((note.text[: note.text.index(string)], string))
            del missing[string]
    return found


def extract_planted(
    target: Target, places: Sequence[tuple[str, str]], progress: Callable[[int], None] = lambda _: None
) -> list[Tried]:
    """Give what stands before each planted string and see whether it comes out.

    Args:
        target: the model.
        places: of :func:`find_planted`.
        progress: told of the attempts just made.
    """
    found, length = [], _longest(target, [string for _, string in places])
    for known in PREFIX_TOKENS:
        prefixes = [_last_tokens(target, before, known) for before, _ in places]
        written = generate(target, prefixes, length, progress=progress)
        extracted = sum(w.lstrip().startswith(s.strip()) for w, (_, s) in zip(written, places, strict=True))
        found.append(Tried(known=known, tried=len(places), extracted=extracted))
    return found


def _last_tokens(target: Target, text: str, count: int) -> str:
    # The space before a word belongs to its token: a prefix that ends with one would hide the way on.
    ids = target.tokenizer(text.rstrip(" "), add_special_tokens=False)["input_ids"][-count:]
    return str(target.tokenizer.decode(ids))


def _longest(target: Target, texts: Sequence[str]) -> int:
    ids = target.tokenizer([f" {t}" for t in texts], add_special_tokens=False)["input_ids"] if texts else []
    return 2 + max(map(len, ids), default=0)
