"""The gateway as the SuperNode sees it: Flower's Fleet API, every call answered here or made anew upstream."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NoReturn, TypeVar

import grpc
from flwr.proto.fab_pb2 import Fab, GetFabRequest, GetFabResponse
from flwr.proto.fleet_pb2 import (
    ActivateNodeRequest,
    ActivateNodeResponse,
    DeactivateNodeRequest,
    DeactivateNodeResponse,
    PullMessagesRequest,
    PullMessagesResponse,
    PushMessagesRequest,
    PushMessagesResponse,
    RegisterNodeFleetRequest,
    RegisterNodeFleetResponse,
    UnregisterNodeFleetRequest,
    UnregisterNodeFleetResponse,
)
from flwr.proto.fleet_pb2_grpc import FleetServicer
from flwr.proto.heartbeat_pb2 import SendNodeHeartbeatRequest, SendNodeHeartbeatResponse
from flwr.proto.message_pb2 import (
    ConfirmMessageReceivedRequest,
    ConfirmMessageReceivedResponse,
    ObjectTree,
    PullObjectRequest,
    PullObjectResponse,
    PushObjectRequest,
    PushObjectResponse,
)
from flwr.proto.message_pb2 import Message as ProtoMessage
from flwr.proto.run_pb2 import GetRunRequest, GetRunResponse
from google.protobuf.message import DecodeError

from protocols.bundle import build_bundle, bundle_hash
from protocols.error_codes import ContractError, ErrorCode
from protocols.flower_objects import is_object_id, object_id
from protocols.messages import HelloRequest
from site_client.approval import Approval
from site_client.gateway.admission import Admission
from site_client.gateway.courier import Courier
from site_client.gateway.held import HeldReply, most_objects
from site_client.gateway.instructions import Instruction, OpenInstructions
from site_client.gateway.journal import Journal, Note
from site_client.gateway.upstream import HEARTBEAT_INTERVAL_S, Coordinator

_LOG = logging.getLogger(__name__)
_NODE_SILENT_S = 3 * HEARTBEAT_INTERVAL_S
_SMALL_REPLY_BYTES, _SMALL_REPLY_OBJECTS = 20_000, 4

T = TypeVar("T")


class _NotYetError(Exception):
    """An instruction's header is there and its objects are not."""


