"""The JSON bodies of Flower's record and array objects, read strictly."""

from __future__ import annotations

import json
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from protocols.error_codes import ContractError, ErrorCode
from protocols.flower_objects import FlowerObject

_NAMES = TypeAdapter(Annotated[dict[str, str], Field(max_length=20_000)])
_Index = Annotated[int, Field(ge=0, lt=1_000_000)]
_Dim = Annotated[int, Field(ge=1, le=2**31)]


class ArrayBody(BaseModel):
    """Body of an Array object.

    Attributes:
        dtype: of the numbers.
        shape: of the array.
        stype: how it is laid out.
        arraychunk_ids: for each chunk, which child it is; equal chunks are one child.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, hide_input_in_errors=True)

    dtype: str
    shape: Annotated[list[_Dim], Field(max_length=4)]
    stype: str
    arraychunk_ids: Annotated[list[_Index], Field(max_length=1_000_000)]


def names_of(record: FlowerObject) -> dict[str, str]:
    """Names and object ids in a RecordDict or ArrayRecord, whose children they must be.

    Raises:
        ContractError: REPLY_NOT_LISTED.
    """
    try:
        names = _NAMES.validate_json(bytes(record.body), strict=True)
    except ValidationError:
        raise ContractError(ErrorCode.REPLY_NOT_LISTED, record.kind) from None
    if set(names.values()) != set(record.children):
        raise ContractError(ErrorCode.REPLY_NOT_LISTED, f"children of {record.kind}")
    return names


def array_body(array: FlowerObject) -> ArrayBody:
    """Body of an Array object.

    Raises:
        ContractError: REPLY_NOT_LISTED.
    """
    try:
        body = ArrayBody.model_validate_json(bytes(array.body))
    except ValidationError:
        raise ContractError(ErrorCode.REPLY_NOT_LISTED, "Array") from None
    if any(index >= len(array.children) for index in body.arraychunk_ids):
        raise ContractError(ErrorCode.REPLY_NOT_LISTED, "chunks of Array")
    return body


def json_body(document: object) -> bytes:
    """A body in the form that Flower writes."""
    return json.dumps(document).encode()
