from __future__ import annotations

import pytest

from .stand import Home, StubFleet, fleet_api, free_port, ingress


@pytest.fixture
def home(tmp_path):
    return Home(tmp_path / "home")


@pytest.fixture
def fleet():
    return StubFleet()


@pytest.fixture
def address(home, fleet):
    """Where an ingress listens that passes on to ``fleet``."""
    address = f"127.0.0.1:{free_port()}"
    with fleet_api(home, fleet) as upstream, ingress(home.path, address, upstream):
        yield address