class Gateway(FleetServicer):
    """Serves one SuperNode.

    Args:
        spool: what is open and held.
        upstream: the coordinator.
        instructions: that are open.
        approvals: by study, as they are now.
        courier: through which everything leaves.
        journal: of what came and went.
    """

    def __init__(
        self,
        spool: Path,
        upstream: Coordinator,
        instructions: OpenInstructions,
        approvals: Callable[[], Mapping[str, Approval]],
        courier: Courier,
        journal: Journal,
    ) -> None:
        self._spool = spool
        self._upstream = upstream
        self._instructions = instructions
        self._approvals = approvals
        self._courier = courier
        self._journal = journal
        self._admission = Admission(approvals, upstream.run, self._pull_checked, journal.sent)
        self._held: dict[str, HeldReply] = {}
        self._lock = threading.Lock()
        self._node_seen = 0.0
        self._hold_again()

    def RegisterNode(
        self, request: RegisterNodeFleetRequest, context: grpc.ServicerContext
    ) -> RegisterNodeFleetResponse:
        """Never: the coordinator registers nodes at their enrolment."""
        _abort(context, grpc.StatusCode.PERMISSION_DENIED)

    def UnregisterNode(
        self, request: UnregisterNodeFleetRequest, context: grpc.ServicerContext
    ) -> UnregisterNodeFleetResponse:
        """Never, likewise."""
        _abort(context, grpc.StatusCode.PERMISSION_DENIED)

    # The connection ------------------------------------------------------------------------------------------------

    def ActivateNode(self, request: ActivateNodeRequest, context: grpc.ServicerContext) -> ActivateNodeResponse:
        """A SuperNode started: what its predecessor was working on is lost, and the coordinator may ask again."""
        node = self._calling(context, self._upstream.activate)
        self._node_seen = time.monotonic()
        self._journal.event("node activated")
        for instruction in self._instructions.all():
            if not self._courier.is_answering(instruction.message_id):
                with self._lock:
                    held = self._held.pop(instruction.message_id, None)
                self._courier.refuse(instruction, ErrorCode.SITE_RESTARTED, held)
        return ActivateNodeResponse(node_id=node)

    def DeactivateNode(self, request: DeactivateNodeRequest, context: grpc.ServicerContext) -> DeactivateNodeResponse:
        """The SuperNode goes."""
        self._node_seen = 0.0
        self._journal.event("node deactivated")
        self._calling(context, self._upstream.deactivate)
        return DeactivateNodeResponse()

    def SendNodeHeartbeat(
        self, request: SendNodeHeartbeatRequest, context: grpc.ServicerContext
    ) -> SendNodeHeartbeatResponse:
        """The SuperNode is there; the coordinator hears it from :meth:`keep_alive`."""
        self._node_seen = time.monotonic()
        return SendNodeHeartbeatResponse(success=True)

    def keep_alive(self, stop: threading.Event) -> None:
        """Tell the coordinator that the node is there, as long as it is; runs in a thread of its own."""
        while not stop.wait(HEARTBEAT_INTERVAL_S * 0.8):
            if not self._node_seen or time.monotonic() - self._node_seen > _NODE_SILENT_S:
                continue
            try:
                if not self._upstream.heartbeat():
                    self._upstream.activate()
            except grpc.RpcError as error:
                _LOG.warning("no heartbeat: the coordinator is away (%s)", error.code().name)

    # Instructions, on their way in ---------------------------------------------------------------------------------

    def PullMessages(self, request: PullMessagesRequest, context: grpc.ServicerContext) -> PullMessagesResponse:
        """Give an instruction that may be asked of this site."""
        self._node_seen = time.monotonic()
        for instruction in self._instructions.all():
            if time.time() > instruction.expires:
                self._forget(instruction)
                continue
            # The node asks only when it has nothing to do: what is open and unanswered never reached it.
            if not self._courier.is_answering(instruction.message_id) and instruction.message_id not in self._held:
                return self._handed(instruction)
        pulled = self._calling(context, self._pulled)
        if pulled is None:
            return PullMessagesResponse()
        admitted = self._calling(context, lambda: self._admitted(pulled))
        return PullMessagesResponse() if admitted is None else self._handed(admitted)

    def PullObject(self, request: PullObjectRequest, context: grpc.ServicerContext) -> PullObjectResponse:
        """Give an object of an open instruction, and of nothing else."""
        self._node_seen = time.monotonic()
        run, name = request.run_id, request.object_id
        if not is_object_id(name) or self._instructions.owner_of(name, run) is None:
            self._journal.count("refused PullObject")
            return PullObjectResponse(object_found=False, object_available=False)
        found = self._calling(context, lambda: self._upstream.pull_object(run, name))
        if found.object_available and object_id(found.object_content) != name:
            return PullObjectResponse(object_found=False, object_available=False)
        return found

    def ConfirmMessageReceived(
        self, request: ConfirmMessageReceivedRequest, context: grpc.ServicerContext
    ) -> ConfirmMessageReceivedResponse:
        """The SuperNode has an instruction whole."""
        instruction = self._instructions.get(request.message_object_id)
        if instruction is not None:
            run, name = instruction.metadata.run_id, instruction.message_id
            self._calling(context, lambda: self._upstream.confirm(run, name))
        return ConfirmMessageReceivedResponse()

    def GetRun(self, request: GetRunRequest, context: grpc.ServicerContext) -> GetRunResponse:
        """What a run is, of which there is an open instruction."""
        if not self._instructions.of_run(request.run_id):
            self._journal.count("refused GetRun")
            context.abort(grpc.StatusCode.PERMISSION_DENIED, "no instruction of that run is open")
        return GetRunResponse(run=self._calling(context, lambda: self._upstream.run(request.run_id)))

    def GetFab(self, request: GetFabRequest, context: grpc.ServicerContext) -> GetFabResponse:
        """The app bundle: always this installation's own. The coordinator is not asked, and brings no code."""
        return GetFabResponse(fab=Fab(hash_str=bundle_hash(), content=build_bundle()))

    # Replies, on their way out -------------------------------------------------------------------------------------

    def PushMessages(self, request: PushMessagesRequest, context: grpc.ServicerContext) -> PushMessagesResponse:
        """Make room for a reply; its objects follow."""
        self._node_seen = time.monotonic()
        if len(request.messages_list) != 1 or len(request.message_object_trees) != 1:
            self._journal.count("refused PushMessages")
            return PushMessagesResponse()
        message, tree = request.messages_list[0], request.message_object_trees[0]
        instruction = self._instructions.get(message.metadata.reply_to_message_id)
        if instruction is None or self._courier.is_answering(instruction.message_id):
            self._journal.count("refused PushMessages")  # nobody asked, or it was answered already
            return PushMessagesResponse()
        try:
            with self._lock:
                held = self._held.get(instruction.message_id)
                if held is None or held.tree.object_id != tree.object_id:
                    folder = self._spool / "held" / instruction.message_id
                    held = HeldReply.begin(folder, message, tree, *self._bounds(instruction))
                    self._held[instruction.message_id] = held
                missing = sorted(held.missing)
        except ContractError as error:
            self._courier.refuse(instruction, error.code)
            return PushMessagesResponse()
        except OSError:
            self._courier.refuse(instruction, ErrorCode.SITE_DISK_FULL)
            return PushMessagesResponse()
        return PushMessagesResponse(results={tree.object_id: 0}, objects_to_push=missing)

    def PushObject(self, request: PushObjectRequest, context: grpc.ServicerContext) -> PushObjectResponse:
        """Hold an object of a reply; with the last one, the reply is checked and leaves or not."""
        self._node_seen = time.monotonic()
        with self._lock:
            fitting = [h for h in self._held.values() if request.object_id in h.missing]
        if not fitting:
            self._journal.count("refused PushObject")
            return PushObjectResponse(stored=False)
        held = fitting[0]
        instruction = self._instructions.get(held.answers)
        try:
            complete = held.put(request.object_id, request.object_content)
        except ContractError as error:
            self._release(held)
            if instruction is not None:
                self._courier.refuse(instruction, error.code, held)
            return PushObjectResponse(stored=False)
        except OSError:
            self._release(held)
            if instruction is not None:
                self._courier.refuse(instruction, ErrorCode.SITE_DISK_FULL, held)
            return PushObjectResponse(stored=False)
        if complete and instruction is not None:
            self._courier.reply(instruction, held)
            self._release(held)
        return PushObjectResponse(stored=True)

    # ---------------------------------------------------------------------------------------------------------------

    def _bounds(self, instruction: Instruction) -> tuple[int, int]:
        """Largest size and number of objects of the reply to an instruction."""
        if isinstance(instruction.request, HelloRequest):
            return _SMALL_REPLY_BYTES, _SMALL_REPLY_OBJECTS
        approval = self._approvals().get(instruction.study)
        if approval is None:
            raise ContractError(ErrorCode.PLAN_NOT_APPROVED, "withdrawn meanwhile")
        return approval.max_message_bytes, most_objects(approval.manifest)

    def _forget(self, instruction: Instruction) -> None:
        """Close an instruction that the coordinator no longer waits for."""
        if self._courier.is_answering(instruction.message_id):
            return  # the courier notices by itself
        with self._lock:
            held = self._held.pop(instruction.message_id, None)
        if held is not None:
            held.drop()
        note: Note = "expired before it could be delivered"
        self._journal.event(note, study=instruction.study, round_number=instruction.round)
        self._instructions.close(instruction.message_id)

    def _release(self, held: HeldReply) -> None:
        with self._lock:
            self._held.pop(held.answers, None)

    def _hold_again(self) -> None:
        """Go on with replies that a kill of this process interrupted; the SuperNode goes on sending them."""
        for folder in sorted((self._spool / "held").glob("*")):
            instruction = self._instructions.get(folder.name)
            try:
                if instruction is None:
                    raise ValueError
                held = HeldReply.again(folder, self._bounds(instruction)[0])
            except (OSError, ValueError, DecodeError, ContractError):
                if instruction is not None:
                    self._courier.refuse(instruction, ErrorCode.SITE_RESTARTED)
                continue
            if held.missing:
                self._held[held.answers] = held
            else:
                self._courier.reply(instruction, held)

    def _pulled(self) -> PullMessagesResponse | None:
        """A message from the coordinator, which gives each one once: it is kept on the disk until it is decided on."""
        path = self._spool / "pulled.bin"
        if not path.exists():
            response = self._upstream.pull()
            if not response.messages_list:
                return None
            partial = path.with_suffix(".partial")
            partial.write_bytes(response.SerializeToString())
            partial.replace(path)
        pulled = PullMessagesResponse()
        pulled.ParseFromString(path.read_bytes())
        return pulled

    def _admitted(self, pulled: PullMessagesResponse) -> Instruction | None:
        message, tree = pulled.messages_list[0], pulled.message_object_trees[0]
        instruction: Instruction | None = None
        try:
            instruction = self._admission.admit(message, tree)
            self._instructions.add(instruction)
            self._journal.instruction(study=instruction.study, round_number=instruction.round, note="passed on")
        except ContractError as error:
            _LOG.warning("an instruction was refused: %s", error)
            self._refuse_pulled(message, tree, error.code)
        except DecodeError:
            _LOG.warning("an instruction could not be read")
            self._refuse_pulled(message, tree, ErrorCode.BAD_REQUEST)
        except _NotYetError:
            return None  # the coordinator is still bringing its objects; the node asks again in three seconds
        except grpc.RpcError as error:
            if error.code() != grpc.StatusCode.PERMISSION_DENIED:
                raise
            self._journal.instruction(study="", round_number=0, note="not passed on")  # its run is over
        (self._spool / "pulled.bin").unlink(missing_ok=True)
        return instruction

    def _refuse_pulled(self, message: ProtoMessage, tree: ObjectTree, code: ErrorCode) -> None:
        self._journal.instruction(study="", round_number=0, note="not passed on", code=code.name)
        if is_object_id(message.metadata.message_id):
            refused = Instruction(metadata=message.metadata, tree=tree, study="", request=HelloRequest())
            self._instructions.add(refused)
            self._courier.refuse(refused, code)

    def _pull_checked(self, run_id: int, name: str) -> bytes:
        found = self._upstream.pull_object(run_id, name)
        if not found.object_found:
            raise ContractError(ErrorCode.BAD_REQUEST, "object of the request is missing")
        if not found.object_available:
            raise _NotYetError
        return bytes(found.object_content)

    @staticmethod
    def _handed(instruction: Instruction) -> PullMessagesResponse:
        response = PullMessagesResponse(message_object_trees=[instruction.tree])
        message = response.messages_list.add()
        message.metadata.CopyFrom(instruction.metadata)
        message.content.SetInParent()  # empty: the objects hold it, and Flower wants the field
        return response

    @staticmethod
    def _calling(context: grpc.ServicerContext, call: Callable[[], T]) -> T:
        """Make a call upstream; Flower's nodes try again for ever when it is told as UNAVAILABLE."""
        try:
            return call()
        except grpc.RpcError as error:
            over = error.code() == grpc.StatusCode.PERMISSION_DENIED
            _abort(context, grpc.StatusCode.PERMISSION_DENIED if over else grpc.StatusCode.UNAVAILABLE)


def _abort(context: grpc.ServicerContext, code: grpc.StatusCode) -> NoReturn:
    denied = code == grpc.StatusCode.PERMISSION_DENIED
    context.abort(code, "not allowed, or the run is over" if denied else "the coordinator is away")
    raise AssertionError("abort raises")
