"""The formats that sdviewer reads: a new one is one new file and one line here."""

from __future__ import annotations

from typing import Protocol

from sdviewer.core.checkpoint import Checkpoint
from sdviewer.core.progress import Progress
from sdviewer.formats.bare_pickle import BarePickle
from sdviewer.formats.dcp import Dcp
from sdviewer.formats.dcp_safetensors import DcpSafetensors
from sdviewer.formats.deepspeed import DeepSpeed
from sdviewer.formats.file import File
from sdviewer.formats.gguf import Gguf
from sdviewer.formats.hdf5 import Hdf5
from sdviewer.formats.hf_index import HfIndex
from sdviewer.formats.numpy_array import NumpyArchive, NumpyFile
from sdviewer.formats.onnx import Onnx
from sdviewer.formats.pt2 import Pt2
from sdviewer.formats.safetensors import Safetensors
from sdviewer.formats.sniff import Head
from sdviewer.formats.torch_legacy import TorchLegacy
from sdviewer.formats.torch_package import TorchPackage
from sdviewer.formats.torch_tar import TorchTar
from sdviewer.formats.torch_zip import TorchZip
from sdviewer.formats.torchscript import TorchScript


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


FORMATS: tuple[Format, ...] = (
    TorchZip(),
    TorchLegacy(),
    Safetensors(),
    TorchTar(),
    TorchScript(),
    TorchPackage(),
    Pt2(),
    HfIndex(),
    Dcp(),
    BarePickle(),
    NumpyFile(),
    NumpyArchive(),
    Gguf(),
    Hdf5(),
    Onnx(),
)

FOLDERS: tuple[FolderFormat, ...] = (DeepSpeed(), DcpSafetensors())
