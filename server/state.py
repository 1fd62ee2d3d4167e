"""What the coordinator knows between two rounds, and the checkpoint that keeps it.

A server folder holds ``plan.json``, ``model/`` (the model before the first round) and ``checkpoints/round-NNNN/`` with
the weights, the outer momentum and the history. A checkpoint appears whole or not at all; the last two are kept.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from protocols.durable import whole_folder, write_text
from protocols.errors import UsageError, WorkError
from protocols.manifest import ParameterManifest
from protocols.plan import Plan

if TYPE_CHECKING:
    from numpy.typing import NDArray

_KEPT_CHECKPOINTS = 2


class Refusal(BaseModel):
    """One site whose reply was not used.

    Attributes:
        site: its number; None when it never said who it is.
        code: name of the error code.
    """

    model_config = ConfigDict(frozen=True)

    site: int | None
    code: str


class RoundRecord(BaseModel):
    """What happened in one round.

    Attributes:
        round: counted from 1.
        accepted: numbers of the sites whose updates were averaged.
        refused: the others, with the reason.
        train_loss: average over the accepted sites by weight [nats/token]; None under differential privacy.
        train_tokens: over the accepted sites; None under differential privacy.
        validation: {site: (bits, bytes)} of the weights that entered the round, where a site may say so.
        bytes_up: payload of the replies.
        bytes_down: payload of the requests.
        seconds: wall time.
        resent: {site: how often it was lost and asked again}.
        privacy: {site: what its study has spent by then}, under names that say the unit.
        site_level_epsilon: what central noise promises hospitals by then; no part of what patients are promised.
    """

    model_config = ConfigDict(frozen=True)

    round: int
    accepted: list[int]
    refused: list[Refusal]
    train_loss: float | None
    train_tokens: int | None
    validation: dict[int, tuple[int, int]]
    bytes_up: int
    bytes_down: int
    seconds: float
    resent: dict[int, int] = {}
    privacy: dict[int, dict[str, float]] = {}
    site_level_epsilon: float | None = None


class _History(BaseModel):
    plan: Plan
    rounds: list[RoundRecord]


@dataclass(kw_only=True)
class StudyState:
    """Weights, outer momentum and history after ``len(history)`` rounds."""

    weights: dict[str, NDArray[np.float32]]
    momentum: dict[str, NDArray[np.float32]] = field(default_factory=dict)
    history: list[RoundRecord] = field(default_factory=list)


@dataclass(frozen=True)
class ServerFolder:
    """A study's folder at the coordinator.

    Args:
        path: the folder.
    """

    path: Path

    @classmethod
    def create(cls, path: Path, plan: Plan) -> Self:
        """Write the plan into a new server folder; ``model/`` is put there by the caller.

        Raises:
            UsageError: the folder belongs to another plan.
        """
        folder = cls(path)
        if (path / "plan.json").exists():
            if folder.plan() != plan:
                raise UsageError(f"{path} holds another plan.", hint="choose another folder or the plan of this one")
        else:
            write_text(path / "plan.json", plan.model_dump_json(indent=2))
        return folder

    @property
    def model(self) -> Path:
        """The model before the first round."""
        return self.path / "model"

    @property
    def checkpoints(self) -> Path:
        """Folder of the checkpoints."""
        return self.path / "checkpoints"

    def plan(self) -> Plan:
        """Read the plan.

        Raises:
            UsageError: it is missing or not a valid plan.
        """
        path = self.path / "plan.json"
        try:
            return Plan.model_validate_json(path.read_bytes())
        except (OSError, ValidationError) as error:
            raise UsageError(f"{path} is missing or no valid plan.") from error

    def manifest(self) -> ParameterManifest:
        """The arrays of this study's model."""
        return ParameterManifest.of(load_file(self.model / "model.safetensors"))

    def rounds_done(self) -> int:
        """Number of the newest checkpoint's round; 0 without one."""
        return max((int(p.name.removeprefix("round-")) for p in self.checkpoints.glob("round-*")), default=0)

    def load(self) -> StudyState:
        """Read the newest checkpoint, or the initial weights before the first round.

        Raises:
            WorkError: the checkpoint cannot be read.
            UsageError: it belongs to another plan.
        """
        done = self.rounds_done()
        if not done:
            return StudyState(weights=load_file(self.model / "model.safetensors"))
        folder = self._checkpoint(done)
        try:
            history = _History.model_validate_json((folder / "history.json").read_bytes())
            weights = load_file(folder / "weights.safetensors")
            momentum = load_file(folder / "momentum.safetensors")
        except (OSError, ValidationError, SafetensorError) as error:
            raise WorkError(
                f"The checkpoint {folder} cannot be read.", hint="delete that folder to go on from the one before it"
            ) from error
        if history.plan != self.plan():
            raise UsageError(f"The checkpoint {folder} belongs to another plan than {self.path / 'plan.json'}.")
        return StudyState(weights=weights, momentum=momentum, history=history.rounds)

    def history(self) -> list[RoundRecord]:
        """What happened in the rounds so far, without the weights.

        Raises:
            WorkError: the newest checkpoint cannot be read.
        """
        done = self.rounds_done()
        if not done:
            return []
        path = self._checkpoint(done) / "history.json"
        try:
            return _History.model_validate_json(path.read_bytes()).rounds
        except (OSError, ValidationError) as error:
            raise WorkError(
                f"{path} cannot be read.", hint="delete its folder to go on from the one before it"
            ) from error

    def save(self, state: StudyState) -> None:
        """Write a checkpoint and let go of all but the last two.

        Raises:
            WorkError: the disk is full; the checkpoints before are untouched.
        """
        done = len(state.history)
        with whole_folder(self._checkpoint(done)) as partial:
            save_file(state.weights, partial / "weights.safetensors")
            save_file(state.momentum, partial / "momentum.safetensors")
            history = _History(plan=self.plan(), rounds=state.history)
            (partial / "history.json").write_text(history.model_dump_json(), encoding="utf-8")
        for number in range(1, done - _KEPT_CHECKPOINTS + 1):
            shutil.rmtree(self._checkpoint(number), ignore_errors=True)

    def _checkpoint(self, number: int) -> Path:
        return self.checkpoints / f"round-{number:04d}"
