from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest

from protocols.errors import WorkError
from protocols.receipts import ingress_chain
from server.ingress_proxy.open_messages import OpenMessages

from .stand import Letter, beat, fleet_api, free_port, ingress

ROOT = Path(__file__).parents[3]


def told(home) -> list[tuple[str, int | None, str, int]]:
    """What is written down about messages."""
    links = ingress_chain(home.receipts).links()
    return [(r.kind, r.site, r.message, r.message_bytes) for r in links if r.kind in ("announced", "arrived")]


def test_a_message_is_announced_and_arrives_with_the_size_of_all_its_objects(home, fleet, address):
    letter = Letter([b"a" * 1000, b"b" * 2000])
    with home.hospital().calling(home, address) as stub:
        for name in sorted(letter.announce(stub)):
            assert told(home) == [("announced", 3, letter.id, 0)]
            assert letter.put(stub, name)
    assert told(home) == [("announced", 3, letter.id, 0), ("arrived", 3, letter.id, letter.num_bytes)]
    assert fleet.objects.keys() == letter.objects.keys()
    assert list((home.receipts / "open").iterdir()) == []


def test_an_object_that_another_site_brought_counts_for_this_message_too(home, fleet, address):
    one, two = Letter([b"same" * 500, b"one"]), Letter([b"same" * 500, b"two"])
    with home.hospital(3).calling(home, address) as stub:
        one.send(stub)
    with home.hospital(4).calling(home, address) as stub:
        assert two.announce(stub) == set(two.objects)  # the coordinator would have asked for two of the three
        two.send(stub)
    assert told(home)[-1] == ("arrived", 4, two.id, two.num_bytes)


def test_a_message_that_comes_again_is_no_second_arrival(home, fleet, address):
    letter = Letter([b"x" * 100])
    with home.hospital().calling(home, address) as stub:
        letter.send(stub)
        assert letter.announce(stub) == set()
        fleet.objects.clear()  # the coordinator's application took it
        letter.send(stub)
        assert not letter.announce(stub)
    assert fleet.objects.keys() == letter.objects.keys()
    assert [kind for kind, *_ in told(home)] == ["announced", "arrived"]
    assert list((home.receipts / "open").iterdir()) == []


def test_what_the_coordinator_lost_meanwhile_is_asked_for_again(home, fleet, address):
    letter = Letter([b"x" * 100, b"y" * 100])
    with home.hospital().calling(home, address) as stub:
        first, *rest = sorted(letter.announce(stub))
        letter.put(stub, first)
        assert letter.announce(stub) == set(rest)
        fleet.objects.clear()
        assert letter.announce(stub) == {first, *rest}
        letter.send(stub)
    assert told(home)[-1] == ("arrived", 3, letter.id, letter.num_bytes)


def test_an_object_that_was_not_announced_by_this_site_does_not_go_on(home, fleet, address):
    letter = Letter([b"x" * 100])
    with home.hospital(3).calling(home, address) as stub:
        letter.announce(stub)
    with home.hospital(4).calling(home, address) as stub, pytest.raises(grpc.RpcError) as caught:
        letter.put(stub, letter.id)
    assert caught.value.code() == grpc.StatusCode.FAILED_PRECONDITION
    assert fleet.calls["PushObject"] == 0


def test_an_object_that_the_coordinator_did_not_take_does_not_count(home, fleet, address):
    letter = Letter([b"x" * 100])
    with home.hospital().calling(home, address) as stub:
        letter.announce(stub)
        fleet.registered.clear()
        assert not any([letter.put(stub, name) for name in letter.objects])
    assert [kind for kind, *_ in told(home)] == ["announced"]


def _two_trees(request):
    request.message_object_trees.add().CopyFrom(request.message_object_trees[0])


def _other_id(request):
    request.messages_list[0].metadata.message_id = "0" * 64


def _words_for_an_id(request):
    request.message_object_trees[0].children[0].object_id = "patient Miller was admitted"


def _content_beside_the_objects(request):
    request.messages_list[0].content.items.add(key="notes")


def _too_deep(request):
    node = request.message_object_trees[0]
    for i in range(6):
        node = node.children.add(object_id=f"{i:064x}")


@pytest.mark.parametrize("change", [_two_trees, _other_id, _words_for_an_id, _content_beside_the_objects, _too_deep])
def test_an_announcement_that_is_not_exactly_one_message_with_its_tree_is_refused(home, fleet, address, change):
    letter = Letter([b"x" * 100])
    request = letter.header()
    change(request)
    with home.hospital().calling(home, address) as stub, pytest.raises(grpc.RpcError) as caught:
        stub.PushMessages(request)
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert not fleet.calls
    assert told(home) == []
    assert "Miller" not in (home.receipts / "receipts.jsonl").read_text()


def test_without_room_for_a_receipt_nothing_is_passed_on_and_it_goes_on_later(home, fleet, address, monkeypatch):
    letter = Letter([b"x" * 100])
    with home.hospital().calling(home, address) as stub:
        assert beat(stub)
        real = os.fsync

        def full(handle):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(grpc.RpcError) as caught:
            letter.announce(stub)
        assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
        assert fleet.calls["PushMessages"] == 0
        monkeypatch.setattr(os, "fsync", real)
        letter.send(stub)
    assert [kind for kind, *_ in told(home)] == ["announced", "arrived"]


