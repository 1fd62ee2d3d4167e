"""One federated arm on Flower's own simulation engine, with the apps that a deployment runs."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from flwr.simulation import run_simulation

from server.server_app import FOLDER_VARIABLE, make_app
from server.state import RoundRecord
from site_client.client_app import app as client_app
from site_client.locate import SITES_VARIABLE

_MIN_STORE_BYTES = 128 * 2**20


def run_federated(
    server_folder: Path,
    sites: Path,
    *,
    num_sites: int,
    model_bytes: int,
    log: Path,
    on_round: Callable[[RoundRecord], None],
) -> bool:
    """Run a study to its end, or to the round in which Ctrl-C was typed.

    Args:
        server_folder: plan, model, checkpoints; a study that was stopped goes on.
        sites: site folders, numbered from 0.
        num_sites: how many.
        model_bytes: size of the weights, for Ray's object store.
        log: gets Flower's own words.
        on_round: told of every finished round.

    Returns:
        Whether the study ran to its end.

    Raises:
        WorkError: the study stopped for want of sites; its checkpoint stays.
    """
    stop = threading.Event()
    folders = {FOLDER_VARIABLE: str(server_folder.resolve()), SITES_VARIABLE: str(sites.resolve())}
    cores = os.cpu_count() or 1
    with (
        _ray_files() as ray_files,
        _environment({**folders, **_quiet_ray(ray_files)}),
        _words_of_flower_to(log),
        _stopped_by_ctrl_c(stop),
    ):
        run_simulation(
            server_app=make_app(stop=stop, on_round=on_round),
            client_app=client_app,
            num_supernodes=num_sites,
            backend_config={
                "client_resources": {"num_cpus": 1, "num_gpus": 0.0},
                "init_args": {
                    "num_cpus": min(cores, num_sites),
                    "include_dashboard": False,
                    "_temp_dir": ray_files,  # for the owner alone, and gone afterwards
                    "log_to_driver": False,
                    "logging_level": logging.ERROR,
                    "object_store_memory": max(_MIN_STORE_BYTES, 8 * model_bytes),
                },
            },
        )
    return not stop.is_set()


@contextlib.contextmanager
def _ray_files() -> Iterator[str]:
    """Give Ray a folder for the owner alone, gone afterwards.

    It is not below the run folder: Ray makes sockets in it, and their paths may have no more than 107 characters.
    """
    with tempfile.TemporaryDirectory(prefix="fednotes-", ignore_cleanup_errors=True) as folder:
        # Even with usage statistics off, Ray asks cloud metadata servers where it runs, unless it finds this file.
        (Path(folder) / "ray_bootstrap_config.yaml").write_text("{}\n", encoding="utf-8")
        yield folder


def _quiet_ray(home: str) -> dict[str, str]:
    return {
        "HOME": home,
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    }  # the latter is Ray's default from its next release


@contextlib.contextmanager
def _environment(variables: dict[str, str]) -> Iterator[None]:
    """Set environment variables; Ray's workers inherit them."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextlib.contextmanager
def _words_of_flower_to(path: Path) -> Iterator[None]:
    """Send Flower's log to a file, not to the screen."""
    path.parent.mkdir(parents=True, exist_ok=True)
    logger = logging.getLogger("flwr")
    handlers, propagate = logger.handlers[:], logger.propagate
    to_file = logging.FileHandler(path)
    to_file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logger.handlers, logger.propagate = [to_file], False
    try:
        yield
    finally:
        logger.handlers, logger.propagate = handlers, propagate
        to_file.close()


@contextlib.contextmanager
def _stopped_by_ctrl_c(stop: threading.Event) -> Iterator[None]:
    """The first Ctrl-C ends the study after its last checkpoint; a second one ends the process."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def on_signal(number: int, _: object) -> None:
        stop.set()
        signal.signal(number, signal.SIG_DFL)

    before = signal.signal(signal.SIGINT, on_signal)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
