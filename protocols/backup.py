"""Backups of a site's or a coordinator's folder: one file, encrypted, consistent while the programs run.

A backup is a tar archive with a manifest of hashes as its last member, cut into sealed pieces (AES-256-GCM under a key
that scrypt makes from a passphrase). Every piece is bound to its place and the last one says that it is the last, so a
piece that is changed, missing or moved is noticed before anything is put in place.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import sqlite3
import struct
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, BinaryIO, cast

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt
from pydantic import ValidationError

from protocols.durable import whole_file, whole_folder
from protocols.errors import UsageError, WorkError
from protocols.hash_chain import Head

_MAGIC, _PLAIN_MAGIC = b"FEDNOTES-BACKUP-1\n", b"FEDNOTES-PLAIN-1\n\n"
_SALT_BYTES, _NONCE_BYTES, _PIECE_BYTES = 16, 12, 2**20
_MANIFEST = "manifest.json"
_SHORTEST_PASSPHRASE = 12
_LEFT_OUT_FOLDERS = {"logs", "flwr", "spool", "nginx"}
_LEFT_OUT_FILES = {"run.json"}


def back_up(folder: Path, file: Path, passphrase: str | None, chains: Sequence[tuple[str, str]] = ()) -> int:
    """Write a backup. Keys are in it: whoever can read it can be this site, or this coordinator.

    Args:
        folder: of a site or a coordinator; its programs may run.
        file: to write; must not exist.
        passphrase: encrypts the backup; none leaves it open.
        chains: hash chains in it, each with its head, as paths in the folder.

    Returns:
        Number of files in it.

    Raises:
        UsageError: the file exists, or the passphrase is short.
        StorageError: the disk is full.
    """
    if file.exists():
        raise UsageError(f"{file} exists already.", hint="choose another name")
    if file.resolve().is_relative_to(folder.resolve()):
        raise UsageError("A backup does not belong into the folder that it backs up.", hint="choose another place")
    hashes: dict[str, str] = {}
    snapshot = _snapshot(folder, chains)
    with (
        whole_file(file) as partial,
        partial.open("wb") as out,
        _sealing(out, passphrase) as sealed,
        tarfile.open(fileobj=sealed, mode="w|", format=tarfile.PAX_FORMAT) as archive,
    ):
        for name, path in _files(folder):
            if name in snapshot:
                hashes[name] = _add(archive, name, io.BytesIO(snapshot[name]))
                continue
            with _consistent(path) as copy:
                hashes[name] = _add(archive, name, copy)
        content = json.dumps(hashes, sort_keys=True).encode()
        archive.addfile(_member(_MANIFEST, len(content)), io.BytesIO(content))
    return len(hashes)


def restore(file: Path, folder: Path, passphrase: str | None) -> int:
    """Put a backup into a folder that does not exist yet, whole or not at all.

    Args:
        file: of :func:`back_up`.
        folder: to make.
        passphrase: of the backup.

    Returns:
        Number of files.

    Raises:
        UsageError: the folder exists, the file cannot be read, or the passphrase is wrong.
        WorkError: the backup is damaged.
    """
    if folder.exists():
        raise UsageError(
            f"{folder} exists already.", hint="restore into a new folder, and compare before you swap them"
        )
    try:
        source = file.open("rb")
    except OSError as error:
        raise UsageError(f"{file} cannot be read: {error.strerror}.", hint="check the path") from error
    with source, whole_folder(folder) as partial:
        opened = cast("IO[bytes]", io.BufferedReader(_Opened(source, passphrase, file)))
        hashes: dict[str, str] = {}
        wanted: dict[str, str] | None = None
        try:
            with tarfile.open(fileobj=opened, mode="r|") as archive:
                for member in archive:
                    content = archive.extractfile(member)
                    if content is None or PurePosixPath(member.name).is_absolute() or ".." in member.name.split("/"):
                        raise _damaged(file)
                    if member.name == _MANIFEST:
                        wanted = json.loads(content.read())
                        continue
                    hashes[member.name] = _write(partial / member.name, content, member.mode)
        except (tarfile.TarError, ValueError, EOFError):
            raise _damaged(file) from None
        if wanted is None or wanted != hashes:
            raise _damaged(file)
    return len(hashes)


def read_passphrase(file: Path | None) -> str | None:
    """Read a passphrase from the first line of a file; a command line is no place for one.

    Raises:
        UsageError: the file cannot be read, or the passphrase is short.
    """
    if file is None:
        return None
    try:
        passphrase = file.read_text(encoding="utf-8").split("\n", 1)[0].strip()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{file} cannot be read.", hint="check the path") from error
    if len(passphrase) < _SHORTEST_PASSPHRASE:
        raise UsageError(f"The passphrase in {file} is shorter than {_SHORTEST_PASSPHRASE} characters.")
    return passphrase


def _files(folder: Path) -> Iterator[tuple[str, Path]]:
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        left_out = name.parts[0] in _LEFT_OUT_FOLDERS or bool(_LEFT_OUT_FOLDERS & set(name.parts[1:2]))
        temporary = (
            path.name.startswith(".") or path.suffix in (".lock", ".sock") or path.name.endswith(("-wal", "-shm"))
        )
        if (
            path.is_file()
            and not path.is_symlink()
            and not left_out
            and not temporary
            and path.name not in _LEFT_OUT_FILES
        ):
            yield str(PurePosixPath(name)), path


def _snapshot(folder: Path, chains: Sequence[tuple[str, str]]) -> dict[str, bytes]:
    """Chains and their heads as of one moment, though their programs go on writing.

    The head is read first: the chain then has all lines that it knows, and perhaps some more, for which it is stated
    anew. A head that does not fit its chain is copied as it is: what was tampered with must not come back as whole.
    """
    found: dict[str, bytes] = {}
    for chain, head in chains:
        if not (folder / head).exists() or not (folder / chain).exists():
            continue
        told = (folder / head).read_bytes()
        content = (folder / chain).read_bytes()
        lines = content[: content.rfind(b"\n") + 1].splitlines()
        try:
            known = Head.model_validate_json(told)
        except ValidationError:
            known = None
        if known is not None and 0 < known.count <= len(lines) and _sha256(lines[known.count - 1]) == known.sha256:
            told = Head(count=len(lines), sha256=_sha256(lines[-1])).model_dump_json().encode()
        found |= {chain: b"".join(line + b"\n" for line in lines), head: told}
    return found


def _sha256(line: bytes) -> str:
    return hashlib.sha256(line).hexdigest()


@contextmanager
def _consistent(path: Path) -> Iterator[BinaryIO]:
    """A file's content; of a database, a copy by its own means."""
    if path.suffix == ".db":
        with tempfile.TemporaryDirectory() as scratch:
            copy = Path(scratch) / "copy.db"
            source, target = sqlite3.connect(f"file:{path}?mode=ro", uri=True), sqlite3.connect(copy)
            with closing(source), closing(target):
                source.backup(target)
            with copy.open("rb") as file:
                yield file
    else:
        with path.open("rb") as file:
            yield file


