"""Architectures whose gradients this site has checked with ``fednotes site privacy check-model``."""

from __future__ import annotations

import json

from protocols.durable import write_text
from protocols.errors import UsageError
from site_client.folder import SiteFolder


def checked_models(folder: SiteFolder) -> frozenset[str]:
    """Class names of the checked architectures.

    Raises:
        UsageError: the list cannot be read.
    """
    path = folder.path / "checked-models.json"
    if not path.exists():
        return frozenset()
    try:
        return frozenset(map(str, json.loads(path.read_text(encoding="utf-8"))))
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} cannot be read.", hint="delete it and check the model again") from error


def add_checked_model(folder: SiteFolder, name: str) -> None:
    """Remember that an architecture was checked here.

    Args:
        folder: the site.
        name: class name of the model.
    """
    write_text(folder.path / "checked-models.json", json.dumps(sorted(checked_models(folder) | {name})) + "\n")
