"""What a file is, told from its first bytes and never from its name; and what it is not, said so that it helps.

Facts: the magic numbers of each format's own specification; measured on files of each kind (docs/formats.md).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cached_property

from sdviewer.core.progress import Progress, no_progress
from sdviewer.core.text import size, visible
from sdviewer.errors import CorruptCheckpoint, OpenError, UnknownFormat, UnsupportedContainer
from sdviewer.formats.pread import read_exactly
from sdviewer.formats.protobuf import BYTES, FIXED32, FIXED64, VARINT, varint
from sdviewer.formats.zip_directory import ZipDirectory, read_directory, salvage_directory

HEAD = 4096
"""Bytes that are looked at before a format is chosen."""

LEGACY_MAGIC = bytes.fromhex("8a0a6cfc9c46f920 6aa85019".replace(" ", ""))
"""LONG1 opcode with torch's number 0x1950a86a20f9469cfc6c."""

NUMPY_MAGIC = b"\x93NUMPY"
GGUF_MAGIC = b"GGUF"

HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_HDF5_PLACES = (0, 512, 1024, 2048)
"""Where the signature may stand; behind that, every power of two, which nobody uses."""

OLD_PICKLES = tuple([bytes([code]) for code in b"(]}c)dlINLJKMFGSTUVX"])
"""What a pickle of protocol 0 or 1 can begin with; later ones begin with 80."""

_DCP_METADATA = b"torch.distributed.checkpoint.metadata"

LFS_POINTER = b"version https://git-lfs"

SAFETENSORS_HEADER_LIMIT = 100_000_000


@dataclass
class Head:
    """The first bytes of a file, its size, and the zip directory once somebody asked for it.

    `progress` is told of the search through a zip archive that has lost its directory.
    """

    path: str
    start: bytes
    size: int
    _fd: int = field(repr=False)
    progress: Progress = field(default=no_progress, repr=False)

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
    def is_joblib(self) -> bool:
        """A pickle with raw arrays between its opcodes, which only joblib reads."""
        return self.is_pickle and b"joblib.numpy_pickle" in self.start

    @property
    def is_legacy(self) -> bool:
        """torch's legacy magic number within the first pickle (a FRAME may stand before it)."""
        return self.start[:1] == b"\x80" and LEGACY_MAGIC in self.start[:32]

    @cached_property
    def directory(self) -> ZipDirectory:
        """The members of a zip archive, also of one that breaks off.

        Raises:
            CorruptCheckpoint: the archive is damaged.
            Cancelled: from `progress`.
        """
        try:
            return read_directory(self)
        except CorruptCheckpoint as error:
            if error.code == "truncated":
                return salvage_directory(self, progress=self.progress)
            if error.code != CorruptCheckpoint.default_code:
                raise  # the disk, or somebody who writes to the file
            try:
                return salvage_directory(self, error.message, progress=self.progress)
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


def read_head(fd: int, path: str, size: int, progress: Progress = no_progress) -> Head:
    """Read the first 4 KiB."""
    return Head(path, read_exactly(fd, path, size, 0, min(size, HEAD)), size, fd, progress)


Test = Callable[[Head], bool]


def starts_with(*magics: bytes) -> Test:
    """The test whether a file starts with one of these bytes."""
    return lambda head: head.start.startswith(magics)


def has_at(offset: int, magic: bytes) -> Test:
    """The test whether these bytes stand at an offset."""
    return lambda head: head.start[offset : offset + len(magic)] == magic


def is_zip(head: Head) -> bool:
    """Whether it begins like a zip archive."""
    return head.is_zip


def is_safetensors(head: Head) -> bool:
    """Whether it begins like a safetensors file."""
    return head.is_safetensors


def is_hdf5(head: Head) -> bool:
    """Whether it has the signature of HDF5, perhaps behind a block of the user's."""
    return any(head.start.startswith(HDF5_SIGNATURE, place) for place in _HDF5_PLACES)


