"""What comes in at the coordinator: a reply becomes typed and checked, or a code from the closed list."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from flwr.app import Message

from protocols.codec import decode_reply, decode_update, payload_bytes
from protocols.error_codes import ContractError, ErrorCode
from protocols.manifest import ParameterManifest
from protocols.messages import CONTRACT_VERSION, HelloReply, PrivacyRecipe, PrivateTrainReply, TrainReply, reply_kind

if TYPE_CHECKING:
    from protocols.manifest import Arrays

# Flower's own codes (flwr 1.32.1): the reason texts beside them can quote the site and are never read.
_FLOWER_CODES = {
    0: ErrorCode.SITE_CRASHED,
    1: ErrorCode.SITE_NOT_READY,
    2: ErrorCode.SITE_CRASHED,
    3: ErrorCode.NO_REPLY,
    4: ErrorCode.NO_REPLY,
    5: ErrorCode.SITE_UNREACHABLE,
    8: ErrorCode.SITE_CRASHED,
}


_LOST = {0, 3, 4, 5, 8, int(ErrorCode.SITE_RESTARTED)}


@dataclass(frozen=True, kw_only=True)
class Update:
    """An accepted reply of one site.

    Attributes:
        facts: the numbers.
        arrays: the difference to the weights that were sent.
        num_bytes: payload of the reply.
    """

    facts: TrainReply | PrivateTrainReply
    arrays: Arrays
    num_bytes: int


def accept_update(
    reply: Message,
    round_number: int,
    manifest: ParameterManifest,
    max_norm: float,
    privacy: PrivacyRecipe | None = None,
) -> Update:
    """Check the reply to a TrainRequest.

    Args:
        reply: as Flower delivered it.
        round_number: the round that is running.
        manifest: the arrays of this study.
        max_norm: L2 bound of the plan.
        privacy: of the plan; a reply without it, or for another unit, is malformed.

    Raises:
        ContractError: with the code for the record.
    """
    _refuse_errors(reply)
    facts = decode_reply(reply.content, reply_kind(privacy), malformed=ErrorCode.REPLY_MALFORMED)
    if facts.round != round_number:
        raise ContractError(ErrorCode.WRONG_ROUND)
    arrays = decode_update(reply.content, manifest, max_norm, malformed=ErrorCode.REPLY_MALFORMED)
    return Update(facts=facts, arrays=arrays, num_bytes=payload_bytes(reply.content))


def accept_hello(reply: Message) -> int:
    """Check the reply to a HelloRequest and give the site's number.

    Raises:
        ContractError: with the code for the record.
    """
    _refuse_errors(reply)
    hello = decode_reply(reply.content, HelloReply, malformed=ErrorCode.REPLY_MALFORMED)
    if hello.contract_version != CONTRACT_VERSION:
        raise ContractError(ErrorCode.REPLY_MALFORMED, f"contract version {hello.contract_version}")
    return hello.site


def may_mend(reply: Message) -> bool:
    """Whether the site was lost on the way, so that asking again may help: it died, restarted, or was cut off."""
    return reply.has_error() and reply.error.code in _LOST


def _refuse_errors(reply: Message) -> None:
    if reply.has_error():
        code = reply.error.code
        if code in _FLOWER_CODES:
            raise ContractError(_FLOWER_CODES[code])
        raise ContractError(ErrorCode(code) if code in set(ErrorCode) else ErrorCode.REPLY_MALFORMED)
