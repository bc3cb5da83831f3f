"""Nodes that no file holds, made so that every kind of torch file becomes a graph of the kind that `torch.save` writes.

A tar names its tensors by number, a bare pickle holds whole torch files in its bytes, a TorchScript archive keeps its
tensors in modules. Their graphs are changed in place: such a node gives way to the rebuild call and the persistent id
that a torch zip has, and one walk (`torch_objects`) tells them all. The raw bytes of the pickle stay as they were.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from sdviewer.pickles import opcodes as op
from sdviewer.pickles.nodes import (
    FRESH,
    Call,
    Const,
    ConstValue,
    Effect,
    Global,
    Group,
    GroupType,
    Node,
    Persistent,
    TensorRecord,
    children,
    elements,
)

Replace = Callable[[Node], "Node | None"]

_OPCODES: dict[GroupType, int] = {"tuple": op.TUPLE, "list": op.EMPTY_LIST, "dict": op.EMPTY_DICT}

_TYPE_TAGS = frozenset(
    (
        "torch.jit._pickle.build_intlist",
        "torch.jit._pickle.build_doublelist",
        "torch.jit._pickle.build_boollist",
        "torch.jit._pickle.build_tensorlist",
        "torch.jit._pickle.restore_type_tag",
        "torch.jit._pickle.IntList",
        "torch.jit._pickle.DoubleList",
        "torch.jit._pickle.TensorList",
    )
)
"""What TorchScript's pickler calls to say the type of a list or dict; each gives back its first argument."""

STORAGE_CLASSES = {
    "float64": "DoubleStorage",
    "float32": "FloatStorage",
    "float16": "HalfStorage",
    "bfloat16": "BFloat16Storage",
    "int64": "LongStorage",
    "int32": "IntStorage",
    "int16": "ShortStorage",
    "int8": "CharStorage",
    "uint8": "ByteStorage",
    "bool": "BoolStorage",
    "complex128": "ComplexDoubleStorage",
    "complex64": "ComplexFloatStorage",
}


def const(value: ConstValue) -> Const:
    """A constant."""
    return Const(FRESH, b"", value)


def group(kind: GroupType, items: Iterable[Node]) -> Group:
    """A tuple, list or dict of nodes (a dict: key, value, key, value ...)."""
    return Group(FRESH, kind, _OPCODES[kind], list(items))


def name(module: str, last: str) -> Global:
    """A name that a pickle would ask for."""
    return Global(FRESH, b"", module, last)


def call(module: str, last: str, arguments: Sequence[Node]) -> Call:
    """A call of a name."""
    return Call(FRESH, "reduce", name(module, last), [group("tuple", arguments)])


def numbers(values: Iterable[int]) -> Group:
    """A tuple of ints."""
    return group("tuple", [const(value) for value in values])


def storage(cls: Node, key: str, location: str, numel: int) -> Persistent:
    """The persistent id of a storage; `numel` in elements of its class."""
    items = [const("storage"), cls, const(key), const(location), const(numel)]
    return Persistent(FRESH, group("tuple", items))


def tensor(
    stored: Node,
    offset: int,
    size: Iterable[int],
    stride: Iterable[int],
    *,
    requires_grad: bool = False,
    dtype: str = "",
) -> Call:
    """A tensor over a storage; `offset`, `size` and `stride` in elements. `dtype` where the storage has none."""
    items = [stored, const(offset), numbers(size), numbers(stride), const(requires_grad), const(None)]
    if dtype:
        return call("torch._utils", "_rebuild_tensor_v3", [*items, name("torch", dtype)])
    return call("torch._utils", "_rebuild_tensor_v2", items)


def state_dict(entries: Iterable[tuple[str, Node]], attributes: Iterable[tuple[str, Node]]) -> Call:
    """An OrderedDict of these entries that carries these attributes."""
    made = call("collections", "OrderedDict", [])
    items = [node for key, value in entries for node in (const(key), value)]
    if items:
        made.add_effect(Effect("setitems", items))
    state = [node for key, value in attributes for node in (const(key), value)]
    if state:
        made.add_effect(Effect("build", [group("dict", state)]))
    return made


def replaced(root: Node, replace: Replace, *, inside: bool = False) -> Node:
    """The graph with every node that `replace` answers for given way to its answer, in all places at once.

    An answer is looked into, and asked for itself, only where `inside` says so. Every node is asked once; there is no
    recursion.
    """
    answers: dict[int, Node] = {}
    asked: list[Node] = []  # alive as long as their ids are in use

    def answer(node: Node) -> Node:
        found, chain = node, []
        while id(found) not in answers:
            answers[id(found)] = found
            asked.append(found)
            chain.append(found)
            other = replace(found)
            if other is None:
                todo.append(found)
                break
            found = other
            if not inside:
                answers.setdefault(id(found), found)
                asked.append(found)
        found = answers[id(found)]
        for link in chain:
            answers[id(link)] = found
        return found

    todo: list[Node] = []
    result = answer(root)
    while todo:
        node = todo.pop()
        if isinstance(node, Group):
            node.items[:] = [answer(item) for item in node.items]
        elif isinstance(node, Call):
            node.args[:] = [answer(item) for item in node.args]
            node.function = answer(node.function)
        elif isinstance(node, Persistent) and node.id is not None:
            node.id = answer(node.id)
        for effect in node.effects:
            effect.items[:] = [answer(item) for item in effect.items]
    return result


def with_keys(root: Node, rename: Callable[[str], str]) -> Node:
    """The graph with the key of every storage renamed."""
    seen: set[int] = set()
    todo: list[Node] = [root]
    while todo:
        node = todo.pop()
        if id(node) in seen or isinstance(node, Const):
            continue
        seen.add(id(node))
        if isinstance(node, TensorRecord):
            node.key = rename(node.key)
        elif isinstance(node, Persistent) and isinstance(node.id, Group) and id(node.id) not in seen:
            items = node.id.items
            key = key_text(items[2]) if len(items) > 4 else None
            if key is not None:
                items[2] = const(rename(key))
            seen.add(id(node.id))
            todo.extend(items)
            continue
        todo.extend(children(node))
    return root


def key_text(node: Node) -> str | None:
    """A storage's key as text, as torch puts it into a member's name."""
    if not isinstance(node, Const) or isinstance(node.value, bool | float) or node.value is None:
        return None
    value = node.value
    if isinstance(value, bytes | bytearray):
        return bytes(value).decode("utf-8", "surrogateescape")
    return str(value) if not isinstance(value, int) or value.bit_length() < 1000 else None


def arguments(node: Node) -> list[Node]:
    """The arguments of a call with a literal tuple; nothing for anything else."""
    if isinstance(node, Call) and node.kind in ("reduce", "newobj") and isinstance(node.args[0], Group):
        return [item for _, item in elements(node.args[0])]
    return []


def called(node: Node) -> str:
    """The qualified name of what a node calls, as written; "" for anything else."""
    return node.function.qualified if isinstance(node, Call) and isinstance(node.function, Global) else ""


def untagged(node: Node) -> Node | None:
    """What a call of TorchScript's pickler stands for that only tells the type of its argument."""
    items = arguments(node) if called(node) in _TYPE_TAGS else []
    return items[0] if items else None