def _add(archive: tarfile.TarFile, name: str, file: BinaryIO) -> str:
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    digest = hashlib.sha256()

    class Hashing(io.RawIOBase):
        def read(self, count: int = -1) -> bytes:
            block = file.read(count)
            digest.update(block)
            return block

    archive.addfile(_member(name, size), cast("IO[bytes]", Hashing()))
    return digest.hexdigest()


def _member(name: str, size: int) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.size, member.mode = size, 0o600
    return member


def _write(path: Path, content: IO[bytes], mode: int) -> str:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    digest = hashlib.sha256()
    with path.open("wb") as out:
        path.chmod(mode & 0o700)
        while block := content.read(_PIECE_BYTES):
            digest.update(block)
            out.write(block)
    return digest.hexdigest()


def _key(passphrase: str, salt: bytes) -> AESGCM:
    return AESGCM(Scrypt(salt=salt, length=32, n=2**15, r=8, p=1).derive(passphrase.encode()))


class _Sealed(io.RawIOBase):
    """Seals what is written to it, piece by piece."""

    def __init__(self, out: BinaryIO, cipher: AESGCM | None) -> None:
        self._out, self._cipher, self._buffer, self._count = out, cipher, bytearray(), 0

    def writable(self) -> bool:
        return True

    def write(self, data: object) -> int:
        block = bytes(cast("bytes", data))
        if self._cipher is None:
            self._out.write(block)
            return len(block)
        self._buffer += block
        while len(self._buffer) > _PIECE_BYTES:
            self._piece(bytes(self._buffer[:_PIECE_BYTES]), last=False)
            del self._buffer[:_PIECE_BYTES]
        return len(block)

    def finish(self) -> None:
        if self._cipher is not None:
            self._piece(bytes(self._buffer), last=True)

    def _piece(self, block: bytes, *, last: bool) -> None:
        nonce = os.urandom(_NONCE_BYTES)
        sealed = cast("AESGCM", self._cipher).encrypt(nonce, block, struct.pack(">Q?", self._count, last))
        self._out.write(struct.pack(">I", len(sealed)) + nonce + sealed)
        self._count += 1


