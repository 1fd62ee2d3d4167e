from __future__ import annotations

import pytest

from .consortium import Coordinator, new_site


@pytest.fixture
def coordinator():
    return Coordinator()


@pytest.fixture
def site(tmp_path):
    return new_site(tmp_path / "site")


@pytest.fixture
def enrolled(tmp_path, coordinator):
    return new_site(tmp_path / "site", enrolled_at=coordinator)
