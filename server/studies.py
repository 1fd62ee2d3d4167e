"""A coordinator's studies: a folder each, with the signed plan that sites approve and what is wished for it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from filelock import FileLock
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from safetensors import SafetensorError

from protocols.bundle import bundle_hash, fednotes_version
from protocols.durable import whole_folder, write_text
from protocols.errors import UsageError
from protocols.messages import StudyName
from protocols.plan import Plan, SignedPlan
from server.state import ServerFolder

_NAME = TypeAdapter(StudyName)
_KEPT_RUNS, _LOCK_S = 1_000, 30.0
Wish = Literal["running", "stopped", "finished", "failed"]


class StudyRecord(BaseModel):
    """Contents of ``study.json``.

    Attributes:
        wish: "running" as long as rounds are left and nobody said otherwise.
        runs: numbers of the Flower runs that worked on it, the last one last.
        last_failure: why the last run ended early; settings, codes and counts, no texts from sites.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    wish: Wish = "running"
    runs: Annotated[tuple[int, ...], Field(max_length=100_000)] = ()
    last_failure: str = ""


@dataclass(frozen=True)
class StudyFolder:
    """Paths of one study.

    Args:
        path: the folder.
    """

    path: Path

    @property
    def name(self) -> str:
        """Name of the study."""
        return self.path.name

    @property
    def server(self) -> ServerFolder:
        """Plan, model and checkpoints."""
        return ServerFolder(self.path)

    @property
    def signed_plan(self) -> Path:
        """The file to hand to the sites."""
        return self.path / "signed-plan.json"

    def record(self) -> StudyRecord:
        """Read what is wished for it.

        Raises:
            UsageError: the file is damaged.
        """
        path = self.path / "study.json"
        try:
            return StudyRecord.model_validate_json(path.read_bytes()) if path.exists() else StudyRecord()
        except ValidationError as error:
            raise UsageError(
                f"{path} is damaged.", hint=f"delete it, then: fednotes server resume {self.name}"
            ) from error

    def wish(self, wish: Wish, failure: str | None = None) -> None:
        """Change what is wished for it."""
        self._change(lambda _: {"wish": wish} | ({} if failure is None else {"last_failure": failure}))

    def failed(self, failure: str) -> None:
        """Say why a run ended early."""
        self._change(lambda _: {"last_failure": failure})

    def add_run(self, run: int) -> None:
        """Remember a Flower run."""
        self._change(lambda record: {"runs": (*record.runs, run)[-_KEPT_RUNS:]})

    def _change(self, changes: Callable[[StudyRecord], dict[str, object]]) -> None:
        # The driver, a run and a person at the command line may all change it at once; nobody's change gets lost.
        with FileLock(self.path / "study.lock", timeout=_LOCK_S):
            record = self.record()
            write_text(self.path / "study.json", record.model_copy(update=changes(record)).model_dump_json())


def create_study(studies: Path, plan: Plan, model: Path, key: Ed25519PrivateKey) -> StudyFolder:
    """Make a study's folder, or find the one of the same plan.

    Args:
        studies: folder of all studies.
        plan: of the study.
        model: folder with the initial model.
        key: the coordinator's, which signs the plan.

    Raises:
        UsageError: the model is another one than the plan's, or the name belongs to another plan.
    """
    folder = StudyFolder(studies / plan.study)
    if not (folder.path / "model").exists():
        with whole_folder(folder.path / "model") as partial:
            shutil.copytree(model, partial, dirs_exist_ok=True)
    server = ServerFolder.create(folder.path, plan)
    try:
        manifest = server.manifest()
    except (OSError, SafetensorError) as error:
        shutil.rmtree(folder.path, ignore_errors=True)
        raise UsageError(f"{model} holds no model.safetensors.", hint="fednotes model new makes one") from error
    if manifest.digest != plan.manifest_digest:
        shutil.rmtree(folder.path, ignore_errors=True)
        raise UsageError(f"The plan is for another model than the one in {model}.", hint="fednotes server plan")
    if not folder.signed_plan.exists():
        signed = SignedPlan.sign(plan, key, fednotes_version=fednotes_version(), bundle_hash=bundle_hash())
        write_text(folder.signed_plan, signed.model_dump_json(indent=2) + "\n")
    return folder


def find_study(studies: Path, name: str) -> StudyFolder:
    """The folder of a study.

    Raises:
        UsageError: there is none of that name.
    """
    try:
        folder = StudyFolder(studies / _NAME.validate_python(name))
    except ValidationError:
        raise UsageError("A study's name has lower-case letters, digits and hyphens.") from None
    if not (folder.path / "plan.json").is_file():
        known = ", ".join(s.name for s in all_studies(studies)) or "none yet"
        raise UsageError(f"There is no study {name} (known: {known}).", hint="fednotes server run PLAN --model FOLDER")
    return folder


def all_studies(studies: Path) -> list[StudyFolder]:
    """Every study, by name."""
    return [StudyFolder(p.parent) for p in sorted(studies.glob("*/plan.json"))]
