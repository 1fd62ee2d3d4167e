"""From what a person typed to an engine."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from pydantic import BaseModel, ConfigDict

from protocols.errors import UsageError
from site_client.engines.engine import Engine, Sampling
from site_client.engines.models import LocalModel, presets, short_name
from site_client.engines.rules_engine import RulesEngine
from site_client.engines.vllm_engine import VllmEngine, VllmSettings

EngineName = Literal["rules", "vllm", "openai"]
ENGINES: tuple[EngineName, ...] = get_args(EngineName)


class EngineChoice(BaseModel):
    """Which engine writes, with which model.

    Attributes:
        engine: by name.
        model: folder, preset or hub name ("vllm"), or the name under which endpoints serve it ("openai").
        revision: pins the model, see ``LocalModel.find``; endpoints cannot be asked for theirs.
        endpoints: addresses of OpenAI-compatible servers.
        vllm: how vLLM is set up.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    engine: EngineName = "rules"
    model: str | None = None
    revision: str | None = None
    endpoints: tuple[str, ...] = ()
    vllm: VllmSettings = VllmSettings()


@dataclass(frozen=True)
class Chosen:
    """An engine that is ready to start, and how its model likes to be sampled."""

    engine: Engine
    sampling: Sampling


def open_engine(
    choice: EngineChoice, *, log: Path, hosts: Collection[str] = (), notice: Callable[[str], None] | None = None
) -> Chosen:
    """Make the engine; nothing is loaded before its ``start``.

    Args:
        choice: what was typed.
        log: file for the words of an engine that talks.
        hosts: besides this machine, those that may be sent notes.
        notice: is told of endpoints that fail and come back.

    Raises:
        UsageError: options that do not go together, or a model that is not there.
    """
    if choice.endpoints and choice.engine != "openai":
        raise UsageError("--endpoint goes with --engine openai.")
    if choice.engine == "rules":
        if choice.model is not None:
            raise UsageError("The rules engine has no model.", hint="choose --engine vllm or --engine openai")
        return Chosen(RulesEngine(), Sampling(temperature=0.0))
    if choice.model is None:
        raise UsageError(
            f"--engine {choice.engine} needs --model.",
            hint=f"a folder, a hub name with its commit, or one of: {', '.join(presets())}",
        )
    if choice.engine == "vllm":
        local = LocalModel.find(choice.model, choice.revision)
        return Chosen(VllmEngine(local, choice.vllm, log), local.sampling)
    from site_client.engines.answers import API_KEY_VARIABLE
    from site_client.engines.openai_engine import OpenAIEngine

    known = {p.hub: p for p in presets().values()}.get(choice.model)
    engine = OpenAIEngine(
        choice.endpoints,
        choice.model,
        model=short_name(choice.model),
        revision=choice.revision or "as served",
        template=known.template if known else None,
        api_key=os.environ.get(API_KEY_VARIABLE),
        allowed_hosts=hosts,
        notice=notice,
    )
    return Chosen(engine, known.sampling if known else Sampling())
