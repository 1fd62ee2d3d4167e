"""Which model rephrases: a folder, a preset, or a name on the hub, always pinned to exact content."""

from __future__ import annotations

import hashlib
import re
import tomllib
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, Field

from protocols.errors import UsageError
from site_client.engines.engine import Sampling

_CONTENT = ("*.json", "*.jinja", "*.txt", "*.model", "*.safetensors", "*.bin")
_COMMIT = re.compile(r"[0-9a-f]{40}")


class Preset(BaseModel):
    """One entry of ``models.toml``.

    Attributes:
        hub: name on the Hugging Face hub.
        revision: commit.
        paper: one of the four of arXiv 2411.18940.
        sampling: how to sample from it.
        template: further arguments of its chat template.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    hub: str
    revision: str = Field(pattern=_COMMIT.pattern)
    paper: bool = False
    sampling: Sampling = Sampling()
    template: dict[str, bool] = {}


@cache
def presets() -> dict[str, Preset]:
    """The models that are known by a short name."""
    text = files("site_client.engines").joinpath("models.toml").read_text("utf-8")
    return {name: Preset.model_validate(entry) for name, entry in tomllib.loads(text).items()}


class LocalModel(BaseModel):
    """A model that lies on this machine.

    Attributes:
        name: short name, part of arm and file names.
        path: its folder.
        revision: commit of a hub name, or ``sha256:`` and the digest of the folder's content.
        sampling: how to sample from it.
        template: further arguments of its chat template.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    path: Path
    revision: str
    sampling: Sampling = Sampling()
    template: dict[str, bool] = {}

    @classmethod
    def find(cls, model: str, revision: str | None = None) -> Self:
        """Find a model on this machine.

        Args:
            model: folder, name of a preset, or hub name, which needs a revision (``NAME@COMMIT`` works too).
            revision: commit of a hub name; for a folder the digest that it must have (its first digits will do).

        Raises:
            UsageError: it is not here, is another revision, or is not pinned.
        """
        folder = Path(model)
        if folder.is_dir():
            return cls._in_folder(folder, revision)
        name, _, commit = model.partition("@")
        revision = revision or commit or None
        if (preset := presets().get(name)) is not None:
            revision = revision or preset.revision
            path = _from_cache(preset.hub, revision)
            return cls(name=name, path=path, revision=revision, sampling=preset.sampling, template=preset.template)
        if "/" not in name or folder.is_absolute() or name.startswith("."):
            raise UsageError(
                f"There is no model folder {model}.", hint=f"give a folder, or one of: {', '.join(presets())}"
            )
        if revision is None or not _COMMIT.fullmatch(revision):
            raise UsageError(
                f"Model {name} needs the commit that is meant, as 40 hexadecimal digits.",
                hint=f"--model {name}@COMMIT; a branch name moves, and results of two models would mix",
            )
        return cls(name=short_name(name), path=_from_cache(name, revision), revision=revision)

    @classmethod
    def _in_folder(cls, folder: Path, revision: str | None) -> Self:
        if not (folder / "config.json").exists():
            raise UsageError(f"{folder} holds no model (no config.json).", hint="give the folder of a model")
        digest = folder_digest(folder)
        wanted = (revision or "").removeprefix("sha256:")
        if not digest.startswith(wanted):
            raise UsageError(
                f"The model in {folder} has the digest {digest[:12]}, not {wanted[:12]}.",
                hint="restore the folder, or leave --revision out if this model is meant",
            )
        return cls(name=short_name(folder.resolve().name), path=folder, revision=f"sha256:{digest}")


def short_name(name: str) -> str:
    """Make a name fit for arms and file names: lower case letters, digits, dots and hyphens."""
    short = re.sub(r"[^a-z0-9.]+", "-", name.rsplit("/", 1)[-1].lower()).strip("-.")
    return short or "model"


def folder_digest(folder: Path) -> str:
    """SHA-256 over names and contents of a model's files (hex). Reads everything: about a second a gigabyte."""
    whole = hashlib.sha256()
    for path in sorted({p for pattern in _CONTENT for p in folder.glob(pattern)}):
        with path.open("rb") as file:
            content = hashlib.file_digest(file, "sha256").hexdigest()
        whole.update(f"{path.name}\0{content}\n".encode())
    return whole.hexdigest()


def _from_cache(hub: str, revision: str) -> Path:
    """Folder of a hub model's commit in the local cache. Nothing is ever fetched: hospitals bring models in."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        return Path(snapshot_download(hub, revision=revision, local_files_only=True))
    except LocalEntryNotFoundError as error:
        raise UsageError(
            f"Model {hub} at revision {revision[:12]} is not on this machine.",
            hint=f"where a network is allowed: hf download {hub} --revision {revision}; or give a folder",
        ) from error
