"""Quality gates: output tokens judged per second on one core.

The target is five times what one H100 writes with a 1.7 B model, so that one core never holds up four such cards.
"""

from __future__ import annotations

import statistics
import time

from benchmarks.notes import generated_notes
from benchmarks.table import Row
from modeling.tokenizer import default_tokenizer
from site_client.chunks import chunk_note
from site_client.engines.rules import rewrite
from site_client.gates.candidate import Candidate
from site_client.gates.judge import judge


def rows() -> list[Row]:
    """Tokens per second over chunks and their rewrites."""
    chunks = [c for note in generated_notes() for c in chunk_note(note)]
    pairs = [(c.text, rewrite(c.text)) for c in chunks]
    tokens = sum(map(len, default_tokenizer()([text for _, text in pairs])["input_ids"]))
    seconds = statistics.median(_judge(pairs) for _ in range(5))
    return [
        Row(
            what="quality gates",
            against="5 x an H100 with a 1.7B model",
            measured=tokens / seconds,
            bound="at least",
            target=45_000,
            unit="tok/s",
            detail=f"{len(pairs):,} rewrites of {tokens:,} tokens, one core",
        )
    ]


def _judge(pairs: list[tuple[str, str]]) -> float:
    """Processor time of judging all pairs [s]."""
    started = time.process_time()
    for source, rephrased in pairs:
        judge(Candidate(source=source, text=rephrased))
    return time.process_time() - started
