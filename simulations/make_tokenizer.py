"""Makes ``modeling/tokenizer.json``, the vocabulary that ships: from generated text, never from notes.

Run ``python -m simulations.make_tokenizer`` after the generator has changed.
"""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import modeling
from modeling.tokenizer import train_tokenizer
from protocols.durable import write_text
from simulations.synthetic_notes import iter_training_text

VOCABULARY = 4_096
TEXTS = 4_000
SEED = 20_241_128


def tokenizer_json() -> str:
    """Train the vocabulary; the same every time."""
    tokenizer = train_tokenizer(islice(iter_training_text(SEED), TEXTS), VOCABULARY)
    return str(tokenizer.backend_tokenizer.to_str(pretty=False))


if __name__ == "__main__":
    write_text(Path(modeling.__path__[0]) / "tokenizer.json", tokenizer_json())
