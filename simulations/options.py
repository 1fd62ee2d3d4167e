"""What a run of the simulation was asked to do; two runs with equal options do the same."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from protocols.messages import PrivacyUnit
from site_client.engines.choose import EngineName
from site_client.notes.mapping import ColumnMapping


class PrivacyOptions(BaseModel):
    """The ``--dp-`` options.

    Attributes:
        target_epsilon: of one unit at each hospital, over the whole study.
        unit: whose privacy.
        delta: below 1 / units of the largest hospital.
        sampling_rate: instead of the scenario's.
        max_records: instead of the scenario's.
        max_grad_norm: instead of the scenario's.
        central_noise: noise multiplier at the coordinator, over hospitals; None for none.
        central_norm: bound on a hospital's update there.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    target_epsilon: Annotated[float, Field(gt=0, le=1_000)]
    unit: PrivacyUnit = "patient"
    delta: Annotated[float, Field(gt=0, lt=1)] = 1e-5
    sampling_rate: Annotated[float, Field(gt=0, le=1)] | None = None
    max_records: Annotated[int, Field(ge=1, le=65_536)] | None = None
    max_grad_norm: Annotated[float, Field(gt=0, le=1e6)] | None = None
    central_noise: Annotated[float, Field(gt=0, le=1e6)] | None = None
    central_norm: Annotated[float, Field(gt=0, le=1e9)] = 1.0


class Options(BaseModel):
    """The options of ``fednotes simulate`` that change its result.

    Attributes:
        notes: export files and folders; empty for the built-in generator.
        columns: which column holds what.
        site_by: column that tells hospitals apart.
        site_map: name or file of a map from its values to hospitals.
        sites: number of hospitals; None for one a value.
        scenario: name.
        engine: who rephrases.
        model: with which model, for an engine that has one.
        endpoints: where, for the openai engine.
        prompts: by which prompts; empty for the default.
        rounds: instead of the scenario's.
        size: model size instead of the scenario's.
        outer: outer optimizer instead of the scenario's.
        packing: how rows are filled; "patient" never lets two patients share a row.
        deidentify: how notes are cleaned.
        privacy: train one more federated model under differential privacy.
        initial: model folder to start from instead of fresh weights.
        evals: further evaluation sets by name.
        skip_small_sites: leave hospitals out that are too small.
        strict: stop at the first record that cannot be read.
        seed: of generator, split, initial weights and data order.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    notes: tuple[Path, ...] = ()
    columns: ColumnMapping = ColumnMapping()
    site_by: str | None = None
    site_map: str | None = None
    sites: Annotated[int, Field(ge=1, le=999)] | None = None
    scenario: str = "demo"
    engine: EngineName = "rules"
    model: str | None = None
    endpoints: tuple[str, ...] = ()
    prompts: tuple[str, ...] = ()
    rounds: Annotated[int, Field(ge=1, le=100_000)] | None = None
    size: str | None = None
    outer: Literal["fedavg", "nesterov"] | None = None
    packing: Literal["stream", "patient"] = "stream"
    deidentify: Literal["none", "pattern"] = "pattern"
    privacy: PrivacyOptions | None = None
    initial: Path | None = None
    evals: dict[str, Path] = {}
    skip_small_sites: bool = False
    strict: bool = False
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
