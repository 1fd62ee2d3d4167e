"""A hostile SuperNode against a real SuperLink: with the gateway nothing gets out but what the table says, and without
it everything does, which shows that the test can see leaks."""

from __future__ import annotations

import json
import string
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import grpc
import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_ssh_private_key
from flwr.supercore.primitives.asymmetric import public_key_to_bytes
from safetensors.numpy import save_file

from protocols.codec import decode_request
from protocols.manifest import ParameterManifest
from protocols.messages import InnerRecipe, TrainRequest
from protocols.plan import Plan
from protocols.receipts import gateway_chain
from tests.deployment.hostile_node import BITS, CALLS, REPLIES, SHAPES, Node, try_calls
from tests.deployment.link import Link
from tests.deployment.recorder import Recorder, files_below, traces
from tests.deployment.site import make_site, start_gateway

pytestmark = pytest.mark.slow

HOSTILE, HONEST = 0, 1
AS_NUMBER = {"number of a run", "id of the node"}


def _tracers() -> dict[str, str]:
    """A string of eight characters for each attack; '9' where a float has its exponent, so that it stays small."""
    letters = iter(string.ascii_uppercase + string.ascii_lowercase)
    return {name: (letter := next(letters)) + "qK9" + letter + "zW9" for name in [*REPLIES, *CALLS]}


def _found(name: str, tracer: str, *haystacks: bytes) -> bool:
    """Whether the string of an attack is there; in the form of a protobuf number where it left as one."""
    if name in AS_NUMBER:
        return any(_varint(int.from_bytes(tracer.encode(), "little") >> 1) in haystack for haystack in haystacks)
    return traces(tracer, *haystacks)


def _varint(number: int) -> bytes:
    groups = []
    while number:
        groups.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*groups[:-1], groups[-1] & 0x7F])


@dataclass
class Outcome:
    """What an attempt left behind."""

    traffic: bytes
    coordinator_files: bytes
    receipts: bytes
    codes: dict[str, str]


def _study(folder: Path) -> Plan:
    weights = {name: np.zeros(shape, np.float32) for name, shape in SHAPES.items()}
    (folder / "model").mkdir(parents=True)
    save_file(weights, folder / "model" / "model.safetensors")
    plan = Plan(
        study="hostile",
        rounds=len(REPLIES),
        corpus="real",
        manifest_digest=ParameterManifest.of(weights).digest,
        recipe=InnerRecipe(steps=1, rows=1, row_length=16, peak_lr=0.1),
        sites=2,
        quorum=1,
        deadline_s=20.0,
    )
    (folder / "plan.json").write_text(plan.model_dump_json())
    return plan


def _attack(tmp_path: Path, *, with_gateway: bool) -> Outcome:
    tracers = _tracers()
    plan = _study(tmp_path / "study")
    link = Link(tmp_path / "link", tmp_path / "study").start()
    pair = (link.pair.key, link.pair.certificate)
    recorder = Recorder(f"127.0.0.1:{link.fleet}", link.authority.certificate, pair)
    gateway: subprocess.Popen[bytes] | None = None
    try:
        manifest = ParameterManifest.of({name: np.zeros(shape, np.float32) for name, shape in SHAPES.items()})
        site = make_site(tmp_path / "site", plan, manifest, link, f"127.0.0.1:{recorder.port}")
        node_key = load_ssh_private_key((site.gateway / "keys" / "node.key").read_bytes(), None)
        honest_key = ec.generate_private_key(ec.SECP384R1())
        for key in (node_key, honest_key):
            link.register(public_key_to_bytes(key.public_key()))
        if with_gateway:
            gateway = start_gateway(site, tmp_path / "gateway.log")
            inner = load_ssh_private_key((site.path / "keys" / "supernode.key").read_bytes(), None)
            port = site.config().deployment.gateway_port
            hostile = Node(f"127.0.0.1:{port}", (site.path / "keys" / "gateway-ca.pem").read_bytes(), inner, HOSTILE)
        else:
            hostile = Node(f"127.0.0.1:{recorder.port}", link.authority.certificate, node_key, HOSTILE)
        honest = Node(f"127.0.0.1:{link.fleet}", link.authority.certificate, honest_key, HONEST)
        run = link.start_run("hostile")
        _play(link, run, hostile, honest, tracers)
        last = sorted((tmp_path / "study" / "checkpoints").glob("round-*"))[-1]
        history = json.loads((last / "history.json").read_text())
        names = list(REPLIES)
        codes = {
            names[r["round"] - 1]: next((x["code"] for x in r["refused"] if x["site"] == HOSTILE), "accepted")
            for r in history["rounds"]
        }
    finally:
        if gateway is not None:
            gateway.terminate()
            gateway.wait(20)
        link.stop()
        recorder.stop()
    receipts = files_below(site.gateway / "receipts") + (
        (tmp_path / "gateway.log").read_bytes() if with_gateway else b""
    )
    return Outcome(recorder.traffic(), files_below(tmp_path / "link"), receipts, codes)


