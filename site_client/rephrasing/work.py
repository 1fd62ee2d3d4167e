"""One model's share of a run: the engine that writes, and an arm for each prompt."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from protocols.errors import UsageError
from site_client.engines.choose import EngineChoice, open_engine
from site_client.engines.engine import Engine, Sampling
from site_client.rephrasing.arm import Arm
from site_client.rephrasing.prompts import Prompt

DEFAULT_PROMPT = "professional"


@dataclass(frozen=True, kw_only=True)
class Work:
    """What one engine has to do.

    Attributes:
        name: the engine's, as people know it.
        engine: not started.
        arms: one for each prompt.
    """

    name: str
    engine: Engine
    arms: tuple[Arm, ...]


def plan_work(
    choice: EngineChoice,
    prompts: Sequence[Prompt],
    *,
    log: Path,
    seed: int = 0,
    temperature: float | None = None,
    second_opinion: bool = False,
    hosts: Collection[str] = (),
    notice: Callable[[str], None] | None = None,
) -> Work:
    """Make an engine and its arms.

    Args:
        choice: which engine with which model.
        prompts: at least one.
        log: file for the words of an engine that talks.
        seed: of the arms.
        temperature: instead of the one that suits the model.
        second_opinion: let the model judge its own texts too.
        hosts: besides this machine, those that may be sent notes.
        notice: is told of endpoints that fail and come back.

    Raises:
        UsageError: options that do not go together, or a model that is not there.
    """
    chosen = open_engine(choice, log=log, hosts=hosts, notice=notice)
    sampling = chosen.sampling
    if temperature is not None:
        sampling = Sampling.model_validate(sampling.model_dump() | {"temperature": temperature})
    arms = [
        Arm(
            model=chosen.engine.model,
            revision=chosen.engine.revision,
            prompt=prompt,
            sampling=sampling,
            seed=seed,
            second_opinion=second_opinion,
        )
        for prompt in prompts
    ]
    for arm in arms:
        if chosen.engine.context is not None and arm.longest > chosen.engine.context:
            raise UsageError(
                f"The context of {chosen.engine.model}, {chosen.engine.context:,} tokens, is shorter than the "
                f"{arm.longest:,} that prompt {arm.prompt.name} needs for a long chunk and its reply.",
                hint="raise --context, or choose another model or prompt",
            )
    return Work(name=choice.engine, engine=chosen.engine, arms=tuple(arms))
