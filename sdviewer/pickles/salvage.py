"""What a pickle that breaks off had made before it broke off.

A pickle fills its containers from the stack: what a dict gets next waits behind a MARK until SETITEMS takes it. So when
the bytes end, the containers under way and their next items are still on the stack, and only what was being made at
that very moment is lost.
"""

from __future__ import annotations

from dataclasses import replace

from sdviewer.core.progress import Progress, no_progress
from sdviewer.pickles import opcodes as op
from sdviewer.pickles.machine import Pickle, parse_partial
from sdviewer.pickles.nodes import Call, Const, Effect, Global, Group, Node

_FRAME = 9
"""Bytes of a FRAME opcode."""


def salvage(pickle: Pickle, *, progress: Progress = no_progress) -> Pickle:
    """A pickle that was cut, with what it had made as its `root`; as it was where it was not cut or made nothing.

    `broken` stays set. Opcodes of a frame that is longer than what is left are read too.
    """
    if not pickle.is_cut:
        return pickle
    at, data = pickle.end, pickle.data
    if data[at : at + 1] == bytes([op.FRAME]):
        left = max(len(data) - at - _FRAME, 0)
        again = parse_partial(
            data[: at + 1] + left.to_bytes(8, "little") + data[at + _FRAME :], pickle.start, progress=progress
        )
        if not again.broken:
            return replace(again, data=data, broken=pickle.broken, unfaithful="it breaks off")
        if not again.is_cut:
            return pickle
        pickle = replace(again, data=data)
    root = _close([list(level) for level in pickle.levels])
    return pickle if root is None else replace(pickle, root=root)


def _close(levels: list[list[Node]]) -> Node | None:
    """Give every open container what waits for it, from the innermost mark outwards; what is left is the root."""
    while len(levels) > 1:
        items = levels.pop()
        below = levels[-1]
        if not below:
            # A tuple at the very bottom: its items are all there is.
            below.append(Group(-1, "tuple", op.TUPLE, _whole(items)))
        elif not _fill(below[-1], items):
            # The arguments of a call, or a tuple, that never came to be; nor did the call.
            below.pop()
    if not levels or not levels[0]:
        return None
    return _settled(levels[0])


def _settled(stack: list[Node]) -> Node | None:
    """The bottom of a stack without marks, after the single items (SETITEM, APPEND) that wait above it."""
    end = len(stack)
    for i in range(len(stack) - 1, -1, -1):
        if i == 0 or _is_dict(stack[i]) or _is_list(stack[i]):
            _fill(stack[i], stack[i + 1 : end])
            end = i + 1
    return stack[0] if isinstance(stack[0], Call | Group) else None


def _fill(container: Node, items: list[Node]) -> bool:
    """Add items to a dict or list; False where it is something else."""
    if _is_list(container):
        container.add_effect(Effect("appends", _whole(items)))
        return True
    if not _is_dict(container):
        return False
    pairs: list[Node] = []
    for i in range(0, len(items) - 1, 2):
        key, value = items[i], items[i + 1]
        rest = items[i + 2 :]
        if not isinstance(key, Const | Group) or (isinstance(value, Global) and (not rest or len(rest) % 2)):
            break  # a call under way: its function lies where the value will be
        pairs += (key, value)
    container.add_effect(Effect("setitems", pairs))
    return True


def _whole(items: list[Node]) -> list[Node]:
    """Items without a function that still waits for its arguments."""
    for i, item in enumerate(items):
        if isinstance(item, Global) and i >= len(items) - 2:
            return items[:i]
    return items


def _is_dict(node: Node) -> bool:
    if isinstance(node, Group):
        return node.type == "dict"
    return isinstance(node, Call) and isinstance(node.function, Global) and node.function.name in _DICTS


def _is_list(node: Node) -> bool:
    return isinstance(node, Group) and node.type == "list"


_DICTS = frozenset(("OrderedDict", "defaultdict", "Counter", "dict"))
