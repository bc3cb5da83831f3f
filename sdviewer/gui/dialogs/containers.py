"""The containers that a copy can be written in, in words for a person, and what their files are called."""

from __future__ import annotations

from pathlib import Path
from typing import Final, NamedTuple

from sdviewer.gui.panels.status_bar import CONTAINERS as WORDS


class Purpose(NamedTuple):
    """What a container is for; `suffixes`: the first is what a new file gets, none for a folder."""

    words: str
    suffixes: tuple[str, ...]


SHARDED: Final = "hf-index"
ALIASING: Final = ("safetensors", SHARDED)
"""Containers in which a tied tensor can be noted as an alias."""

PURPOSES: Final[dict[str, Purpose]] = {
    "torch-zip": Purpose(
        "What torch.save writes: every object, shared storages and flags; torch.load can map it into memory.",
        (".pt", ".pth", ".ckpt", ".th", ".tar", ".bin", ".pkl"),
    ),
    "torch-legacy": Purpose(
        "What torch wrote before 1.6, for programs as old as that.",
        (".pth", ".pt", ".ckpt", ".th", ".tar", ".bin", ".pkl"),
    ),
    "safetensors": Purpose(
        "Tensors and a little text, no pickle: nothing can run on loading. Made for sharing weights.", (".safetensors",)
    ),
    SHARDED: Purpose(
        "A new folder of safetensors files with an index, as Hugging Face libraries load large models.", ()
    ),
    "npz": Purpose("For NumPy without torch: one array for each key.", (".npz",)),
    "onnx": Purpose("Tensors as ONNX initializers, without a graph: for tools that read ONNX.", (".onnx",)),
    "torchscript": Purpose(
        "Parameters for C++ (torch::jit::load), without code to run. torch itself writes it, in a process of its own.",
        (".ts",),
    ),
}


def container_words(name: str) -> str:
    """A container's name for a person."""
    return "sharded safetensors" if name == SHARDED else WORDS.get(name, name)


def with_suffix_of(path: str, container: str, own: str = "") -> str:
    """A path with the suffix of a container in the place of another container's; `own` is the one the source has."""
    suffixes = PURPOSES[container].suffixes
    found = Path(path)
    if suffixes and found.suffix.lower() in suffixes:
        return path
    stem = found
    while is_suffix(stem.suffix):  # model.pth.tar has two
        stem = stem.with_suffix("")
    suffix = own if own in suffixes else next(iter(suffixes), "")
    return str(stem.with_name(stem.name + suffix)) if stem.name else path


def is_suffix(suffix: str) -> bool:
    """Whether a suffix promises one of the containers."""
    return any(suffix.lower() in purpose.suffixes for purpose in PURPOSES.values())


def container_of(path: str, chosen: str) -> str:
    """The container that a path's suffix promises; `chosen` where it promises none, or that one too."""
    suffix = Path(path).suffix.lower()
    if not suffix or suffix in PURPOSES[chosen].suffixes:
        return chosen
    return next((name for name, purpose in PURPOSES.items() if suffix in purpose.suffixes), chosen)
