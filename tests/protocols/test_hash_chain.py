from __future__ import annotations

import hashlib
import json
import threading

import pytest
from pydantic import TypeAdapter, ValidationError

from protocols import hash_chain
from protocols.errors import StorageError, WorkError
from protocols.hash_chain import HashChain, Link


class Step(Link):
    what: str


def chain_in(folder, **settings) -> HashChain[Step]:
    return HashChain(folder / "a" / "steps.jsonl", folder / "b" / "head.json", TypeAdapter(Step), **settings)


def add(chain: HashChain[Step], *whats: str) -> None:
    for what in whats:
        with chain.locked():
            chain.extend({"what": what})


def test_links_come_back_in_order_each_with_the_hash_of_the_line_before(tmp_path):
    chain = chain_in(tmp_path)
    assert chain.read() == []
    assert not (tmp_path / "a").exists()  # reading makes nothing
    add(chain, "one", "two")
    lines = chain.path.read_bytes().splitlines()
    assert [(x.number, x.what) for x in chain.read()] == [(1, "one"), (2, "two")]
    assert json.loads(lines[1])["previous"] == hashlib.sha256(lines[0]).hexdigest()
    assert chain.end().model_dump() == {"count": 2, "sha256": hashlib.sha256(lines[1]).hexdigest()}
    assert json.loads(chain.head_path.read_text()) == chain.end().model_dump()


def test_a_time_that_is_given_is_written(tmp_path):
    chain = chain_in(tmp_path)
    with chain.locked():
        assert chain.extend({"what": "x"}, time="2030-01-01T00:00:00+00:00").time.startswith("2030")


def test_a_field_that_is_not_listed_is_not_written(tmp_path):
    chain = chain_in(tmp_path)
    with pytest.raises(ValidationError), chain.locked():
        chain.extend({"what": "x", "note": "y"})
    assert chain.read() == []


def test_head_one_behind_is_fine_and_mended_two_behind_is_not(tmp_path):
    chain = chain_in(tmp_path)
    add(chain, "one")
    head = chain.head_path.read_bytes()
    add(chain, "two")
    chain.head_path.write_bytes(head)
    assert len(chain.read()) == 2
    add(chain, "three")
    assert len(chain.read()) == 3
    chain.head_path.write_bytes(head)
    with pytest.raises(WorkError, match="broken at line 2"):
        chain.read()


def test_head_ahead_or_for_another_line_is_broken(tmp_path):
    chain = chain_in(tmp_path)
    add(chain, "one", "two")
    whole = chain.path.read_bytes()
    chain.path.write_bytes(whole.splitlines(keepends=True)[0])
    with pytest.raises(WorkError, match="broken at line 2"):
        chain.read()
    chain.path.write_bytes(whole)
    chain.head_path.write_text(json.dumps({"count": 2, "sha256": "0" * 64}))
    with pytest.raises(WorkError, match="broken at line 3"):
        chain.read()


def test_a_head_that_cannot_be_written_twice_does_not_break_the_chain(tmp_path, monkeypatch):
    chain = chain_in(tmp_path)
    add(chain, "one")
    real = hash_chain.write_text
    failing = iter([False, True, True])

    def write(path, text):
        if next(failing, False):
            raise StorageError("full")
        real(path, text)

    monkeypatch.setattr(hash_chain, "write_text", write)
    for what in ("two", "never"):
        with pytest.raises(StorageError):
            add(chain, what)
    add(chain, "three")
    assert [x.what for x in chain.read()] == ["one", "two", "three"]


def test_a_cut_line_is_left_out_and_the_chain_goes_on(tmp_path):
    chain = chain_in(tmp_path)
    add(chain, "one")
    with chain.path.open("ab") as file:
        file.write(b'{"number":2,"wha')
    assert len(chain.read()) == 1
    add(chain, "two")
    assert [x.what for x in chain.read()] == ["one", "two"]


def test_threads_make_one_whole_chain(tmp_path):
    def work(name: str) -> None:
        add(chain_in(tmp_path), *[name] * 10)

    threads = [threading.Thread(target=work, args=(name,)) for name in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(x.what for x in chain_in(tmp_path).read()) == ["a"] * 10 + ["b"] * 10


def test_a_lock_that_is_held_is_told_and_given_back(tmp_path):
    with chain_in(tmp_path).locked(), pytest.raises(WorkError, match="Another run works on the steps"):
        add(chain_in(tmp_path, name="steps", lock_timeout_s=0.1), "x")
    add(chain_in(tmp_path), "x")
