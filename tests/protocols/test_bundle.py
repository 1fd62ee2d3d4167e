from __future__ import annotations

import hashlib
import io
import tomllib
import zipfile

from protocols import bundle
from protocols.bundle import STUDY_KEY, build_bundle, bundle_hash, fednotes_version, installed_versions


def test_the_hash_is_the_same_at_every_build_whatever_the_clock_says(monkeypatch):
    import time

    first = build_bundle()
    monkeypatch.setattr(time, "time", lambda: 2e9)
    assert build_bundle() == first
    assert bundle_hash() == hashlib.sha256(first).hexdigest()


def test_another_version_has_another_hash(monkeypatch):
    first = bundle_hash()
    monkeypatch.setattr(bundle, "fednotes_version", lambda: "9.9.9")
    assert bundle_hash() != first


def test_it_brings_no_code_and_one_setting():
    with zipfile.ZipFile(io.BytesIO(build_bundle())) as content:
        assert not [name for name in content.namelist() if name.endswith((".py", ".pyc", ".so"))]
        project = tomllib.loads(content.read("pyproject.toml").decode())
    app = project["tool"]["flwr"]["app"]
    assert project["project"]["version"] == fednotes_version()
    assert project["project"]["dependencies"] == []
    assert app["components"] == {"serverapp": "server.server_app:app", "clientapp": "site_client.client_app:app"}
    assert app["config"] == {STUDY_KEY: ""}


def test_versions_are_those_of_what_makes_an_update():
    assert set(installed_versions()) == {"fednotes", "flwr", "torch", "transformers"}
