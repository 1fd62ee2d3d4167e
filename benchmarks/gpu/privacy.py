"""``python -m benchmarks.gpu.privacy``: private steps of a 125m model on a GPU against plain ones.

    python -m benchmarks.gpu.privacy --json gpu-privacy.json

Every side has the card for itself in turn; a side that runs out of memory is reported as such.
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from benchmarks.privacy import Setting, steps_of

SETTINGS = {
    "125m, 1 record each": Setting(layers=12, width=768, vocabulary=32_000, tokens=1024, units=8),
    "125m, 4 records each": Setting(layers=12, width=768, vocabulary=32_000, tokens=1024, units=2, records=4),
    "125m, rows of 256": Setting(layers=12, width=768, vocabulary=32_000, tokens=256, units=32),
}
_REPEATS = 10


def main() -> None:
    """Measure every setting and print one table; exit status 2 without a GPU."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu.privacy", description=__doc__)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the facts as JSON too")
    arguments = parser.parse_args()
    if not torch.cuda.is_available():
        print(
            "This benchmark needs an NVIDIA GPU that torch sees; on a CPU: python -m benchmarks.privacy",
            file=sys.stderr,
        )
        sys.exit(2)
    facts = {name: measure(setting) for name, setting in SETTINGS.items()}
    _print(facts)
    if arguments.json:
        arguments.json.write_text(json.dumps({"device": torch.cuda.get_device_name(), "facts": facts}, indent=2))


def measure(setting: Setting) -> dict[str, dict[str, float]]:
    """Give median time [s] and peak memory [MiB] of a step, by side; none for a side that ran out of memory.

    Args:
        setting: model and batch.
    """
    facts = {}
    for side, step in steps_of(setting, "cuda").items():
        gc.collect()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        try:
            step()
            seconds = statistics.median(_seconds(step) for _ in range(_REPEATS))
        except torch.OutOfMemoryError:
            facts[side] = {}
            continue
        facts[side] = {"seconds": seconds, "peak_mib": torch.cuda.max_memory_allocated() / 2**20}
    return facts


def _seconds(step: Callable[[], None]) -> float:
    torch.cuda.synchronize()
    started = time.perf_counter()
    step()
    torch.cuda.synchronize()
    return time.perf_counter() - started


def _print(facts: dict[str, dict[str, dict[str, float]]]) -> None:
    table = Table(title=f"Private against plain steps on {torch.cuda.get_device_name()}")
    for heading in ("setting", "side", "s a step", "over plain", "peak MiB", "over plain"):
        table.add_column(heading)
    for name, sides in facts.items():
        plain = sides["plain"]
        for side, fact in sides.items():
            if not fact:
                table.add_row(name, side, "out of memory", "-", "-", "-")
                continue
            ratios = [f"{fact[key] / plain[key]:.2f}x" if plain else "-" for key in ("seconds", "peak_mib")]
            table.add_row(name, side, f"{fact['seconds']:.3f}", ratios[0], f"{fact['peak_mib']:,.0f}", ratios[1])
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
