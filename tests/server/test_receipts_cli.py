from __future__ import annotations

import json
import shutil

import pytest
from typer.testing import CliRunner

from protocols.errors import UsageError, WorkError
from protocols.receipts import gateway_chain, ingress_chain
from server.receipts_cli import app, receipts

A, B, C = "a" * 64, "b" * 64, "c" * 64


def run(command, *args, error=None):
    result = CliRunner().invoke(command, [str(a) for a in args])
    if error is None:
        assert result.exit_code == 0, result.exception
        return result.output
    assert isinstance(result.exception, error), result.exception
    return str(result.exception), result.output


def sent(message: str, size: int) -> dict[str, object]:
    return {"kind": "reply", "study": "pilot", "round": 1, "message": message, "message_bytes": size}


def arrived(message: str, size: int, site: int = 3) -> dict[str, object]:
    return {"kind": "arrived", "site": site, "message": message, "message_bytes": size}


def write(chain, *facts) -> None:
    with chain.writing() as writer:
        for fact in facts:
            writer.append(fact)


@pytest.fixture
def site(tmp_path):
    write(gateway_chain(tmp_path / "site"), {"kind": "event", "note": "gateway started"}, sent(A, 10), sent(B, 20))
    return tmp_path / "site"


@pytest.fixture
def home(tmp_path):
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "server.toml").touch()
    write(
        ingress_chain(tmp_path / "home" / "receipts"),
        {"kind": "announced", "site": 3, "message": A},
        arrived(A, 10),
        arrived(B, 20),
        arrived(C, 30, site=4),
        {"kind": "calls", "site": 3, "calls": {"PullMessages": 7}},
        {"kind": "refused", "note": "not_enrolled", "calls": {"other": 1}},
    )
    return tmp_path / "home"


def test_receipts_are_listed_in_words_for_one_site_or_all(home):
    shown = run(receipts, "list", "--home", home)
    assert "site 4: message cccccccccccc arrived whole, 30 bytes" in shown
    assert "an unknown caller: refused: not_enrolled" in shown
    assert "PullMessages" not in shown
    assert "PullMessages 7" in run(receipts, "list", "--home", home, "--calls")
    assert "cccc" not in run(receipts, "list", "--home", home, "--site", 3)
    assert len(json.loads(run(receipts, "list", "--home", home, "--json", "--calls"))) == 6


def test_receipts_that_are_whole_are_counted(home):
    assert "6 receipts are whole: 3 messages, 60 bytes" in run(receipts, "verify", "--home", home)
    assert json.loads(run(receipts, "verify", "--home", home, "--json")) == {"receipts": 6, "messages": 3, "bytes": 60}


def test_they_can_be_read_while_the_ingress_holds_them(home):
    with ingress_chain(home / "receipts").writing() as writer:
        writer.append(arrived("d" * 64, 1))
        assert "7 receipts are whole" in run(receipts, "verify", "--home", home)


def test_a_home_without_receipts_has_nothing_and_another_folder_is_no_home(home, tmp_path):
    shutil.rmtree(home / "receipts")
    assert "nothing has arrived yet" in run(receipts, "list", "--home", home)
    assert "no server home" in run(receipts, "list", "--home", tmp_path, error=UsageError)[0]


def _changed(lines):
    lines[1] = lines[1].replace(b'"message_bytes":10', b'"message_bytes":11')


def _cut_in_the_middle(lines):
    del lines[2]


def _cut_at_the_end(lines):
    del lines[-2:]


def _reordered(lines):
    lines[1], lines[2] = lines[2], lines[1]


def _all_gone(lines):
    lines.clear()


CHANGES = [_changed, _cut_in_the_middle, _cut_at_the_end, _reordered, _all_gone]


@pytest.mark.parametrize("change", CHANGES)
def test_receipts_that_were_changed_cut_or_moved_are_found(home, site, change):
    path = home / "receipts" / "receipts.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    change(lines)
    path.write_bytes(b"".join(lines))
    for args in ((receipts, "verify", "--home", home), (app, "reconcile", site, home / "receipts", "--site", 3)):
        assert "broken at line" in run(*args, error=WorkError)[0]


def test_receipts_that_were_deleted_are_found_by_their_head(home):
    (home / "receipts" / "receipts.jsonl").unlink()
    assert "broken" in run(receipts, "verify", "--home", home, error=WorkError)[0]


def test_a_folder_whose_head_was_deleted_does_not_verify(home):
    (home / "receipts" / "head.json").unlink()
    assert "broken" in run(receipts, "verify", "--home", home, error=WorkError)[0]


def test_both_ends_agree(site, home):
    assert "2 messages agree, 30 bytes" in run(app, "reconcile", site, home / "receipts", "--site", 3)
    facts = json.loads(run(app, "reconcile", site, home / "receipts", "--site", 3, "--json"))
    assert facts["clean"] and facts["agreed"] == 2 and facts["without_head"] == []


def test_copies_without_their_heads_are_compared_and_it_is_said(site, home, tmp_path):
    copies = [
        shutil.copy(f, tmp_path / f"{n}.jsonl")
        for n, f in (("site", site / "receipts.jsonl"), ("server", home / "receipts" / "receipts.jsonl"))
    ]
    shown = run(app, "reconcile", *copies, "--site", 3)
    assert shown.count("has no head.json beside it") == 2
    assert "2 messages agree" in shown
    assert not list(tmp_path.glob("*.lock"))  # nothing is written beside a copy


def test_a_message_that_the_site_has_no_receipt_for_is_an_alarm(site, home):
    write(ingress_chain(home / "receipts"), arrived("d" * 64, 5))
    error, shown = run(app, "reconcile", site, home / "receipts", "--site", 3, error=WorkError)
    assert "1 message of site 3 arrived that the site does not account for" in error
    assert f"{'d' * 64} ARRIVED WITHOUT A RECEIPT" in shown


def test_another_size_at_the_other_end_is_an_alarm(site, home):
    write(gateway_chain(site), sent("d" * 64, 5))
    write(ingress_chain(home / "receipts"), arrived("d" * 64, 6))
    _, shown = run(app, "reconcile", site, home / "receipts", "--site", 3, error=WorkError)
    assert f"{'d' * 64} ARRIVED WITH ANOTHER SIZE" in shown


def test_a_message_that_did_not_arrive_is_listed_and_is_no_alarm(site, home):
    write(gateway_chain(site), sent("d" * 64, 5))
    assert f"{'d' * 64} left the site and did not arrive whole" in run(
        app, "reconcile", site, home / "receipts", "--site", 3
    )


def test_a_folder_without_receipts_is_named(site, tmp_path):
    error, _ = run(app, "reconcile", site, tmp_path, "--site", 3, error=UsageError)
    assert str(tmp_path) in error and "receipts.jsonl" in error
