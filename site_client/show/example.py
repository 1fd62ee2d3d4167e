"""What is shown: a chunk with its rephrasings, and how many there are of each arm."""

from __future__ import annotations

from dataclasses import dataclass

from privacy.note_types import Chunk
from site_client.rephrasing.corpus_folder import ArmRecord
from site_client.rephrasing.results import Result


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmFacts:
    """Who wrote a rephrasing, and what was asked for.

    Attributes:
        name: of the arm.
        model: short name.
        engine: "rules", "vllm" or "openai".
        prompt: name.
        asked: the prompt in one line.
    """

    name: str
    model: str
    engine: str
    prompt: str
    asked: str

    @classmethod
    def of(cls, record: ArmRecord) -> ArmFacts:
        """Take them out of ``arm.json``."""
        prompt = record.arm.prompt
        return cls(
            name=record.arm.name,
            model=record.arm.model,
            engine=record.engine,
            prompt=prompt.name,
            asked=prompt.summary,
        )


@dataclass(frozen=True, slots=True)
class Rephrasing:
    """One result and who wrote it."""

    arm: ArmFacts
    result: Result

    @property
    def accepted(self) -> bool:
        """Whether it may be trained on."""
        return not self.result.reasons


@dataclass(frozen=True, slots=True, repr=False)
class Example:
    """One chunk and all that the current arms made of it, by name of the arm."""

    chunk: Chunk
    rephrasings: tuple[Rephrasing, ...]

    def __repr__(self) -> str:
        return f"Example({self.chunk.chunk_key[:8]}, {len(self.rephrasings)} rephrasings)"


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmTotal:
    """Verdicts over everything that an arm has for the present notes."""

    arm: ArmFacts
    judged: int
    accepted: int
