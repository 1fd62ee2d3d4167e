"""Labelled rephrasings of public notes: which errors the gates catch, and how many faithful ones they reject.

Run it as ``python -m benchmarks.fidelity``; the pairs come from ``FEDNOTES_DATA``. The gates were made with these
pairs, so the table does not say how well they do on others: ``docs/LOG.md`` has that.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path

from site_client.gates.candidate import Allowance, Candidate
from site_client.gates.judge import judge

_DATA = Path(os.environ.get("FEDNOTES_DATA", Path(__file__).parents[1] / ".." / "shared" / "data"))


def main() -> None:
    """Print caught of total by error type; for the faithful ones, rejected of total."""
    total, flagged, reasons = Counter[str](), Counter[str](), Counter[str]()
    for line in (_DATA / "fidelity" / "pairs.jsonl").read_text(encoding="utf-8").splitlines():
        pair = json.loads(line)
        kind = pair["error_type"] or "(faithful)"
        allows = Allowance(explanations=pair["style"] == "explained")
        names = judge(Candidate(source=pair["source_text"], text=pair["rephrased_text"], allows=allows))
        for row in (kind, "(corrupted)") if pair["error_type"] else (kind,):
            total[row] += 1
            flagged[row] += bool(names)
        if kind == "(faithful)":
            reasons.update(names)
    for row in sorted(total):
        print(f"{row:20s}{flagged[row]:>4d} of {total[row]}")
    print("gates that rejected faithful ones:", ", ".join(f"{name} {n}" for name, n in reasons.most_common()) or "none")


if __name__ == "__main__":
    main()