def is_dcp_metadata(head: Head) -> bool:
    """Whether it is the `.metadata` of a distributed checkpoint, by the first class that its pickle names."""
    return head.is_pickle and _DCP_METADATA in head.start[:256] and b"Metadata" in head.start[:256]


def _has(*names: str) -> Test:
    return lambda head: any(name in head.members for name in names)


def _zipped_download(head: Head) -> bool:
    inner = (".pt", ".pth", ".bin", ".ckpt", ".safetensors")
    return any(entry.name.endswith(inner) for entry in head.directory.entries) if head.is_zip else False


def _leveldb(head: Head) -> bool:
    """A table of LevelDB ends in its magic number; TensorFlow's first key is empty, its header."""
    return head.size >= 48 and head.read(head.size - 8, 8) == bytes.fromhex("57fb808b247547db")


def _message(data: bytes) -> dict[int, bytes]:
    """The fields of a protobuf message that begin in `data`, by number: the last of each, as far as it is there."""
    fields: dict[int, bytes] = {}
    at = 0
    try:
        while at < len(data) and len(fields) < 64:
            tag, at = varint(data, at)
            number, wire = tag >> 3, tag & 7
            begin = at
            value, at = varint(data, at) if wire in (VARINT, BYTES) else (0, at)
            if wire == BYTES:
                begin, at = at, at + value
            elif wire in (FIXED64, FIXED32):
                at += 8 if wire == FIXED64 else 4
            elif wire != VARINT:
                return {}
            fields[number] = data[begin:at]
    except (IndexError, ValueError):
        pass
    return {} if 0 in fields else fields


def _saved_model(head: Head) -> bool:
    """saved_model_schema_version (1), then nothing but graphs (2), each of which begins with its description."""
    fields = _message(head.start)
    return head.start[:3] == b"\x08\x01\x12" and set(fields) == {1, 2} and fields[2][:1] == b"\x0a"


def _frozen_graph(head: Head) -> bool:
    """GraphDef: nodes (1), each of a name (1), an operation (2) and inputs."""
    if head.start[:1] != b"\x0a":
        return False
    node = _message(_message(head.start).get(1, b""))
    operation = node.get(2, b"")
    return bool(node.get(1)) and re.fullmatch(rb"[A-Z][A-Za-z0-9]{1,60}", operation) is not None


def _core_ml(head: Head) -> bool:
    """specificationVersion (1), description (2), and later a model in a field from 200 on."""
    if head.start[:1] != b"\x08" or len(head.start) < 8 or not 1 <= head.start[1] <= 20 or head.start[2] != 0x12:
        return False
    found = _message(head.start)
    return any(200 <= number < 3000 for number in found) and not any(10 < number < 200 for number in found)


def _flax(head: Head) -> bool:
    """A msgpack map of names in which, going down the first entries, an array comes: extension type 1 to 3."""
    data, at = head.start, 0
    try:
        for _ in range(32):
            kind = data[at]
            if 0x81 <= kind <= 0x8F or kind in (0xDE, 0xDF):
                at += {0xDE: 3, 0xDF: 5}.get(kind, 1)
                at = _behind_text(data, at)
            else:
                # fixext 1 to 16, then ext 8, 16 and 32 with a length.
                at += {0xC7: 2, 0xC8: 3, 0xC9: 5}.get(kind, 1 if 0xD4 <= kind <= 0xD8 else 0)
                return (0xC7 <= kind <= 0xC9 or 0xD4 <= kind <= 0xD8) and data[at] in (1, 2, 3)
    except IndexError:
        pass
    return False


def _behind_text(data: bytes, at: int) -> int:
    """The byte behind a msgpack text; IndexError where there is none."""
    kind = data[at]
    if 0xA0 <= kind <= 0xBF:
        return at + 1 + (kind & 0x1F)
    if kind == 0xD9:
        return at + 2 + data[at + 1]
    if kind == 0xDA:
        return at + 3 + int.from_bytes(data[at + 1 : at + 3], "big")
    raise IndexError


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


