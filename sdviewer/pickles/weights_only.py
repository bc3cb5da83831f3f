"""Whether `torch.load(weights_only=True)` would accept a pickle: its rules followed on the nodes, without torch.

Facts: `torch/_weights_only_unpickler.py` of torch 2.13. It knows few opcodes, resolves the names of a fixed list, calls
only those, changes only lists, dicts, OrderedDict, Counter and a few classes of its own, and takes no persistent id but
that of a storage. Whether the numbers in the file then fit together is for the format's reader to say.
"""

from __future__ import annotations

from collections.abc import Callable

from sdviewer.pickles.machine import Pickle
from sdviewer.pickles.names import TORCH_ALLOWED, fix_imports
from sdviewer.pickles.nodes import Call, Const, Effect, Global, Group, Node, Other, Persistent, children

BLOCKED_MODULES = frozenset(("sys", "os", "posix", "nt"))


def would_load(pickle: Pickle) -> bool | None:
    """True or False, or None where it depends on what a call returns."""
    if pickle.broken:
        return None if "protocol" in pickle.broken else False
    if pickle.beyond_torch or not all(is_allowed(node) for node in pickle.globals):
        return False
    unsure = False
    todo: list[Node] = [*pickle.globals, *pickle.calls, *pickle.left_over, *pickle.records]
    if pickle.root is not None:
        todo.append(pickle.root)
    seen: set[Node] = set(todo)
    for node in todo:
        answers = [_made(node), *(_changed(node, effect) for effect in node.effects)]
        if False in answers:
            return False
        unsure = unsure or None in answers
        for child in children(node):
            if child not in seen:
                seen.add(child)
                todo.append(child)
    return None if unsure else True


def name_of(node: Node) -> str:
    """The Python 3 name of a Global, "" for any other node."""
    return ".".join(fix_imports(node.module, node.name)) if isinstance(node, Global) else ""


def is_allowed(node: Global) -> bool:
    """Whether a name is on torch's list."""
    module, name = fix_imports(node.module, node.name)
    return module not in BLOCKED_MODULES and f"{module}.{name}" in TORCH_ALLOWED


def _made(node: Node) -> bool | None:
    """Whether the opcode that makes a node goes through."""
    if isinstance(node, Const):
        return not node.undecodable
    if isinstance(node, Call):
        return can_be_called(name_of(node.function), node.args[0])
    if isinstance(node, Persistent):
        return is_storage_id(node.id)
    return True


def can_be_called(name: str, args: Node) -> bool | None:
    """Whether torch calls what a name stands for with these arguments; None where that depends on other calls."""
    last = name.rpartition(".")[2]
    # Names that are no functions or classes: dtypes, quantization schemes, and the stand-ins for storage classes.
    is_value = name.startswith("torch.") and name.count(".") == 1 and last[:1].islower() and name != "torch.device"
    if not name or is_value or last.endswith("Storage"):
        return False
    if not isinstance(args, Group):
        return False if isinstance(args, (Const, Global, Persistent)) else None
    if name in _TAKE_STORAGE and args.type == "tuple":
        return bool(args.items) and isinstance(args.items[0], Persistent)
    return True


_TAKE_STORAGE = tuple(f"torch._utils._rebuild_{kind}" for kind in ("tensor", "tensor_v2", "tensor_v3", "qtensor"))


def is_storage_id(node: Node | None) -> bool:
    """Whether a persistent id is that of a storage, the only kind that torch takes."""
    if not isinstance(node, Group) or node.type != "tuple" or len(node.items) not in (5, 6):
        return False
    kind, storage_class = node.items[:2]
    return isinstance(kind, Const) and kind.value == "storage" and name_of(storage_class).endswith("Storage")


def _changed(node: Node, effect: Effect) -> bool | None:
    """Whether an opcode that changes a node goes through."""
    return _CHANGES[effect.kind](node, effect)


def _is_dict(node: Node, effect: Effect) -> bool | None:
    mapping = node.type == "dict" if isinstance(node, Group) else _type(node) in _MAPPINGS
    if not mapping:
        return False
    return not any(_unhashable(key) for key in effect.items[::2])


def _is_list(node: Node, effect: Effect) -> bool | None:
    return isinstance(node, Group) and node.type == "list"


def can_be_built(node: Node, effect: Effect) -> bool | None:
    """Whether torch lets a BUILD change this; None where that depends on what a call returns."""
    kind = _type(node)
    if kind in ("collections.OrderedDict", "torch.nn.parameter.Parameter"):
        return True
    if isinstance(node, (Global, Const, Other)) or (isinstance(node, Group) and node.type != "set"):
        return False
    return None


def _refused(node: Node, effect: Effect) -> bool | None:
    return False


_MAPPINGS = ("collections.OrderedDict", "collections.Counter")
_PARAMETERS = ("torch._utils._rebuild_parameter", "torch._utils._rebuild_parameter_with_state")
_CHANGES: dict[str, Callable[[Node, Effect], bool | None]] = {
    "setitem": _is_dict,
    "setitems": _is_dict,
    "append": _is_list,
    "appends": _is_list,
    "build": can_be_built,
    "additems": _refused,
    "pop": _refused,
}


def _type(node: Node) -> str:
    """The class of what a call returns, where that is certain, else ""."""
    if not isinstance(node, Call):
        return ""
    name = name_of(node.function)
    return "torch.nn.parameter.Parameter" if name in _PARAMETERS else name


def _unhashable(key: Node) -> bool:
    """Whether a key is a mutable container, alone or in a tuple."""
    todo, seen = [key], {key}
    for node in todo:
        if isinstance(node, Group):
            if node.type != "tuple":
                return True
            todo += [item for item in node.items if item not in seen]
            seen.update(node.items)
        elif _type(node) in (*_MAPPINGS, "builtins.set", "builtins.bytearray"):
            return True
    return False
