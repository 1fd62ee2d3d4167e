"""Real vLLM on the CPU, with tiny random checkpoints: what they write is noise, how they are run is the real thing."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.checkpoint import make_checkpoint


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything here needs vLLM, and loading it takes most of a minute."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.vllm)
            item.add_marker(pytest.mark.slow)
            item.add_marker(pytest.mark.timeout(900))


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random model that fits into every machine."""
    return make_checkpoint(tmp_path_factory.mktemp("models") / "tiny-llama", hidden=128, layers=2)