def _play(link: Link, run: int, hostile: Node, honest: Node, tracers: dict[str, str]) -> None:
    """Answer every instruction: the honest node honestly, the hostile one with an attack a round."""
    called, tried, end, beat = False, set[int](), time.monotonic() + 200, 0.0
    while not link.status(run).startswith("finished"):
        assert time.monotonic() < end, link.status(run)
        if time.monotonic() > beat:
            beat = time.monotonic() + 10
            honest.heartbeat()
            hostile.heartbeat()
        for node in (honest, hostile):
            try:
                asked = node.pull()
            except grpc.RpcError:
                asked = None
            if asked is None:
                continue
            if node is honest or asked.metadata.message_type == "query.hello":
                node.answer(asked)
                continue
            if not called:
                try_calls(hostile, run, tracers, CALLS)
                called = True
            number = decode_request(asked.content, TrainRequest).round
            if number in tried:  # asked again, as after a crash
                node.answer(asked)
                continue
            tried.add(number)
            name, attack = list(REPLIES.items())[number - 1]
            try:
                attack(hostile, asked, tracers[name])
            except grpc.RpcError:
                continue
        time.sleep(0.05)


def test_nothing_gets_out_through_the_gateway_but_bits_of_allowed_floats(tmp_path: Path) -> None:
    outcome = _attack(tmp_path, with_gateway=True)
    places = (outcome.traffic, outcome.coordinator_files, outcome.receipts)
    out = {name for name, tracer in _tracers().items() if _found(name, tracer, *places)}
    assert out == {BITS}, out
    accepted = {name for name, code in outcome.codes.items() if code == "accepted"}
    # What hides beside the content is thrown away, digits are rounded off, and the content arrives rebuilt.
    assert accepted == {
        "metric value (digits of a float)",
        "group id in the metadata",
        "lifetime in the metadata",
        "runtime of the app",
        "unknown protobuf field",
        "number of messages",
        BITS,
    }
    assert set(outcome.codes.values()) - {"accepted"} <= {
        "REPLY_NOT_LISTED",
        "MANIFEST_MISMATCH",
        "UPDATE_NOT_FINITE",
        "BYTES_EXCEEDED",
        "SITE_CRASHED",
    }
    _receipts_are_whole(tmp_path)


def _receipts_are_whole(tmp_path: Path) -> None:
    receipts = gateway_chain(tmp_path / "site" / "gateway" / "receipts").read()
    assert {r.kind for r in receipts} >= {"reply", "refusal", "calls", "instruction", "event"}


def test_everything_gets_out_without_the_gateway(tmp_path: Path) -> None:
    outcome = _attack(tmp_path, with_gateway=False)
    stopped = {name for name, tracer in _tracers().items() if not _found(name, tracer, outcome.traffic)}
    assert stopped == set(), stopped
    # Some of it even stays in the coordinator's logs.
    assert any(traces(t, outcome.coordinator_files) for t in _tracers().values())
