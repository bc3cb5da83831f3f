"""What a file is, told from its first bytes and never from its name; and what it is not, said so that it helps.

Facts: the magic numbers of each format's own specification; measured on files of each kind (docs/formats.md).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

from sdviewer.core.text import visible
from sdviewer.errors import CorruptCheckpoint, OpenError, UnknownFormat, UnsupportedContainer
from sdviewer.formats.pread import read_exactly
from sdviewer.formats.zip_directory import ZipDirectory, read_directory, salvage_directory

HEAD = 4096
"""Bytes that are looked at before a format is chosen."""

LEGACY_MAGIC = bytes.fromhex("8a0a6cfc9c46f920 6aa85019".replace(" ", ""))
"""LONG1 opcode with torch's number 0x1950a86a20f9469cfc6c."""

SAFETENSORS_HEADER_LIMIT = 100_000_000


@dataclass
class Head:
    """The first bytes of a file, its size, and the zip directory once somebody asked for it."""

    path: str
    start: bytes
    size: int
    _fd: int = field(repr=False)

    def read(self, start: int, length: int) -> bytes:
        """Exactly `length` bytes from `start`."""
        return read_exactly(self._fd, self.path, self.size, start, length)

    @property
    def is_zip(self) -> bool:
        return self.start.startswith((b"PK\3\4", b"PK\5\6"))

    @property
    def is_safetensors(self) -> bool:
        """A header length that fits, and an object (after blanks, which the library accepts) behind it."""
        n = int.from_bytes(self.start[:8], "little")
        return self.size >= 10 and self.start[8:].lstrip(b" \t\r\n")[:1] == b"{" and n < 1 << 40

    @property
    def is_pickle(self) -> bool:
        return len(self.start) > 2 and self.start[0] == 0x80 and self.start[1] <= 5

    @property
    def is_legacy(self) -> bool:
        """torch's legacy magic number within the first pickle (a FRAME may stand before it)."""
        return self.start[:1] == b"\x80" and LEGACY_MAGIC in self.start[:32]

    @cached_property
    def directory(self) -> ZipDirectory:
        """The members of a zip archive, also of one that breaks off.

        Raises:
            CorruptCheckpoint: the archive is damaged.
        """
        try:
            return read_directory(self)
        except CorruptCheckpoint as error:
            if error.code == "truncated":
                return salvage_directory(self)
            if error.code != CorruptCheckpoint.default_code:
                raise  # the disk, or somebody who writes to the file
            try:
                return salvage_directory(self, error.message)
            except CorruptCheckpoint:
                raise error from None

    @cached_property
    def members(self) -> frozenset[str]:
        """Names of a zip archive's members without their first folder; empty for anything else."""
        if not self.is_zip:
            return frozenset()
        names = [entry.name.replace("\\", "/") for entry in self.directory.entries]
        return frozenset([name.partition("/")[2] or name for name in names])

    def has(self, name: str) -> bool:
        """Whether a zip archive has this member below its first folder, without a look at all the others."""
        if not self.is_zip:
            return False
        directory = self.directory
        return f"{directory.top}/{name}" in directory.places


def read_head(fd: int, path: str, size: int) -> Head:
    """Read the first 4 KiB."""
    return Head(path, read_exactly(fd, path, size, 0, min(size, HEAD)), size, fd)


Test = Callable[[Head], bool]


def _starts(*magics: bytes) -> Test:
    return lambda head: head.start.startswith(magics)


def _at(offset: int, magic: bytes) -> Test:
    return lambda head: head.start[offset : offset + len(magic)] == magic


def _has(*names: str) -> Test:
    return lambda head: any(name in head.members for name in names)


def _torch_package(head: Head) -> bool:
    return ".data/extern_modules" in head.members or any(name.endswith(".storage") for name in head.members)


def _pt2(head: Head) -> bool:
    members = head.members
    if "archive_format" in members or "serialized_exported_program.json" in members:
        return True
    return any(name.startswith("models/") and name.endswith(".json") for name in members)


def _npz(head: Head) -> bool:
    return bool(head.members) and all(name.endswith(".npy") for name in head.members)


def _zipped_download(head: Head) -> bool:
    inner = (".pt", ".pth", ".bin", ".ckpt", ".safetensors")
    return any(entry.name.endswith(inner) for entry in head.directory.entries) if head.is_zip else False


def _hdf5(head: Head) -> bool:
    return any(head.start[at : at + 8] == b"\x89HDF\r\n\x1a\n" for at in (0, 512, 1024, 2048))


def _onnx(head: Head) -> bool:
    """An ONNX model has no magic number: ir_version (field 1, a varint), then a string or the graph."""
    start = head.start
    return (
        len(start) > 16
        and start[0] == 0x08
        and 0 < start[1] < 0x20
        and start[2] in (0x12, 0x1A, 0x22, 0x28, 0x32, 0x3A)
    )


def _text(head: Head) -> str | None:
    try:
        text = head.start.decode("utf-8")
    except UnicodeDecodeError as error:
        if error.start < len(head.start) - 4 or len(head.start) < HEAD:
            return None
        text = head.start[: error.start].decode("utf-8")
    printable = sum(ch.isprintable() or ch in "\n\r\t\f" for ch in text)
    return text if text and printable == len(text) else None


