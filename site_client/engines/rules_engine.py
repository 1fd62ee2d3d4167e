"""The embedded engine: a deterministic rewriter behind the interface of the language models; it is none itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from privacy.note_types import Chunk
from site_client.engines import rules


class RulesEngine:
    """Rewrites by rules; needs no model, no GPU and no network.

    Args:
        style: wording, see ``rules.rewrite``.
        seed: chooses among equivalent sentence forms.
    """

    def __init__(self, style: Literal["plain", "medical"] = "medical", seed: int = 0) -> None:
        self._style = style
        self._seed = seed
        self.arm = f"rules-{style}"
        self.version = f"{rules.VERSION}.{seed}"

    def rephrase(self, chunks: Sequence[Chunk]) -> list[str]:
        """Rewrite each chunk."""
        return [rules.rewrite(c.text, style=self._style, seed=self._seed) for c in chunks]
