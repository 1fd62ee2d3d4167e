"""What the egress gateway costs: seconds of a round and memory, against the same node without it.

``python -m benchmarks.gateway --mb 100``: a real SuperLink with a real ServerApp asks one site for an update of that
size. The site is a program that speaks Flower's Fleet API and answers at once, so that nothing but the transport is
measured: in a real round training comes on top, and the share of the gateway is smaller.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
from cryptography.hazmat.primitives.serialization import load_ssh_private_key
from flwr.app import Message
from flwr.supercore.primitives.asymmetric import public_key_to_bytes
from safetensors.numpy import save_file

from protocols.codec import decode_request, encode_reply
from protocols.manifest import ParameterManifest
from protocols.messages import InnerRecipe, TrainReply, TrainRequest
from protocols.plan import Plan
from tests.deployment.hostile_node import Node
from tests.deployment.link import Link
from tests.deployment.site import make_site, start_gateway

ROUNDS = 4
ARRAYS = 8


def study(folder: Path, megabytes: int) -> Plan:
    """A study whose update has that size."""
    rows = megabytes * 10**6 // 4 // ARRAYS // 1_000
    weights = {f"layer.{i}": np.zeros((rows, 1_000), np.float32) for i in range(ARRAYS)}
    (folder / "model").mkdir(parents=True)
    save_file(weights, folder / "model" / "model.safetensors")
    plan = Plan(
        study="transport",
        rounds=ROUNDS,
        corpus="real",
        manifest_digest=ParameterManifest.of(weights).digest,
        recipe=InnerRecipe(steps=1, rows=1, row_length=16, peak_lr=0.1),
        sites=1,
        quorum=1,
        deadline_s=600.0,
    )
    (folder / "plan.json").write_text(plan.model_dump_json())
    return plan


def measure(folder: Path, megabytes: int, *, with_gateway: bool) -> dict[str, float]:
    """Median seconds of a round, and peak memory of each process [MB]."""
    plan = study(folder / "study", megabytes)
    link = Link(folder / "link", folder / "study").start()
    processes = {}
    try:
        manifest = ParameterManifest.of(_weights(folder / "study"))
        site = make_site(folder / "site", plan, manifest, link, f"127.0.0.1:{link.fleet}")
        key = load_ssh_private_key((site.gateway / "keys" / "node.key").read_bytes(), None)
        link.register(public_key_to_bytes(key.public_key()))
        if with_gateway:
            processes["gateway"] = start_gateway(site, folder / "gateway.log")
            key = load_ssh_private_key((site.path / "keys" / "supernode.key").read_bytes(), None)
            address = f"127.0.0.1:{site.config().deployment.gateway_port}"
            node = Node(address, (site.path / "keys" / "gateway-ca.pem").read_bytes(), key, 0)
        else:
            node = Node(f"127.0.0.1:{link.fleet}", link.authority.certificate, key, 0)
        run = link.start_run("transport")
        stop = threading.Event()
        threading.Thread(target=_beat, args=(node, stop), daemon=True).start()
        update = {k: np.full(v.shape, 1e-4, np.float32) for k, v in _weights(folder / "study").items()}
        while not link.status(run).startswith("finished"):
            asked = node.pull()
            if asked is None:
                time.sleep(0.02)
            elif asked.metadata.message_type == "query.hello":
                node.answer(asked)
            else:
                number = decode_request(asked.content, TrainRequest).round
                node.push(Message(_reply(number, update), reply_to=asked))
        stop.set()
        peaks = {name: _peak_mb(p.pid) for name, p in (processes | {"link": link.processes["link"]}).items()}
    finally:
        for process in processes.values():
            process.terminate()
            process.wait(20)
        link.stop()
    last = sorted((folder / "study" / "checkpoints").glob("round-*"))[-1]
    rounds = json.loads((last / "history.json").read_text())["rounds"]
    seconds = sorted(r["seconds"] for r in rounds[1:])
    return {"round_s": seconds[len(seconds) // 2], **{f"{n}_mb": p for n, p in peaks.items()}}


def _weights(folder: Path) -> dict[str, np.ndarray]:
    from safetensors.numpy import load_file

    return load_file(folder / "model" / "model.safetensors")


def _reply(number: int, update: dict[str, np.ndarray]):
    facts = TrainReply(
        round=number, train_tokens=1, corpus_tokens=1000, train_loss=1.0, validation_bits=0, validation_bytes=0
    )
    return encode_reply(facts, update)


def _beat(node: Node, stop: threading.Event) -> None:
    while not stop.wait(10):
        node.heartbeat()


def _peak_mb(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return round(int(line.split()[1]) / 1024, 1)
    return 0.0


def main() -> None:
    """Print both, and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mb", type=int, default=100)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch:
        direct = measure(Path(scratch) / "direct", arguments.mb, with_gateway=False)
        gateway = measure(Path(scratch) / "gateway", arguments.mb, with_gateway=True)
    ratio = gateway["round_s"] / direct["round_s"]
    print(json.dumps({"mb": arguments.mb, "direct": direct, "with_gateway": gateway, "ratio": round(ratio, 3)}))


if __name__ == "__main__":
    main()
