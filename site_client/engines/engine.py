"""What every rephrasing engine offers: write one reply to one request, many requests at a time.

The interface is asynchronous because the engines are: a GPU and a server are kept busy by many open requests. Whoever
calls holds at most ``window`` requests open; the engine orders and batches them as it likes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal, Protocol

from pydantic import BaseModel, ConfigDict, Field

from protocols.errors import WorkError

# "prompt_too_long": the request does not fit into the model's context and never will. "failed": a server fails at this
# request again and again while others succeed. Everything else raises.
FinishReason = Literal["stop", "length", "prompt_too_long", "failed"]


class EngineError(WorkError):
    """The engine as a whole cannot go on: no model, no memory, no endpoint. Results so far are kept."""


class Sampling(BaseModel):
    """How tokens are drawn; part of every job's identity. Defaults: NeMo Curator's for rephrasing.

    Attributes:
        temperature: 0 is greedy.
        top_p: nucleus.
        top_k: 0 is off.
        min_p: 0 is off.
        repetition_penalty: 1 is off.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    temperature: Annotated[float, Field(ge=0, le=2)] = 0.5
    top_p: Annotated[float, Field(gt=0, le=1)] = 0.9
    top_k: Annotated[int, Field(ge=0)] = 0
    min_p: Annotated[float, Field(ge=0, le=1)] = 0.0
    repetition_penalty: Annotated[float, Field(gt=0, le=2)] = 1.0


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Request:
    """One text to write.

    Attributes:
        prompt: the whole user message: instruction first, then header and text of the chunk.
        prompt_name: which prompt this is, for an engine that needs no instruction.
        source: text of the chunk alone, likewise.
        max_tokens: bound on the reply.
        sampling: how tokens are drawn.
        seed: of this request's own generator.
    """

    prompt: str
    prompt_name: str
    source: str
    max_tokens: int
    sampling: Sampling
    seed: int

    def __repr__(self) -> str:
        return f"Request({len(self.prompt)} characters)"


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Completion:
    """What an engine wrote.

    Attributes:
        text: as the model wrote it.
        finish_reason: "stop" at the model's own end, "length" at the bound; the others where nothing was written.
        prompt_tokens: as the model counts them.
        output_tokens: likewise.
    """

    text: str
    finish_reason: FinishReason
    prompt_tokens: int
    output_tokens: int

    def __repr__(self) -> str:
        return f"Completion({self.finish_reason}, {self.output_tokens} tokens)"


class Engine(Protocol):
    """Writes replies.

    Attributes:
        model: short name, part of arm and file names (lower case letters, digits, dots and hyphens).
        revision: what pins the model exactly: digest of a folder, commit of a hub name, version of the rules.
        window: open requests that keep the engine busy.
        context: longest prompt and reply together [tokens]; None where only the engine's reply tells.
    """

    model: str
    revision: str
    window: int
    context: int | None

    async def start(self) -> None:
        """Load the model or reach the endpoints.

        Raises:
            UsageError: what was asked for cannot work.
            EngineError: it cannot work here; the message says what to do.
        """
        ...

    async def write(self, request: Request) -> Completion:
        """Write one reply.

        Raises:
            EngineError: neither this request nor others can be done any more.
        """
        ...

    async def close(self) -> None:
        """Stop the engine and give back its memory."""
        ...
