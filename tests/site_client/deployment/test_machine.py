from __future__ import annotations

import importlib.metadata
import importlib.util
import shutil
from collections import namedtuple

import pytest
import torch

from site_client.doctor.machine import check_disk, check_gpu, check_versions, check_vllm

Usage = namedtuple("Usage", "total used free")


@pytest.mark.parametrize(("free", "state"), [(10**8, "fail"), (15 * 10**8, "warn"), (10**11, "ok")])
def test_a_disk_that_holds_no_round_is_named(site, monkeypatch, free, state):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(0, 0, free))
    finding = check_disk(site)
    assert (finding.state, f"{free / 1e9:.1f} GB free" in finding.line) == (state, True)


def test_gpu_and_vllm_are_told_when_there_and_when_not(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert check_gpu().state == "warn"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "A card")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert (check_gpu().state, check_gpu().line) == ("ok", "A card (2 in all)")
    for found, state in ((None, "warn"), (object(), "ok")):
        monkeypatch.setattr(importlib.util, "find_spec", lambda _, found=found: found)
        assert check_vllm().state == state


def test_a_package_that_is_missing_is_named(site, monkeypatch):
    real = importlib.metadata.version

    def version(name):
        if name == "torch":
            raise importlib.metadata.PackageNotFoundError(name)
        return real(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    assert "not installed: torch" in check_versions(site).line
