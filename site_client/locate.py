"""Which site folder a Flower node serves."""

from __future__ import annotations

import os
from pathlib import Path

from flwr.app import Context

from protocols.error_codes import ContractError, ErrorCode
from site_client.folder import SiteFolder

SITES_VARIABLE = "FEDNOTES_SITES"
"""Environment variable that names the folder of all simulated sites."""


def locate_site(context: Context) -> SiteFolder:
    """Find the site folder of this node.

    A deployed SuperNode names it in its own node configuration (``site-folder``); a simulated node has only a number
    and takes the folder of that number.

    Raises:
        ContractError: SITE_NOT_READY when there is none.
    """
    if named := context.node_config.get("site-folder"):
        if not (Path(str(named)) / "site.toml").is_file():
            raise ContractError(ErrorCode.SITE_NOT_READY, "the named folder holds no site")
        return SiteFolder(Path(str(named)))
    sites, number = os.environ.get(SITES_VARIABLE), context.node_config.get("partition-id")
    if sites is None or number is None:
        raise ContractError(ErrorCode.SITE_NOT_READY, "no site folder is named")
    found = sorted(Path(sites).glob(f"{int(number):03d}-*"))
    if len(found) != 1:
        raise ContractError(ErrorCode.SITE_NOT_READY, "no site folder of this number")
    return SiteFolder(found[0])
