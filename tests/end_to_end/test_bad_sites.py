"""Sites that fail, stall or send bad updates, on Flower's real engine: each is refused by code, the study goes on."""

from __future__ import annotations

import logging
import shutil
import threading
from pathlib import Path

import numpy as np
import pytest
import tests_apps
from flwr.app import Context
from flwr.serverapp import Grid, ServerApp
from flwr.simulation import run_simulation

from protocols.errors import WorkError
from protocols.plan import OuterRecipe
from server.rounds import Study
from server.state import ServerFolder, StudyState

pytestmark = pytest.mark.slow

_REFUSED = {
    tests_apps.RAISES: "SITE_CRASHED",
    tests_apps.NOT_FINITE: "UPDATE_NOT_FINITE",
    tests_apps.OTHER_SHAPE: "MANIFEST_MISMATCH",
    tests_apps.TOO_LARGE: "UPDATE_TOO_LARGE",
    tests_apps.OTHER_ROUND: "WRONG_ROUND",
    tests_apps.SLEEPS: "NO_REPLY",
}


def _folder(finished: Path, path: Path, *, quorum: int) -> ServerFolder:
    study = ServerFolder(finished / "studies" / "federated-real-plus-synthetic")
    shutil.copytree(study.model, path / "model")
    changes = {
        "rounds": 2,
        "sites": 7,
        "quorum": quorum,
        "deadline_s": 12.0,
        "outer": OuterRecipe(name="fedavg", lr=1.0),
    }
    return ServerFolder.create(path, study.plan().model_copy(update=changes))


def _run(folder: ServerFolder) -> StudyState | Exception:
    outcome: list[StudyState | Exception] = []
    app = ServerApp()

    @app.main()
    def main(grid: Grid, context: Context) -> None:
        try:
            outcome.append(Study(grid, folder, stop=threading.Event(), on_round=lambda _: None).run())
        except Exception as error:
            outcome.append(error)

    logging.getLogger("flwr").setLevel(logging.CRITICAL)
    try:
        run_simulation(
            server_app=app,
            client_app=tests_apps.app,
            num_supernodes=7,
            backend_config={
                "client_resources": {"num_cpus": 1, "num_gpus": 0.0},
                "init_args": {"num_cpus": 3, "include_dashboard": False, "log_to_driver": False},
            },
        )
    finally:
        logging.getLogger("flwr").setLevel(logging.INFO)
    (result,) = outcome
    return result


def test_bad_sites_are_refused_by_code_and_the_rounds_go_on(finished: Path, tmp_path: Path) -> None:
    folder = _folder(finished, tmp_path / "study", quorum=1)
    before = folder.load().weights
    state = _run(folder)
    assert isinstance(state, StudyState), state
    assert [r.round for r in state.history] == [1, 2]
    first = state.history[0]
    assert first.accepted == [tests_apps.GOOD]
    assert {r.site: r.code for r in first.refused} == _REFUSED
    for name, array in state.weights.items():  # two rounds of the one good update, and of nothing else
        np.testing.assert_allclose(array, before[name] + 0.002, atol=1e-5)
    history = (folder.checkpoints / "round-0002" / "history.json").read_text()
    assert tests_apps.SECRET not in history


def test_too_few_good_sites_stop_the_study_and_keep_its_checkpoint(finished: Path, tmp_path: Path) -> None:
    folder = _folder(finished, tmp_path / "study", quorum=2)
    error = _run(folder)
    assert isinstance(error, WorkError)
    assert "1 accepted updates in round 1, the quorum is 2" in str(error)
    assert "site 2: UPDATE_NOT_FINITE" in str(error) and "--resume" in str(error)
    assert tests_apps.SECRET not in str(error)
    assert folder.rounds_done() == 0
