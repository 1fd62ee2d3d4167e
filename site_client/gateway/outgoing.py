"""Replies on their way out: built from checked values, whole on the disk, written down, and then sent.

A reply lies in a folder of its own until the coordinator has all of it, so a gateway that is killed goes on with it.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from flwr.proto.message_pb2 import Message as ProtoMessage
from flwr.proto.message_pb2 import Metadata, ObjectTree
from google.protobuf.message import DecodeError

from protocols.durable import flush
from protocols.error_codes import ErrorCode
from protocols.errors import WorkError
from protocols.flower_objects import object_id, pack
from site_client.gateway.instructions import Instruction, ids_of

_HEADER, _TREE, _ANSWERS = "header.bin", "tree.bin", "answers"


@dataclass(kw_only=True)
class Outgoing:
    """A reply that may leave.

    Attributes:
        folder: of its objects.
        header: message without content.
        tree: of its objects.
        answers: id of the instruction.
    """

    folder: Path
    header: ProtoMessage
    tree: ObjectTree
    answers: str

    @property
    def message_id(self) -> str:
        """Object id of the reply."""
        return self.tree.object_id

    def objects(self) -> Iterator[tuple[str, bytes]]:
        """Every object with its id, children first, one in memory at a time."""
        for name in ids_of(self.tree):
            yield name, (self.folder / name).read_bytes()

    @property
    def num_bytes(self) -> int:
        """Size of all objects."""
        return sum((self.folder / name).stat().st_size for name in ids_of(self.tree))

    def drop(self) -> None:
        """Throw it away."""
        shutil.rmtree(self.folder, ignore_errors=True)


@dataclass(kw_only=True)
class Builder:
    """Collects the objects of a reply in a partial folder.

    Attributes:
        folder: where the reply will lie.
        partial: where it is built.
    """

    folder: Path
    partial: Path = field(init=False)

    def __post_init__(self) -> None:
        self.partial = self.folder.with_name(f".{self.folder.name}.partial")
        shutil.rmtree(self.partial, ignore_errors=True)
        self.partial.mkdir(parents=True, mode=0o700)

    def put(self, kind: str, children: list[ObjectTree], body: bytes | memoryview) -> ObjectTree:
        """Add an object; equal ones are kept once."""
        unique = list({child.object_id: child for child in children}.values())
        content = pack(kind, [child.object_id for child in unique], body)
        name = object_id(content)
        path = self.partial / name
        if not path.exists():
            path.write_bytes(content)
        return ObjectTree(object_id=name, children=unique)

    def finish(self, instruction: Instruction, message: ProtoMessage, children: list[ObjectTree]) -> Outgoing:
        """Add the message itself and make the folder whole, though not yet visible as a reply to send."""
        message.metadata.message_id = ""
        tree = self.put("Message", children, message.SerializeToString(deterministic=True))
        message.metadata.message_id = tree.object_id
        if children:
            message.content.SetInParent()  # empty: the objects hold it, and Flower wants the field in the header
        (self.partial / _HEADER).write_bytes(message.SerializeToString())
        (self.partial / _TREE).write_bytes(tree.SerializeToString())
        (self.partial / _ANSWERS).write_text(instruction.message_id, encoding="ascii")
        for path in self.partial.iterdir():
            flush(path)
        return Outgoing(folder=self.partial, header=message, tree=tree, answers=instruction.message_id)

    def commit(self, outgoing: Outgoing) -> None:
        """Make it a reply to send. Its receipt has to be written by now."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.partial.replace(self.folder)
        flush(self.folder.parent)
        outgoing.folder = self.folder


def build_error(builder: Builder, instruction: Instruction, code: int) -> Outgoing:
    """Make a reply that says a code and nothing else.

    Args:
        builder: of its folder.
        instruction: that it answers.
        code: of the closed list, or one of Flower's own.
    """
    message = ProtoMessage(metadata=instruction.reply_metadata())
    message.error.code = code
    message.error.reason = ErrorCode(code).name if code in set(ErrorCode) else ""
    return builder.finish(instruction, message, [])


def read_outgoing(folder: Path) -> Outgoing:
    """Read a reply that was not sent whole yet.

    Raises:
        WorkError: it is damaged.
    """
    header, tree = ProtoMessage(metadata=Metadata()), ObjectTree()
    try:
        header.ParseFromString((folder / _HEADER).read_bytes())
        tree.ParseFromString((folder / _TREE).read_bytes())
        answers = (folder / _ANSWERS).read_text(encoding="ascii")
        if not all((folder / name).is_file() for name in ids_of(tree)):
            raise ValueError
    except (OSError, ValueError, DecodeError) as error:
        raise WorkError(
            f"The reply in {folder} is damaged.", hint="delete the folder; the coordinator asks again"
        ) from error
    return Outgoing(folder=folder, header=header, tree=tree, answers=answers)