def is_index(head: Head) -> bool:
    """Whether it is a Hugging Face index: JSON that begins with a map of weights to files."""
    return _json(head) and (b'"weight_map"' in head.start or b'"total_size"' in head.start)


def _markup(head: Head) -> bool:
    return (
        head.start.lstrip(b"\xef\xbb\xbf \t\r\n")[:9].lower().startswith((b"<!doctype", b"<html", b"<?xml", b"<head"))
    )


def _error_message(head: Head) -> bool:
    return _json(head) and re.match(rb'[\s\xef\xbb\xbf]*\{\s*"(?:error|errors)"', head.start) is not None


def _zlib(head: Head) -> bool:
    return head.start[:2] in (b"x\x01", b"x\x5e", b"x\x9c", b"x\xda") and _text(head) is None


# What other programs write and sdviewer does not read: what it is, the way to something that it reads, and how it is
# recognised.
ELSEWHERE: tuple[tuple[str, str, Test], ...] = (
    (
        "a GGML file, which llama.cpp gave up for GGUF in 2023",
        "Convert it with a llama.cpp of that time, or get the model as GGUF or safetensors.",
        starts_with(b"lmgg", b"tjgg", b"fmgg", b"algg"),
    ),
    (
        "a TorchScript mobile file (flatbuffer)",
        "Open the TorchScript archive that it was made from.",
        has_at(4, b"PTMF"),
    ),
    (
        "an ExecuTorch program",
        "Its weights are laid out for one device; open the checkpoint that it was exported from.",
        has_at(4, b"ET1"),
    ),
    (
        "a TensorFlow Lite model",
        "Open the model that it was converted from, or convert it to ONNX with tf2onnx.",
        has_at(4, b"TFL3"),
    ),
    (
        "the index of a TensorFlow checkpoint",
        "Load it with tf.train.load_checkpoint and save its variables with numpy.savez or safetensors.",
        _leveldb,
    ),
    (
        "a TensorFlow SavedModel",
        "Load it with TensorFlow and save its variables with numpy.savez, or convert it to ONNX with tf2onnx.",
        _saved_model,
    ),
    (
        "a frozen TensorFlow graph",
        "Convert it to ONNX with tf2onnx.",
        _frozen_graph,
    ),
    (
        "a Core ML model",
        "Open the model that it was converted from, or read its weights with coremltools.",
        _core_ml,
    ),
    (
        "a joblib file: a pickle with raw arrays in between",
        "Load it with joblib, if you trust who made it, and save its arrays with numpy.savez or torch.save.",
        lambda head: head.is_joblib,
    ),
    (
        "a Flax checkpoint (msgpack)",
        "Load it with flax.serialization.msgpack_restore and save its arrays with safetensors.flax.save_file.",
        _flax,
    ),
    (
        "a part of an Orbax checkpoint (OCDBT)",
        "Load its folder with orbax.checkpoint and save its arrays with safetensors.flax.save_file.",
        starts_with(bytes.fromhex("0cdb3a2a")),
    ),
    (
        "an archive of a Core ML package or a TensorFlow model",
        "Unpack it first; the model in it is for its own program.",
        _has("Manifest.json", "saved_model.pb"),
    ),
)

