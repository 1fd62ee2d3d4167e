"""Notes filled with unique strings, two real rounds: no string is in anything that leaves, in any encoding."""

from __future__ import annotations

import base64
import csv
import json
import logging
import random
import threading
from pathlib import Path

import numpy as np
import pytest
from flwr.app import Context, Message
from flwr.clientapp import ClientApp
from flwr.common.serde import message_to_proto
from flwr.serverapp import Grid, ServerApp
from flwr.simulation import run_simulation
from tests_support import fednotes

from modeling.release import load_tokenizer
from server.rounds import Study
from server.state import ServerFolder
from simulations.options import Options, PrivacyOptions
from simulations.run import simulate
from site_client.client_app import app as guarded_app

pytestmark = pytest.mark.slow


def _tracer(rng: random.Random) -> str:
    return "zq" + "".join(rng.choices("bcdfghjkmnpqrstvwxz", k=14))


def _needles(tracer: str, tokenizer) -> dict[str, bytes]:
    ids = tokenizer(tracer, add_special_tokens=False)["input_ids"]
    raw = tracer.encode()
    return {
        "utf-8": raw,
        "utf-16": tracer.encode("utf-16-le"),
        "hex": raw.hex().encode(),
        # The middle of a base64 text does not depend on what stands around it, but on its offset modulo 3.
        **{f"base64+{o}": base64.b64encode(b"x" * o + raw)[4:-4] for o in range(3)},
        "token ids, int32": np.array(ids, np.int32).tobytes(),
        "token ids, int64": np.array(ids, np.int64).tobytes(),
        "token ids, float32": np.array(ids, np.float32).tobytes(),
        "token ids, text": json.dumps(ids).encode(),
    }


class RecordingGrid:
    """Flower's grid, keeping the serialized form of every reply that came in."""

    def __init__(self, grid: Grid, kept: list[bytes]) -> None:
        self._grid = grid
        self._kept = kept

    def __getattr__(self, name: str) -> object:
        return getattr(self._grid, name)

    def pull_messages(self, ids):
        replies = list(self._grid.pull_messages(ids))
        self._kept.extend(message_to_proto(r).SerializeToString() for r in replies)
        return replies


@pytest.fixture(scope="module")
def traced(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """A prepared run over notes in which every sentence has a tracer, names of columns and identifiers included."""
    rng, tracers = random.Random(5), []
    folder = tmp_path_factory.mktemp("traced")
    with (folder / "notes.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["note_id", "patient_id", "hospital", "note_type", "text"])
        for i in range(240):
            note = [_tracer(rng) for _ in range(4)]
            tracers += note
            text = (
                f"Pt {note[0]} c/o pain x{i} days, no {note[1]} fever. BP 1{i % 60:02d}/80. Hx of {note[2]}, hip {i}."
            )
            writer.writerow([f"n-{note[3]}", f"p-{note[3]}", f"h{i % 2}", "progress", text])
    options = Options(
        notes=(folder / "notes.csv",),
        site_by="hospital",
        scenario="smoke",
        deidentify="none",
        privacy=PrivacyOptions(target_epsilon=8.0, sampling_rate=0.2, max_records=1),
    )
    simulate(options, folder / "run", resume=False, overwrite=False, quiet=True)
    return folder / "run", tracers


def _replies(
    run: Path, client_app: ClientApp, monkeypatch: pytest.MonkeyPatch, trainer: str = "federated"
) -> tuple[list[bytes], str]:
    """Two rounds of the study anew, through Flower's engine; every reply as bytes, and what was logged."""
    kept: list[bytes] = []
    study = run / "studies" / f"{trainer}-real-plus-synthetic"
    plan = (
        ServerFolder(study).plan().model_copy(update={"study": f"again-{len(list(run.glob('again*')))}", "quorum": 1})
    )
    again = run / f"again-{len(list(run.glob('again*')))}"
    (again / "model").mkdir(parents=True)
    for file in (study / "model").iterdir():
        (again / "model" / file.name).write_bytes(file.read_bytes())
    ServerFolder.create(again, plan)
    monkeypatch.setenv("FEDNOTES_SITES", str(run / "sites"))
    app = ServerApp()

    @app.main()
    def main(grid: Grid, context: Context) -> None:
        recording = RecordingGrid(grid, kept)
        Study(recording, ServerFolder(again), stop=threading.Event(), on_round=lambda _: None).run()

    log = again / "flower.log"
    handler = logging.FileHandler(log)
    logging.getLogger("flwr").addHandler(handler)
    try:
        run_simulation(
            server_app=app,
            client_app=client_app,
            num_supernodes=2,
            backend_config={
                "client_resources": {"num_cpus": 1, "num_gpus": 0.0},
                "init_args": {"num_cpus": 2, "include_dashboard": False, "log_to_driver": False},
            },
        )
    except Exception as error:  # a study without updates stops; what was said on the way is what counts here
        kept.append(str(error).encode())
    finally:
        logging.getLogger("flwr").removeHandler(handler)
    return kept, log.read_text()


def _found(tracers: list[str], blobs: list[bytes], run: Path) -> list[str]:
    tokenizer = load_tokenizer(run / "initial")
    blob = b"\n".join(blobs)
    return [f"{kind}" for t in tracers for kind, needle in _needles(t, tokenizer).items() if needle in blob]


@pytest.mark.parametrize("trainer", ["federated", "federated-dp"])
def test_no_tracer_is_in_any_reply_receipt_ledger_log_or_report(
    traced: tuple[Path, list[str]], monkeypatch: pytest.MonkeyPatch, trainer: str
) -> None:
    run, tracers = traced
    replies, log = _replies(run, guarded_app, monkeypatch, trainer)
    assert len(replies) >= 2 * 3, "two greetings and four updates"
    leaving = [*replies, log.encode()]
    for pattern in (
        "sites/*/receipts/*",
        "sites/*/logs/*",
        "sites/*/ledger/*",
        "sites/*/checkpoints/*/private/*.jsonl",
        "logs/*",
        "studies/**/*.json",
        "results.json",
        "report.html",
    ):
        leaving += [p.read_bytes() for p in run.glob(pattern) if p.is_file()]
    leaving += [str(p.relative_to(run)).encode() for p in run.rglob("*")]
    assert not _found(tracers, leaving, run)


def leaky_app(tracer: str) -> ClientApp:
    """Handlers that fail with a note's text, without the exit around them."""
    app = ClientApp()

    @app.train()
    @app.query("hello")
    def fail(message: Message, context: Context) -> Message:
        raise RuntimeError(f"cannot parse: {tracer}")

    return app


def test_the_search_finds_a_tracer_that_flower_sends_without_our_exit(
    traced: tuple[Path, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control: without `egress` the same search sees the text of an exception arrive at the coordinator."""
    run, tracers = traced
    replies, log = _replies(run, leaky_app(tracers[0]), monkeypatch)
    assert "utf-8" in _found(tracers[:1], [*replies, log.encode()], run)


def test_errors_of_the_command_line_hold_no_note_text(traced: tuple[Path, list[str]], tmp_path: Path) -> None:
    """A file that is broken in every row gives an error without quoting a row."""
    (tmp_path / "n.csv").write_text("note_id,text\n" + '1,"zqtracerzq\n' * 3)
    done = fednotes("simulate", "--notes", tmp_path / "n.csv", "--out", tmp_path / "o")
    assert done.returncode == 2
    assert "zqtracerzq" not in done.stderr + done.stdout
