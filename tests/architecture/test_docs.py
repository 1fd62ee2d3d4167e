"""Documentation cannot drift: codes, commands, scenarios and the tables are compared with the code."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path

import click
import pytest
import typer
from tests_support import REPOSITORY, command, source_files

import fednotes as root
from protocols.error_codes import ErrorCode
from simulations.make_docs import commands, commands_page, egress_page
from simulations.scenarios import SCENARIOS

REFERENCE = REPOSITORY / "docs" / "reference"
LEAVES = commands(typer.main.get_command(root.app), ("fednotes",))


def test_error_codes_equal_the_headings_in_order() -> None:
    headings = re.findall(r"^## (\w+)$", (REFERENCE / "error-codes.md").read_text(), re.M)
    assert headings == [code.name for code in ErrorCode]
    for code in ErrorCode:
        assert re.search(rf"^## {code.name}\n\n{code.value}\. ", (REFERENCE / "error-codes.md").read_text(), re.M)


def test_generated_pages_are_fresh() -> None:
    assert (REFERENCE / "egress.md").read_text() == egress_page(), "run `make docs`"
    assert (REFERENCE / "commands.md").read_text() == commands_page(root.app), "run `make docs`"


@pytest.mark.parametrize(("path", "leaf"), LEAVES, ids=[" ".join(p) for p, _ in LEAVES])
def test_every_command_has_help_with_an_example_and_json(path: tuple[str, ...], leaf: click.Command) -> None:
    assert leaf.help and "Example: " + " ".join(path) in leaf.help
    options = {o for p in leaf.params for o in p.opts}
    assert "--json" in options
    for parameter in leaf.params:
        assert getattr(parameter, "help", None), f"{parameter.name} has no help"


def test_every_scenario_is_in_the_readme() -> None:
    readme = (REPOSITORY / "README.md").read_text()
    for name in SCENARIOS:
        assert f"`{name}`" in readme


def test_links_between_documents_lead_somewhere() -> None:
    for page in [*REPOSITORY.glob("*.md"), *(REPOSITORY / "docs").rglob("*.md")]:
        for target in re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", page.read_text()):
            if "://" not in target:
                assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_tests_named_in_the_security_page_exist() -> None:
    for name in re.findall(r"`(tests/[\w/]+\.py)`", (REPOSITORY / "docs" / "security.md").read_text()):
        assert (REPOSITORY / name).exists(), name


def test_every_promise_of_the_privacy_page_has_a_test_that_exists() -> None:
    page = (REPOSITORY / "docs" / "guides" / "privacy.md").read_text()
    promises = [line for line in page.split("## What is not promised")[0].splitlines() if line.startswith("| ")][1:]
    assert len(promises) >= 10
    defined = "\n".join(p.read_text(encoding="utf-8") for p in (REPOSITORY / "tests").rglob("test_*.py"))
    for promise in promises:
        _, where, tests = (cell.strip() for cell in promise.strip("|").split("|"))
        for name in re.findall(r"`([\w/.]+)`", where):
            assert (REPOSITORY / name).exists(), name
        named = re.findall(r"`((?:tests/|test_)[\w/.]+)`", tests)
        assert named, promise
        for name in named:
            found = (REPOSITORY / name).exists() if name.startswith("tests/") else f"def {name}(" in defined
            assert found, name


def test_files_named_in_the_architecture_page_exist() -> None:
    for name in re.findall(r"`([\w/]+/[\w.-]+\.(?:py|md|toml|j2))`", (REPOSITORY / "ARCHITECTURE.md").read_text()):
        assert (REPOSITORY / name).exists(), name


def test_no_path_of_a_machine_is_in_the_tree() -> None:
    files = subprocess.run(["git", "ls-files"], capture_output=True, text=True, cwd=REPOSITORY, check=True).stdout
    for name in files.split():
        text = (REPOSITORY / name).read_text(encoding="utf-8", errors="ignore")
        assert not re.search(r"(?<![\w.])/(?:work|home|root)/[a-z.]", text), name


@pytest.mark.slow
def test_commands_of_the_readme_run(tmp_path: Path) -> None:
    """Every fednotes line of the README's code blocks, made small; `make` targets are run by CI itself."""
    blocks = re.findall(r"```bash\n(.*?)```", (REPOSITORY / "README.md").read_text(), re.S)
    lines = [line for block in blocks for line in block.splitlines() if line.startswith("fednotes ")]
    assert len(lines) >= 6
    (tmp_path / "notes.csv").write_bytes(_small_export(tmp_path))
    for line in lines:
        words = shlex.split(line, comments=True)[1:]
        if words[0] == "simulate":
            words += ["--scenario", "smoke"] if "--scenario" not in words else []
        done = subprocess.run(command(*words), capture_output=True, text=True, cwd=tmp_path)
        assert done.returncode == 0, f"{line}\n{done.stderr}"


def _small_export(folder: Path) -> bytes:
    from simulations.synthetic_notes import write_export

    write_export(folder / "generated.csv", hospitals=2, notes=300, seed=3)
    return (folder / "generated.csv").read_bytes()


def test_no_module_prints_or_logs_a_text_attribute() -> None:
    """A cheap guard: nobody formats `.text` of a note into a message."""
    for path in source_files():
        source = path.read_text(encoding="utf-8")
        assert not re.search(r"\b(?:\w*Error|print|log\.\w+)\([^)\n]*\.text\b", source), path
