"""What is said of a tensor, and the neighbourhood it is guessed from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import Any, Literal, NamedTuple

from sdviewer.core import text
from sdviewer.core.checkpoint import TensorInfo

TensorRoleKind = Literal[
    "parameter", "buffer", "mask", "scale", "zero point", "packed", "moment", "step", "average", "adapter"
]
Shape = tuple[int, ...]


class Part(NamedTuple):
    """A run of indexes along one axis that is a thing of its own, as the K of a fused Q·K·V; `stop` is exclusive."""

    axis: int
    name: str
    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class Heads:
    """`count` heads of `size` elements each along an axis; `sure` where the file supports it, else a usual number."""

    axis: int
    count: int
    size: int
    sure: bool


class Related(NamedTuple):
    """Another tensor (index into `Checkpoint.tensors`) and what it is to this one."""

    words: str
    tensor: int


@dataclass(frozen=True, slots=True)
class TensorRole:
    """What a tensor is for, in words for people, and what these are drawn from.

    `over` is for a number that scales something only when divided: by what; 0 for all others.
    """

    words: str
    kind: TensorRoleKind = "parameter"
    parts: tuple[Part, ...] = ()
    heads: Heads | None = None
    related: tuple[Related, ...] = ()
    over: int = 0

    def to_json(self, rows: Mapping[int, int]) -> dict[str, Any]:
        """As the facts of a row have it; `rows` are those of the tensors. What has no row is left out.

        Names of the file are in the words: they are made printable here.
        """
        return {
            "words": text.visible(self.words, 240),
            "kind": self.kind,
            "parts": [part._asdict() for part in self.parts],
            "over": self.over,
            "heads": None if self.heads is None else asdict(self.heads),
            "related": [
                {"words": text.visible(words, 80), "row": rows[tensor]}
                for words, tensor in self.related
                if tensor in rows
            ],
        }

    def with_related(self, more: Sequence[Related]) -> TensorRole:
        """The same, with more tensors that belong to it; each is named once."""
        named = {related.tensor for related in self.related}
        return replace(self, related=(*self.related, *(other for other in more if other.tensor not in named)))


@dataclass(frozen=True)
class Keys:
    """The tensors of one state dict by their keys; `config` are numbers that the file states about the model."""

    tensors: Sequence[TensorInfo]
    index: Mapping[str, int]
    config: Mapping[str, int] = field(default_factory=dict)

    @cached_property
    def order(self) -> Sequence[str]:
        """The keys in file order."""
        return tuple(self.index)

    @cached_property
    def position(self) -> Mapping[str, int]:
        """Key -> its place in `order`."""
        return {key: at for at, key in enumerate(self.index)}

    @cached_property
    def names(self) -> Mapping[str, Sequence[str]]:
        """Module path -> the last components of the keys directly in it."""
        found: dict[str, list[str]] = {}
        for key in self.index:
            module, _, name = key.rpartition(".")
            found.setdefault(module, []).append(name)
        return found

    @cached_property
    def children(self) -> Mapping[str, Sequence[str]]:
        """Module path -> the names of the modules directly in it, in file order."""
        found: dict[str, dict[str, None]] = {}
        seen = set()
        for path in self.names:
            while path and path not in seen:
                seen.add(path)
                above, _, name = path.rpartition(".")
                found.setdefault(above, {})[name] = None
                path = above
        return {path: tuple(names) for path, names in found.items()}


@dataclass(frozen=True)
class Place:
    """One tensor among the others of its state dict: `key` is `module` + "." + `name`."""

    keys: Keys
    key: str
    tensor: int

    @cached_property
    def info(self) -> TensorInfo:
        return self.keys.tensors[self.tensor]

    @property
    def shape(self) -> Shape:
        return self.info.shape

    @cached_property
    def module(self) -> str:
        """The module path, "" at the top."""
        return self.key.rpartition(".")[0]

    @cached_property
    def name(self) -> str:
        """The last component of the key."""
        return self.key.rpartition(".")[2]

    @cached_property
    def layer(self) -> str:
        """The last component of the module path."""
        return self.module.rpartition(".")[2]

    @cached_property
    def parent(self) -> str:
        """The module that the module is in."""
        return self.module.rpartition(".")[0]

    def beside(self, name: str) -> Shape | None:
        """The shape of another tensor of the same module."""
        return self.at(self.module, name)

    def at(self, module: str, name: str) -> Shape | None:
        """The shape of the tensor of this name in a module, None where there is none."""
        index = self.keys.index.get(joined(module, name))
        return None if index is None else self.keys.tensors[index].shape

    def related(self, *named: tuple[str, str]) -> tuple[Related, ...]:
        """Those of these (words, name in the same module) that are there."""
        return self.related_at(*((words, joined(self.module, name)) for words, name in named))

    def related_at(self, *named: tuple[str, str]) -> tuple[Related, ...]:
        """Those of these (words, key) that are there and another tensor."""
        index = self.keys.index
        return tuple(Related(words, index[key]) for words, key in named if key in index and key != self.key)

    def other(self, name: str) -> Place | None:
        """The place of another tensor of the same module."""
        key = joined(self.module, name)
        return Place(self.keys, key, self.keys.index[key]) if key in self.keys.index else None


def joined(module: str, name: str) -> str:
    """A key of a module path and a name."""
    return f"{module}.{name}" if module else name
