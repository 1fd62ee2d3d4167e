"""The one thread through which replies leave: check, build anew, write a receipt, send; in this order, one at a time.

What is on its way lies on the disk. A cut link, an ingress that is away and a gateway that was killed all end in the
same loop: announce the reply again, send what is missing, until the coordinator has it or no longer waits for it.
"""

from __future__ import annotations

import logging
import queue
import shutil
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import grpc

from protocols.durable import write_text
from protocols.error_codes import ContractError, ErrorCode
from protocols.errors import StorageError, WorkError
from site_client.approval import Approval
from site_client.gateway.held import HeldReply
from site_client.gateway.instructions import Instruction, OpenInstructions
from site_client.gateway.journal import Journal, Note
from site_client.gateway.outgoing import Builder, Outgoing, build_error, read_outgoing
from site_client.gateway.rebuild import Rebuilt, error_code_of, rebuild
from site_client.gateway.upstream import Coordinator

_LOG = logging.getLogger(__name__)
_LONGEST_PAUSE_S = 20.0
_TRIES_WHEN_REFUSED = 5
_PROGRESS_EVERY_S = 2.0
_PAUSE_AFTER_FAILURE_S = 5.0


@dataclass(frozen=True)
class _Work:
    instruction: Instruction
    held: HeldReply | None
    code: ErrorCode | None


