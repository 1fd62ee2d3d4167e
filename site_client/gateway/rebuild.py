"""From a held reply to one that may leave: decoded, checked against the approved plan, and built anew.

The facts go through the same codec as at the exit of the client app. Arrays are read chunk by chunk and never lie in
memory whole: an array's bytes have to be the canonical header of its listed shape, then its numbers, and nothing else,
so that what is written again is the same array and nothing but it.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from flwr.app import MetricRecord, RecordDict
from flwr.proto.message_pb2 import Message as ProtoMessage
from flwr.proto.message_pb2 import ObjectTree

from protocols.codec import decode_reply, encode_reply
from protocols.error_codes import ContractError, ErrorCode
from protocols.manifest import ParameterManifest, ParameterSpec
from protocols.messages import HelloReply, Outbound, PrivateTrainReply, TrainReply
from site_client.approval import Approval
from site_client.gateway.held import CHUNK_BYTES, HeldReply
from site_client.gateway.instructions import Instruction
from site_client.gateway.json_bodies import array_body, json_body, names_of
from site_client.gateway.outgoing import Builder, Outgoing

_FLOWER_CODES = {1, 2, 3, 4, 6, 7, 8}
_STYPE = "numpy.ndarray"


@dataclass(frozen=True, kw_only=True)
class Rebuilt:
    """What became of a reply.

    Attributes:
        outgoing: that may leave.
        reply: its facts; None for an error.
        code: of an error; 0 for a reply.
        array_bytes: size of the arrays.
    """

    outgoing: Outgoing
    reply: Outbound | None
    code: int
    array_bytes: int


def error_code_of(held: HeldReply) -> int | None:
    """The code of a reply that is an error, as far as it is on a closed list; None when it has content.

    Raises:
        ContractError: REPLY_NOT_LISTED.
    """
    message = _message(held)
    if not message.HasField("error"):
        return None
    code = message.error.code
    return code if code in set(ErrorCode) or code in _FLOWER_CODES else int(ErrorCode.INTERNAL)


def rebuild(held: HeldReply, instruction: Instruction, approval: Approval, builder: Builder) -> Rebuilt:
    """Check a complete reply with content, and build it anew.

    Args:
        held: what the SuperNode brought.
        instruction: that it answers.
        approval: of the study.
        builder: of the new reply.

    Raises:
        ContractError: the reply may not leave; the code goes in its place.
    """
    root = held.read(held.tree.object_id, "Message")
    if len(root.children) != 1:
        raise ContractError(ErrorCode.REPLY_NOT_LISTED, "content of the message")
    names = names_of(held.read(root.children[0], "RecordDict"))
    wants_update = instruction.reply_kind is not HelloReply
    if set(names) != ({"facts", "update"} if wants_update else {"facts"}):
        raise ContractError(ErrorCode.REPLY_NOT_LISTED, "records of the reply")
    reply = _facts(held, names["facts"], instruction, approval)
    facts = encode_reply(reply)["facts"]
    body = facts.deflate().split(b"\0", 1)[1]
    records = {"facts": builder.put("MetricRecord", [], body)}
    array_bytes = 0
    if wants_update:
        limit = min(approval.limits.max_update_norm, approval.plan.max_update_norm)
        records["update"] = _arrays(held, names["update"], approval.manifest, limit, builder)
        array_bytes = approval.manifest.num_bytes
    mapping = {name: tree.object_id for name, tree in records.items()}
    content = builder.put("RecordDict", list(records.values()), json_body(mapping))
    message = ProtoMessage(metadata=instruction.reply_metadata())
    outgoing = builder.finish(instruction, message, [content])
    return Rebuilt(outgoing=outgoing, reply=reply, code=0, array_bytes=array_bytes)


def _message(held: HeldReply) -> ProtoMessage:
    message = ProtoMessage()
    try:
        message.ParseFromString(bytes(held.read(held.tree.object_id, "Message").body))
    except Exception:  # protobuf raises kinds of its own on hostile bytes, whose texts may quote them
        raise ContractError(ErrorCode.REPLY_NOT_LISTED, "Message") from None
    return message


def _facts(held: HeldReply, name: str, instruction: Instruction, approval: Approval) -> Outbound:
    held.read(name, "MetricRecord")
    try:
        record = MetricRecord.inflate((held.folder / name).read_bytes())
    except Exception:  # as above
        raise ContractError(ErrorCode.REPLY_NOT_LISTED, "MetricRecord") from None
    kind = instruction.reply_kind
    reply = decode_reply(RecordDict({"facts": record}), kind, malformed=ErrorCode.REPLY_NOT_LISTED)
    if isinstance(reply, TrainReply | PrivateTrainReply) and reply.round != instruction.round:
        raise ContractError(ErrorCode.REPLY_NOT_LISTED, "round")
    if isinstance(reply, HelloReply) and reply.site != approval.site:
        raise ContractError(ErrorCode.REPLY_NOT_LISTED, "number of the site")
    return reply


def _arrays(held: HeldReply, name: str, manifest: ParameterManifest, max_norm: float, builder: Builder) -> ObjectTree:
    arrays = names_of(held.read(name, "ArrayRecord"))
    if set(arrays) != {spec.name for spec in manifest.parameters}:
        raise ContractError(ErrorCode.MANIFEST_MISMATCH, "names of the arrays")
    squares, trees = 0.0, dict[str, ObjectTree]()
    for spec in sorted(manifest.parameters, key=lambda s: s.name):
        trees[spec.name], square = _array(held, arrays[spec.name], spec, builder)
        squares += square
    if math.sqrt(squares) > max_norm:
        raise ContractError(ErrorCode.UPDATE_TOO_LARGE, f"L2 norm above {max_norm:g}")
    mapping = {name: tree.object_id for name, tree in trees.items()}
    return builder.put("ArrayRecord", list(trees.values()), json_body(mapping))


def _array(held: HeldReply, name: str, spec: ParameterSpec, builder: Builder) -> tuple[ObjectTree, float]:
    """Read, check and write one array; its tree and its sum of squares."""
    array = held.read(name, "Array")
    body = array_body(array)
    if body.dtype != spec.dtype or tuple(body.shape) != spec.shape or body.stype != _STYPE:
        raise ContractError(ErrorCode.MANIFEST_MISMATCH, "dtype or shape of an array")
    header = canonical_header(spec)
    chunks = (held.read(array.children[index], "ArrayChunk").body for index in body.arraychunk_ids)
    trees, squares, position = list[ObjectTree](), 0.0, 0
    for block in _in_blocks(chunks, len(header) + spec.num_bytes):
        numbers = block
        if position == 0:
            if bytes(block[: len(header)]) != header:
                raise ContractError(ErrorCode.REPLY_NOT_LISTED, "header of an array")
            numbers = block[len(header) :]
        position += len(block)
        squares += _sum_of_squares(numbers)
        trees.append(builder.put("ArrayChunk", [], block))
    if position != len(header) + spec.num_bytes:
        raise ContractError(ErrorCode.REPLY_NOT_LISTED, "length of an array")
    unique = list(dict.fromkeys(tree.object_id for tree in trees))
    facts = {
        "dtype": spec.dtype,
        "shape": list(spec.shape),
        "stype": _STYPE,
        "arraychunk_ids": [unique.index(tree.object_id) for tree in trees],
    }
    return builder.put("Array", trees, json_body(facts)), squares


def _in_blocks(chunks: Iterator[memoryview], expected: int) -> Iterator[memoryview]:
    """The joined chunks in blocks of Flower's size: how a reply was cut must not tell anything."""
    buffer, total = bytearray(), 0
    for chunk in chunks:
        total += len(chunk)
        if total > expected:
            raise ContractError(ErrorCode.REPLY_NOT_LISTED, "bytes behind an array")
        buffer += chunk
        while len(buffer) >= CHUNK_BYTES:
            yield memoryview(bytes(buffer[:CHUNK_BYTES]))
            del buffer[:CHUNK_BYTES]
    if buffer:
        yield memoryview(bytes(buffer))


def _sum_of_squares(numbers: memoryview) -> float:
    if len(numbers) % 4:
        raise ContractError(ErrorCode.REPLY_NOT_LISTED, "length of an array")
    values = np.frombuffer(numbers, dtype="<f4")
    if not np.isfinite(values).all():
        raise ContractError(ErrorCode.UPDATE_NOT_FINITE, "an array")
    # In pieces: a float64 copy of a whole block would be twice its size.
    pieces = (values[i : i + 65_536].astype(np.float64) for i in range(0, len(values), 65_536))
    return float(sum(np.dot(piece, piece) for piece in pieces))


def canonical_header(spec: ParameterSpec) -> bytes:
    """The one .npy header that an array of this shape may have."""
    buffer = io.BytesIO()
    facts = {"descr": "<f4", "fortran_order": False, "shape": tuple(spec.shape)}
    np.lib.format.write_array_header_1_0(buffer, facts)
    return buffer.getvalue()