# What is no checkpoint: what it is, what to do, and how it is recognised.
FOREIGN: tuple[tuple[str, str, Test], ...] = (
    (
        "a checkpoint of PyTorch's 2018 preview (PYTORCH1), which no torch reads",
        "Look for a newer copy of the model.",
        starts_with(b"PYTORCH1"),
    ),
    ("a web page: the download went wrong", "Download it again; the site may ask you to sign in.", _markup),
    ("an error message of a server: the download went wrong", "Download it again.", _error_message),
    ("a gzip archive", "Unpack it first.", starts_with(b"\x1f\x8b")),
    ("a zlib stream, as joblib compresses", "Load it with joblib and save it without compress.", _zlib),
    ("a zstd archive", "Unpack it first.", starts_with(b"\x28\xb5\x2f\xfd")),
    ("a bzip2 archive", "Unpack it first.", starts_with(b"BZh")),
    ("an xz archive", "Unpack it first.", starts_with(b"\xfd7zXZ")),
    ("a 7z archive", "Unpack it first.", starts_with(b"7z\xbc\xaf\x27\x1c")),
    ("a tar archive", "Unpack it first and open one of its files.", has_at(257, b"ustar")),
    ("a RAR archive", "Unpack it first.", starts_with(b"Rar!")),
    ("a zip archive with checkpoints in it", "Unpack it first and open one of them.", _zipped_download),
    ("a zip archive without a checkpoint in it", "", lambda head: head.is_zip),
    ("a JSON text", "Open the weights that belong to it.", _json),
)


# The same for folders, by the names in them.
ELSEWHERE_FOLDERS: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    (
        "a TensorFlow SavedModel",
        "Load it with TensorFlow and save its variables with numpy.savez, or convert it to ONNX with tf2onnx.",
        ("saved_model.pb", "saved_model.pbtxt"),
    ),
    (
        "an Orbax checkpoint",
        "Load it with orbax.checkpoint and save its arrays with safetensors.flax.save_file.",
        ("_CHECKPOINT_METADATA", "manifest.ocdbt", "_METADATA", ".zarray"),
    ),
    (
        "a Core ML package",
        "Open the model that it was converted from, or read its weights with coremltools.",
        ("Manifest.json",),
    ),
    (
        "a TensorFlow checkpoint",
        "Load it with tf.train.load_checkpoint and save its variables with numpy.savez or safetensors.",
        ("checkpoint",),
    ),
)


def folder_refusal(path: str, names: Iterable[str]) -> OpenError | None:
    """The error that says what a folder with these entries is, None where that is not known."""
    there = set(names)
    for kind, remedy, marks in ELSEWHERE_FOLDERS:
        if there.intersection(marks) and (marks != ("checkpoint",) or any(name.endswith(".index") for name in there)):
            return UnsupportedContainer(f"this is {kind}, which sdviewer does not read", path=path, remedy=remedy)
    return None


def refusal(head: Head) -> OpenError:
    """The error that says what the file is, for a file that no format claims.

    Raises:
        CorruptCheckpoint: it is a damaged zip archive.
    """
    path = head.path
    if head.size == 0:
        return UnknownFormat("the file is empty", path=path, code="empty", remedy="Copy or download it again.")
    for kind, remedy, test in ELSEWHERE:
        if test(head):
            return UnsupportedContainer(f"this is {kind}, which sdviewer does not read", path=path, remedy=remedy)
    if head.start.startswith(LFS_POINTER):
        return _lfs_pointer(head)
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


def _lfs_pointer(head: Head) -> UnknownFormat:
    """What a pointer points to stands in it; text of a file, so it is shown only where it looks as it should."""
    found = re.search(rb"^oid sha256:([0-9a-f]{64})\r?$", head.start, re.MULTILINE)
    nbytes = re.search(rb"^size (\d{1,18})\r?$", head.start, re.MULTILINE)
    told = [f"oid {found[1].decode()[:12]}…"] if found else []
    told += [size(int(nbytes[1]))] if nbytes else []
    message = "this is a git-lfs pointer, not the file itself" + (f" ({', '.join(told)})" if told else "")
    return UnknownFormat(message, path=head.path, remedy="Run `git lfs pull` in its repository.")


def _text_refusal(path: str, text: str) -> UnknownFormat:
    first = text.strip().partition("\n")[0]
    if len(text) < HEAD and "\n" not in text.strip() and re.fullmatch(r"[~./\\\w:-][^\0]*\.\w{1,12}", first):
        message = f"this is a text that names another file, {visible(first, 80)}"
        return UnknownFormat(message, path=path, remedy="Open that file.")
    return UnknownFormat(f"this is a text that begins {visible(first, 60)!r}", path=path)