class Courier(threading.Thread):
    """Answers instructions.

    Args:
        spool: folder of replies on their way.
        upstream: the coordinator.
        instructions: that are open.
        approvals: by study.
        journal: written before anything leaves.
    """

    def __init__(
        self,
        spool: Path,
        upstream: Coordinator,
        instructions: OpenInstructions,
        approvals: Callable[[], Mapping[str, Approval]],
        journal: Journal,
    ) -> None:
        super().__init__(name="courier", daemon=True)
        self._folder = spool / "outgoing"
        self._progress = spool / "sending.json"
        self._upstream = upstream
        self._instructions = instructions
        self._approvals = approvals
        self._journal = journal
        self._work: queue.Queue[_Work | None] = queue.Queue()
        self._answering: set[str] = set()
        self._ending = threading.Event()

    def reply(self, instruction: Instruction, held: HeldReply) -> None:
        """Answer with a complete reply, if it may leave."""
        self._submit(_Work(instruction, held, None))

    def refuse(self, instruction: Instruction, code: ErrorCode, held: HeldReply | None = None) -> None:
        """Answer with a code."""
        self._submit(_Work(instruction, held, code))

    def is_answering(self, message_id: str) -> bool:
        """Whether an answer is on its way."""
        return message_id in self._answering

    def stop(self) -> None:
        """End after the call that is running; what is on its way goes on at the next start."""
        self._ending.set()
        self._work.put(None)

    def run(self) -> None:
        """Work until stopped."""
        for outgoing in self._left_over():
            self._deliver(outgoing)
        while (work := self._work.get()) is not None and not self._ending.is_set():
            while not self._ending.is_set():
                try:
                    self._answer(work)
                    break
                except Exception as error:
                    # This thread must not die: nothing would leave any more, and nobody would hear of it. Without a
                    # receipt nothing leaves either; the held reply makes room for the code that says why.
                    _LOG.exception("an answer failed; a code goes in its place")
                    if work.held is not None:
                        work.held.drop()
                    disk = isinstance(error, StorageError | OSError)
                    work = _Work(work.instruction, None, ErrorCode.SITE_DISK_FULL if disk else ErrorCode.INTERNAL)
                    self._ending.wait(_PAUSE_AFTER_FAILURE_S)

    def _submit(self, work: _Work) -> None:
        self._answering.add(work.instruction.message_id)
        self._work.put(work)

    def _left_over(self) -> list[Outgoing]:
        self._folder.mkdir(parents=True, exist_ok=True)
        found = []
        for folder in sorted(p for p in self._folder.iterdir() if not p.name.startswith(".")):
            try:
                outgoing = read_outgoing(folder)
            except WorkError as error:  # its instruction is open still, and the node gets it again
                _LOG.error("%s", error.message)
                shutil.rmtree(folder, ignore_errors=True)
                continue
            self._answering.add(outgoing.answers)
            found.append(outgoing)
        return found

    def _answer(self, work: _Work) -> None:
        instruction = work.instruction
        if self._instructions.get(instruction.message_id) is not None:
            builder = Builder(folder=self._folder / instruction.message_id)
            rebuilt = self._build(work, builder)
            self._write_receipt(instruction, rebuilt)
            builder.commit(rebuilt.outgoing)
            if work.held is not None:
                work.held.drop()
            self._deliver(rebuilt.outgoing)
        elif work.held is not None:
            work.held.drop()
        self._answering.discard(instruction.message_id)

    def _build(self, work: _Work, builder: Builder) -> Rebuilt:
        code = None if work.code is None else int(work.code)
        if code is None and work.held is not None:
            try:
                code = error_code_of(work.held)
                approval = self._approvals().get(work.instruction.study)
                if code is None and approval is None:
                    raise ContractError(ErrorCode.PLAN_NOT_APPROVED, "withdrawn meanwhile")
                if code is None and approval is not None:
                    return rebuild(work.held, work.instruction, approval, builder)
            except ContractError as error:
                _LOG.warning("a reply was refused: %s", error)
                code = int(error.code)
                builder = Builder(folder=builder.folder)  # without what was built so far
            except Exception as error:  # hostile bytes make libraries raise what they like
                if isinstance(error, StorageError | OSError):
                    raise
                _LOG.warning("a reply could not be read (%s)", type(error).__name__)
                code, builder = int(ErrorCode.REPLY_NOT_LISTED), Builder(folder=builder.folder)
        code = int(ErrorCode.INTERNAL) if code is None else code
        outgoing = build_error(builder, work.instruction, code)
        return Rebuilt(outgoing=outgoing, reply=None, code=code, array_bytes=0)

    def _write_receipt(self, instruction: Instruction, rebuilt: Rebuilt) -> None:
        outgoing, study, number = rebuilt.outgoing, instruction.study, instruction.round
        message, size = outgoing.message_id, outgoing.num_bytes
        if rebuilt.reply is None:
            code = ErrorCode(rebuilt.code).name if rebuilt.code in set(ErrorCode) else f"FLOWER_{rebuilt.code}"
            self._journal.refusal(study=study, round_number=number, message=message, message_bytes=size, code=code)
            return
        self._journal.reply(
            study=study,
            round_number=number,
            message=message,
            message_bytes=size,
            reply=type(rebuilt.reply).__name__,
            fields=rebuilt.reply.model_dump(),
            array_bytes=rebuilt.array_bytes,
        )

    def _deliver(self, outgoing: Outgoing) -> None:
        instruction = self._instructions.get(outgoing.answers)
        if instruction is None:
            outgoing.drop()
            return
        pause, refused, sent, begun = 1.0, 0, set[str](), time.monotonic()
        while not self._ending.is_set():
            if time.time() > instruction.expires:
                self._close(instruction, outgoing, "expired before it could be delivered")
                return
            try:
                self._send(outgoing, instruction, sent)
                self._journal.metrics.delivery_seconds.observe(time.monotonic() - begun)
                self._close(instruction, outgoing, "delivered")
                return
            except grpc.RpcError as error:
                if error.code() == grpc.StatusCode.PERMISSION_DENIED:  # Flower's word for a run that is over
                    self._close(instruction, outgoing, "run ended before it could be delivered")
                    return
                refused += error.code() not in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)
                _LOG.warning("the coordinator is away (%s); trying again", error.code().name)
            except WorkError:
                refused += 1
            if refused >= _TRIES_WHEN_REFUSED:
                self._close(instruction, outgoing, "run ended before it could be delivered")
                return
            self._ending.wait(pause)
            pause = min(pause * 2, _LONGEST_PAUSE_S)

    def _send(self, outgoing: Outgoing, instruction: Instruction, sent: set[str]) -> None:
        """Announce the reply and send its objects; those in ``sent`` are known to be there."""
        total, told = outgoing.num_bytes, 0.0
        done = sum((outgoing.folder / name).stat().st_size for name in sent)
        sent -= self._upstream.push(outgoing.header, outgoing.tree)
        for name, content in outgoing.objects():
            if name in sent:
                continue
            if not self._upstream.push_object(instruction.metadata.run_id, name, content):
                raise WorkError("The coordinator did not take an object.")
            sent.add(name)
            done += len(content)
            if time.monotonic() - told > _PROGRESS_EVERY_S:
                told = time.monotonic()
                self._tell(instruction, done, total)

    def _tell(self, instruction: Instruction, done: int, total: int) -> None:
        _LOG.info("study %s, round %d: %d of %d bytes sent", instruction.study, instruction.round, done, total)
        facts = f'{{"study": "{instruction.study}", "round": {instruction.round}, "sent": {done}, "of": {total}}}'
        write_text(self._progress, facts)

    def _close(self, instruction: Instruction, outgoing: Outgoing, note: Note) -> None:
        self._progress.unlink(missing_ok=True)
        if note != "delivered":
            self._journal.event(note, study=instruction.study, round_number=instruction.round)
        self._instructions.close(instruction.message_id)
        outgoing.drop()
