"""The coordinator's Flower app: the same in a simulation and behind a SuperLink."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from protocols.bundle import STUDY_KEY
from protocols.errors import FednotesError, UsageError
from server.rounds import Study
from server.state import RoundRecord, ServerFolder
from server.studies import StudyFolder, find_study

FOLDER_VARIABLE = "FEDNOTES_SERVER"
"""Environment variable that names a study's folder: in a simulation there is one study and no coordinator's folder."""

HOME_VARIABLE = "FEDNOTES_SERVER_HOME"
"""Environment variable that names the coordinator's folder; the run says which of its studies it works on."""

_LOOK_S = 1.0


def make_app(
    *, stop: threading.Event | None = None, on_round: Callable[[RoundRecord], None] = lambda _: None
) -> ServerApp:
    """Make the app.

    Args:
        stop: ends the study after the last checkpoint when set.
        on_round: told of every finished round.
    """
    app = ServerApp()
    stop_event = stop or threading.Event()

    @app.main()
    def main(grid: Grid, context: Context) -> None:
        if home := os.environ.get(HOME_VARIABLE):
            study = find_study(Path(home) / "studies", str(context.run_config.get(STUDY_KEY, "")))
            _run_deployed(grid, study, stop_event, on_round)
        elif path := os.environ.get(FOLDER_VARIABLE):
            Study(grid, ServerFolder(Path(path)), stop=stop_event, on_round=on_round).run()
        else:
            raise UsageError("No server folder is named.", hint=f"set {HOME_VARIABLE} or {FOLDER_VARIABLE}")

    return app


def _run_deployed(
    grid: Grid, study: StudyFolder, stop: threading.Event, on_round: Callable[[RoundRecord], None]
) -> None:
    """Run a study until it is finished or no longer wished for, and say why if it ends otherwise."""
    threading.Thread(target=_watch_wish, args=(study, stop), daemon=True).start()
    try:
        Study(grid, study.server, stop=stop, on_round=on_round).run()
    except UsageError as error:  # another run would end the same way
        study.wish("failed", error.message)
        raise
    except FednotesError as error:
        study.failed(error.message)
        raise


def _watch_wish(study: StudyFolder, stop: threading.Event) -> None:
    while not stop.wait(_LOOK_S):
        if study.record().wish != "running":
            stop.set()


app = make_app()
