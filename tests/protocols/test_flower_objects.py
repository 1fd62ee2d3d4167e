from __future__ import annotations

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects, get_object_tree, iterate_object_tree
from flwr.supercore.inflatable.inflatable_utils import inflate_object_from_contents

from protocols.flower_objects import is_object_id, object_id, pack, unpack


@pytest.fixture(scope="module")
def message() -> Message:
    """One of Flower's own, with every kind of object, and an array of more than one chunk."""
    arrays = {"small": np.ones(3, np.float32), "large": np.arange(3 * 2**20, dtype=np.float32)}
    records = {
        "arrays": ArrayRecord({name: Array(array) for name, array in arrays.items()}),
        "metrics": MetricRecord({"loss": 0.5}),
        "config": ConfigRecord({"json": "{}"}),
    }
    return Message(RecordDict(records), dst_node_id=1, message_type="train")


def test_flowers_own_objects_are_taken_apart_and_put_together_byte_for_byte(message):
    kinds = set()
    for name, found in get_all_nested_objects(message).items():
        content = found.deflate()
        parts = unpack(content)
        kinds.add(parts.kind)
        assert pack(parts.kind, parts.children, parts.body) == content
        assert parts.kind == type(found).__qualname__
        assert object_id(content) == name == found.object_id
        assert set(parts.children) == set(found.children or {})
    assert kinds == {"Message", "RecordDict", "ArrayRecord", "Array", "ArrayChunk", "MetricRecord", "ConfigRecord"}


def test_flower_reads_what_was_put_together_here(message):
    contents = {}
    for found in get_all_nested_objects(message).values():
        parts = unpack(found.deflate())
        content = pack(parts.kind, parts.children, parts.body)
        contents[object_id(content)] = content
    again = inflate_object_from_contents(message.object_id, contents, keep_object_contents=True)
    for name, array in message.content["arrays"].items():
        assert np.array_equal(again.content["arrays"][name].numpy(), array.numpy())
    assert again.content["metrics"] == message.content["metrics"]


def test_the_id_of_a_message_stands_for_everything_in_it(message):
    tree = get_object_tree(message)
    assert tree.object_id == message.object_id
    assert {node.object_id for node in iterate_object_tree(tree)} == set(get_all_nested_objects(message))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"Message 0 without a divider",
        b"Message  3\x00ab",
        b"Message  2\x00abc",
        b"Message  +2\x00ab",
        b"Message  02\x00ab",
        b"Message 2\x00ab",
        b"Message  2 x\x00ab",
        b"Mess\xc3\xa4ge  2\x00ab",
        b"Message Miller 2\x00ab",
        b"Message " + b"A" * 64 + b" 2\x00ab",
        b"Message " + b"a" * 64 + b"," + b"a" * 64 + b" 2\x00ab",
        b"Message " + b"a" * 64 + b", 2\x00ab",
    ],
)
def test_anything_else_is_refused(content):
    with pytest.raises(ValueError, match="object"):
        unpack(content)


@pytest.mark.parametrize("text", ["", "a" * 63, "a" * 65, "A" * 64, "g" * 64, "a" * 63 + "\n", "\u0660" * 64])
def test_an_id_has_one_form(text):
    assert is_object_id("0123456789abcdef" * 4)
    assert not is_object_id(text)
