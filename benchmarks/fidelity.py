"""Labelled rephrasings of public notes: which errors the gates catch, and how many faithful ones they reject.

Run it as ``python -m benchmarks.fidelity``; the pairs come from ``FEDNOTES_DATA``. The rules were developed on the half
with odd sources; errors of the other half were never looked at, only counted.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path

from site_client.gates.candidate import Allowance, Candidate
from site_client.gates.judge import judge

_DATA = Path(os.environ.get("FEDNOTES_DATA", Path(__file__).parents[1] / ".." / "shared" / "data"))
_HALVES = ("development", "held out", "all")


def main() -> None:
    """Print caught of total by error type; for the faithful ones, rejected of total."""
    total, flagged, reasons = Counter[tuple[str, str]](), Counter[tuple[str, str]](), Counter[str]()
    for line in (_DATA / "fidelity" / "pairs.jsonl").read_text(encoding="utf-8").splitlines():
        pair = json.loads(line)
        kind = pair["error_type"] or "(faithful)"
        half = _HALVES[int(pair["source_id"].rpartition("-")[2]) % 2 == 0]
        allows = Allowance(explanations=pair["style"] == "explained")
        names = judge(Candidate(source=pair["source_text"], text=pair["rephrased_text"], allows=allows))
        for column in (half, "all"):
            for row in (kind, "(corrupted)") if pair["error_type"] else (kind,):
                total[row, column] += 1
                flagged[row, column] += bool(names)
        if kind == "(faithful)":
            reasons.update(names)
    print(f"{'':20s}" + "".join(f"{half:>14s}" for half in _HALVES))
    for row in sorted({row for row, _ in total}):
        cells = (f"{flagged[row, half]}/{total[row, half]}" for half in _HALVES)
        print(f"{row:20s}" + "".join(f"{cell:>14s}" for cell in cells))
    print("gates that rejected faithful ones:", ", ".join(f"{name} {n}" for name, n in reasons.most_common()) or "none")


if __name__ == "__main__":
    main()
