from __future__ import annotations

import pytest
from flwr.app import Context, RecordDict

from protocols.error_codes import ContractError, ErrorCode
from site_client.folder import SiteConfig, SiteFolder
from site_client.locate import SITES_VARIABLE, locate_site


def context(**node_config: str | int) -> Context:
    config = {k.replace("_", "-"): v for k, v in node_config.items()}
    return Context(run_id=1, node_id=5, node_config=config, state=RecordDict(), run_config={})


def test_deployed_node_serves_the_folder_that_its_own_configuration_names(tmp_path, monkeypatch):
    folder = SiteFolder.create(tmp_path / "site", SiteConfig(name="A", number=1))
    monkeypatch.setenv(SITES_VARIABLE, "elsewhere")
    assert locate_site(context(site_folder=str(folder.path), partition_id=3)) == folder


def test_simulated_node_serves_the_folder_of_its_number(tmp_path, monkeypatch):
    monkeypatch.setenv(SITES_VARIABLE, str(tmp_path))
    for name in ("001-a", "012-b", "112-c"):
        SiteFolder.create(tmp_path / name, SiteConfig(name="A", number=1))
    assert locate_site(context(partition_id=12)).path == tmp_path / "012-b"


def test_run_cannot_choose_the_folder(tmp_path, monkeypatch):
    monkeypatch.delenv(SITES_VARIABLE, raising=False)
    folder = SiteFolder.create(tmp_path / "site", SiteConfig(name="A", number=1))
    wrong = Context(
        run_id=1, node_id=5, node_config={}, state=RecordDict(), run_config={"site-folder": str(folder.path)}
    )
    with pytest.raises(ContractError):
        locate_site(wrong)


@pytest.mark.parametrize(
    ("sites", "node"),
    [
        (None, {}),
        (None, {"partition_id": 0}),
        (".", {}),
        (".", {"partition_id": 9}),
        (".", {"partition_id": 2}),  # two folders of this number
        (None, {"site_folder": "no/such/folder"}),
    ],
)
def test_node_without_exactly_one_site_is_not_ready(tmp_path, monkeypatch, sites, node):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(SITES_VARIABLE, raising=False)
    for name in ("002-a", "002-b"):
        SiteFolder.create(tmp_path / name, SiteConfig(name="A", number=2))
    if sites is not None:
        monkeypatch.setenv(SITES_VARIABLE, sites)
    with pytest.raises(ContractError) as caught:
        locate_site(context(**node))
    assert caught.value.code == ErrorCode.SITE_NOT_READY