def _json(head: Head) -> bool:
    text = _text(head)
    return text is not None and text.lstrip("\ufeff \t\r\n")[:1] in ("{", "[")


def _index_json(head: Head) -> bool:
    return _json(head) and (b'"weight_map"' in head.start or b'"total_size"' in head.start)


def _markup(head: Head) -> bool:
    return (
        head.start.lstrip(b"\xef\xbb\xbf \t\r\n")[:9].lower().startswith((b"<!doctype", b"<html", b"<?xml", b"<head"))
    )


def _text_pickle(head: Head) -> bool:
    """Protocol 0 or 1: printable opcodes; told from prose by an opcode that fits its place."""
    return re.match(rb"\(?[cil]?[\w.]+\n[\w.]+\n|\((?:dp?\d*|lp?\d*|[IVSF])", head.start) is not None


# What sdviewer will read one day: kind, and how it is recognised. Zip members are asked for after the other magics.
UNSUPPORTED: tuple[tuple[str, Test], ...] = (
    ("a GGUF file", _starts(b"GGUF", b"FUGG")),
    ("a GGML file", _starts(b"lmgg", b"tjgg", b"fmgg", b"algg")),
    ("a NumPy array (npy)", _starts(b"\x93NUMPY")),
    ("an HDF5 file (Keras)", _hdf5),
    ("a tar checkpoint of torch before 0.1.10", _at(257, b"ustar")),
    ("a checkpoint of PyTorch's 2018 preview (PYTORCH1)", _starts(b"PYTORCH1")),
    ("a TorchScript mobile file", _at(4, b"PTMF")),
    ("an ExecuTorch program", _at(4, b"ET1")),
    ("a TensorFlow Lite model", _at(4, b"TFL3")),
    ("an index of a sharded checkpoint", _index_json),
    ("a torch.export program (pt2)", _pt2),
    ("a TorchScript archive", _has("constants.pkl")),
    ("a TorchScript archive of torch 1.0 to 1.3", _has("model.json")),
    ("a torch.package archive", _torch_package),
    ("a NumPy archive (npz)", _npz),
    ("a Keras archive", _has("model.weights.h5")),
    ("a bare pickle", lambda head: head.is_pickle),
    ("a text pickle", _text_pickle),
    ("an ONNX model", _onnx),
)

# What is no checkpoint: what it is, what to do, and how it is recognised.
FOREIGN: tuple[tuple[str, str, Test], ...] = (
    (
        "a git-lfs pointer, not the file itself",
        "Run `git lfs pull` in its repository.",
        _starts(b"version https://git-lfs"),
    ),
    ("a web page: the download went wrong", "Download it again; the site may ask you to sign in.", _markup),
    ("a gzip archive", "Unpack it first.", _starts(b"\x1f\x8b")),
    ("a zstd archive", "Unpack it first.", _starts(b"\x28\xb5\x2f\xfd")),
    ("a bzip2 archive", "Unpack it first.", _starts(b"BZh")),
    ("an xz archive", "Unpack it first.", _starts(b"\xfd7zXZ")),
    ("a 7z archive", "Unpack it first.", _starts(b"7z\xbc\xaf\x27\x1c")),
    ("a RAR archive", "Unpack it first.", _starts(b"Rar!")),
    ("a zip archive with checkpoints in it", "Unpack it first and open one of them.", _zipped_download),
    ("a zip archive without a checkpoint in it", "", lambda head: head.is_zip),
    ("a JSON text", "Open the weights that belong to it.", _json),
)


def refusal(head: Head) -> OpenError:
    """The error that says what the file is, for a file that no format claims.

    Raises:
        CorruptCheckpoint: it is a damaged zip archive.
    """
    path = head.path
    if head.size == 0:
        return UnknownFormat("the file is empty", path=path, code="empty", remedy="Copy or download it again.")
    for kind, test in UNSUPPORTED:
        if test(head):
            message = f"this is {kind}, which sdviewer does not read yet"
            return UnsupportedContainer(message, path=path)
    for kind, remedy, test in FOREIGN:
        if test(head):
            return UnknownFormat(f"this is {kind}", path=path, remedy=remedy)
    if not head.start.strip(b"\0"):
        remedy = "Copy or download it again."
        return UnknownFormat(
            "the file begins with zeros only: a copy or download that failed", path=path, remedy=remedy
        )
    text = _text(head)
    if text is not None:
        return _text_refusal(path, text)
    return UnknownFormat(
        "no checkpoint format begins like this", path=path, remedy="It may be damaged, or not a checkpoint at all."
    )


def _text_refusal(path: str, text: str) -> UnknownFormat:
    first = text.strip().partition("\n")[0]
    if len(text) < HEAD and "\n" not in text.strip() and re.fullmatch(r"[~./\\\w:-][^\0]*\.\w{1,12}", first):
        message = f"this is a text that names another file, {visible(first, 80)}"
        return UnknownFormat(message, path=path, remedy="Open that file.")
    return UnknownFormat(f"this is a text that begins {visible(first, 60)!r}", path=path)
