"""A site's messages, as they pass: announced, object by object, whole.

    PushMessages  "announced" is written, then the call goes on. The answer asks for every object whose size is not
                  known here, besides those that the coordinator lacks: an object that another message brought before
                  counts as well, and taking it twice does no harm (the coordinator keeps the first).
    PushObject    goes on only for an object of an announced message; its size is noted once the coordinator has it.
                  With the last one "arrived" is written, then the site gets its answer.

A call that comes again, because its answer was lost or the ingress was killed, changes nothing that is written down.
"""

from __future__ import annotations

from collections.abc import Callable

from flwr.proto.fleet_pb2 import PushMessagesRequest, PushMessagesResponse
from flwr.proto.message_pb2 import ObjectTree, PushObjectRequest, PushObjectResponse
from google.protobuf.message import DecodeError

from protocols.flower_objects import is_object_id
from server.ingress_proxy.book import ReceiptBook
from server.ingress_proxy.open_messages import OpenMessages
from server.ingress_proxy.refusals import Reason, RefusedError

_MOST_OBJECTS = 100_000
_DEEPEST = 5  # message, records, array record, array, chunk

Forward = Callable[[bytes], bytes]


class Pushes:
    """Passes pushes on and keeps account of them.

    Args:
        book: receipts.
        messages: that are on their way.
    """

    def __init__(self, book: ReceiptBook, messages: OpenMessages) -> None:
        self._book = book
        self._messages = messages
        for site in messages.sites():  # killed between the last object and its receipt
            self._close_whole(site)

    def announce(self, site: int, request: bytes, forward: Forward) -> bytes:
        """Pass a PushMessages on.

        Raises:
            RefusedError: it is not exactly one message with its tree and without content.
            StorageError: the announcement could not be written down; nothing was passed on.
        """
        message, objects = _announcement(site, request)
        if self._book.has_arrived(site, message):
            return self._announce_again(site, message, objects, forward(request))
        self._book.announced(site, message)
        self._messages.begin(site, message, objects)
        answer = PushMessagesResponse.FromString(forward(request))
        missing = self._messages.missing(site, message, answer.objects_to_push)
        self._close_whole(site)
        del answer.objects_to_push[:]
        answer.objects_to_push.extend(missing)
        return bytes(answer.SerializeToString())

    def put(self, site: int, request: bytes, forward: Forward) -> bytes:
        """Pass a PushObject on.

        Raises:
            RefusedError: the object belongs to no message that this site announced.
            StorageError: it could not be written down; the site has to send it again.
        """
        try:
            pushed = PushObjectRequest.FromString(request)
        except DecodeError:
            raise RefusedError(Reason.MALFORMED, site) from None
        name, size = pushed.object_id, len(pushed.object_content)
        del pushed
        if not self._messages.expects(site, name):
            raise RefusedError(Reason.NOT_ANNOUNCED, site)
        answer = forward(request)
        if PushObjectResponse.FromString(answer).stored:
            self._messages.stored(site, name, size)
            self._close_whole(site)
        return answer

    def _announce_again(self, site: int, message: str, objects: frozenset[str], answer: bytes) -> bytes:
        """Let the site send what the coordinator wants once more; it was counted already and is not counted again."""
        if wanted := objects.intersection(PushMessagesResponse.FromString(answer).objects_to_push):
            self._messages.begin(site, message, wanted)
        return answer

    def _close_whole(self, site: int) -> None:
        for whole in self._messages.whole(site):
            self._book.arrived(site, whole.message, whole.num_bytes)
            self._messages.close(site, whole.message)


def _announcement(site: int, request: bytes) -> tuple[str, frozenset[str]]:
    """Id of the message and ids of its objects."""
    try:
        pushed = PushMessagesRequest.FromString(request)
    except DecodeError:
        raise RefusedError(Reason.MALFORMED, site) from None
    if len(pushed.messages_list) != 1 or len(pushed.message_object_trees) != 1:
        raise RefusedError(Reason.MALFORMED, site)
    message, tree = pushed.messages_list[0], pushed.message_object_trees[0]
    if message.metadata.message_id != tree.object_id or message.content.ByteSize():
        raise RefusedError(Reason.MALFORMED, site)  # content beside the objects would not be in the message's size
    return tree.object_id, _objects(site, tree)


def _objects(site: int, tree: ObjectTree) -> frozenset[str]:
    found: set[str] = set()
    level = [tree]
    for _ in range(_DEEPEST):
        found.update(node.object_id for node in level)
        level = [child for node in level for child in node.children]
        if len(found) + len(level) > _MOST_OBJECTS:
            raise RefusedError(Reason.MALFORMED, site)
    if level or not all(map(is_object_id, found)):
        raise RefusedError(Reason.MALFORMED, site)
    return frozenset(found)
