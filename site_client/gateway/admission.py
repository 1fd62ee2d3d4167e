"""What may be asked of this site: an instruction is compared with the approved plan before anybody else sees it.

Every object is named by its hash, so what was checked here is what the SuperNode gets: it fetches the same ids, and
their content is compared with the id again on the way.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from flwr.app import ConfigRecord, RecordDict
from flwr.proto.message_pb2 import Message as ProtoMessage
from flwr.proto.message_pb2 import ObjectTree
from flwr.proto.run_pb2 import Run

from protocols.bundle import STUDY_KEY, bundle_hash, installed_versions
from protocols.codec import decode_request
from protocols.error_codes import ContractError, ErrorCode
from protocols.flower_objects import FlowerObject, is_object_id, object_id, unpack
from protocols.messages import HelloRequest, TrainRequest
from site_client.approval import Approval
from site_client.gateway.instructions import Instruction, ids_of
from site_client.gateway.json_bodies import names_of

_MAX_OBJECTS = 100_000
_MAX_REQUEST_BYTES = 64_000


class Admission:
    """Decides about instructions.

    Args:
        approvals: by study.
        run: asks the coordinator what a run is.
        pull: fetches an object of a run.
        sent: how much a study was sent so far [bytes].
    """

    def __init__(
        self,
        approvals: Callable[[], Mapping[str, Approval]],
        run: Callable[[int], Run],
        pull: Callable[[int, str], bytes],
        sent: Callable[[str], int],
    ) -> None:
        self._approvals = approvals
        self._run = run
        self._pull = pull
        self._sent = sent
        self._bundle = bundle_hash()
        self._versions = installed_versions()

    def study_of(self, run_id: int) -> str:
        """The approved study that a run belongs to.

        Raises:
            ContractError: BUNDLE_NOT_APPROVED or PLAN_NOT_APPROVED.
            grpc.RpcError: the coordinator is away.
        """
        run = self._run(run_id)
        overrides = dict(run.override_config)
        study = overrides.pop(STUDY_KEY).string if STUDY_KEY in overrides else ""
        approval = self._approvals().get(study)
        if overrides or approval is None:
            raise ContractError(ErrorCode.PLAN_NOT_APPROVED, "study or settings of the run")
        if run.fab_hash != approval.bundle_hash or run.fab_hash != self._bundle:
            raise ContractError(ErrorCode.BUNDLE_NOT_APPROVED, "bundle of the run")
        if approval.versions != self._versions:
            raise ContractError(ErrorCode.BUNDLE_NOT_APPROVED, "versions installed since the approval")
        return study

    def admit(self, message: ProtoMessage, tree: ObjectTree) -> Instruction:
        """Check an instruction.

        Args:
            message: its header.
            tree: its objects.

        Raises:
            ContractError: it is not passed on; the code goes back.
            grpc.RpcError: the coordinator is away.
        """
        metadata = message.metadata
        if message.content.ByteSize() or message.HasField("error") or metadata.message_id != tree.object_id:
            raise ContractError(ErrorCode.BAD_REQUEST, "header")
        ids = ids_of(tree)
        if len(ids) > _MAX_OBJECTS or not all(map(is_object_id, ids)):
            raise ContractError(ErrorCode.BAD_REQUEST, "tree of objects")
        study = self.study_of(metadata.run_id)
        root = self._object(metadata.run_id, tree.object_id, "Message")
        inner = ProtoMessage.FromString(bytes(root.body))
        inner.metadata.message_id = metadata.message_id
        if inner.metadata != metadata or len(root.children) != 1:
            raise ContractError(ErrorCode.BAD_REQUEST, "header and object differ")
        records = self._object(metadata.run_id, root.children[0], "RecordDict")
        try:
            names = names_of(records)
        except ContractError:
            raise ContractError(ErrorCode.BAD_REQUEST, "records of the request") from None
        request = self._request(metadata.run_id, metadata.message_type, names)
        if isinstance(request, TrainRequest):
            self._require_approved(request, self._approvals()[study])
        return Instruction(metadata=metadata, tree=tree, study=study, request=request)

    def _require_approved(self, request: TrainRequest, approval: Approval) -> None:
        approval.admits(request)
        if self._sent(request.study) + approval.max_message_bytes > approval.max_total_bytes:
            raise ContractError(ErrorCode.BYTES_EXCEEDED, "bytes of the whole study")

    def _request(self, run_id: int, message_type: str, names: Mapping[str, str]) -> TrainRequest | HelloRequest:
        if message_type not in ("train", "query.hello") or set(names) - {"weights"} != {"request"}:
            raise ContractError(ErrorCode.BAD_REQUEST, "type or records of the request")
        content = self._pull(run_id, names["request"])
        if object_id(content) != names["request"] or len(content) > _MAX_REQUEST_BYTES:
            raise ContractError(ErrorCode.BAD_REQUEST, "request record")
        try:
            unpack(content)
            records = RecordDict({"request": ConfigRecord.inflate(content)})
        except (ValueError, TypeError, KeyError):
            raise ContractError(ErrorCode.BAD_REQUEST, "request record") from None
        if message_type == "train":
            return decode_request(records, TrainRequest)
        return decode_request(records, HelloRequest)

    def _object(self, run_id: int, wanted: str, kind: str) -> FlowerObject:
        content = self._pull(run_id, wanted)
        try:
            found = unpack(content)
        except ValueError:
            raise ContractError(ErrorCode.BAD_REQUEST, kind) from None
        if object_id(content) != wanted or found.kind != kind:
            raise ContractError(ErrorCode.BAD_REQUEST, kind)
        return found
