"""Instructions that the coordinator gave out and nobody has answered yet, on the disk: a kill forgets none."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from pathlib import Path

from flwr.app import Message, RecordDict
from flwr.app.message.message import make_message
from flwr.common.serde_utils import metadata_from_proto, metadata_to_proto
from flwr.proto.message_pb2 import Metadata, ObjectTree
from google.protobuf.message import DecodeError
from pydantic import BaseModel, ConfigDict, ValidationError

from protocols.durable import write_text
from protocols.errors import WorkError
from protocols.flower_objects import is_object_id
from protocols.messages import HelloReply, HelloRequest, Outbound, TrainRequest, reply_kind


class _OnDisk(BaseModel):
    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    metadata: str
    tree: str
    study: str
    train: TrainRequest | None


@dataclass(frozen=True, kw_only=True)
class Instruction:
    """One open instruction.

    Attributes:
        metadata: as the coordinator sent it.
        tree: ids of its objects.
        study: that its run belongs to.
        request: what is asked.
    """

    metadata: Metadata
    tree: ObjectTree
    study: str
    request: TrainRequest | HelloRequest
    objects: frozenset[str] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "objects", frozenset(ids_of(self.tree)))

    @property
    def message_id(self) -> str:
        """Its object id."""
        return self.metadata.message_id

    @property
    def round(self) -> int:
        """The round asked for; 0 for a greeting."""
        return self.request.round if isinstance(self.request, TrainRequest) else 0

    @property
    def expires(self) -> float:
        """When the coordinator stops waiting (Unix time)."""
        return self.metadata.created_at + self.metadata.ttl

    @property
    def reply_kind(self) -> type[Outbound]:
        """The one kind of reply that belongs to it."""
        return reply_kind(self.request.privacy) if isinstance(self.request, TrainRequest) else HelloReply

    def reply_metadata(self) -> Metadata:
        """Fresh metadata of a reply, all of it from the instruction and the clock."""
        asked = make_message(metadata_from_proto(self.metadata), content=RecordDict())
        return metadata_to_proto(Message(RecordDict(), reply_to=asked).metadata)


class OpenInstructions:
    """All open instructions of a gateway.

    Args:
        folder: holds a file for each.

    Raises:
        WorkError: a file is damaged.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._open: dict[str, Instruction] = {}
        for path in sorted(folder.glob("*.json")):
            instruction = _read(path)
            self._open[instruction.message_id] = instruction

    def add(self, instruction: Instruction) -> None:
        """Remember an instruction."""
        on_disk = _OnDisk(
            metadata=instruction.metadata.SerializeToString().hex(),
            tree=instruction.tree.SerializeToString().hex(),
            study=instruction.study,
            train=instruction.request if isinstance(instruction.request, TrainRequest) else None,
        )
        write_text(self._path(instruction.message_id), on_disk.model_dump_json())
        with self._lock:
            self._open[instruction.message_id] = instruction

    def get(self, message_id: str) -> Instruction | None:
        """An open instruction by its id."""
        with self._lock:
            return self._open.get(message_id)

    def owner_of(self, object_id: str, run_id: int) -> Instruction | None:
        """The open instruction of a run that an object belongs to."""
        with self._lock:
            fitting = (i for i in self._open.values() if i.metadata.run_id == run_id and object_id in i.objects)
            return next(fitting, None)

    def of_run(self, run_id: int) -> bool:
        """Whether a run has an open instruction."""
        with self._lock:
            return any(i.metadata.run_id == run_id for i in self._open.values())

    def all(self) -> list[Instruction]:
        """Every open instruction."""
        with self._lock:
            return list(self._open.values())

    def close(self, message_id: str) -> None:
        """Forget an instruction that was answered."""
        with self._lock:
            self._open.pop(message_id, None)
        self._path(message_id).unlink(missing_ok=True)

    def _path(self, message_id: str) -> Path:
        if not is_object_id(message_id):
            raise ValueError("id of an instruction")
        return self._folder / f"{message_id}.json"


def ids_of(tree: ObjectTree) -> list[str]:
    """All ids of a tree, children first, each once."""
    found: dict[str, None] = {}
    stack = [(tree, False)]
    while stack:
        node, seen = stack.pop()
        if seen:
            found.setdefault(node.object_id)
        else:
            stack.append((node, True))
            stack += [(child, False) for child in reversed(node.children)]
    return list(found)


def _read(path: Path) -> Instruction:
    try:
        on_disk = _OnDisk.model_validate_json(path.read_bytes())
        metadata, tree = Metadata(), ObjectTree()
        metadata.ParseFromString(bytes.fromhex(on_disk.metadata))
        tree.ParseFromString(bytes.fromhex(on_disk.tree))
    except (OSError, ValueError, ValidationError, DecodeError) as error:
        raise WorkError(
            f"The open instruction {path} is damaged.",
            hint="delete the file; the coordinator hears nothing of it and asks again after its deadline",
        ) from error
    return Instruction(metadata=metadata, tree=tree, study=on_disk.study, request=on_disk.train or HelloRequest())
