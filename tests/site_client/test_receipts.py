from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from pydantic import ValidationError

from protocols.errors import WorkError
from site_client.receipts import Receipt, ReceiptBook


@pytest.fixture
def book(tmp_path):
    made = ReceiptBook(tmp_path)
    for number in range(1, 6):
        made.append(kind="TrainReply", study="s", round_number=number, fields={"train_loss": 2.5}, array_bytes=40)
    return made


def lines(folder: Path) -> list[bytes]:
    return (folder / "receipts.jsonl").read_bytes().splitlines()


def rewrite(folder: Path, content: list[bytes]) -> None:
    (folder / "receipts.jsonl").write_bytes(b"".join(line + b"\n" for line in content))


def broken_at(folder: Path) -> str:
    with pytest.raises(WorkError) as caught:
        ReceiptBook(folder).read()
    return caught.value.message.split("broken at ")[1].split(":")[0]


def test_receipts_come_back_in_order_each_with_the_hash_of_the_line_before(book, tmp_path):
    receipts = book.read()
    assert [r.number for r in receipts] == [1, 2, 3, 4, 5]
    assert [r.round for r in receipts] == [1, 2, 3, 4, 5]
    assert receipts[0].previous == "0" * 64
    for receipt, line in zip(receipts[1:], lines(tmp_path), strict=False):
        assert receipt.previous == hashlib.sha256(line).hexdigest()
    assert receipts[2].fields == {"train_loss": 2.5}
    assert receipts[2].array_bytes == 40


def test_site_without_receipts_has_none(tmp_path):
    assert ReceiptBook(tmp_path / "none").read() == []


def test_changed_line_is_found(book, tmp_path):
    changed = lines(tmp_path)
    changed[1] = changed[1].replace(b'"array_bytes":40', b'"array_bytes":41')
    rewrite(tmp_path, changed)
    assert broken_at(tmp_path) == "line 2 or 3"


def test_line_that_is_no_receipt_is_found(book, tmp_path):
    changed = lines(tmp_path)
    changed[3] = b"x"
    rewrite(tmp_path, changed)
    assert broken_at(tmp_path) == "line 4"


def test_line_with_a_field_more_is_found(book, tmp_path):
    changed = lines(tmp_path)
    changed[4] = changed[4][:-1] + b',"note":"x"}'
    rewrite(tmp_path, changed)
    assert broken_at(tmp_path) == "line 5"


def test_line_cut_out_is_found(book, tmp_path):
    rewrite(tmp_path, lines(tmp_path)[:1] + lines(tmp_path)[2:])
    assert broken_at(tmp_path) == "line 2"


def test_first_line_cut_out_is_found(book, tmp_path):
    rewrite(tmp_path, lines(tmp_path)[1:])
    assert broken_at(tmp_path) == "line 1"


def test_line_cut_out_and_numbers_mended_is_found(book, tmp_path):
    kept = [json.loads(line) for line in lines(tmp_path)]
    del kept[2]
    for number, receipt in enumerate(kept, start=1):
        receipt["number"] = number
    rewrite(tmp_path, [json.dumps(r, separators=(",", ":")).encode() for r in kept])
    assert broken_at(tmp_path) == "line 2 or 3"


def test_swapped_lines_are_found(book, tmp_path):
    swapped = lines(tmp_path)
    swapped[1], swapped[2] = swapped[2], swapped[1]
    rewrite(tmp_path, swapped)
    assert broken_at(tmp_path) == "line 2"


def test_nothing_is_appended_to_a_broken_chain(book, tmp_path):
    rewrite(tmp_path, lines(tmp_path)[1:])
    before = (tmp_path / "receipts.jsonl").read_bytes()
    with pytest.raises(WorkError, match="broken at line 1") as caught:
        book.append(kind="HelloReply")
    assert "keep the file as evidence" in str(caught.value.hint)
    assert (tmp_path / "receipts.jsonl").read_bytes() == before


def test_chain_goes_on_in_another_process(book, tmp_path):
    code = "import sys, pathlib; from site_client.receipts import ReceiptBook as B; B(pathlib.Path(sys.argv[1]))"
    subprocess.run([sys.executable, "-c", code + ".append(kind='HelloReply')", str(tmp_path)], check=True)
    book.append(kind="HelloReply")
    assert [r.number for r in book.read()] == [1, 2, 3, 4, 5, 6, 7]


def test_two_threads_make_one_whole_chain(tmp_path, monkeypatch):
    read = ReceiptBook.read

    def read_slowly(book: ReceiptBook) -> list[Receipt]:
        receipts = read(book)
        time.sleep(0.003)  # room for the other thread between reading and writing
        return receipts

    monkeypatch.setattr(ReceiptBook, "read", read_slowly)

    def work(name: str) -> None:
        for number in range(1, 16):
            ReceiptBook(tmp_path).append(kind="TrainReply", study=name, round_number=number)

    threads = [threading.Thread(target=work, args=(name,)) for name in ("a", "b")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    receipts = ReceiptBook(tmp_path).read()
    assert [r.number for r in receipts] == list(range(1, 31))
    for name in ("a", "b"):
        assert [r.round for r in receipts if r.study == name] == list(range(1, 16))


def test_unlisted_fact_is_not_written(tmp_path):
    with pytest.raises(ValidationError):
        ReceiptBook(tmp_path).append(kind="TrainReply", note="x")
    assert ReceiptBook(tmp_path).read() == []


def test_receipts_cut_off_at_the_end_are_noticed(tmp_path):
    book = ReceiptBook(tmp_path)
    for number in range(1, 5):
        book.append(kind="TrainReply", study="s", round_number=number)
    file = tmp_path / "receipts.jsonl"
    file.write_bytes(b"".join(file.read_bytes().splitlines(keepends=True)[:2]))
    with pytest.raises(WorkError, match="line 3"):
        book.read()
    file.unlink()
    with pytest.raises(WorkError, match="line 1"):
        book.append(kind="TrainReply")


def test_a_line_that_a_kill_cut_is_left_out_and_the_chain_goes_on(tmp_path):
    book = ReceiptBook(tmp_path)
    book.append(kind="TrainReply", study="s", round_number=1)
    with (tmp_path / "receipts.jsonl").open("ab") as file:
        file.write(b'{"number":2,"time":"2026')
    assert len(book.read()) == 1
    book.append(kind="TrainReply", study="s", round_number=2)
    assert [r.round for r in book.read()] == [1, 2]


def test_a_kill_between_line_and_head_loses_nothing(tmp_path):
    book = ReceiptBook(tmp_path)
    book.append(kind="TrainReply", study="s", round_number=1)
    head = (tmp_path / "head.json").read_bytes()
    book.append(kind="TrainReply", study="s", round_number=2)
    (tmp_path / "head.json").write_bytes(head)
    assert [r.round for r in book.read()] == [1, 2]
