"""A reply as the SuperNode brings it, object by object, held on the disk until it is complete."""

from __future__ import annotations

import shutil
import threading
from dataclasses import dataclass, field
from pathlib import Path

from flwr.proto.message_pb2 import Message as ProtoMessage
from flwr.proto.message_pb2 import ObjectTree

from protocols.error_codes import ContractError, ErrorCode
from protocols.flower_objects import FlowerObject, is_object_id, object_id, unpack
from protocols.manifest import ParameterManifest
from site_client.gateway.instructions import ids_of

CHUNK_BYTES = 5 * 2**20
"""Flower's size of a chunk."""

_ANSWERS, _TREE = "answers", "tree.bin"


@dataclass(kw_only=True)
class HeldReply:
    """A reply that is not complete or not checked yet.

    Attributes:
        folder: of its objects.
        answers: id of the instruction that it claims to answer.
        tree: ids of its objects.
        max_bytes: of all objects together.
    """

    folder: Path
    answers: str
    tree: ObjectTree
    max_bytes: int
    missing: set[str] = field(default_factory=set)
    num_bytes: int = 0

    def __post_init__(self) -> None:
        self._lock = threading.Lock()
        ids = ids_of(self.tree)
        here = {name for name in ids if (self.folder / name).is_file()}
        self.missing = set(ids) - here
        self.num_bytes = sum((self.folder / name).stat().st_size for name in here)

    @classmethod
    def begin(
        cls, folder: Path, message: ProtoMessage, tree: ObjectTree, max_bytes: int, max_objects: int
    ) -> HeldReply:
        """Make room for a reply.

        Raises:
            ContractError: it has more objects than such a reply can have, or ids that are none.
        """
        ids = ids_of(tree)
        if len(ids) > max_objects or not all(map(is_object_id, ids)):
            raise ContractError(ErrorCode.REPLY_NOT_LISTED, "tree of objects")
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True, mode=0o700)
        (folder / _ANSWERS).write_text(message.metadata.reply_to_message_id, encoding="ascii")
        (folder / _TREE).write_bytes(tree.SerializeToString())
        return cls(folder=folder, answers=message.metadata.reply_to_message_id, tree=tree, max_bytes=max_bytes)

    @classmethod
    def again(cls, folder: Path, max_bytes: int) -> HeldReply:
        """Go on with a reply that a kill interrupted.

        Raises:
            OSError, ValueError: it is damaged.
        """
        tree = ObjectTree()
        tree.ParseFromString((folder / _TREE).read_bytes())
        answers = (folder / _ANSWERS).read_text(encoding="ascii")
        return cls(folder=folder, answers=answers, tree=tree, max_bytes=max_bytes)

    def put(self, name: str, content: bytes) -> bool:
        """Take one object.

        Returns:
            Whether the reply became complete by it.

        Raises:
            ContractError: it is too large, or its id is not its hash.
        """
        with self._lock:
            if name not in self.missing:
                return False
            if self.num_bytes + len(content) > self.max_bytes:
                raise ContractError(ErrorCode.BYTES_EXCEEDED, "size of the reply")
            if object_id(content) != name:
                raise ContractError(ErrorCode.REPLY_NOT_LISTED, "id of an object")
            partial = self.folder / f".{name}.partial"
            partial.write_bytes(content)
            partial.replace(self.folder / name)
            self.num_bytes += len(content)
            self.missing.discard(name)
            return not self.missing

    def read(self, name: str, kind: str) -> FlowerObject:
        """One object, which has to be of that kind.

        Raises:
            ContractError: REPLY_NOT_LISTED.
        """
        try:
            found = unpack((self.folder / name).read_bytes())
        except (OSError, ValueError):
            raise ContractError(ErrorCode.REPLY_NOT_LISTED, kind) from None
        if found.kind != kind:
            raise ContractError(ErrorCode.REPLY_NOT_LISTED, kind)
        return found

    def drop(self) -> None:
        """Throw it away."""
        shutil.rmtree(self.folder, ignore_errors=True)


def most_objects(manifest: ParameterManifest) -> int:
    """How many objects a reply with these arrays can have, as Flower cuts them."""
    chunks = sum(2 + spec.num_bytes // CHUNK_BYTES for spec in manifest.parameters)
    return 4 + len(manifest.parameters) + chunks
