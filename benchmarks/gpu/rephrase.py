"""``python -m benchmarks.gpu.rephrase``: rephrasing on a GPU, random weights at the shapes of an 8 B model.

    pip install -c constraints-vllm.txt -e '.[vllm]'
    python -m benchmarks.gpu.rephrase --out gpu.json

vLLM's dummy loader makes the weights, so nothing is downloaded. Throughput does not depend on what the weights are,
with one exception: speculation pays when guesses are right, and random weights are never guessed. Its rows show the
cost of guessing wrongly, not the gain on a real model.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.checkpoint import CHAT_TEMPLATE
from benchmarks.rephrase import make_site, write_bare
from site_client.engines.vllm_engine import VllmSettings

_LLAMA_8B = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "vocab_size": 128256,
    "max_position_embeddings": 8192,
    "rms_norm_eps": 1e-5,
    "rope_theta": 500000.0,
    "hidden_act": "silu",
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
    "bos_token_id": 0,
    "eos_token_id": 0,
}
_BASE = VllmSettings(max_num_seqs=256, max_num_batched_tokens=16_384, load_format="dummy")
SETTINGS = {
    "256 replies": _BASE,
    "512 replies": _BASE.model_copy(update={"max_num_seqs": 512}),
    "1024 replies": _BASE.model_copy(update={"max_num_seqs": 1_024}),
    "256 replies, no prefix cache": _BASE.model_copy(update={"prefix_caching": False}),
    "256 replies, n-gram speculation": _BASE.model_copy(update={"speculation": "ngram"}),
}


def make_model(folder: Path) -> None:
    """Write a configuration and a tokenizer of 128,256 entries; there are no weights."""
    from modeling.tokenizer import default_tokenizer

    tokenizer = default_tokenizer()
    tokenizer.chat_template = CHAT_TEMPLATE
    tokenizer.save_pretrained(folder)
    state = json.loads((folder / "tokenizer.json").read_text())
    vocabulary = state["model"]["vocab"]
    vocabulary |= {f"\u0120x{n}": n for n in range(len(vocabulary), _LLAMA_8B["vocab_size"])}
    (folder / "tokenizer.json").write_text(json.dumps(state))
    (folder / "config.json").write_text(json.dumps(_LLAMA_8B))


def main() -> None:
    """Measure every setting in a process of its own, bare ``LLM.chat`` first, and print one table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu.rephrase", description=__doc__)
    parser.add_argument("--notes", type=int, default=2_000)
    parser.add_argument("--reply", type=int, default=256, help="tokens of every reply")
    parser.add_argument("--out", type=Path, help="write the facts as JSON too")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(_one(arguments.one, arguments.folder, arguments.reply)))
        return
    facts: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as name:
        make_model(Path(name) / "model")
        make_site(Path(name) / "site", arguments.notes)
        for setting in ("bare", *SETTINGS):
            words = [sys.executable, "-m", "benchmarks.gpu.rephrase", "--one", setting, "--folder", name]
            done = subprocess.run([*words, "--reply", str(arguments.reply)], capture_output=True, text=True)
            if done.returncode:
                print(f"{setting}: {done.stderr[-1500:]}", file=sys.stderr)
                continue
            facts[setting] = json.loads(next(x for x in done.stdout.splitlines() if x.startswith('{"tokens"')))
            print(f"{setting}: {facts[setting]}", file=sys.stderr)
    _print(facts)
    if arguments.out:
        arguments.out.write_text(json.dumps(facts, indent=2))


def _one(setting: str, folder: Path, reply: int) -> dict[str, float]:
    from benchmarks.rephrase import run_ours

    if setting == "bare":
        return write_bare(folder, _BASE, reply, seed=0)
    return run_ours(folder, SETTINGS[setting], reply, seed=0)


def _print(facts: dict[str, dict[str, float]]) -> None:
    table = Table(title="Rephrasing at the shapes of an 8 B model, random weights")
    for heading in ("setting", "output tok/s", "against bare LLM.chat, 256 replies"):
        table.add_column(heading)
    bare = facts.get("bare")
    for name, fact in facts.items():
        speed = fact["tokens"] / fact["seconds"]
        ratio = f"{speed * bare['seconds'] / bare['tokens']:.2f}x" if bare else "-"
        table.add_row(name, f"{speed:,.0f}", ratio)
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
