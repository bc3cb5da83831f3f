"""The formats that sdviewer reads: a new one is one new file and one line here.

A line says how files of the format begin. Its module is imported when a file begins so, and not before: all of them
together take longer to import than a checkpoint takes to open.
"""

from __future__ import annotations

from functools import cached_property
from importlib import import_module
from typing import Generic, Protocol, TypeVar

from sdviewer.core.checkpoint import Checkpoint
from sdviewer.core.progress import Progress
from sdviewer.formats.file import File
from sdviewer.formats.sniff import (
    GGUF_MAGIC,
    NUMPY_MAGIC,
    OLD_PICKLES,
    Head,
    Test,
    has_at,
    is_dcp_metadata,
    is_hdf5,
    is_index,
    is_safetensors,
    is_zip,
    starts_with,
)


class Format(Protocol):
    """One file format.

    `name` is for people, `containers` are the words of `info` that it can answer, `suffixes` what its files are usually
    called (for the file dialog; content decides), `can_write` whether a copy can be saved in it.
    """

    @property
    def name(self) -> str: ...
    @property
    def containers(self) -> tuple[str, ...]: ...
    @property
    def suffixes(self) -> tuple[str, ...]: ...
    @property
    def can_write(self) -> bool: ...

    def matches(self, head: Head) -> bool:
        """Whether the file is of this format, judged by its content.

        Raises:
            CorruptCheckpoint: it is a zip archive whose directory is damaged.
        """

    def open(self, file: File, progress: Progress) -> Checkpoint:
        """What the file holds, header only.

        Raises:
            CorruptCheckpoint: nothing of it can be read.
            Cancelled: from `progress`.
        """


class FolderFormat(Protocol):
    """A checkpoint that is a folder without a file that describes it."""

    @property
    def name(self) -> str: ...
    @property
    def containers(self) -> tuple[str, ...]: ...

    def matches(self, path: str, names: list[str]) -> bool:
        """Whether the folder at `path`, with these entries, is one."""

    def open(self, path: str, progress: Progress) -> Checkpoint:
        """What it holds, from the headers of its files.

        Raises:
            CorruptCheckpoint: nothing of it can be read.
            Cancelled: from `progress`.
        """


T = TypeVar("T", Format, FolderFormat)


class _Imported(Generic[T]):
    """The class `name` of the module `module` of this room, imported and made when it is first needed."""

    def __init__(self, module: str, name: str) -> None:
        self._module = module
        self._name = name

    @cached_property
    def _made(self) -> T:
        made: T = getattr(import_module(f"sdviewer.formats.{self._module}"), self._name)()
        return made

    @property
    def name(self) -> str:
        return self._made.name

    @property
    def containers(self) -> tuple[str, ...]:
        return self._made.containers


class _File(_Imported[Format]):
    """A format of files; it is asked about a file only where `begins` is true of it."""

    def __init__(self, module: str, name: str, begins: Test) -> None:
        super().__init__(module, name)
        self._begins = begins

    @property
    def suffixes(self) -> tuple[str, ...]:
        return self._made.suffixes

    @property
    def can_write(self) -> bool:
        return self._made.can_write

    def matches(self, head: Head) -> bool:
        return self._begins(head) and self._made.matches(head)

    def open(self, file: File, progress: Progress) -> Checkpoint:
        return self._made.open(file, progress)


class _Folder(_Imported[FolderFormat]):
    """A format of folders; folders are few, so it is imported with the first."""

    def matches(self, path: str, names: list[str]) -> bool:
        return self._made.matches(path, names)

    def open(self, path: str, progress: Progress) -> Checkpoint:
        return self._made.open(path, progress)


FORMATS: tuple[Format, ...] = (
    _File("torch_zip", "TorchZip", is_zip),
    _File("torch_legacy", "TorchLegacy", starts_with(b"\x80")),
    _File("safetensors", "Safetensors", is_safetensors),
    _File("torch_tar", "TorchTar", has_at(257, b"ustar")),
    _File("torchscript", "TorchScript", is_zip),
    _File("torch_package", "TorchPackage", is_zip),
    _File("pt2", "Pt2", is_zip),
    _File("hf_index", "HfIndex", is_index),
    _File("dcp", "Dcp", is_dcp_metadata),
    _File("bare_pickle", "BarePickle", starts_with(b"\x80", *OLD_PICKLES)),
    _File("numpy_array", "NumpyFile", starts_with(NUMPY_MAGIC)),
    _File("numpy_array", "NumpyArchive", is_zip),
    _File("gguf", "Gguf", starts_with(GGUF_MAGIC)),
    _File("hdf5", "Hdf5", lambda head: is_hdf5(head) or is_zip(head)),
    _File("onnx", "Onnx", starts_with(b"\x08")),
)

FOLDERS: tuple[FolderFormat, ...] = (
    _Folder("deepspeed", "DeepSpeed"),
    _Folder("dcp_safetensors", "DcpSafetensors"),
)
