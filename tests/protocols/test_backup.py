from __future__ import annotations

import os
import sqlite3
import threading
from pathlib import Path

import pytest

from protocols.backup import back_up, read_passphrase, restore
from protocols.errors import UsageError, WorkError
from protocols.receipts import gateway_chain

PASSPHRASE = "correct horse battery"
CHAINS = [("receipts/receipts.jsonl", "receipts/head.json")]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a bit of everything."""
    made = tmp_path / "site"
    for name, content in {
        "site.toml": b'name = "City Hospital"\n',
        "keys/tls.key": b"a secret key",
        "store/notes.parquet": os.urandom(3_000_000),
        "logs/gateway.log": b"left out",
        "run.json": b"left out",
        "receipts/receipts.lock": b"",
    }.items():
        (made / name).parent.mkdir(parents=True, exist_ok=True)
        (made / name).write_bytes(content)
    (made / "state").mkdir()
    with sqlite3.connect(made / "state" / "superlink.db") as database:
        database.execute("CREATE TABLE t (x)")
        database.execute("INSERT INTO t VALUES (7)")
    database.close()
    with gateway_chain(made / "receipts").writing() as writer:
        for _ in range(3):
            writer.append({"kind": "event", "note": "node activated"})
    return made


def _all(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize("passphrase", [PASSPHRASE, None], ids=["encrypted", "plain"])
def test_what_is_restored_is_what_was_there(folder: Path, tmp_path: Path, passphrase: str | None) -> None:
    count = back_up(folder, tmp_path / "b", passphrase, CHAINS)
    assert restore(tmp_path / "b", tmp_path / "back", passphrase) == count
    before, after = _all(folder), _all(tmp_path / "back")
    left_out = {"logs/gateway.log", "run.json", "receipts/receipts.lock"}
    assert after.keys() == before.keys() - left_out
    assert all(after[name] == before[name] for name in after.keys() - {"state/superlink.db"})
    with sqlite3.connect(tmp_path / "back" / "state" / "superlink.db") as database:
        assert database.execute("SELECT x FROM t").fetchone() == (7,)
    database.close()
    assert len(gateway_chain(tmp_path / "back" / "receipts").read()) == 3
    assert all(p.stat().st_mode & 0o077 == 0 for p in (tmp_path / "back").rglob("*"))


def test_without_the_passphrase_nothing_of_it_can_be_read(folder: Path, tmp_path: Path) -> None:
    back_up(folder, tmp_path / "b", PASSPHRASE)
    content = (tmp_path / "b").read_bytes()
    assert (tmp_path / "b").stat().st_mode & 0o077 == 0
    assert not any(word in content for word in (b"secret", b"City Hospital", b"site.toml", b"tls.key"))
    for wrong in ("another passphrase", None):
        with pytest.raises(UsageError):
            restore(tmp_path / "b", tmp_path / "back", wrong)
    assert not (tmp_path / "back").exists()


@pytest.mark.parametrize("passphrase", [PASSPHRASE, None], ids=["encrypted", "plain"])
@pytest.mark.parametrize("damage", ["cut", "cut at a piece", "changed", "empty"])
def test_a_damaged_backup_restores_nothing(folder: Path, tmp_path: Path, passphrase: str | None, damage: str) -> None:
    back_up(folder, tmp_path / "b", passphrase)
    content = bytearray((tmp_path / "b").read_bytes())
    if damage == "changed":
        content[len(content) // 2] ^= 1
    lengths = {"cut": len(content) - 1_000_000, "cut at a piece": 18 + 16 + 4 + 12 + 2**20 + 16, "empty": 18}
    (tmp_path / "b").write_bytes(content[: lengths.get(damage, len(content))])
    with pytest.raises((WorkError, UsageError)):
        restore(tmp_path / "b", tmp_path / "back", passphrase)
    assert not (tmp_path / "back").exists()


def test_a_chain_that_grows_meanwhile_comes_back_whole(folder: Path, tmp_path: Path) -> None:
    stop = threading.Event()

    def write() -> None:
        with gateway_chain(folder / "receipts").writing() as writer:
            while not stop.is_set():
                writer.append({"kind": "event", "note": "node activated"})

    thread = threading.Thread(target=write)
    thread.start()
    try:
        for number in range(5):
            back_up(folder, tmp_path / f"b{number}", None, CHAINS)
    finally:
        stop.set()
        thread.join()
    for number in range(5):
        restore(tmp_path / f"b{number}", tmp_path / f"back{number}", None)
        assert len(gateway_chain(tmp_path / f"back{number}" / "receipts").read()) >= 3


def test_a_chain_that_was_tampered_with_does_not_come_back_as_whole(folder: Path, tmp_path: Path) -> None:
    path = folder / "receipts" / "receipts.jsonl"
    path.write_bytes(b"\n".join(path.read_bytes().splitlines()[:2]) + b"\n")
    back_up(folder, tmp_path / "b", None, CHAINS)
    restore(tmp_path / "b", tmp_path / "back", None)
    with pytest.raises(WorkError, match="broken"):
        gateway_chain(tmp_path / "back" / "receipts").read()


def test_nothing_is_overwritten(folder: Path, tmp_path: Path) -> None:
    back_up(folder, tmp_path / "b", None)
    with pytest.raises(UsageError, match="exists already"):
        back_up(folder, tmp_path / "b", None)
    with pytest.raises(UsageError, match="exists already"):
        restore(tmp_path / "b", folder, None)
    with pytest.raises(UsageError, match="does not belong into"):
        back_up(folder, folder / "b", None)


def test_a_short_passphrase_is_refused(tmp_path: Path) -> None:
    (tmp_path / "p").write_text("short\n")
    with pytest.raises(UsageError, match="shorter than 12"):
        read_passphrase(tmp_path / "p")
    (tmp_path / "p").write_text(PASSPHRASE + "\nignored\n")
    assert read_passphrase(tmp_path / "p") == PASSPHRASE
