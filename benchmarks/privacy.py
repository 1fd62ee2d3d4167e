"""``python -m benchmarks.privacy``: a step under differential privacy against a plain step on the same rows.

A private step is: clip by unit, add the noise, set ``.grad``, AdamW. The plain step takes all rows at once, with the
model's own batched forward and backward, and the same AdamW. Times are taken in turns in one run; peak memory of each
side is the growth of a process of its own.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from transformers import LlamaConfig, LlamaForCausalLM

from benchmarks.table import Row, as_json, print_table
from privacy.gradients.choose import BACKENDS, backend_named
from privacy.mechanism import Mechanism
from privacy.private_step import PrivateStep
from privacy.randomness import SecureRandom
from privacy.unit_batch import UnitBatch

_TARGET_TIME, _TARGET_MEMORY = 1.2, 1.0


@dataclass(frozen=True, kw_only=True)
class Setting:
    """A Llama with tied embeddings, and a batch.

    Attributes:
        layers: transformer blocks.
        width: hidden size.
        vocabulary: tokens.
        tokens: of a row.
        units: patients.
        records: rows of each.
        repeats: of each side's step.
    """

    layers: int
    width: int
    vocabulary: int
    tokens: int = 256
    units: int = 32
    records: int = 1
    repeats: int = 5


SETTINGS = {
    "nano": Setting(layers=2, width=128, vocabulary=4096),
    "nano, 4 records each": Setting(layers=2, width=128, vocabulary=4096, units=8, records=4),
    "6 layers, d 256": Setting(layers=6, width=256, vocabulary=8192, repeats=3),
}


def rows(settings: dict[str, Setting] = SETTINGS) -> list[Row]:
    """Time and memory of every backend over a plain step, by setting.

    Args:
        settings: what to measure.
    """
    table = []
    for name, setting in settings.items():
        seconds = _seconds(setting)
        memory = {side: _memory_mb(name, side) for side in ("plain", *BACKENDS)}
        for backend in BACKENDS:
            for what, unit, found, target in (
                ("time", "s", seconds, _TARGET_TIME),
                ("peak memory", "MB", memory, _TARGET_MEMORY),
            ):
                table.append(
                    Row(
                        what=f"private step, {backend}, {name}: {what}",
                        against="a plain step on the same rows",
                        measured=found[backend] / found["plain"],
                        bound="at most",
                        target=target,
                        unit="x",
                        detail=f"{found[backend]:.2f} against {found['plain']:.2f} {unit}; "
                        f"{torch.get_num_threads()} threads",
                    )
                )
    return table


def steps_of(setting: Setting, device: str = "cpu") -> dict[str, Callable[[], None]]:
    """Make one function per side, each of which does one whole step on one and the same model.

    Args:
        setting: model and batch.
        device: of both.
    """
    torch.manual_seed(0)
    model = _model(setting).to(device).train()
    count = setting.units * setting.records
    tokens = torch.randint(0, setting.vocabulary, (count, setting.tokens + 1), device=device)
    batch = UnitBatch(
        inputs={"input_ids": tokens[:, :-1].contiguous()},
        targets=tokens[:, 1:].contiguous(),
        unit=torch.arange(setting.units, device=device).repeat_interleave(setting.records),
        num_units=setting.units,
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5)
    mechanism = Mechanism(
        sampling_rate=0.1,
        noise_multiplier=1.0,
        max_grad_norm=1.0,
        max_records=setting.records,
        expected_units=float(setting.units),
    )
    random = SecureRandom.from_system()

    def plain() -> None:
        logits = model(**batch.inputs, use_cache=False).logits
        F.cross_entropy(logits.flatten(0, 1).float(), batch.targets.flatten()).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    def private(name: str) -> Callable[[], None]:
        step = PrivateStep(model, mechanism, backend_named(name), random)

        def run() -> None:
            step.release([batch])
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

        return run

    return {"plain": plain} | {name: private(name) for name in BACKENDS}


def _model(setting: Setting) -> LlamaForCausalLM:
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=setting.vocabulary,
            hidden_size=setting.width,
            intermediate_size=setting.width * 8 // 3 // 32 * 32,
            num_hidden_layers=setting.layers,
            num_attention_heads=max(4, setting.width // 64),
            max_position_embeddings=setting.tokens,
            tie_word_embeddings=True,
        )
    )


def _seconds(setting: Setting) -> dict[str, float]:
    """Median wall time of a step by side, measured in turns [s]."""
    sides = steps_of(setting)
    for step in sides.values():
        step()
    times: dict[str, list[float]] = {side: [] for side in sides}
    for _ in range(setting.repeats):
        for side, step in sides.items():
            started = time.perf_counter()
            step()
            times[side].append(time.perf_counter() - started)
    return {side: statistics.median(found) for side, found in times.items()}


def _memory_mb(name: str, side: str) -> float:
    """Growth of the peak while a process does two steps of one side [MB]."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.privacy", "--one", name, side], capture_output=True, text=True, check=True
    )
    return float(done.stdout.split()[-1])


def _grow(name: str, side: str) -> float:
    step = steps_of(SETTINGS[name])[side]
    # getrusage hands the peak of the parent process down to its child, hence the kernel's own count, reset here.
    Path("/proc/self/clear_refs").write_text("5")
    before = _status_kb("VmRSS")
    for _ in range(2):
        step()
    return (_status_kb("VmHWM") - before) / 1024


def _status_kb(field: str) -> int:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field + ":"))


def main() -> None:
    """Measure all settings and print one table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.privacy", description=__doc__)
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the table to this file")
    parser.add_argument("--setting", choices=SETTINGS, action="append", help="only this one; may be repeated")
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print(_grow(*arguments.one))
        return
    table = rows({name: SETTINGS[name] for name in arguments.setting or SETTINGS})
    print_table(table)
    if arguments.json:
        arguments.json.write_text(json.dumps(as_json(table), indent=2), encoding="utf-8")


if __name__ == "__main__":
    main()
