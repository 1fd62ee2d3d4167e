"""The ``fednotes`` command: a thin face that mounts one Typer app a package and turns errors into exit codes."""

from __future__ import annotations

import os
import sys
import traceback

# Before any library that phones home or looks for a hub is imported; their switches are read at import time.
QUIET = {
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
}
os.environ.update(QUIET)

import click  # noqa: E402
import typer  # noqa: E402

from modeling.cli import app as model_app  # noqa: E402
from protocols.errors import FednotesError  # noqa: E402
from server.cli import app as server_app  # noqa: E402
from server.receipts_cli import app as receipts_app  # noqa: E402
from simulations.cli import evaluate, simulate  # noqa: E402
from site_client.cli import app as site_app  # noqa: E402

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Rephrase clinical notes where they are, pretrain there, and join the updates. Notes never leave.",
)
app.command("simulate")(simulate)
model_app.command("evaluate")(evaluate)  # needs the readers of notes, which modeling does not know
app.add_typer(site_app, name="site")
app.add_typer(server_app, name="server")
app.add_typer(receipts_app, name="receipts")
app.add_typer(model_app, name="model")


_TYPER_INTERRUPTED = 130  # what Typer makes of Ctrl-C


def main() -> None:
    """Run the command line: exit status 0 done, 1 the work failed, 2 wrong usage or configuration.

    An error that nobody foresaw shows its type and place alone, as its text may quote a note; with FEDNOTES_DEBUG=1 it
    shows its traceback.
    """
    try:
        status = app(prog_name="fednotes", standalone_mode=False)  # standalone, Typer would choose the exit codes
        if status == _TYPER_INTERRUPTED:
            raise KeyboardInterrupt
    except FednotesError as error:
        _say(f"error: {error}")
        status = error.exit_status
    except click.ClickException as error:
        error.show()
        status = error.exit_code
    except (KeyboardInterrupt, click.Abort):
        _say("error: stopped by Ctrl-C")
        status = 1
    except Exception as error:
        if os.environ.get("FEDNOTES_DEBUG") == "1":
            raise
        _say(f"error: unexpected {type(error).__name__} at {_place(error)}")
        _say("hint: set FEDNOTES_DEBUG=1 to see the traceback; it may quote notes")
        status = 1
    sys.exit(status)


def _say(text: str) -> None:
    print(text, file=sys.stderr)


def _place(error: Exception) -> str:
    """Module and line that raised an error."""
    *_, (frame, line) = traceback.walk_tb(error.__traceback__)
    return f"{frame.f_globals.get('__name__', 'unknown')}:{line}"


if __name__ == "__main__":
    main()
