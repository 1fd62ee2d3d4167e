"""Kill processes of a running study at random, and see whether it ends as if nothing had happened.

``python -m benchmarks.chaos --seed 1 --kills 30``: a coordinator and two hospitals on loopback, with everything that a
deployment has. Every few seconds one process dies by SIGKILL: SuperLink, SuperExec, ServerApp, ingress, gateways,
SuperNodes, client apps. At the end the model has to be that of the simulation with the same seeds, every round has to
be in the history once, and the receipts of both ends have to agree.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

from protocols.receipts import gateway_chain, ingress_chain, reconcile
from tests.deployment.consortium import Consortium
from tests.deployment.simulated import simulate

ROUNDS = 16
STEPS = 10  # a round takes long enough to be hit


def targets(consortium: Consortium) -> dict[str, int]:
    """Every process that may die, by name."""
    found = {f"coordinator {n}": pid for n, pid in consortium.programs(consortium.home).items() if pid}
    for number, site in enumerate(consortium.sites):
        found |= {f"site {number} {n}": pid for n, pid in consortium.programs(site.path).items() if pid}
    for name, pid in list(found.items()):
        for child in children(pid):
            if "app" in command_of(child):
                found[name.replace("superexec", "app")] = child
    return found


def children(pid: int) -> list[int]:
    """Processes that a process started, and theirs."""
    try:
        direct = [int(c) for c in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []
    return direct + [grandchild for child in direct for grandchild in children(child)]


def command_of(pid: int) -> str:
    """What a process runs."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return ""
    return next((w.decode().rsplit("/", 1)[-1] for w in words if b"flwr-" in w), "")


def run(folder: Path, *, seed: int, kills: int, limit_s: float, pause_s: tuple[float, float]) -> dict[str, object]:
    """One study under fire; what came of it."""
    simulated = simulate(folder / "simulated")
    changes = {"study": "chaos", "rounds": ROUNDS, "quorum": 2, "deadline_s": 400.0, "rejoin_s": 390.0, "join_s": 300.0}
    recipe = simulated.plan.recipe.model_copy(update={"steps": STEPS})
    plan = simulated.plan.model_copy(update=changes | {"recipe": recipe})
    expected = simulated.with_plan(plan, folder / "expected")
    consortium = Consortium(folder, expected.site_folders(folder / "sites"))
    consortium.set_up()
    consortium.start()
    draw, died, started = random.Random(seed), Counter[str](), time.monotonic()
    try:
        consortium.begin(expected.plan, expected.model)
        consortium.wait("chaos", rounds=1, timeout_s=limit_s)
        while time.monotonic() - started < limit_s and consortium.rounds_done("chaos") < ROUNDS:
            time.sleep(draw.uniform(*pause_s))
            if sum(died.values()) < kills:
                name, pid = draw.choice(sorted(targets(consortium).items()))
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue
                died[name] += 1
                print(f"{time.monotonic() - started:6.1f} s  round {consortium.rounds_done('chaos')}  {name} dies")
        seconds = time.monotonic() - started
        time.sleep(6)  # the last answers are receipted
        record = json.loads((consortium.home / "studies" / "chaos" / "study.json").read_text())
    finally:
        consortium.stop()
    return checked(consortium, expected.weights) | {
        "kills": sum(died.values()),
        "by_process": dict(sorted(died.items())),
        "seconds": round(seconds, 1),
        "flower_runs": len(record["runs"]),
    }


def checked(consortium: Consortium, expected: dict[str, np.ndarray]) -> dict[str, object]:
    """What has to hold afterwards."""
    last = sorted((consortium.home / "studies" / "chaos" / "checkpoints").glob("round-*"))[-1]
    weights = load_file(last / "weights.safetensors")
    rounds = [r["round"] for r in json.loads((last / "history.json").read_text())["rounds"]]
    resent = sum(sum(r["resent"].values()) for r in json.loads((last / "history.json").read_text())["rounds"])
    arrived = ingress_chain(consortium.home / "receipts").read()
    found = [
        reconcile(gateway_chain(s.gateway / "receipts").read(), arrived, s.config().number) for s in consortium.sites
    ]
    return {
        "rounds_once_each": rounds == list(range(1, ROUNDS + 1)),
        "largest_difference": max(float(np.abs(weights[n] - expected[n]).max()) for n in expected),
        "receipts_clean": all(f.is_clean for f in found),
        "messages_agreed": sum(f.agreed for f in found),
        "not_arrived": sum(len(f.not_arrived) for f in found),
        "asked_again": resent,
    }


def main() -> None:
    """Run once and print what came of it; status 1 when something does not hold."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--limit", type=float, default=1_200.0, help="longest run [s]")
    parser.add_argument("--pause", type=float, nargs=2, default=(4.0, 14.0), help="between two kills [s]")
    parser.add_argument("--keep", type=Path, help="keep everything in this folder")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch:
        folder = arguments.keep or Path(scratch)
        for name in ("simulated", "expected", "sites"):
            (folder / name).mkdir(parents=True)
        facts = run(
            folder, seed=arguments.seed, kills=arguments.kills, limit_s=arguments.limit, pause_s=tuple(arguments.pause)
        )
    print(json.dumps(facts, indent=2))
    holds = facts["rounds_once_each"] and facts["receipts_clean"] and float(str(facts["largest_difference"])) < 1e-6
    raise SystemExit(0 if holds else 1)


if __name__ == "__main__":
    main()
