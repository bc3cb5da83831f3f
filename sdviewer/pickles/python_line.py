"""One line of Python for what a node would do, for people to read; its text is untrusted, and escaped."""

from __future__ import annotations

from sdviewer.core import text
from sdviewer.pickles.names import fix_imports
from sdviewer.pickles.nodes import Call, Const, Global, Group, Node, Other, Persistent, TensorRecord

LONGEST = 500
"""Characters of a line; what is longer ends in an ellipsis."""

_WIDEST = 100
"""Items of one group that are looked at: more would not fit into a line."""

_BRACKETS = {"tuple": ("(", ")"), "list": ("[", "]"), "dict": ("{", "}"), "set": ("{", "}"), "frozenset": ("{", "}")}


def python_line(node: Node) -> str:
    """`os.system('ls')`: the call with its literal arguments, cut at LONGEST characters.

    The work ends with the line's length: nodes that are shared a billion times, and cycles, cost no more than that.
    """
    line: list[str] = []
    length = 0
    todo: list[Node | str] = [node]
    while todo and length <= LONGEST:
        part = todo.pop()
        if isinstance(part, str):
            line.append(part)
            length += len(part)
        else:
            todo.extend(reversed(_parts(part)))
    written = "".join(line)
    return written if len(written) <= LONGEST and not todo else written[: LONGEST - 1] + "…"


def _parts(node: Node) -> list[Node | str]:
    if isinstance(node, Const):
        return [_constant(node)]
    if isinstance(node, Global):
        module, name = fix_imports(node.module, node.name)
        called = f"{module}.{name}" if module not in ("", "builtins") else name
        changes = [effect.kind for effect in node.effects if effect.kind != "pop"]
        line = text.visible(called, 200) if called else "<computed name>"
        return [f"{line}  # changed by {', '.join(sorted(set(changes)))}" if changes else line]
    if isinstance(node, Call):
        return _call(node)
    if isinstance(node, TensorRecord):
        return [f"<tensor {text.shape(node.size)}>"]
    if isinstance(node, Persistent):
        return ["<storage>"]
    if isinstance(node, Other):
        return ["<extension>"] if node.child is None else [node.child]
    return _group(node)


def _call(call: Call) -> list[Node | str]:
    function: list[Node | str] = [call.function]
    if call.kind in ("obj", "inst"):
        return [*function, "(", *_separated(call.args), ")"]
    args = call.args[0]
    parts: list[Node | str] = [*function, "("]
    if isinstance(args, Group) and args.type == "tuple":
        parts += _separated(args.items)
    else:
        parts += ["*", args]
    if len(call.args) > 1:
        parts += [", **" if parts[-1] != "(" else "**", call.args[1]]
    parts.append(")")
    state = next((effect.items[0] for effect in call.effects if effect.kind == "build"), None)
    return parts if state is None else [*parts, ".__setstate__(", state, ")"]


def _group(group: Group) -> list[Node | str]:
    items = [*group.items[:_WIDEST]]
    for effect in group.effects:
        if effect.kind != "pop" and len(items) < _WIDEST:
            items.extend(effect.items[: _WIDEST - len(items) + 1])
    opening, closing = _BRACKETS[group.type]
    if group.type == "dict":
        inner: list[Node | str] = []
        for i in range(0, len(items) - 1, 2):
            inner += [", "] * (i > 0) + [items[i], ": ", items[i + 1]]
        return [opening, *inner, closing]
    trailing = [","] if group.type == "tuple" and len(items) == 1 else []
    return [opening, *_separated(items), *trailing, closing]


def _separated(items: list[Node]) -> list[Node | str]:
    parts: list[Node | str] = []
    for i, item in enumerate(items[:_WIDEST]):
        parts += [", ", item] if i else [item]
    return parts if len(items) <= _WIDEST else [*parts, ", …"]


def _constant(node: Const) -> str:
    value = node.value
    if isinstance(value, bool) or value is None or isinstance(value, float):
        return repr(value)
    if isinstance(value, int):
        return str(value) if value.bit_length() < 200 else f"<an int of {value.bit_length():,} bits>"
    if isinstance(value, str):
        return _quoted(value)
    return text.visible(repr(bytes(value[:LONGEST])), LONGEST)


def _quoted(value: str) -> str:
    shown = text.visible(value[:LONGEST].replace("\\", "\\\\").replace("'", "\\'"), LONGEST)
    return f"'{shown}'"
