"""Reading a CSV export: megabytes per second, and the memory of a process that does nothing else."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.table import Row
from simulations.synthetic_notes import write_export

_MEGABYTES = (16, 64)
# The peak of a process is that of its own memory map (VmHWM); ru_maxrss would start with its parent's.
_READ = """
import json, sys, time
from pathlib import Path
from site_client.notes.quarantine import Quarantine
from site_client.notes.reader import read_notes
started = time.perf_counter()
notes = sum(1 for _ in read_notes([Path(sys.argv[1])], quarantine=Quarantine()))
seconds = time.perf_counter() - started
peak = next(int(l.split()[1]) for l in Path("/proc/self/status").read_text().splitlines() if l.startswith("VmHWM"))
print(json.dumps({"notes": notes, "seconds": seconds, "peak_mb": peak / 1e3}))
"""


def rows() -> list[Row]:
    """Speed on the larger of two files, and peak memory on it."""
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for megabytes in _MEGABYTES:
            path = Path(folder) / f"{megabytes}.csv"
            _write(path, megabytes)
            done = subprocess.run([sys.executable, "-c", _READ, path], capture_output=True, text=True, check=True)
            found.append((path.stat().st_size / 1e6, json.loads(done.stdout)))
    (_, small), (size, large) = found
    return [
        Row(
            what="reading a CSV export",
            against="size of the file",
            measured=size / large["seconds"],
            bound="at least",
            target=25,
            unit="MB/s",
            detail=f"{size:.0f} MB, {large['notes']:,} notes, one core",
        ),
        Row(
            what="reading a CSV export, memory",
            against="size of the file",
            measured=large["peak_mb"],
            bound="at most",
            target=600,
            unit="MB",
            detail=f"{small['peak_mb']:.0f} MB for a file of a quarter of the size",
        ),
    ]


def _write(path: Path, megabytes: int) -> None:
    """Repeat the rows of a small generated export until the file is large; the reader does not mind."""
    small = path.with_suffix(".small.csv")
    write_export(small, hospitals=3, notes=600, seed=0)
    header, _, body = small.read_bytes().partition(b"\r\n")
    path.write_bytes(header + b"\r\n" + body * (megabytes * 1_000_000 // len(body)))
