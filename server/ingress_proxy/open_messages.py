"""Messages that are on their way: which objects they are made of, and how large those are that are here.

Each has a file, so that an ingress that was killed goes on where it was. The file only grows, a line for each object.
A line that a power cut took is no loss: the site is then asked to send that object again.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from protocols.durable import storage_failures_told, write_text
from protocols.flower_objects import is_object_id

_LOG = logging.getLogger(__name__)
_MOST_OPEN = 16
"""Messages on their way from one site; the oldest is forgotten beyond that. A gateway sends one at a time."""


@dataclass
class OpenMessage:
    """One message on its way.

    Attributes:
        site: that sends it.
        message: its object id.
        objects: ids of all its objects.
        sizes: of those that are here [bytes].
    """

    site: int
    message: str
    objects: frozenset[str]
    sizes: dict[str, int] = field(default_factory=dict)

    @property
    def is_whole(self) -> bool:
        """Whether everything is here."""
        return len(self.sizes) == len(self.objects)

    @property
    def num_bytes(self) -> int:
        """Size of what is here."""
        return sum(self.sizes.values())


class OpenMessages:
    """All messages on their way, from all sites.

    Args:
        folder: of their files.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._open: dict[tuple[int, str], OpenMessage] = {}
        for path in sorted(folder.glob("*.jsonl"), key=lambda p: p.stat().st_mtime_ns):
            found = _read(path)
            if found is None:
                _LOG.warning("%s is damaged and is thrown away; the site sends that message again", path)
                path.unlink()
            else:
                self._open[found.site, found.message] = found

    def begin(self, site: int, message: str, objects: frozenset[str]) -> None:
        """Expect objects of a message. They may be expected already; what is here of them stays noted then.

        Raises:
            StorageError: the disk is full.
        """
        with self._lock:
            known = self._open.get((site, message))
            if known is None or known.objects != objects:
                head = json.dumps({"site": site, "message": message, "objects": sorted(objects)})
                write_text(self._path(site, message), head + "\n")
                self._open[site, message] = OpenMessage(site, message, objects)
                self._forget_oldest(site)

    def missing(self, site: int, message: str, wanted: Iterable[str]) -> list[str]:
        """What the site has to send: what the coordinator wants, and what nobody here knows the size of.

        Args:
            site: that sends.
            message: an expected one.
            wanted: ids of objects that the coordinator says it lacks.
        """
        with self._lock:
            opened = self._open[site, message]
            for name in set(wanted) & opened.sizes.keys():
                self._write(opened, name, None)  # the coordinator has lost it
            return sorted(opened.objects - opened.sizes.keys())

    def expects(self, site: int, name: str) -> bool:
        """Whether an object belongs to a message of that site that is on its way."""
        with self._lock:
            return any(o.site == site and name in o.objects for o in self._open.values())

    def stored(self, site: int, name: str, size: int) -> None:
        """Note that the coordinator has an object.

        Raises:
            StorageError: the disk is full.
        """
        with self._lock:
            for opened in self._open.values():
                if opened.site == site and name in opened.objects and opened.sizes.get(name) != size:
                    self._write(opened, name, size)

    def sites(self) -> set[int]:
        """Sites with a message on its way."""
        with self._lock:
            return {site for site, _ in self._open}

    def whole(self, site: int) -> list[OpenMessage]:
        """Messages of a site that are here with all their objects."""
        with self._lock:
            return [o for o in self._open.values() if o.site == site and o.is_whole]

    def close(self, site: int, message: str) -> None:
        """Stop expecting a message; its receipt is written."""
        with self._lock:
            self._open.pop((site, message), None)
            self._path(site, message).unlink(missing_ok=True)

    def _forget_oldest(self, site: int) -> None:
        of_site = [key for key in self._open if key[0] == site]
        for key in of_site[:-_MOST_OPEN]:
            del self._open[key]
            self._path(*key).unlink(missing_ok=True)

    def _write(self, opened: OpenMessage, name: str, size: int | None) -> None:
        path = self._path(opened.site, opened.message)
        with storage_failures_told(path), path.open("a", encoding="ascii") as file:
            file.write(f"{name} {-1 if size is None else size}\n")
        if size is None:
            opened.sizes.pop(name, None)
        else:
            opened.sizes[name] = size

    def _path(self, site: int, message: str) -> Path:
        if not is_object_id(message):
            raise ValueError("id of a message")
        return self._folder / f"{site:04d}-{message}.jsonl"


def _read(path: Path) -> OpenMessage | None:
    """Read a file; a last line that a kill or a full disk cut is passed over."""
    head, *lines = path.read_text(encoding="ascii", errors="replace").split("\n")[:-1] or [""]
    try:
        facts = json.loads(head)
        found = OpenMessage(int(facts["site"]), str(facts["message"]), frozenset(facts["objects"]))
    except (ValueError, KeyError, TypeError):
        return None
    for line in lines:
        name, _, size = line.partition(" ")
        if name in found.objects and size.isdigit():
            found.sizes[name] = int(size)
        else:
            found.sizes.pop(name, None)
    return found
