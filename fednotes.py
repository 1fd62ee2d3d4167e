"""The ``fednotes`` command: a thin face that mounts one Typer app a package and turns errors into exit codes."""

from __future__ import annotations

import os
import sys

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

import typer  # noqa: E402

from modeling.cli import app as model_app  # noqa: E402
from protocols.errors import FednotesError  # noqa: E402
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
app.add_typer(model_app, name="model")


def main() -> None:
    """Run the command line: exit status 0 done, 1 the work failed, 2 wrong usage or configuration."""
    try:
        app()
    except FednotesError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_status)
    except KeyboardInterrupt:
        print("error: stopped by Ctrl-C", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
