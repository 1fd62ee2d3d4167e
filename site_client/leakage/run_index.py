"""Whose notes a run of words stands in: a sorted table on the disk, looked up by bisection.

Only three things about a run matter: no patient has it, one or two have it (and who), or more. So an entry has 16
bytes, however often the run occurs. The table is built in parts by the first bits of the hash and read through a memory
map: neither takes more memory for more notes than a sixty-fourth of the table.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from site_client.leakage.words import Hashes

Patients = npt.NDArray[np.uint32]
NOBODY, MANY = np.uint32(0xFFFF_FFFF), np.uint32(0xFFFF_FFFE)
"""In the place of a patient's number: there is none, and there are three or more."""

_Number = TypeVar("_Number", bound=np.generic)
_RECORD = np.dtype([("run", np.uint64), ("patient", np.uint32)])
_PART_BITS = 6
_HELD = 1 << 18  # records in memory before they are sorted into the parts, 3 MB


@dataclass(frozen=True)
class Owners:
    """The patients in whose notes some runs stand, one entry a run.

    Attributes:
        first: a patient, NOBODY or MANY.
        second: another patient, NOBODY when there is one at most, MANY when ``first`` is.
    """

    first: Patients
    second: Patients

    @property
    def only(self) -> Patients:
        """The patient who alone has the run; NOBODY or MANY otherwise."""
        return np.where((self.second == NOBODY) | (self.first == MANY), self.first, MANY).astype(np.uint32)


class RunIndex:
    """Runs of ``n`` words and their owners.

    Args:
        path: table written by :class:`RunIndexBuilder`.
        n: words in a run.
    """

    def __init__(self, path: Path, n: int) -> None:
        self.n = n
        self._runs: Hashes = _mapped(path.with_suffix(".runs"), np.uint64)
        self._first: Patients = _mapped(path.with_suffix(".first"), np.uint32)
        self._second: Patients = _mapped(path.with_suffix(".second"), np.uint32)

    def __len__(self) -> int:
        return len(self._runs)

    def owners(self, runs: Hashes) -> Owners:
        """Look runs up."""
        if not len(self):
            nobody = np.full(len(runs), NOBODY)
            return Owners(nobody, nobody)
        places = np.minimum(np.searchsorted(self._runs, runs), len(self) - 1)
        known = self._runs[places] == runs
        return Owners(
            np.where(known, self._first[places], NOBODY).astype(np.uint32),
            np.where(known, self._second[places], NOBODY).astype(np.uint32),
        )

    def count(self, matches: Callable[[Owners], npt.NDArray[np.bool_]]) -> int:
        """Count entries whose owners match."""
        total = 0
        for start in range(0, len(self), _HELD):
            block = slice(start, start + _HELD)
            total += int(np.count_nonzero(matches(Owners(self._first[block], self._second[block]))))
        return total


class RunIndexBuilder:
    """Takes notes one by one and makes the table of them.

    Args:
        path: where the table goes; files beside it have further suffixes.
        n: words in a run.
    """

    def __init__(self, path: Path, n: int) -> None:
        self.n = n
        self._path = path
        self._held: list[npt.NDArray[np.void]] = []
        self._count = 0

    def add(self, runs: Hashes, patient: int) -> None:
        """Note that a patient's notes have some runs.

        Args:
            runs: in any order; often repeated ones cost nothing but time.
            patient: number of the patient, below MANY.
        """
        records = np.empty(len(runs), _RECORD)
        records["run"], records["patient"] = runs, patient
        self._held.append(records)
        self._count += len(records)
        if self._count >= _HELD:
            self._sort_into_parts()

    def finish(self) -> RunIndex:
        """Write the table; nothing can be added behind."""
        self._sort_into_parts()
        with (
            self._path.with_suffix(".runs").open("wb") as runs_file,
            self._path.with_suffix(".first").open("wb") as first_file,
            self._path.with_suffix(".second").open("wb") as second_file,
        ):
            for part in range(1 << _PART_BITS):
                path = self._part(part)
                if path.exists():
                    runs, owners = _reduced(np.fromfile(path, _RECORD))
                    runs_file.write(runs.tobytes())
                    first_file.write(owners.first.tobytes())
                    second_file.write(owners.second.tobytes())
                    path.unlink()
        return RunIndex(self._path, self.n)

    def _sort_into_parts(self) -> None:
        if not self._count:
            return
        records = np.concatenate(self._held)
        self._held, self._count = [], 0
        parts = (records["run"] >> np.uint64(64 - _PART_BITS)).astype(np.uint8)
        order = np.argsort(parts, kind="stable")
        ends = np.cumsum(np.bincount(parts, minlength=1 << _PART_BITS))
        for part, of_part in enumerate(np.split(records[order], ends[:-1])):
            if len(of_part):
                with self._part(part).open("ab") as file:
                    file.write(of_part.tobytes())

    def _part(self, part: int) -> Path:
        return self._path.with_suffix(f".part{part:02d}")


def _reduced(records: npt.NDArray[np.void]) -> tuple[Hashes, Owners]:
    """One entry a run, sorted, of records that name a patient each."""
    records = records[np.lexsort((records["patient"], records["run"]))]
    new = np.ones(len(records), bool)
    new[1:] = (records["run"][1:] != records["run"][:-1]) | (records["patient"][1:] != records["patient"][:-1])
    runs, patients = records["run"][new], records["patient"][new]
    starts = np.flatnonzero(np.concatenate(([True], runs[1:] != runs[:-1])))
    counts = np.diff(starts, append=len(runs))
    first = patients[starts]
    second = np.where(counts > 1, patients[np.minimum(starts + 1, len(runs) - 1)], NOBODY).astype(np.uint32)
    first[counts > 2] = second[counts > 2] = MANY
    return runs[starts], Owners(first, second)


def _mapped(path: Path, dtype: type[_Number]) -> npt.NDArray[_Number]:
    """An array on the disk; an empty file cannot be mapped."""
    return np.memmap(path, dtype, mode="r") if path.stat().st_size else np.empty(0, dtype)
