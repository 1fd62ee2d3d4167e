"""The privacy account of a site: where its ledger lies, and whose data it is about."""

from __future__ import annotations

import hashlib
import hmac

from privacy.ledger import Ledger
from site_client.folder import SiteFolder

_ID_DIGITS = 32


def dataset_id(folder: SiteFolder) -> str:
    """Name the data set of a site, so that no other ledger can be put in the place of its own.

    It hangs on the key under which patients have their pseudonyms: notes that are taken out or come in later stay the
    same data set.

    Args:
        folder: the site.
    """
    message = b"fednotes privacy ledger" + str(folder.config().number).encode()
    return hmac.new(folder.pseudonym_key(), message, hashlib.sha256).hexdigest()[:_ID_DIGITS]


def ledger_of(folder: SiteFolder) -> Ledger:
    """The site's ledger; its head lies with the keys, so that a ledger that was deleted is noticed.

    Args:
        folder: the site.
    """
    return Ledger(folder.ledger, folder.path / "keys" / "ledger-head.json")


def open_account(folder: SiteFolder) -> Ledger:
    """Open the account: unit and delta of ``site.toml`` hold for the life of the data set from here on.

    Args:
        folder: the site.

    Raises:
        UsageError: there is one already, or delta is not below 1 / public_units.
    """
    policy = folder.config().privacy
    return ledger_of(folder).open(
        dataset=dataset_id(folder), unit=policy.unit, delta=policy.delta, public_units=policy.public_units
    )