def test_a_second_ingress_on_the_same_receipts_does_not_start(home, fleet, monkeypatch):
    from protocols import hash_chain

    with ingress(home.path, f"127.0.0.1:{free_port()}", "127.0.0.1:1"):
        monkeypatch.setattr(hash_chain.HashChain.__init__, "__kwdefaults__", {"name": "x", "lock_timeout_s": 0.1})
        with pytest.raises(WorkError, match="held the lock"), ingress(home.path, "127.0.0.1:0", "127.0.0.1:1"):
            pass


@pytest.mark.parametrize("cut", ["last line", "all but the end", "everything"])
def test_a_file_of_an_open_message_may_be_cut_anywhere(tmp_path, cut):
    letter = Letter([b"x" * 100, b"y" * 100])
    messages = OpenMessages(tmp_path)
    messages.begin(3, letter.id, frozenset(letter.objects))
    names = sorted(letter.objects)
    for name in names:
        messages.stored(3, name, len(letter.objects[name]))
    [path] = tmp_path.iterdir()
    content = path.read_bytes()
    path.write_bytes({"last line": content[:-3], "all but the end": content[:-80], "everything": b""}[cut])
    again = OpenMessages(tmp_path)
    if cut == "everything":
        assert again.sites() == set()
        return
    missing = again.missing(3, letter.id, [])
    assert missing == (names[-1:] if cut == "last line" else names[-2:])
    for name in missing:
        again.stored(3, name, len(letter.objects[name]))
    assert [m.num_bytes for m in again.whole(3)] == [letter.num_bytes]


def test_messages_that_never_arrive_are_forgotten_in_the_end(tmp_path):
    messages = OpenMessages(tmp_path)
    for i in range(20):
        messages.begin(3, f"{i:064x}", frozenset({f"{i:064x}"}))
    messages.begin(4, "f" * 64, frozenset({"f" * 64}))
    assert len(list(tmp_path.iterdir())) == 17
    assert not messages.expects(3, f"{3:064x}") and messages.expects(3, f"{4:064x}")


@contextmanager
def process(home, listen, fleet):
    """An ingress that can be killed."""
    child = subprocess.Popen(
        [sys.executable, "-m", "tests.server.ingress_proxy.stand", str(home.path), listen, fleet],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"},
    )
    try:
        yield child
    finally:
        child.send_signal(signal.SIGKILL)
        child.wait()


def until_served(stub) -> None:
    end = time.monotonic() + 20
    while True:
        try:
            beat(stub)
            return
        except grpc.RpcError:
            assert time.monotonic() < end
            time.sleep(0.05)


@pytest.mark.slow
@pytest.mark.parametrize("after", [0, 2, 3])
def test_an_ingress_killed_in_the_middle_of_a_message_goes_on_with_it(home, fleet, after):
    letter, hospital = Letter([b"x" * 1000, b"y" * 1000]), home.hospital()
    listen = f"127.0.0.1:{free_port()}"
    with fleet_api(home, fleet) as upstream:
        with process(home, listen, upstream), hospital.calling(home, listen) as stub:
            until_served(stub)
            names = sorted(letter.announce(stub))
            for name in names[:after]:
                assert letter.put(stub, name)
        pushed = fleet.calls["PushObject"]
        with process(home, listen, upstream), hospital.calling(home, listen) as stub:
            until_served(stub)
            letter.send(stub)
    assert fleet.calls["PushObject"] - pushed == 3 - after  # what was sent before is not sent again
    assert told(home) == [("announced", 3, letter.id, 0), ("arrived", 3, letter.id, letter.num_bytes)]


def test_an_ingress_killed_between_the_last_object_and_its_receipt_writes_it_at_its_next_start(home, fleet):
    letter = Letter([b"x" * 1000])
    messages = OpenMessages(home.receipts / "open")
    messages.begin(3, letter.id, frozenset(letter.objects))
    for name, content in letter.objects.items():
        messages.stored(3, name, len(content))
    with ingress(home.path, f"127.0.0.1:{free_port()}", "127.0.0.1:1"):
        assert told(home) == [("arrived", 3, letter.id, letter.num_bytes)]


@pytest.mark.slow
def test_large_calls_at_once_are_held_in_bounded_memory(home, fleet):
    """Sixteen threads with a chunk of 5 MB each, and what gRPC copies."""
    from concurrent.futures import ThreadPoolExecutor

    letter = Letter([os.urandom(5 * 2**20) for _ in range(24)])
    listen, hospital = f"127.0.0.1:{free_port()}", home.hospital()
    with fleet_api(home, fleet) as upstream, process(home, listen, upstream) as child:
        with hospital.calling(home, listen) as stub:
            until_served(stub)
            before = _peak_mb(child.pid)
            with ThreadPoolExecutor(8) as pool:
                assert all(pool.map(lambda name: letter.put(stub, name), sorted(letter.announce(stub))))
            grown = _peak_mb(child.pid) - before
    assert told(home)[-1][-1] == letter.num_bytes
    print(f"peak memory grew by {grown} MB for {letter.num_bytes / 2**20:.0f} MB")
    assert grown < 16 * 5 * 4


def _peak_mb(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1]) // 1024
