"""kill -9 at any moment: nothing missing, nothing double, at most one batch done again."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from tests_support import REPOSITORY, command

from site_client.folder import SiteFolder
from site_client.rephrasing.corpus_folder import CorpusFolder
from site_client.rephrasing.reading import read_synthetic
from site_client.rephrasing.selection import training_chunks

WINDOW = 32
# An engine that writes down every call before it answers, so that lost work can be counted.
COUNTING = f"""
import os, sys
from pathlib import Path
from rephrasing_support import EchoEngine, make_arm, rephrase, reworded
from site_client.folder import SiteFolder

if __name__ == "__main__":
    log = os.open(sys.argv[2], os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def reply(request):
        os.write(log, f"{{request.seed}}\\n".encode())
        return reworded(request)

    site = SiteFolder(Path(sys.argv[1]))
    print("ready", flush=True)
    rephrase(site, EchoEngine(reply, window={WINDOW}))
"""


@pytest.fixture
def twins(make_site) -> tuple[SiteFolder, SiteFolder]:
    """Two sites with the same 1,200 chunks."""
    first = make_site(patients={"train": 600, "validation": 2, "test": 2})
    second = make_site(number=8)
    second.notes.write_bytes(first.notes.read_bytes())
    return first, second


def killed_after(words: list[object], seconds: float, environment: dict[str, str]) -> bool:
    """Start a command and kill it so long after it said something; False when it had ended by itself."""
    process = subprocess.Popen(
        list(map(str, words)), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment, start_new_session=True
    )
    assert process.stdout is not None
    process.stdout.readline()
    time.sleep(seconds)
    ended = process.poll() is not None
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    return not ended


@pytest.mark.slow
def test_killed_again_and_again_the_corpus_is_that_of_an_undisturbed_run(
    twins: tuple[SiteFolder, SiteFolder], tmp_path: Path
) -> None:
    undisturbed, disturbed = twins
    script = tmp_path / "counting.py"
    script.write_text(COUNTING)
    environment = {**os.environ, "PYTHONPATH": f"{REPOSITORY}:{REPOSITORY / 'tests'}"}
    calls = tmp_path / "calls"
    subprocess.run(
        [sys.executable, script, undisturbed.path, tmp_path / "other"], env=environment, check=True, timeout=120
    )
    rng, kills = random.Random(5), 0
    while killed_after([sys.executable, script, disturbed.path, calls], rng.uniform(0.0, 1.2), environment):
        kills += 1
        assert kills < 60
    arm = CorpusFolder(disturbed).current_arms()[0].record().arm
    jobs = Counter(r.job for r in CorpusFolder(disturbed).arm(arm).results.read())
    assert jobs == Counter(arm.job(c) for c in training_chunks(disturbed.notes))
    assert [(s.job, s.text) for s in read_synthetic(disturbed)] == [
        (s.job, s.text) for s in read_synthetic(undisturbed)
    ]
    done = len(calls.read_text().split())
    assert kills >= 3 and len(jobs) <= done <= len(jobs) + kills * WINDOW, (kills, done)
    print(f"{kills} kills, {len(jobs)} jobs, {done - len(jobs)} done again, at most {kills * WINDOW}")


@pytest.mark.slow
def test_the_command_goes_on_after_a_kill(twins: tuple[SiteFolder, SiteFolder]) -> None:
    undisturbed, disturbed = twins
    subprocess.run(command("site", "rephrase", "--site", undisturbed.path, "--json"), check=True, capture_output=True)
    rephrase = list(command("site", "rephrase", "--site", disturbed.path))
    process = subprocess.Popen(rephrase, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True)
    results = CorpusFolder(disturbed).arm(arm_of(undisturbed)).results
    deadline = time.monotonic() + 60
    while not results.path.exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    kept = len(list(results.read()))
    # What a kill in the middle of a write leaves behind.
    with results.path.open("ab") as file:
        file.write(b'{"batch": 64, "bytes": 50000, "sha256": "00"}\n{"job": "half')
    done = subprocess.run(rephrase, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "bytes of a broken batch were taken out" in done.stdout
    total = sum(1 for _ in training_chunks(disturbed.notes))
    assert f"{total - kept:,} of them new" in done.stdout
    assert [(s.job, s.text) for s in read_synthetic(disturbed)] == [
        (s.job, s.text) for s in read_synthetic(undisturbed)
    ]


def arm_of(site: SiteFolder):
    return CorpusFolder(site).current_arms()[0].record().arm
