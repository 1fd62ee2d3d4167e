"""The embedded engine: a deterministic rewriter behind the interface of the language models; it is none itself."""

from __future__ import annotations

from protocols.errors import UsageError
from site_client.chunks import estimate_tokens
from site_client.engines import rules
from site_client.engines.engine import Completion, Request

_STYLES: dict[str, rules.Style] = {"wikipedia": "plain", "professional": "medical"}


class RulesEngine:
    """Rewrites by rules; needs no model, no GPU and no network."""

    model = "rules"
    revision = rules.VERSION
    window = 256
    context: int | None = None

    async def start(self) -> None:
        """There is nothing to load."""

    async def write(self, request: Request) -> Completion:
        """Rewrite one chunk.

        Raises:
            UsageError: the prompt asks for more than rewritten prose.
        """
        style = _STYLES.get(request.prompt_name)
        if style is None:
            raise UsageError(
                f"The rules engine cannot follow the prompt {request.prompt_name!r}.",
                hint=f"it knows {' and '.join(_STYLES)}; the others need a language model",
            )
        text = rules.rewrite(request.source, style=style, seed=request.seed)
        return Completion(
            text=text,
            finish_reason="stop",
            prompt_tokens=estimate_tokens(request.source),
            output_tokens=estimate_tokens(text),
        )

    async def close(self) -> None:
        """There is nothing to stop."""
