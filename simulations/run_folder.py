"""The output folder of a run: what is in it, whose it is, and what of it is finished.

run.json         the options; a folder belongs to one set of options
prepared.json    hospitals, what was dropped, evaluation sets
sites/           one site folder a hospital
sets/            notes of the further evaluation sets
initial/         the model before training
studies/         one server folder a federated arm
arms/            facts and weights of the finished arms
logs/            Flower's words
results.json  report.html  model/
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Self, TypeVar

from filelock import FileLock, Timeout
from pydantic import BaseModel, ValidationError

from protocols.durable import write_text
from protocols.errors import UsageError, WorkError
from simulations.options import Options

Facts = TypeVar("Facts", bound=BaseModel)


class RunFolder:
    """One run's output folder, locked as long as the process lives.

    Args:
        path: the folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = FileLock(path / ".lock")

    @classmethod
    def open(cls, path: Path, options: Options, *, resume: bool, overwrite: bool) -> Self:
        """Open a folder for a run.

        Args:
            path: made if it is not there.
            options: of this run.
            resume: go on with the run of the same options that is in it.
            overwrite: throw away the run that is in it.

        Raises:
            UsageError: the folder holds another run, something else, or is in use.
        """
        if path.exists() and not path.is_dir():
            raise UsageError(f"{path} is a file, not a folder.")
        run_file = path / "run.json"
        has_run, is_empty = run_file.exists(), not path.exists() or not any(path.iterdir())
        if not has_run and not is_empty:
            raise UsageError(f"{path} holds files that are no run of fednotes.", hint="choose another --out folder")
        if has_run and not resume and not overwrite:
            raise UsageError(f"{path} holds a run already.", hint="go on with it: --resume; throw it away: --overwrite")
        if has_run and resume:
            _require_same(run_file, options)
        folder = cls(path)
        path.mkdir(parents=True, exist_ok=True)
        path.chmod(0o700)  # sites/ holds notes
        try:
            folder._lock.acquire(timeout=0)
        except Timeout:
            raise UsageError(f"Another process works in {path}.", hint="wait for it or choose another folder") from None
        if has_run and overwrite:
            folder._empty()
        if not run_file.exists():
            write_text(run_file, options.model_dump_json(indent=2))
        return folder

    def close(self) -> None:
        """Let go of the lock."""
        self._lock.release()

    @property
    def sites(self) -> Path:
        """Folder of the site folders."""
        return self.path / "sites"

    @property
    def initial_model(self) -> Path:
        """The model before training."""
        return self.path / "initial"

    def study(self, name: str) -> Path:
        """Server folder of a federated arm."""
        return self.path / "studies" / name

    def set_file(self, number: int) -> Path:
        """Notes of a further evaluation set."""
        return self.path / "sets" / f"{number:03d}.parquet"

    def weights(self, arm: str) -> Path:
        """Final weights of an arm."""
        return self.path / "arms" / f"{arm}.safetensors"

    def read(self, name: str, kind: type[Facts]) -> Facts | None:
        """Read finished facts; None when they are not there yet.

        Raises:
            WorkError: they are there and cannot be read.
        """
        path = self.path / f"{name}.json"
        if not path.exists():
            return None
        try:
            return kind.model_validate_json(path.read_bytes())
        except (OSError, ValidationError) as error:
            raise WorkError(f"{path} cannot be read.", hint="delete it to do that part again") from error

    def write(self, name: str, facts: BaseModel) -> None:
        """Keep finished facts."""
        write_text(self.path / f"{name}.json", facts.model_dump_json(indent=2))

    def _empty(self) -> None:
        for entry in self.path.iterdir():
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            elif entry.name != ".lock":
                entry.unlink()


def _require_same(run_file: Path, options: Options) -> None:
    try:
        before = Options.model_validate_json(run_file.read_bytes())
    except (OSError, ValidationError) as error:
        raise UsageError(f"{run_file} cannot be read.", hint="start anew with --overwrite") from error
    changed = [name for name in Options.model_fields if getattr(before, name) != getattr(options, name)]
    if changed:
        raise UsageError(
            f"The run in {run_file.parent} had other options: {', '.join(changed)} differ.",
            hint="repeat the command as it was, or start anew with --overwrite",
        )
