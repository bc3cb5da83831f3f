"""Tensors that a plan computes, as a torch pickle names them: a storage of their own, and a call that rebuilds them.

A computed tensor is contiguous, begins its storage, and is what the first tensor it is made of was: a parameter stays
one, and its device tag and its `requires_grad` stay.

Facts: torch 2.13 (`torch._utils`, `torch.serialization`), measured.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from sdviewer.core.dtypes import DTYPES
from sdviewer.core.tensor_bytes import contiguous_stride
from sdviewer.errors import RepairError
from sdviewer.formats.evaluation import Evaluation
from sdviewer.formats.grafts import STORAGE_CLASSES, arguments, const, group, name, numbers
from sdviewer.formats.grafts import storage as storage_id
from sdviewer.formats.pieces import Made
from sdviewer.formats.torch_tensors import NotATensorError, read_tensor
from sdviewer.pickles.nodes import FRESH, Call, Const, Global, Group, Node, Persistent
from sdviewer.repair.plan import Computed

_PARAMETERS = ("torch._utils._rebuild_parameter", "torch._utils._rebuild_parameter_with_state")


class NewStorage(NamedTuple):
    """A storage that the source does not have: its bytes, its length in elements of its class, and what names it.

    `replaces` is the key of the storage that its values come from, "" where they come from none.
    """

    made: Made
    numel: int
    id: Persistent
    replaces: str

    @property
    def key(self) -> str:
        """Its key in the file."""
        key = _parts(self.id)[2]
        assert isinstance(key, Const) and isinstance(key.value, str)
        return key.value


@dataclass(frozen=True, slots=True)
class _Like:
    """What a computed tensor takes over from the first of those it is made of."""

    location: str = "cpu"
    requires_grad: bool = False
    storage: str = ""
    parameter: Call | None = None


class ComputedTensors:
    """The computed tensors of one plan; their storages have no lasting keys before `settle_keys`.

    `legacy`: the persistent ids of a legacy stream have a sixth element, for views.
    """

    def __init__(self, evaluation: Evaluation, *, legacy: bool = False) -> None:
        self.evaluation = evaluation
        self.legacy = legacy
        self._storages: dict[int, NewStorage] = {}
        self._names: dict[tuple[str, str], Global] = {}

    @property
    def storages(self) -> Mapping[str, NewStorage]:
        """The new storages by their keys."""
        return {storage.key: storage for storage in self._storages.values()}

    def node(self, value: Computed, source: Node | None) -> Node:
        """What stands in the pickle for a computed tensor; `source` is the node of the first it is made of.

        Raises:
            RepairError: torch could not load it.
        """
        like = _like(source)
        stored = self._storage(value, like)
        requires_grad = like.requires_grad and DTYPES[value.dtype].kind in ("float", "complex")
        own = const(requires_grad and like.parameter is None)
        hooks = Call(FRESH, "reduce", self._name("collections", "OrderedDict"), [group("tuple", ())])
        items: list[Node] = [
            stored.id,
            const(0),
            numbers(value.shape),
            numbers(contiguous_stride(value.shape)),
            own,
            hooks,
        ]
        function = self._name("torch._utils", "_rebuild_tensor_v2")
        if value.dtype not in STORAGE_CLASSES:
            function = self._name("torch._utils", "_rebuild_tensor_v3")
            items.append(self._name("torch", value.dtype))
        tensor = Call(FRESH, "reduce", function, [group("tuple", items)])
        return tensor if like.parameter is None else _as_parameter(like.parameter, tensor, requires_grad)

    def settle_keys(self, used: Collection[str], known: Collection[str]) -> None:
        """Give every new storage its key: that of the storage it replaces where nothing else uses it, else a new one.

        `used` are the keys of the source's storages that the new pickle still names, `known` all that it has.
        """
        taken = set(used)
        number = max([int(key) for key in known if key.isdecimal() and len(key) < 18], default=-1) + 1
        for storage in self._storages.values():
            key = storage.replaces
            if not key or key in taken:
                key, number = str(number), number + 1
            taken.add(key)
            key_node = _parts(storage.id)[2]
            assert isinstance(key_node, Const)
            key_node.value = key

    def _name(self, module: str, last: str) -> Global:
        """A name that the pickle asks for, once however often it is used."""
        return self._names.setdefault((module, last), name(module, last))

    def _storage(self, value: Computed, like: _Like) -> NewStorage:
        made = self.evaluation.made(value)
        found = self._storages.get(id(made))
        if found is not None:
            return found
        typed = STORAGE_CLASSES.get(value.dtype, "")
        if self.legacy and not typed:
            raise RepairError(
                f"torch cannot load a legacy file with a {value.dtype} tensor in it, not even one of its own",
                remedy="Save it as torch-zip.",
            )
        cls = self._name("torch", typed) if typed else self._name("torch.storage", "UntypedStorage")
        numel = made.nbytes // DTYPES[value.dtype].itemsize if typed else made.nbytes
        # Until its key is settled it has one that no file has.
        stored = storage_id(cls, f"new {len(self._storages)}", like.location, numel)
        if self.legacy:
            _parts(stored).append(const(None))
        self._storages[id(made)] = NewStorage(made, numel, stored, like.storage)
        return self._storages[id(made)]


def _parts(stored: Persistent) -> list[Node]:
    assert isinstance(stored.id, Group)
    return stored.id.items


def _like(node: Node | None) -> _Like:
    if node is None:
        return _Like()
    try:
        tensor = read_tensor(node)
    except NotATensorError:
        return _Like()
    location, storage = "cpu", ""
    if tensor.storage is not None:
        location, storage = tensor.storage.location, tensor.storage.key
    is_parameter = isinstance(node, Call) and isinstance(node.function, Global)
    parameter = node if is_parameter and node.function.qualified in _PARAMETERS else None  # type: ignore[union-attr]
    return _Like(location, bool(tensor.requires_grad), storage, parameter if isinstance(parameter, Call) else None)


def _as_parameter(parameter: Call, tensor: Node, requires_grad: bool) -> Call:
    """The parameter's own rebuild call with another tensor in it."""
    items = arguments(parameter)
    items[:2] = [tensor, const(requires_grad)]
    return Call(FRESH, parameter.kind, parameter.function, [group("tuple", items)])
