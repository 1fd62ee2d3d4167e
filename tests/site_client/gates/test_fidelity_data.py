"""Labelled rephrasings of public notes; ``python -m benchmarks.fidelity`` splits the same table by half."""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path

import pytest

from site_client.gates.candidate import Allowance, Candidate
from site_client.gates.judge import judge

DATA = Path(os.environ.get("FEDNOTES_DATA", Path(__file__).parents[3] / ".." / "shared" / "data"))

pytestmark = [
    pytest.mark.shared_data,
    pytest.mark.skipif(not DATA.is_dir(), reason="no public clinical text here; set FEDNOTES_DATA"),
]


def test_few_faithful_are_rejected_and_most_errors_caught() -> None:
    total, flagged = Counter[str](), Counter[str]()
    for line in (DATA / "fidelity" / "pairs.jsonl").read_text(encoding="utf-8").splitlines():
        pair = json.loads(line)
        kind = pair["error_type"] or pair["label"]
        allows = Allowance(explanations=pair["style"] == "explained")
        reasons = judge(Candidate(source=pair["source_text"], text=pair["rephrased_text"], allows=allows))
        total[kind] += 1
        flagged[kind] += bool(reasons)
    for kind in sorted(total):
        print(f"{kind:20s} {flagged[kind]:3d} of {total[kind]}")
    assert flagged["faithful"] <= 0.05 * total["faithful"]
    errors = [kind for kind in total if kind != "faithful"]
    assert sum(flagged[kind] for kind in errors) >= 0.70 * sum(total[kind] for kind in errors)
    measured = ("number", "unit", "laterality")
    assert sum(flagged[kind] for kind in measured) >= 0.95 * sum(total[kind] for kind in measured)
