"""The output folder of a run: what is in it, whose it is, and what of it is finished.

run.json         the options; a folder belongs to one set of options
timing.json      wall time by stage
notes.csv        generated notes, when none were given
planted.json     what the generator hid in them
prepared.json    hospitals, what was dropped and where, evaluation sets
rephrased.json   verdicts of the gates, token counts
sites/           one site folder a hospital
sets/            notes of the further evaluation sets
initial/         the model before training
studies/         one server folder a federated arm
arms/            facts and weights of the finished arms
logs/            Flower's words
results.json  report.html  model/
.lock            held by the process that works here
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

_RUN, _LOCK = "run.json", ".lock"
_BEFORE_PREPARED = frozenset({"timing.json", "notes.csv", "planted.json", "sites", "sets", "initial"})
_FINISHED_WORK = frozenset(
    {"prepared.json", "rephrased.json", "studies", "arms", "logs", "results.json", "report.html", "model"}
)


class RunFolder:
    """One run's output folder, locked as long as the process lives.

    Args:
        path: the folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = FileLock(path / _LOCK)

    @classmethod
    def open(cls, path: Path, options: Options, *, resume: bool, overwrite: bool) -> Self:
        """Open a folder for a run.

        A run that has prepared nothing yet has nothing to lose, so any other run may take its folder.

        Args:
            path: made if it is not there.
            options: of this run.
            resume: go on with the run of the same options that is in it.
            overwrite: throw away the run that is in it; files that no run wrote stay.

        Raises:
            UsageError: the folder holds another run, something else, or is in use.
        """
        if path.exists() and not path.is_dir():
            raise UsageError(f"{path} is a file, not a folder.")
        if path.exists() and not (path / _RUN).exists() and _entries(path) - {_LOCK, _partial(_RUN)}:
            raise UsageError(f"{path} holds files that are no run of fednotes.", hint="choose another --out folder")
        folder = cls(path)
        try:
            path.mkdir(parents=True, exist_ok=True)
            folder._lock.acquire(timeout=0)
        except Timeout:
            raise UsageError(f"Another process works in {path}.", hint="wait for it or choose another folder") from None
        except OSError as error:
            raise UsageError(
                f"{path} cannot be written: {error.strerror}.", hint="choose another --out folder"
            ) from error
        try:
            folder._take(options, resume=resume, overwrite=overwrite)
        except BaseException:
            folder.close()
            raise
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

    def _take(self, options: Options, *, resume: bool, overwrite: bool) -> None:
        """Make the folder this run's, under the lock: nobody changes it between the look and the deed."""
        run_file = self.path / _RUN
        if run_file.exists():
            if resume:
                _require_same(run_file, options)
            elif overwrite or self._has_nothing_to_lose():
                self._empty()
            else:
                raise UsageError(
                    f"{self.path} holds a run already.", hint="go on with it: --resume; throw it away: --overwrite"
                )
        self.path.chmod(0o700)  # sites/ holds notes
        if not run_file.exists():
            write_text(run_file, options.model_dump_json(indent=2))

    def _has_nothing_to_lose(self) -> bool:
        """Whether the run stopped in its first stage, and nothing but that stage is in the folder."""
        first_stage = {_RUN, *_BEFORE_PREPARED}
        leftovers = {f(name) for name in first_stage | _FINISHED_WORK for f in (_partial, _old)}
        harmless = first_stage | leftovers | {_LOCK}
        return _options_of(self.path / _RUN) is not None and _entries(self.path) <= harmless

    def _empty(self) -> None:
        """Delete what a run writes, and run.json last: until then a folder is known as a run's."""
        ours = [*_FINISHED_WORK, *_BEFORE_PREPARED, _RUN]
        for name in [*(f(n) for n in ours for f in (_partial, _old)), *ours]:
            entry = self.path / name
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            else:
                entry.unlink(missing_ok=True)


def _entries(path: Path) -> set[str]:
    return {entry.name for entry in path.iterdir()}


def _partial(name: str) -> str:
    """What protocols.durable calls a file that is being written."""
    return f".{name}.partial"


def _old(name: str) -> str:
    """What protocols.durable calls a folder that is being replaced."""
    return f".{name}.old"


def _options_of(run_file: Path) -> Options | None:
    try:
        return Options.model_validate_json(run_file.read_bytes())
    except (OSError, ValidationError):
        return None


def _require_same(run_file: Path, options: Options) -> None:
    before = _options_of(run_file)
    if before is None:
        raise UsageError(f"{run_file} cannot be read.", hint="start anew with --overwrite")
    changed = [name for name in Options.model_fields if getattr(before, name) != getattr(options, name)]
    if changed:
        raise UsageError(
            f"The run in {run_file.parent} had other options: {', '.join(changed)} differ.",
            hint="repeat the command as it was, or start anew with --overwrite",
        )
