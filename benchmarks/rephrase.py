"""``python -m benchmarks.rephrase``: the rephrasing pipeline against bare ``LLM.chat``, on real vLLM, in one run.

Both sides write the same prompts with the same sampling on the same random checkpoint, large enough that the engine
dominates. Ours also reads the store, judges, and flushes results to the disk. It needs the interpreter with vLLM:

    .venv-vllm/bin/python -m benchmarks.rephrase

The two sides run in processes of their own, in turns, as a vLLM in one process would keep its memory from the next.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from benchmarks.checkpoint import make_checkpoint
from benchmarks.table import Row, print_table
from site_client.engines.engine import Completion, Request, Sampling
from site_client.engines.models import LocalModel
from site_client.engines.vllm_engine import VllmEngine, VllmSettings
from site_client.folder import SiteFolder
from site_client.rephrasing.arm import Arm
from site_client.rephrasing.plan import Plan
from site_client.rephrasing.prompts import choose_prompts
from site_client.rephrasing.run import rephrase_sites
from site_client.rephrasing.selection import training_chunks

TARGET = 0.95
_REPLY_TOKENS = 128
SETTINGS = VllmSettings(max_num_seqs=32, context=1536, max_num_batched_tokens=2048)


def make_site(folder: Path, notes: int) -> None:
    """Fill a site with generated notes, all for training."""
    from privacy.deidentify import clean
    from simulations.synthetic_notes import write_export
    from site_client.folder import SiteConfig, SiteFolder
    from site_client.notes.quarantine import Quarantine
    from site_client.notes.reader import read_notes
    from site_client.store import write_notes

    site = SiteFolder.create(folder, SiteConfig(name="Bench", number=1))
    write_export(folder / "export.csv", hospitals=1, notes=notes, seed=0)
    cleaned = [
        clean(n, site.pseudonym_key(), "none") for n in read_notes([folder / "export.csv"], quarantine=Quarantine())
    ]
    write_notes(site.notes, cleaned, {n.patient_key: "train" for n in cleaned})


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.rephrase", description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--notes", type=int, default=150)
    parser.add_argument("--hidden", type=int, default=512)
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--side", choices=["ours", "bare"], help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--run", type=int, default=0, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.side:
        side = run_ours if arguments.side == "ours" else write_bare
        print(json.dumps(side(arguments.folder, SETTINGS, _REPLY_TOKENS, seed=arguments.run)))
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_checkpoint(folder / "model", hidden=arguments.hidden, layers=arguments.layers)
        make_site(folder / "site", arguments.notes)
        measured: dict[str, list[float]] = {"ours": [], "bare": []}
        for run in range(arguments.repeats):
            for side in ("ours", "bare") if run % 2 == 0 else ("bare", "ours"):
                words = [sys.executable, "-m", "benchmarks.rephrase", "--side", side, "--folder", name, "--run", run]
                done = subprocess.run([*map(str, words)], capture_output=True, text=True, check=True)
                facts = json.loads(next(line for line in done.stdout.splitlines() if line.startswith('{"tokens"')))
                print(f"run {run}, {side}: {facts}", file=sys.stderr)
                measured[side].append(facts["tokens"] / facts["seconds"])
    ours, bare = (statistics.median(measured[side]) for side in ("ours", "bare"))
    row = Row(
        what="rephrasing pipeline",
        against="bare LLM.chat, same prompts and sampling",
        measured=ours / bare,
        bound="at least",
        target=TARGET,
        unit="x",
        detail=f"{ours:,.0f} and {bare:,.0f} output tok/s, medians of {arguments.repeats} runs in turns",
    )
    print_table([row])
    if arguments.json:
        arguments.json.write_text(json.dumps({"ratio": row.measured, "measured": measured}, indent=2))


def make_arm(model: str, revision: str, seed: int) -> Arm:
    """The paper's second prompt with a random model."""
    prompt = choose_prompts(["professional"])[0]
    return Arm(model=model, revision=revision, prompt=prompt, sampling=Sampling(), seed=seed)


def run_ours(folder: Path, settings: VllmSettings, reply: int, seed: int) -> dict[str, float]:
    """The whole pipeline, from the store to the flushed results; the clock runs from loaded to before closing."""
    engine = _Measured(LocalModel.find(str(folder / "model")), settings, folder / "vllm.log")
    engine.reply = reply
    arm = make_arm(engine.model, engine.revision, seed)
    [[report]] = rephrase_sites([SiteFolder(folder / "site")], engine, [arm], Plan(), engine_name="vllm")
    return {"tokens": report.counts.output_tokens, "seconds": engine.ended - engine.started, "jobs": report.new}


class _Measured(VllmEngine):
    """The engine with a clock, and with replies of one length, so that both sides write the same number of tokens."""

    reply = 0
    started = ended = 0.0

    async def start(self) -> None:
        await super().start()
        self.started = time.perf_counter()

    async def write(self, request: Request) -> Completion:
        return await super().write(replace(request, max_tokens=self.reply))

    async def close(self) -> None:
        self.ended = time.perf_counter()
        await super().close()


def write_bare(folder: Path, settings: VllmSettings, reply: int, seed: int) -> dict[str, float]:
    """``LLM.chat`` on all prompts at once; the clock starts when the model is loaded."""
    import torch
    from vllm import LLM, SamplingParams

    on_cpu = not torch.cuda.is_available()
    llm = LLM(
        model=str(folder / "model"),
        max_num_seqs=settings.max_num_seqs,
        max_num_batched_tokens=settings.max_num_batched_tokens,
        max_model_len=settings.context,
        gpu_memory_utilization=settings.gpu_memory_utilization,
        enforce_eager=on_cpu,
        enable_chunked_prefill=False if on_cpu else None,
        load_format=settings.load_format,
        generation_config="vllm",
    )
    arm = make_arm("model", "", seed)
    requests = [arm.request(c, arm.job(c)) for c in training_chunks(folder / "site" / "store" / "notes.parquet")]
    started = time.perf_counter()
    outputs = llm.chat(
        [[{"role": "user", "content": r.prompt}] for r in requests],
        [
            SamplingParams(temperature=r.sampling.temperature, top_p=r.sampling.top_p, seed=r.seed, max_tokens=reply)
            for r in requests
        ],
        use_tqdm=False,
    )
    seconds = time.perf_counter() - started
    return {"tokens": sum(len(o.outputs[0].token_ids) for o in outputs), "seconds": seconds, "jobs": len(outputs)}


if __name__ == "__main__":
    main()
