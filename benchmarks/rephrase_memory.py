"""``python -m benchmarks.rephrase_memory``: peak memory of a rephrasing at 1,000 and at 100,000 chunks.

The rules engine writes, as a model would take days; store, selection, run, gates and results are the real ones. The
notes are written to the store in row groups, so that this script holds no more of them than the run does.
"""

from __future__ import annotations

import json
import re
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.table import Row, print_table

_SIZES = (1_000, 100_000)


def rows(sizes: tuple[int, int] = _SIZES) -> list[Row]:
    """Ratio of the peaks."""
    few, many = (_measure(n) for n in sizes)
    return [
        Row(
            what="rephrasing, peak memory",
            against=f"the same at {sizes[0]:,} chunks",
            measured=many["peak_mb"] / few["peak_mb"],
            bound="at most",
            target=1.1,
            unit="x",
            detail=f"{few['peak_mb']:.0f} MB at {few['chunks']:,} and {many['peak_mb']:.0f} MB at {many['chunks']:,} "
            f"chunks, {many['seconds']:.0f} s",
        )
    ]


def _measure(chunks: int) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        make = f"from benchmarks.rephrase_memory import make_site; make_site({folder!r}, {chunks})"
        subprocess.run([sys.executable, "-c", make], check=True)
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.rephrase_memory", folder], capture_output=True, text=True, check=True
        )
    facts: dict[str, float] = json.loads(done.stdout)
    return facts


def make_site(folder: str, chunks: int) -> None:
    """Write a site whose training notes make about so many chunks, one or two a note."""
    import random

    import pyarrow as pa
    import pyarrow.parquet as pq

    from site_client.folder import SiteConfig, SiteFolder

    site = SiteFolder.create(Path(folder) / "site", SiteConfig(name="Bench", number=1))
    rng = random.Random(0)
    text = "pt c/o cp x 3 days, hx of htn. bp 140/90. denies sob. continue lisinopril 10 mg daily. no edema."
    words = re.findall(r"\S+", text)
    names = ("note_key", "patient_key", "note_type", "split", "text")
    schema = pa.schema([(name, pa.string()) for name in names])
    site.notes.parent.mkdir(parents=True)
    with pq.ParquetWriter(site.notes, schema, compression="zstd") as writer:
        for start in range(0, chunks, 1_000):
            group = [
                {
                    "note_key": f"{n:032x}",
                    "patient_key": f"{n // 7:032x}",
                    "note_type": "Progress note",
                    "split": "train",
                    "text": " ".join(rng.choices(words, k=60)),
                }
                for n in range(start, min(start + 1_000, chunks))
            ]
            writer.write_table(pa.Table.from_pylist(group, schema=schema))


def _run(folder: Path) -> None:
    import time

    from site_client.engines.engine import Sampling
    from site_client.engines.rules_engine import RulesEngine
    from site_client.folder import SiteFolder
    from site_client.rephrasing.arm import Arm
    from site_client.rephrasing.plan import Plan
    from site_client.rephrasing.prompts import choose_prompts
    from site_client.rephrasing.run import rephrase_sites

    engine = RulesEngine()
    arm = Arm(
        model=engine.model,
        revision=engine.revision,
        prompt=choose_prompts(["professional"])[0],
        sampling=Sampling(),
        seed=0,
    )
    started = time.monotonic()
    [[report]] = rephrase_sites([SiteFolder(folder / "site")], engine, [arm], Plan(), engine_name="rules")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"chunks": report.new, "peak_mb": peak, "seconds": time.monotonic() - started}))


if __name__ == "__main__":
    if len(sys.argv) > 1:
        _run(Path(sys.argv[1]))
    else:
        print_table(rows())
