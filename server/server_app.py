"""The coordinator's Flower app: the same in a simulation and behind a SuperLink."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from protocols.errors import UsageError
from server.rounds import Study
from server.state import RoundRecord, ServerFolder

FOLDER_VARIABLE = "FEDNOTES_SERVER"
"""Environment variable that names the server folder when the run's configuration does not."""


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
        path = context.run_config.get("server-folder") or os.environ.get(FOLDER_VARIABLE)
        if not path:
            raise UsageError("No server folder is named.", hint=f"set server-folder or {FOLDER_VARIABLE}")
        Study(grid, ServerFolder(Path(str(path))), stop=stop_event, on_round=on_round).run()

    return app


app = make_app()
