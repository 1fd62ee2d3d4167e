"""What a person types, and what is said when it is wrong."""

from __future__ import annotations

import json
import re

import pytest
from rephrasing_support import EchoEngine, make_arm
from tests_support import fednotes_here

from protocols.durable import write_text
from site_client.engines.vllm_engine import VllmSettings
from site_client.rephrasing.batches import Progress
from site_client.rephrasing.corpus_folder import CorpusFolder
from site_client.rephrasing.progress_line import in_words, progress_line
from site_client.rephrasing.tune import Trial, Tuning, candidates, tune


def run(site, *words, status: int = 0):
    done = fednotes_here("site", "rephrase", "--site", site.path, *words)
    assert done.returncode == status, done.stderr
    return done


def test_a_run_tells_what_was_accepted_and_why_the_rest_was_not(site) -> None:
    done = run(site, "--prompt", "P1", "--prompt", "professional")
    assert re.search(r"^rules\.wikipedia: \d+ of 24 rephrasings accepted, 24 of them new\.$", done.stdout, re.M)
    assert re.search(r"^rules\.professional: ", done.stdout, re.M)
    assert "accepted tokens" in done.stdout and "output tokens/s" in done.stdout
    [again, _] = json.loads(run(site, "--prompt", "P1", "--prompt", "P2", "--json").stdout)["arms"]
    assert again["judged"] == 24 and again["new"] == 0


def test_a_dry_run_writes_nothing_and_tells_prompts_chunks_tokens_and_hours(site) -> None:
    done = run(site, "--dry-run", "--prompt", "P1")
    assert "--- prompt wikipedia" in done.stdout and "{text}" in done.stdout
    assert "24 of 24 chunks of 12 patients to do" in done.stdout and "time unknown" in done.stdout
    assert "Nothing was written." in done.stdout and not site.corpus.exists()
    run(site, "--prompt", "P1")
    [arm] = json.loads(run(site, "--dry-run", "--json", "--prompt", "P1", "--seed", "0").stdout)["arms"]
    assert arm["done"] == arm["chunks"] == 24 and arm["hours"] == 0 and arm["tokens_per_second"] > 0


def test_a_dry_run_keeps_to_the_budget(site) -> None:
    [arm] = json.loads(run(site, "--dry-run", "--json", "--token-budget", "300").stdout)["arms"]
    assert 300 <= arm["source_tokens"] < 400 and arm["chunks"] < 24
    [arm] = json.loads(run(site, "--dry-run", "--json", "--synthetic-share", "0.2").stdout)["arms"]
    [whole] = json.loads(run(site, "--dry-run", "--json").stdout)["arms"]
    assert arm["source_tokens"] == pytest.approx(whole["source_tokens"] / 4, abs=60)  # a chunk
    [arm] = json.loads(run(site, "--dry-run", "--json", "--per-patient", "1").stdout)["arms"]
    assert arm["chunks"] == 12


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--engine", "gpt"], "There is no engine 'gpt'.\nhint: choose one of: rules, vllm, openai"),
        (["--prompt", "P7"], "There is no prompt 'P7'.\nhint: choose of "),
        (["--prompt", "soap"], "The rules engine cannot follow the prompt 'soap'."),
        (["--model", "x"], "The rules engine has no model."),
        (["--judge"], "The rules engine cannot judge."),
        (["--synthetic-share", "1.0"], "--synthetic-share lies between 0 and 1."),
        (["--max-num-seqs", "8"], "--max-num-seqs goes with --engine vllm."),
        (["--engine", "vllm"], "--engine vllm needs --model."),
        (["--engine", "vllm", "--model", "./none"], "There is no model folder ./none."),
        (["--engine", "vllm", "--model", "org/name"], "needs the commit that is meant"),
        (["--engine", "vllm", "--model", "qwen2-7b"], "is not on this machine"),
        (["--engine", "vllm", "--model", "a", "--model", "b", "--revision", "1"], "--revision goes with one --model"),
        (["--engine", "vllm", "--model", "x", "--speculation", "magic"], "speculation: Input should be 'none'"),
        (["--tune"], "--tune is for --engine vllm."),
        (["--engine", "openai", "--model", "m"], "No endpoint is given."),
        (["--engine", "openai", "--model", "m", "--endpoint", "http://192.0.2.7/v1"], "192.0.2.7"),
    ],
)
def test_wrong_options_are_told_with_what_to_do(site, words: list[str], told: str) -> None:
    done = run(site, *words, status=2)
    assert told in done.stderr and done.stderr.startswith("error: ") and "Traceback" not in done.stderr


def test_a_second_process_is_refused(site) -> None:
    with CorpusFolder(site).locked():
        done = run(site, status=2)
    assert "Another process rephrases in" in done.stderr


