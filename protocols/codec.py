"""Between typed messages and Flower records: the one place that knows how a message looks on the wire.

    request = {"request": ConfigRecord{"json"}, "weights": ArrayRecord}     coordinator to site
    reply   = {"facts": MetricRecord, "update": ArrayRecord}                site to coordinator

A reply is rebuilt, never filtered: decoding yields typed values and canonical arrays, and encoding them again is the
only way to make a reply. Whatever else a record held (further records, bytes behind an array, a dtype that is really a
sentence) has no place to survive in.
"""

from __future__ import annotations

import io
import math
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, MetricRecord, RecordDict
from numpy.typing import NDArray
from pydantic import ValidationError

from protocols.error_codes import ContractError, ErrorCode
from protocols.manifest import ParameterManifest
from protocols.messages import Message, Outbound

if TYPE_CHECKING:
    from protocols.manifest import Arrays

Request = TypeVar("Request", bound=Message)
Reply = TypeVar("Reply", bound=Outbound)


def encode_request(request: Message, weights: Arrays | None = None) -> RecordDict:
    """Make the records of a request.

    Args:
        request: the typed request.
        weights: float32 arrays that travel beside it, if any.
    """
    records = RecordDict({"request": ConfigRecord({"json": request.model_dump_json()})})
    if weights is not None:
        records["weights"] = _to_record(weights)
    return records


def decode_request(records: RecordDict, kind: type[Request]) -> Request:
    """Read a request; the site's side of :func:`encode_request`.

    Raises:
        ContractError: BAD_REQUEST when it is not exactly a valid request of that kind.
    """
    config = records.get("request")
    if not isinstance(config, ConfigRecord) or set(config) != {"json"} or set(records) - {"request", "weights"}:
        raise ContractError(ErrorCode.BAD_REQUEST, "records of the request")
    try:
        return kind.model_validate_json(str(config["json"]))
    except ValidationError:
        raise ContractError(ErrorCode.BAD_REQUEST, f"fields of {kind.__name__}") from None


def decode_weights(records: RecordDict) -> dict[str, NDArray[np.float32]]:
    """Read the weights beside a request.

    Raises:
        ContractError: BAD_REQUEST when they are missing or not plain float32 arrays.
    """
    return _from_record(records.get("weights"), ErrorCode.BAD_REQUEST)


def encode_reply(reply: Outbound, update: Arrays | None = None) -> RecordDict:
    """Make the records of a reply.

    Args:
        reply: the typed reply.
        update: float32 arrays that travel beside it, if any.
    """
    records = RecordDict({"facts": MetricRecord(reply.model_dump())})
    if update is not None:
        records["update"] = _to_record(update)
    return records


def decode_reply(records: RecordDict, kind: type[Reply], *, malformed: ErrorCode) -> Reply:
    """Read the facts of a reply and refuse everything that is not listed.

    Args:
        records: what the handler made, or what came over the wire.
        kind: the reply that belongs to the request.
        malformed: code to raise: REPLY_NOT_LISTED at the site, REPLY_MALFORMED at the coordinator.

    Raises:
        ContractError: ``malformed`` for any other record, field, type or bound.
    """
    facts = records.get("facts")
    if not isinstance(facts, MetricRecord) or set(records) - {"facts", "update"}:
        raise ContractError(malformed, "records of the reply")
    try:
        return kind.model_validate(dict(facts), strict=True)
    except ValidationError:
        raise ContractError(malformed, f"fields of {kind.__name__}") from None


def decode_update(
    records: RecordDict, manifest: ParameterManifest, max_norm: float, *, malformed: ErrorCode
) -> dict[str, NDArray[np.float32]]:
    """Read the arrays beside a reply and check them against the manifest and the norm bound.

    Args:
        records: the reply's records.
        manifest: the arrays that may travel.
        max_norm: L2 bound over all arrays together.
        malformed: as in :func:`decode_reply`.

    Raises:
        ContractError: ``malformed``, MANIFEST_MISMATCH, UPDATE_NOT_FINITE or UPDATE_TOO_LARGE.
    """
    arrays = _from_record(records.get("update"), malformed)
    manifest.check(arrays)
    squares = 0.0
    for name, array in arrays.items():
        # float64 before squaring: a large but finite float32 must not overflow to infinity and change its code.
        wide = array.astype(np.float64, copy=False).ravel()
        square = float(np.dot(wide, wide))
        if not math.isfinite(square):
            raise ContractError(ErrorCode.UPDATE_NOT_FINITE, name)
        squares += square
    if math.sqrt(squares) > max_norm:
        raise ContractError(ErrorCode.UPDATE_TOO_LARGE, f"L2 norm above {max_norm:g}")
    return arrays


def payload_bytes(records: RecordDict) -> int:
    """Size of all arrays and fields of a message as sent, without framing [bytes]."""
    arrays = sum(len(a.data) for r in records.array_records.values() for a in r.values())
    facts = sum(record.count_bytes() for record in records.metric_records.values())
    config = sum(record.count_bytes() for record in records.config_records.values())
    return arrays + facts + config


def _to_record(arrays: Arrays) -> ArrayRecord:
    return ArrayRecord({name: _to_array(arrays[name]) for name in sorted(arrays)})


def _to_array(array: NDArray[np.float32]) -> Array:
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, np.ascontiguousarray(array), version=(1, 0), allow_pickle=False)
    return Array(dtype=str(array.dtype), shape=array.shape, stype="numpy.ndarray", data=buffer.getvalue())


def _from_record(record: object, malformed: ErrorCode) -> dict[str, NDArray[np.float32]]:
    if not isinstance(record, ArrayRecord):
        raise ContractError(malformed, "array record is missing")
    return {name: _from_array(array, malformed) for name, array in record.items()}


def _from_array(array: Array, malformed: ErrorCode) -> NDArray[np.float32]:
    if array.stype != "numpy.ndarray" or array.dtype != "float32":
        raise ContractError(malformed, "array is not float32")
    buffer = io.BytesIO(array.data)
    try:
        value: NDArray[np.float32] = np.lib.format.read_array(buffer, allow_pickle=False)
    except Exception:  # numpy raises several kinds on hostile bytes; their texts may quote the bytes
        raise ContractError(malformed, "array payload") from None
    if value.dtype != np.float32 or list(value.shape) != list(array.shape) or buffer.read(1):
        raise ContractError(malformed, "array payload and declaration differ")
    return value
