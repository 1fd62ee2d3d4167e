"""What the command does with errors: exit codes, and never the text of an error that nobody foresaw."""

from __future__ import annotations

import os
import subprocess
import sys

import click
import pytest
import typer
from tests_support import command

import fednotes
from protocols.errors import UsageError, WorkError


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Run the root command with one sub-command that raises; returns the exit status and what was printed."""

    def run_a_command_that_raises(error: BaseException | None) -> tuple[int, str]:
        app = typer.Typer(pretty_exceptions_enable=False)

        @app.command()
        def work() -> None:
            if error is not None:
                raise error

        monkeypatch.setattr(fednotes, "app", app)
        monkeypatch.setattr(sys, "argv", ["fednotes"])
        monkeypatch.setattr(sys, "excepthook", sys.excepthook)  # Typer puts its own there
        with pytest.raises(SystemExit) as caught:
            fednotes.main()
        return caught.value.code or 0, capsys.readouterr().err

    return run_a_command_that_raises


@pytest.mark.parametrize(
    ("error", "status", "printed"),
    [
        (None, 0, ""),
        (UsageError("No such column.", hint="name another"), 2, "error: No such column.\nhint: name another\n"),
        (WorkError("The disk is full."), 1, "error: The disk is full.\n"),
        (KeyboardInterrupt(), 1, "error: stopped by Ctrl-C\n"),
        (click.Abort(), 1, "error: stopped by Ctrl-C\n"),
        (typer.Exit(0), 0, ""),
        (typer.Exit(3), 3, ""),
        (SystemExit(4), 4, ""),
    ],
    ids=repr,
)
def test_every_kind_of_end_has_its_own_exit_status_and_words(run, error, status, printed):
    assert run(error) == (status, printed)


def test_unexpected_error_tells_its_type_and_place_and_not_its_text(run, monkeypatch):
    monkeypatch.delenv("FEDNOTES_DEBUG", raising=False)
    status, printed = run(ValueError("Mr. Zebedee has a cough"))
    assert status == 1
    first, hint = printed.splitlines()
    place, _, line = first.removeprefix("error: unexpected ValueError at ").rpartition(":")
    assert place.endswith("test_root_command") and int(line) > 0
    assert hint == "hint: set FEDNOTES_DEBUG=1 to see the traceback; it may quote notes"
    assert "Zebedee" not in printed


def test_debug_switch_lets_the_unexpected_error_through(monkeypatch, run):
    monkeypatch.setenv("FEDNOTES_DEBUG", "1")
    with pytest.raises(ValueError, match="Zebedee"):
        run(ValueError("Mr. Zebedee has a cough"))


@pytest.mark.parametrize(("debug", "shown"), [("", False), ("1", True)])
def test_traceback_of_a_real_process_is_shown_on_request_alone(debug, shown):
    code = (
        "import fednotes\n"
        "@fednotes.app.command('boom')\n"
        "def boom() -> None:\n"
        "    raise RuntimeError('Mr. Zebedee ' + 'has a cough')\n"
        "fednotes.main()\n"
    )
    environment = os.environ | {"FEDNOTES_DEBUG": debug}
    done = subprocess.run([sys.executable, "-c", code, "boom"], capture_output=True, text=True, env=environment)
    assert done.returncode == 1
    assert ("Traceback" in done.stderr) is shown
    assert ("Mr. Zebedee has a cough" in done.stderr) is shown


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["simulate", "--no-such-option"], "No such option"),
        (["simulate", "--rounds", "0"], "Invalid value for '--rounds'"),
        (["no-such-command"], "No such command 'no-such-command'"),
        (["model", "evaluate"], "Missing argument 'MODEL'"),
    ],
)
def test_wrong_words_are_told_as_click_does_and_exit_with_two(words, said):
    done = subprocess.run(command(*words), capture_output=True, text=True)
    assert done.returncode == 2
    assert said in done.stderr and "Usage: fednotes " in done.stderr
    assert done.stdout == ""


def test_help_exits_with_zero():
    done = subprocess.run(command("simulate", "--help"), capture_output=True, text=True)
    assert done.returncode == 0
    assert "--site-by" in done.stdout