@contextmanager
def _sealing(out: BinaryIO, passphrase: str | None) -> Iterator[IO[bytes]]:
    cipher = None
    if passphrase is None:
        out.write(_PLAIN_MAGIC)
    else:
        salt = os.urandom(_SALT_BYTES)
        out.write(_MAGIC + salt)
        cipher = _key(passphrase, salt)
    sealed = _Sealed(out, cipher)
    yield cast("IO[bytes]", sealed)
    sealed.finish()


class _Opened(io.RawIOBase):
    """Opens sealed pieces as they are read."""

    def __init__(self, source: BinaryIO, passphrase: str | None, file: Path) -> None:
        self._source, self._file, self._buffer, self._count, self._ended = source, file, b"", 0, False
        magic = source.read(len(_MAGIC))
        if magic not in (_MAGIC, _PLAIN_MAGIC):
            raise UsageError(f"{file} is no backup of fednotes.", hint="check the path")
        if (magic == _MAGIC) != (passphrase is not None):
            said = "encrypted: give its passphrase" if passphrase is None else "not encrypted: give no passphrase"
            raise UsageError(f"{file} is {said}.")
        self._cipher = _key(passphrase, source.read(_SALT_BYTES)) if passphrase is not None else None

    def readable(self) -> bool:
        return True

    def readinto(self, target: object) -> int:
        view = memoryview(cast("bytearray", target))
        if self._cipher is None:
            block = self._source.read(len(view))
        else:
            while not self._buffer and not self._ended:
                self._buffer = self._piece(self._cipher)
            block, self._buffer = self._buffer[: len(view)], self._buffer[len(view) :]
        view[: len(block)] = block
        return len(block)

    def _piece(self, cipher: AESGCM) -> bytes:
        head = self._source.read(4)
        if len(head) < 4:
            raise _damaged(self._file)
        (size,) = struct.unpack(">I", head)
        nonce = self._source.read(_NONCE_BYTES)
        sealed = self._source.read(size) if size <= 2 * _PIECE_BYTES else b""
        for last in (False, True):
            try:
                block = cipher.decrypt(nonce, sealed, struct.pack(">Q?", self._count, last))
            except (InvalidTag, ValueError):
                continue
            self._count += 1
            self._ended = last
            return block
        if self._count == 0:
            raise UsageError(f"The passphrase is not that of {self._file}, or its beginning is damaged.")
        raise _damaged(self._file)


def _damaged(file: Path) -> WorkError:
    return WorkError(f"The backup {file} is damaged; nothing was restored.", hint="take an older one")
