"""What the gates judge: one rephrasing beside its source, and what its prompt allows."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field


class Allowance(BaseModel):
    """What a prompt permits its rephrasings, from the ``[allows]`` table of a prompt file.

    Attributes:
        explanations: terms may be explained, so statements of general knowledge are no invented findings.
        questions: the text is questions and answers.
        layout: headings, lists or tables are the format asked for, not a preamble or a copy of the source's layout.
        selection: the format keeps some facts only (a problem list, a timeline), so dropped findings are no fault.
        min_length_ratio: least number of characters, as a multiple of the source's.
        max_length_ratio: greatest number of characters, as a multiple of the source's.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    explanations: bool = False
    questions: bool = False
    layout: bool = False
    selection: bool = False
    min_length_ratio: Annotated[float, Field(gt=0, le=1)] = 0.5
    max_length_ratio: Annotated[float, Field(ge=1, le=20)] = 2.5


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Candidate:
    """One rephrasing to judge.

    Attributes:
        source: text of the chunk.
        text: what the engine wrote.
        header: the context header that the engine saw with the chunk.
        finish_reason: why the engine stopped: "stop" at its own end, "length" at the token bound.
        allows: what the prompt permits.
    """

    source: str
    text: str
    header: str = ""
    finish_reason: str = "stop"
    allows: Allowance = field(default_factory=Allowance)

    def __repr__(self) -> str:
        return f"Candidate({len(self.source)} characters -> {len(self.text)} characters)"
