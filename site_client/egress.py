"""The one exit of a site: the outermost middleware around every handler of the client app.

Whatever a handler gives is decoded as the one reply that belongs to the request, checked against the site's own limits,
written down, and rebuilt from the checked values. Whatever a handler raises becomes a code. Anything unknown is
refused: Flower itself would send the text of an exception to the coordinator, and any record that a handler adds.
"""

from __future__ import annotations

import copy
import errno
import hashlib
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from flwr.app import Context, Error, Message, RecordDict

from protocols.codec import decode_reply, decode_request, decode_update, encode_reply
from protocols.error_codes import ContractError, ErrorCode
from protocols.errors import StorageError
from protocols.messages import (
    PRIVATE_REPLIES,
    HelloReply,
    HelloRequest,
    Outbound,
    PrivateTrainReply,
    SiteLimits,
    TrainReply,
    TrainRequest,
    reply_kind,
)
from site_client.folder import SiteFolder, secure_umask
from site_client.locate import locate_site
from site_client.receipts import ReceiptBook

if TYPE_CHECKING:
    from protocols.manifest import Arrays
    from site_client.pretrain import LocalUpdate
    from site_client.private_pretrain import PrivateUpdate


_TOLD = {ErrorCode.PRIVACY_REQUIRED, ErrorCode.PRIVACY_REFUSED, ErrorCode.PRIVACY_SPENT}


def egress(message: Message, context: Context, call_next: Callable[[Message, Context], Message]) -> Message:
    """Let nothing out but a listed reply or a listed code.

    Args:
        message: the request.
        context: Flower's context of this node.
        call_next: the handler, with whatever middleware stands behind this one.

    Returns:
        A reply rebuilt from checked values, or an error that says a code and nothing else.
    """
    secure_umask()
    try:
        folder = locate_site(context)
        return _answer(message, context, call_next, folder)
    except BaseException as error:  # nothing may pass, SystemExit included: Flower would send its text
        code = _code_of(error, ErrorCode.INTERNAL)
        return _refusal(message, code)


def _answer(
    message: Message, context: Context, call_next: Callable[[Message, Context], Message], folder: SiteFolder
) -> Message:
    book = ReceiptBook(folder.receipts)
    study, round_number = "", 0
    try:
        if message.metadata.message_type == "query.hello":
            decode_request(message.content, HelloRequest)
            records = call_next(_apart(message), context).content
            hello = decode_reply(records, HelloReply, malformed=ErrorCode.REPLY_NOT_LISTED)
            return _release(message, book, hello)
        if message.metadata.message_type != "train":
            raise ContractError(ErrorCode.BAD_REQUEST, "message type")
        request = decode_request(message.content, TrainRequest)
        study, round_number = request.study, request.round
        manifest = folder.manifest()  # of the model that is installed here; the request has no say in what may leave
        records = call_next(_apart(message), context).content
        reply = decode_reply(records, reply_kind(request.privacy), malformed=ErrorCode.REPLY_NOT_LISTED)
        if reply.round != request.round:
            raise ContractError(ErrorCode.REPLY_NOT_LISTED, "round")
        limit = folder.config().limits.max_update_norm
        update = decode_update(records, manifest, limit, malformed=ErrorCode.REPLY_NOT_LISTED)
        return _release(message, book, reply, update, study)
    except BaseException as error:
        code = _code_of(error, ErrorCode.TRAINING_FAILED)
        _log_failure(folder, code, error)
        book.append(kind="refusal", study=study, round_number=round_number, code=code.name)
        return _refusal(message, code)


def to_reply(update: LocalUpdate, limits: SiteLimits) -> tuple[TrainReply, RecordDict]:
    """Turn a LocalUpdate into what may leave: rounded, and silent about too few patients.

    Args:
        update: exact facts of the round.
        limits: the site's own.

    Returns:
        The reply and its records.

    Raises:
        ContractError: TOO_FEW_PATIENTS for the whole update.
    """
    from modeling.bits_per_byte import bits_per_byte  # loads torch; a greeting does not need it

    if update.train_patients < limits.min_patients:
        raise ContractError(ErrorCode.TOO_FEW_PATIENTS)
    may_tell = update.validation_patients >= limits.min_patients
    num_bytes = round(sum(s.num_bytes for s in update.validation), -3) if may_tell else 0
    reply = TrainReply(
        round=update.round,
        train_tokens=update.train_tokens if update.full_rows else round(update.train_tokens, -3),
        corpus_tokens=round(update.corpus_tokens, -3),
        train_loss=update.train_loss,
        # As many bits as the rounded number of bytes would need: the ratio stays, the exact length does not leave.
        validation_bits=round(bits_per_byte(update.validation) * num_bytes) if num_bytes else 0,
        validation_bytes=num_bytes,
    )
    return reply, encode_reply(reply, update.delta)


def to_private_reply(update: PrivateUpdate) -> tuple[PrivateTrainReply, RecordDict]:
    """Turn a PrivateUpdate into what may leave.

    Returns:
        The reply of the unit's kind and its records.
    """
    facts = {"round": update.round, "noise_multiplier": update.noise_multiplier, "delta": update.delta}
    reply = PRIVATE_REPLIES[update.unit].model_validate(facts | {f"{update.unit}_level_epsilon": update.spent})
    return reply, encode_reply(reply, update.change)


def _release(
    message: Message, book: ReceiptBook, reply: Outbound, update: Arrays | None = None, study: str = ""
) -> Message:
    records = encode_reply(reply, update)
    arrays = dict(records.array_records["update"]) if update is not None else {}
    digest = hashlib.sha256()
    for name, array in arrays.items():
        digest.update(name.encode() + b"\0" + array.data)
    book.append(
        kind=type(reply).__name__,
        study=study,
        round_number=getattr(reply, "round", 0),
        fields=reply.model_dump(),
        array_bytes=sum(len(a.data) for a in arrays.values()),
        arrays_sha256=digest.hexdigest() if arrays else "",
    )
    return Message(records, reply_to=message)


def _apart(message: Message) -> Message:
    """Give the handler metadata of its own: the reply takes its address and group from the request as it arrived."""
    twin = copy.copy(message)
    twin.__dict__["_metadata"] = copy.copy(message.metadata)
    return twin


def _code_of(error: BaseException, otherwise: ErrorCode) -> ErrorCode:
    if isinstance(error, ContractError):
        return error.code
    disk_full = isinstance(error, StorageError) or (isinstance(error, OSError) and error.errno == errno.ENOSPC)
    return ErrorCode.SITE_DISK_FULL if disk_full else otherwise


def _refusal(message: Message, code: ErrorCode) -> Message:
    return Message(Error(code=int(code), reason=code.name), reply_to=message)


def _log_failure(folder: SiteFolder, code: ErrorCode, error: BaseException) -> None:
    # Kind and place only: the text of an exception can quote a note, and logs travel further than one thinks.
    trace, place = error.__traceback__, "?"
    while trace is not None:
        place = f"{trace.tb_frame.f_globals.get('__name__', '?')}:{trace.tb_lineno}"
        trace = trace.tb_next
    log = logging.getLogger(f"fednotes.site.{folder.path.resolve()}")
    if not log.handlers:
        folder.log.parent.mkdir(exist_ok=True)
        handler = logging.FileHandler(folder.log)
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        log.addHandler(handler)
        log.propagate = False
    # Why a privacy policy refused is told: those texts are made of settings and public numbers alone.
    told = f": {error.detail}" if isinstance(error, ContractError) and code in _TOLD else ""
    log.error("refused with %s after %s at %s%s", code.name, type(error).__name__, place, told)
