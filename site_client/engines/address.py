"""Which addresses notes may be sent to."""

from __future__ import annotations

import ipaddress
from collections.abc import Collection

import httpx2

from protocols.errors import UsageError
from site_client.engines.answers import API_KEY_VARIABLE


def check_address(address: str, allowed_hosts: Collection[str]) -> httpx2.URL:
    """Accept an address only if notes may go there.

    Args:
        address: base of the API, such as ``http://127.0.0.1:8000/v1``.
        allowed_hosts: hosts, or addresses with such a host, that the site's configuration names.

    Raises:
        UsageError: the address is malformed, holds a password, or its host is neither this machine nor allowed.
    """
    try:
        url = httpx2.URL(address.strip().rstrip("/"))
    except httpx2.InvalidURL:
        url = httpx2.URL("")
    if "@" in address:
        raise UsageError(
            "The address of an endpoint holds a user name or a password.", hint=f"put the key into {API_KEY_VARIABLE}"
        )
    if url.scheme not in ("http", "https") or not url.host or "?" in address or "#" in address:
        shown = address.split("?")[0].split("#")[0]
        raise UsageError(f"{shown!r} is no address of an endpoint.", hint="one looks like http://127.0.0.1:8000/v1")
    host = _normal(url.host)
    if not _is_loopback(host) and host not in {_host_of(entry) for entry in allowed_hosts}:
        raise UsageError(
            f"Notes may not be sent to {host}: it is not this machine, and the site's configuration does not name it.",
            hint="if it is inside the hospital, add it to rephrasing.endpoints under [rephrasing] in site.toml",
        )
    return url


def _normal(host: str) -> str:
    try:
        return ipaddress.ip_address(host.strip("[]")).compressed
    except ValueError:
        return host.lower()


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _host_of(entry: str) -> str:
    """Host of an entry of the configuration, which may be a whole address."""
    try:
        return _normal(httpx2.URL(entry if "://" in entry else f"http://{entry}").host)
    except httpx2.InvalidURL:
        return _normal(entry)
