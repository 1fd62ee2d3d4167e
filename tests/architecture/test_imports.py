"""Import directions that the static contracts cannot see, in fresh interpreters."""

from __future__ import annotations

import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest
from tests_support import REPOSITORY

import server


def _modules_after(statement: str) -> set[str]:
    code = f"import sys\n{statement}\nprint('\\n'.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=REPOSITORY)
    return set(done.stdout.split())


def test_every_server_module_imports_without_torch_or_a_model() -> None:
    names = [f"server.{m.name}" for m in pkgutil.iter_modules(server.__path__)]
    assert "server.rounds" in names
    loaded = _modules_after("import " + ", ".join(names))
    assert "server.rounds" in loaded
    assert not loaded & {"torch", "transformers", "vllm", "opacus", "modeling", "privacy.note_types", "site_client"}


def test_the_contract_imports_without_torch_flower_or_numpy() -> None:
    loaded = _modules_after("import protocols.messages, protocols.plan, protocols.manifest, protocols.error_codes")
    assert not loaded & {"torch", "transformers", "flwr", "numpy"}


def test_the_command_line_starts_without_torch() -> None:
    loaded = _modules_after("import fednotes")
    assert not loaded & {"torch", "transformers", "ray", "flwr"}


@pytest.mark.slow
def test_static_import_contracts_hold() -> None:
    linter = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([linter, "--no-cache"], capture_output=True, text=True, cwd=REPOSITORY)
    assert done.returncode == 0, done.stdout
    assert "0 broken" in done.stdout
