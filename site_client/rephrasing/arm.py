"""An arm: one model x one prompt, and the identity of the jobs that it consists of."""

from __future__ import annotations

import hashlib
import math
from functools import cached_property

from pydantic import BaseModel, ConfigDict, Field

from privacy.note_types import Chunk
from site_client.chunks import MAX_TOKENS, estimate_tokens
from site_client.engines.engine import Request, Sampling
from site_client.rephrasing.prompts import Prompt

_SLACK = 48  # tokens: a telegraphic line of three words may become a sentence


class Arm(BaseModel):
    """Everything that determines what is written for a chunk.

    Attributes:
        model: short name of the model.
        revision: pins the model.
        prompt: what it is asked.
        sampling: how tokens are drawn.
        seed: of the arm; every job derives its own.
        second_opinion: whether the model judges its own texts after the gates.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str = Field(pattern=r"^[a-z0-9][a-z0-9.-]*$", max_length=100)
    revision: str
    prompt: Prompt
    sampling: Sampling
    seed: int = Field(ge=0)
    second_opinion: bool = False

    @property
    def longest(self) -> int:
        """Estimated tokens of the longest prompt with its reply."""
        prompt = estimate_tokens(self.prompt.template) + MAX_TOKENS
        return prompt + math.ceil(MAX_TOKENS * self.prompt.allows.max_length_ratio) + _SLACK

    @property
    def name(self) -> str:
        """``<model>.<prompt>``."""
        return f"{self.model}.{self.prompt.name}"

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of prompt, model revision, sampling and seed (hex). Another one is another corpus."""
        parts = [self.prompt.name, self.prompt.digest, self.model, self.revision, self.sampling.model_dump_json()]
        parts += [str(self.seed), *(["second opinion"] if self.second_opinion else [])]
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()

    def job(self, chunk: Chunk) -> str:
        """Identity of rephrasing one chunk: SHA-256 of the chunk and the arm's fingerprint (hex)."""
        parts = [self.fingerprint, chunk.chunk_key, chunk.header, chunk.text]
        return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogatepass")).hexdigest()

    def request(self, chunk: Chunk, job: str) -> Request:
        """What the engine is asked for a job."""
        return Request(
            prompt=self.prompt.fill(chunk),
            prompt_name=self.prompt.name,
            source=chunk.text,
            max_tokens=math.ceil(estimate_tokens(chunk.text) * self.prompt.allows.max_length_ratio) + _SLACK,
            sampling=self.sampling,
            seed=int(job[:8], 16) >> 1,
        )
