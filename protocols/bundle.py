"""The Flower app bundle: a pyproject that names the installed modules, and nothing else.

Both ends build it from their own installation. A site compares the hash of its own with that of a run, and thereby
runs the code that it installed and reviewed; the bundle brings none.
"""

from __future__ import annotations

import hashlib
import importlib.metadata

from flwr.cli.build import build_fab_from_files

STUDY_KEY = "study"
"""The one setting of a run that a coordinator may override: which study it belongs to."""

_PYPROJECT = """\
[project]
name = "fednotes"
version = "{version}"
dependencies = []

[tool.flwr.app]
publisher = "fednotes"

[tool.flwr.app.components]
serverapp = "server.server_app:app"
clientapp = "site_client.client_app:app"

[tool.flwr.app.config]
study = ""
"""


def fednotes_version() -> str:
    """Version of the installed package."""
    return importlib.metadata.version("fednotes")


def installed_versions() -> dict[str, str]:
    """Versions of what makes an update: a site pins them with its approval."""
    return {name: _version(name) for name in ("fednotes", "flwr", "torch", "transformers")}


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def build_bundle() -> bytes:
    """Build the bundle (a zip file with fixed dates: the same version always gives the same bytes)."""
    content, _ = build_fab_from_files({"pyproject.toml": _PYPROJECT.format(version=fednotes_version()).encode()})
    return content


def bundle_hash() -> str:
    """SHA-256 of the bundle (hex), as Flower names it."""
    return hashlib.sha256(build_bundle()).hexdigest()
