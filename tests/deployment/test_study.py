"""A whole study as a consortium runs it: two hospitals and a coordinator as processes, TLS and client certificates."""

from __future__ import annotations

import json
import re
import shutil
import time
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from protocols.receipts import gateway_chain, ingress_chain, reconcile
from tests.deployment.consortium import Consortium, told
from tests.deployment.simulated import Simulated

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def finished(simulated: Simulated, tmp_path_factory: pytest.TempPathFactory) -> Consortium:
    """A study that ran to its end."""
    folder = tmp_path_factory.mktemp("consortium")
    consortium = Consortium(folder, simulated.site_folders(folder))
    consortium.set_up()
    consortium.start()
    try:
        consortium.begin(simulated.plan, simulated.model)
        consortium.wait(simulated.plan.study, rounds=simulated.plan.rounds, timeout_s=240)
        _until_finished(consortium, simulated.plan.study)
        (folder / "server.metrics").write_text(_metrics(consortium.home / "server.toml"))
        (folder / "gateway.metrics").write_text(_metrics(consortium.sites[0].path / "site.toml"))
    finally:
        consortium.stop()
    return consortium


def _until_finished(consortium: Consortium, study: str) -> None:
    end = time.monotonic() + 30
    while consortium.wish(study) != "finished" and time.monotonic() < end:
        time.sleep(0.2)


def _metrics(settings: Path) -> str:
    port = re.search(r"^metrics_port = (\d+)", settings.read_text(), re.MULTILINE).group(1)
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        return answer.read().decode()


def test_deployed_study_makes_the_model_of_the_simulation(finished: Consortium, simulated: Simulated) -> None:
    out = finished.folder / "released"
    shutil.rmtree(out, ignore_errors=True)
    told("server", "release", simulated.plan.study, "--out", out, "--home", finished.home)
    released = load_file(out / "model.safetensors")
    assert released.keys() == simulated.weights.keys()
    for name, weights in simulated.weights.items():
        np.testing.assert_allclose(released[name], weights, rtol=0, atol=1e-6)


def test_released_model_loads_with_transformers(finished: Consortium, simulated: Simulated) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    out = finished.folder / "loaded"
    shutil.rmtree(out, ignore_errors=True)
    told("server", "release", simulated.plan.study, "--out", out, "--home", finished.home)
    tokenizer = AutoTokenizer.from_pretrained(out)
    AutoModelForCausalLM.from_pretrained(out)(**tokenizer("No acute distress.", return_tensors="pt"))


def test_receipts_of_both_ends_agree(finished: Consortium) -> None:
    arrived = ingress_chain(finished.home / "receipts").read()
    for site in finished.sites:
        left = gateway_chain(site.gateway / "receipts").read()
        found = reconcile(left, arrived, site.config().number)
        # A greeting and two rounds.
        assert found.is_clean and found.agreed == 3 and found.not_arrived == []
        said = told(
            *("receipts", "reconcile", site.gateway / "receipts", finished.home / "receipts"),
            *("--site", site.config().number, "--json"),
        )
        assert json.loads(said)["agreed"] == 3


def test_both_ends_say_in_words_what_left(finished: Consortium, simulated: Simulated) -> None:
    said = told("site", "egress", "list", "--site", finished.sites[0].path)
    assert f"study {simulated.plan.study}, round 2: TrainReply left" in said and "bytes of arrays" in said
    told("site", "egress", "verify", "--site", finished.sites[0].path)
    assert "arrived whole" in told("server", "receipts", "list", "--home", finished.home)


def test_both_ends_show_metrics_without_a_word_from_a_message(finished: Consortium, simulated: Simulated) -> None:
    server = (finished.folder / "server.metrics").read_text()
    assert f'fednotes_rounds_done{{study="{simulated.plan.study}"}} 2.0' in server
    assert 'fednotes_sites{state="connected"} 2.0' in server
    gateway = (finished.folder / "gateway.metrics").read_text()
    assert 'fednotes_replies_total{reply="TrainReply"} 2.0' in gateway
    assert "fednotes_sent_bytes_total" in gateway and "fednotes_open_instructions 0.0" in gateway


def test_no_listener_of_a_site_is_reachable_from_outside(finished: Consortium) -> None:
    for site in finished.sites:
        log = (site.path / "logs" / "gateway.log").read_text()
        assert "the gateway serves on 127.0.0.1:" in log