def test_a_bad_prompt_file_of_the_site_is_named(site) -> None:
    file = 'name = "mine"\nversion = 1\nsummary = "x"\ntemplate = "no slots at all here"\n'
    write_text(site.path / "prompts" / "mine.toml", file)
    done = run(site, "--prompt", "mine", status=2)
    assert "Prompt file mine.toml cannot be used" in done.stderr and "{header}" in done.stderr


def test_given_pairs_are_judged_and_printed_as_json(tmp_path) -> None:
    source = "Pt is a 45-year-old male with left knee pain for 3 weeks. No fever. BP 120/80."
    good = (
        "The patient is a 45-year-old man who has had pain in the left knee for 3 weeks. "
        "He has no fever. His blood pressure is 120/80."
    )
    pairs = [
        {"id": "a", "source_text": source, "rephrased_text": good, "style": "professional", "label": "faithful"},
        {"id": "b", "source_text": source, "rephrased_text": good.replace("left", "right"), "style": "wikipedia"},
        {"id": "c", "source_text": source, "rephrased_text": good.replace("45", "54"), "style": "unheard-of"},
    ]
    file = tmp_path / "pairs.jsonl"
    file.write_text("\n".join(map(json.dumps, pairs)))
    done = fednotes_here("site", "rephrase", "--check", file, "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    verdicts = json.loads(done.stdout)["pairs"]
    assert [(v["id"], v["accepted"]) for v in verdicts] == [("a", True), ("b", False), ("c", False)]
    assert "laterality" in verdicts[1]["reasons"] and verdicts[0]["reasons"] == []
    plain = fednotes_here("site", "rephrase", "--check", file, cwd=tmp_path)
    assert plain.stdout.startswith("a: accepted\nb: rejected, ")


def test_pairs_that_cannot_be_read_are_told_by_line(tmp_path) -> None:
    file = tmp_path / "pairs.jsonl"
    file.write_text('{"id": "a", "source_text": "SECRET", "rephrased_text": "x", "style": "soap"}\n{"id": SECRET}\n')
    done = fednotes_here("site", "rephrase", "--check", file, "--json", cwd=tmp_path)
    assert done.returncode == 2 and "line 2" in done.stderr and "SECRET" not in done.stderr
    done = fednotes_here("site", "rephrase", "--check", tmp_path / "none.jsonl", cwd=tmp_path)
    assert done.returncode == 2 and "none.jsonl" in done.stderr


def test_progress_tells_speed_acceptance_and_time_left() -> None:
    progress = Progress(arm="m.p", chunks=100, total=1_000, accepted=90, output_tokens=20_000, seconds=50.0)
    assert in_words(progress) == "400 tok/s, 90% accepted, 0 h 08 min left"
    assert in_words(Progress(arm="m.p")) == "starting"


def test_progress_in_a_log_is_a_line_at_the_end_and_no_bar(capsys) -> None:
    with progress_line() as told:
        told(Progress(arm="m.p", chunks=1, total=2, accepted=1, output_tokens=10, seconds=1.0))
        told(Progress(arm="m.p", chunks=2, total=2, accepted=1, output_tokens=20, seconds=2.0))
    assert capsys.readouterr().err == "m.p: 2 of 2 chunks, 10 tok/s, 50% accepted, 0 h 00 min left\n"


class TimedEngine(EchoEngine):
    """Faster with more replies at once, up to a bound; 512 do not fit into its memory."""

    def __init__(self, settings: VllmSettings) -> None:
        super().__init__(window=settings.max_num_seqs)
        self.settings = settings

    async def start(self) -> None:
        from site_client.engines.engine import EngineError

        if self.settings.max_num_seqs >= 512:
            raise EngineError("out of memory")

    async def write(self, request):
        import asyncio

        await asyncio.sleep(0.001 if self.settings.speculation == "ngram" else 0.004)
        return await super().write(request)


def test_tuning_keeps_the_fastest_setting_that_runs(site) -> None:
    settings = [VllmSettings(max_num_seqs=n) for n in (1, 8, 512)]
    trials: list[Trial] = []
    arm = make_arm(EchoEngine())
    best = tune(site, arm, TimedEngine, settings, trials.append)
    assert best.settings.max_num_seqs == 8 and best.settings.speculation == "ngram"
    assert [t.tokens_per_second is None for t in trials] == [False, False, True, False, False]
    assert Tuning.read(site).best(arm.revision) == best
    assert Tuning.read(site).best("other") is None
    assert next(iter(candidates(VllmSettings()))).max_num_seqs == 128
    assert not list(site.corpus.glob("*/*/results")), "tuning writes no results"
