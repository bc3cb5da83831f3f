"""Leaves of a torch pickle that are no tensors, and keys that are no strings, as values and text.

What JSON can hold exactly is a JSON value, everything else a text near its Python literal. The text is for people and
never read back.

Facts: how Python and NumPy reduce their own objects at protocol 2 (docs/formats.md).
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Mapping
from typing import Any

from sdviewer.core.dtypes import DTYPES
from sdviewer.core.paths import Step, TypedStep
from sdviewer.formats.pickle_data import CutBytes
from sdviewer.formats.torch_tensors import text_of
from sdviewer.pickles.nodes import (
    Call,
    Const,
    Global,
    Group,
    Node,
    Other,
    Persistent,
    TensorRecord,
    elements,
    pairs,
    states,
)

Leaf = tuple[str, Any]
"""(qualified type, value)."""

LONGEST_TEXT = 4096
"""Characters of a text that stands for something JSON cannot hold."""

_LONG_SEQUENCE = 256
"""A list of more numbers or texts than this (a random number generator's state) is one value."""

_LARGEST_INT_BITS = 14_000
"""Python refuses to write an int of more than 4,300 digits."""

_DEEPEST_TEXT = 6
_MOST_NODES = 500

# Names that Python 2 wrote and Python 3 reads as others (pickle's fix_imports).
_PYTHON2_MODULES: Mapping[str, str] = {
    "__builtin__": "builtins",
    "copy_reg": "copyreg",
    "cPickle": "pickle",
    "Queue": "queue",
    "UserDict": "collections",
    "UserList": "collections",
}
_PYTHON2_NAMES: Mapping[str, str] = {
    "builtins.xrange": "builtins.range",
    "builtins.unicode": "builtins.str",
    "builtins.long": "builtins.int",
    "builtins.unichr": "builtins.chr",
    "numpy.core.multiarray._reconstruct": "numpy._core.multiarray._reconstruct",
    "numpy.core.multiarray.scalar": "numpy._core.multiarray.scalar",
    "numpy.core.numeric._frombuffer": "numpy._core.numeric._frombuffer",
}
_BUILTIN_TYPES = frozenset(
    [
        "bool",
        "bytearray",
        "bytes",
        "complex",
        "dict",
        "float",
        "frozenset",
        "int",
        "list",
        "memoryview",
        "object",
        "property",
        "range",
        "set",
        "slice",
        "str",
        "super",
        "tuple",
        "type",
    ]
)
_TORCH_DTYPES = frozenset(
    {dtype.name for dtype in DTYPES.values()} - {"f6_e2m3", "f6_e3m2"}
    | {f"{sign}int{bits}" for sign in ("", "u") for bits in range(1, 8)}
)
_TORCH_QSCHEMES = frozenset(
    [
        "per_tensor_affine",
        "per_tensor_symmetric",
        "per_channel_affine",
        "per_channel_symmetric",
        "per_channel_affine_float_qparams",
    ]
)


def qualified_name(node: Node) -> str:
    """The name a pickle asks for in Python 3's words; for a class of a legacy stream's own source the class's name."""
    if type(node) is Global:
        module = _PYTHON2_MODULES.get(node.module, node.module)
        name = f"{module}.{node.name}"
        return _PYTHON2_NAMES.get(name, name)
    inner = module_class(node)
    return qualified_name(inner) if inner is not None else ""


def raw_name(node: Node) -> str:
    """The name as written."""
    if type(node) is Global:
        return node.qualified
    inner = module_class(node)
    if inner is not None:
        return raw_name(inner)
    return f"{raw_name(node.function)}(…)" if type(node) is Call and type(node.function) is Global else "?"


def module_class(node: Node) -> Global | None:
    """The class in a legacy stream's ("module", class, source file, source text)."""
    items = module_items(node)
    return items[1] if items and type(items[1]) is Global else None


def module_items(node: Node) -> list[Node]:
    """The items of such a persistent id, else nothing."""
    if type(node) is not Persistent or type(node.id) is not Group:
        return []
    items = [item for _, item in elements(node.id)]
    return items if len(items) >= 2 and text_of(items[0]) == "module" else []


def type_name(node: Node) -> str:
    """Qualified type of what a node would become."""
    if type(node) is Const:
        return _CONST_TYPES.get(type(node.value), "builtins.object") if not node.undecodable else "builtins.str"
    if type(node) is Group:
        return f"builtins.{node.type}"
    if type(node) is Call:
        return qualified_name(node.function) or raw_name(node.function)
    return "torch.Tensor" if type(node) is TensorRecord else "builtins.object"


def leaf(node: Node) -> Leaf | None:
    """(qualified type, value) of a node that holds nothing to walk into, None for one that does."""
    kind = type(node)
    if kind is Const:
        return const_leaf(node)  # type: ignore[arg-type]
    if kind is Global:
        return _global_leaf(node)  # type: ignore[arg-type]
    if kind is Group:
        return _group_leaf(node)  # type: ignore[arg-type]
    if kind is Call:
        return _call_leaf(node)  # type: ignore[arg-type]
    if kind is Other:
        return ("builtins.object", "an object that is not in the pickle itself")
    if kind is Persistent and module_class(node) is None:
        return ("torch.storage.UntypedStorage", literal(node))
    if kind is Persistent:
        return ("builtins.type", raw_name(node))
    return None


def const_leaf(node: Const) -> Leaf:
    """(qualified type, value) of None, a bool, a number, a str or bytes."""
    value = node.value
    if node.undecodable and isinstance(value, (bytes, bytearray)):
        return ("builtins.str", bytes(value).decode("utf-8", "backslashreplace"))
    name = _CONST_TYPES.get(type(value), "builtins.object")
    if isinstance(value, float) and not math.isfinite(value):
        return (name, "nan" if math.isnan(value) else "inf" if value > 0 else "-inf")
    if isinstance(value, (bytes, bytearray)):
        return (name, _bytes_text(value))
    if type(value) is int and value.bit_length() > _LARGEST_INT_BITS:
        return (name, _int_text(value))
    return (name, value)


def key_step(node: Node) -> Step:
    """The step of a path for a mapping's key."""
    if type(node) is Const:
        value = node.value
        if type(value) is str:
            return value
        kind = _KEY_TYPES.get(type(value), "object") if not node.undecodable else "object"
        return TypedStep(kind, literal(node))
    if type(node) is Global and node.module == "torch" and node.name in _TORCH_DTYPES:
        return TypedStep("dtype", node.qualified)
    if type(node) is Group and node.type in ("tuple", "frozenset"):
        return TypedStep(node.type, literal(node))
    if type(node) is Call:
        found = leaf(node)
        if found is not None and found[0] == "torch.device":
            return TypedStep("device", str(found[1]))
        if found is not None and found[0] in ("builtins.bytes", "builtins.frozenset"):
            return TypedStep(found[0].removeprefix("builtins."), str(found[1]))
    return TypedStep("object", literal(node))


def literal(node: Node, depth: int = 0) -> str:
    """A text near the Python literal of a node: a few levels, a few hundred nodes, a few thousand characters.

    `depth` is 1 where the node stands inside something that is told already.
    """
    return _text(node, depth, [_MOST_NODES])


def _text(node: Node, depth: int, budget: list[int]) -> str:
    budget[0] -= 1
    if depth > _DEEPEST_TEXT or budget[0] < 0:
        return "…"
    if type(node) is Const:
        return _const_text(node)
    if type(node) is Global:
        return node.qualified
    if type(node) is Group:
        return _group_text(node, depth, budget)
    if type(node) is Call:
        found = _call_leaf(node) if depth == 0 else None
        return str(found[1]) if found is not None else _call_text(node, depth, budget)
    if type(node) is Persistent and type(node.id) is Group:
        items = [item for _, item in _first(elements(node.id))]
        return f"storage {text_of(items[2])}" if len(items) > 2 else "a persistent id"
    return "a tensor" if type(node) is TensorRecord else "…"


def _const_text(node: Const) -> str:
    value = node.value
    if isinstance(value, (bytes, bytearray)):
        text = _bytes_text(value)
        return f"bytearray({text})" if isinstance(value, bytearray) else text
    if type(value) is int:
        return _int_text(value)
    return _short(repr(value[: LONGEST_TEXT + 1] if isinstance(value, str) else value))


def numbers_of(node: Node) -> list[Any] | None:
    """The values of a long flat list or tuple of constants, which is told as one value; else None."""
    items = [item for _, item in elements(node)]
    if len(items) <= _LONG_SEQUENCE or not all(type(item) is Const for item in items):
        return None
    return [const_leaf(item)[1] for item in items if type(item) is Const]


_CONST_TYPES: Mapping[type, str] = {
    type(None): "builtins.NoneType",
    bool: "builtins.bool",
    int: "builtins.int",
    float: "builtins.float",
    str: "builtins.str",
    bytes: "builtins.bytes",
    bytearray: "builtins.bytearray",
}
_KEY_TYPES: Mapping[type, str] = {type(None): "none", bool: "bool", int: "int", float: "float", bytes: "bytes"}


def _global_leaf(node: Global) -> Leaf:
    if node.module == "torch" and node.name in _TORCH_DTYPES:
        return ("torch.dtype", node.qualified)
    if node.module == "torch" and node.name in _TORCH_QSCHEMES:
        return ("torch.qscheme", node.qualified)
    name = qualified_name(node)
    module, _, last = name.rpartition(".")
    if module == "builtins":
        if last in ("Ellipsis", "NotImplemented"):
            return ("builtins.ellipsis" if last == "Ellipsis" else "builtins.NotImplementedType", last)
        return ("builtins.type" if last in _BUILTIN_TYPES else "builtins.builtin_function_or_method", name)
    # Whether a name is a class or a function cannot be known without importing it; the spelling is all there is.
    return ("builtins.type" if last[:1].isupper() else "builtins.function", node.qualified)


def _group_leaf(node: Group) -> Leaf | None:
    if node.type in ("set", "frozenset"):
        return (f"builtins.{node.type}", literal(node))
    if node.type == "dict":
        return None if any(True for _ in pairs(node)) else ("builtins.dict", {})
    if not any(True for _ in elements(node)):
        return (f"builtins.{node.type}", [])
    numbers = numbers_of(node)
    return None if numbers is None else (f"builtins.{node.type}", numbers)


def _group_text(node: Group, depth: int, budget: list[int]) -> str:
    if node.type == "dict":
        entries = [
            f"{_text(key, depth + 1, budget)}: {_text(value, depth + 1, budget)}"
            for _, key, value in _first(pairs(node))
        ]
        return _short("{" + ", ".join(entries) + "}")
    items = [_text(item, depth + 1, budget) for _, item in _first(elements(node))]
    inside = ", ".join(items)
    if node.type == "list":
        return _short(f"[{inside}]")
    if node.type == "tuple":
        return _short(f"({inside},)" if len(items) == 1 else f"({inside})")
    inside = "{" + inside + "}" if items else ""
    return _short(f"frozenset({inside})" if node.type == "frozenset" else inside or "set()")


def _first(found: Any) -> list[Any]:
    """The first hundred of an iterator."""
    return [item for _, item in zip(range(100), found, strict=False)]


def _call_text(call: Call, depth: int, budget: list[int]) -> str:
    arguments = arguments_of(call)
    inside = ", ".join([_text(item, depth + 1, budget) for item in arguments[:20]])
    return _short(f"{raw_name(call.function)}({inside})")


def arguments_of(call: Call) -> list[Node]:
    """The arguments of a call, whichever opcode made it; keyword arguments as one dict node."""
    if call.kind in ("reduce", "newobj", "newobj_ex") and call.args and type(call.args[0]) is Group:
        return [*[item for _, item in elements(call.args[0])], *call.args[1:]]
    return list(call.args)


def _short(text: str) -> str:
    return text if len(text) <= LONGEST_TEXT else text[:LONGEST_TEXT] + f"… ({len(text):,} characters)"


def _bytes_text(value: bytes | bytearray) -> str:
    length = value.whole if isinstance(value, CutBytes) else len(value)
    if length <= LONGEST_TEXT:
        return repr(bytes(value))
    return f"{bytes(value[:LONGEST_TEXT])!r}… ({length:,} bytes)"


def _int_text(value: int) -> str:
    if value.bit_length() <= _LARGEST_INT_BITS:
        return str(value)
    return f"{hex(value)[:LONGEST_TEXT]}… (an int of {value.bit_length():,} bits)"


# Calls that make plain data. Each reader gets the arguments and the call, and returns None when they are not as
# expected: the call is then an inert object like any other.

Reader = Callable[[list[Node], Call], Leaf | None]


def _call_leaf(call: Call) -> Leaf | None:
    reader = _READERS.get(qualified_name(call.function))
    return None if reader is None else reader(arguments_of(call), call)


def _consts(arguments: list[Node]) -> list[Any] | None:
    values = [node.value for node in arguments if type(node) is Const]
    return values if len(values) == len(arguments) else None


def _size(arguments: list[Node], call: Call) -> Leaf | None:
    inner = arguments[0] if len(arguments) == 1 else None
    values = _consts([item for _, item in elements(inner)]) if type(inner) is Group else None
    return None if values is None else ("torch.Size", values)


def _device(arguments: list[Node], call: Call) -> Leaf | None:
    values = _consts(arguments)
    if not values or not isinstance(values[0], str):
        return None
    return ("torch.device", ":".join([str(value) for value in values[:2]]))


def _named_layout(arguments: list[Node], call: Call) -> Leaf | None:
    values = _consts(arguments)
    return ("torch.layout", values[0]) if values and isinstance(values[0], str) else None


def _encoded(arguments: list[Node], call: Call) -> Leaf | None:
    """`_codecs.encode(text, "latin1")`: how protocol 2 writes bytes."""
    value = _latin1(arguments)
    return None if value is None else ("builtins.bytes", _bytes_text(value))


def _latin1(arguments: list[Node]) -> bytes | None:
    values = _consts(arguments)
    if not values or not isinstance(values[0], str) or (len(values) > 1 and values[1] not in ("latin1", "latin-1")):
        return None
    try:
        return values[0].encode("latin-1")
    except UnicodeEncodeError:
        return None


def _bytearray(arguments: list[Node], call: Call) -> Leaf | None:
    value = _bytes_of(arguments[0]) if len(arguments) == 1 else _latin1(arguments) if arguments else b""
    return None if value is None else ("builtins.bytearray", f"bytearray({_bytes_text(value)})")


def _empty_bytes(arguments: list[Node], call: Call) -> Leaf | None:
    return None if arguments else ("builtins.bytes", "b''")


def _bytes_of(node: Node) -> bytes | None:
    """bytes, however the protocol wrote them."""
    if type(node) is Const and isinstance(node.value, (bytes, bytearray)):
        return bytes(node.value)
    if type(node) is Call and qualified_name(node.function) == "_codecs.encode":
        return _latin1(arguments_of(node))
    if type(node) is Call and qualified_name(node.function) == "builtins.bytes" and not arguments_of(node):
        return b""
    # A str of Python 2's protocol, read as text.
    return node.value.encode("latin-1", "ignore") if type(node) is Const and isinstance(node.value, str) else None


def _complex(arguments: list[Node], call: Call) -> Leaf | None:
    values = _consts(arguments)
    if not values or len(values) != 2 or not all(isinstance(value, float) for value in values):
        return None
    return ("builtins.complex", str(complex(values[0], values[1])))


def _plain(name: str, type_: str) -> Reader:
    """A call of numbers and texts, told as `name(…)`."""

    def read(arguments: list[Node], call: Call) -> Leaf | None:
        if _consts(arguments) is None:
            return None
        return (type_, f"{name}({', '.join([literal(item, 1) for item in arguments])})")

    return read


def _set(kind: str) -> Reader:
    def read(arguments: list[Node], call: Call) -> Leaf | None:
        if call.effects:
            return None
        if not arguments:
            return (f"builtins.{kind}", f"{kind}()")
        if type(arguments[0]) is not Group:
            return None
        inside = ", ".join([literal(item, 1) for _, item in _first(elements(arguments[0]))])
        text = "{" + inside + "}" if inside else ""
        return (f"builtins.{kind}", _short(f"frozenset({text})" if kind == "frozenset" else text or "set()"))

    return read


def _text_argument(type_: str) -> Reader:
    def read(arguments: list[Node], call: Call) -> Leaf | None:
        values = _consts(arguments)
        return (type_, values[0]) if values and isinstance(values[0], str) else None

    return read


def _path(separator: str, type_: str) -> Reader:
    def read(arguments: list[Node], call: Call) -> Leaf | None:
        values = _consts(arguments)
        if values is None or not all(isinstance(value, str) for value in values):
            return None
        joined = separator.join(values) or "."
        root = values[0] if values else ""
        # The first part of an absolute path is its root, which brings its own separator.
        return (type_, root + separator.join(values[1:]) if root.endswith(separator) else joined)

    return read


def _uuid(arguments: list[Node], call: Call) -> Leaf | None:
    for _, state in states(call):
        for _, key, value in pairs(state):
            number = value.value if type(value) is Const else None
            if text_of(key) == "int" and isinstance(number, int) and 0 <= number < 1 << 128:
                digits = f"{number:032x}"
                return (
                    "uuid.UUID",
                    "-".join([digits[a:b] for a, b in ((0, 8), (8, 12), (12, 16), (16, 20), (20, 32))]),
                )
    return None


def _date(arguments: list[Node], call: Call) -> Leaf | None:
    data = _bytes_of(arguments[0]) if arguments else None
    if data is None or len(data) != 4:
        return None
    return ("datetime.date", f"{data[0] * 256 + data[1]:04}-{data[2]:02}-{data[3]:02}")


def _datetime(arguments: list[Node], call: Call) -> Leaf | None:
    """Ten bytes: year (2), month, day, hour, minute, second, microsecond (3); then a time zone."""
    data = _bytes_of(arguments[0]) if arguments else None
    if data is None or len(data) != 10:
        return None
    micro = int.from_bytes(data[7:10], "big")
    text = f"{data[0] * 256 + data[1]:04}-{data[2] & 0x7F:02}-{data[3]:02} {data[4]:02}:{data[5]:02}:{data[6]:02}"
    text += f".{micro:06}" if micro else ""
    return ("datetime.datetime", f"{text} {literal(arguments[1], 1)}" if len(arguments) > 1 else text)


def _time_zone(arguments: list[Node], call: Call) -> Leaf | None:
    return ("datetime.timezone", literal(call, 1))


def _attribute(arguments: list[Node], call: Call) -> Leaf | None:
    """`getattr(cls, "NAME")`: how Python 3.11 writes an enum member, and others a nested class."""
    name = text_of(arguments[1]) if len(arguments) == 2 else None
    if name is None or type(arguments[0]) is not Global:
        return None
    return (qualified_name(arguments[0]), f"{arguments[0].qualified}.{name}")


def numpy_dtype(node: Node) -> str | None:
    """`<f4` out of `numpy.dtype("f4", False, True)` and its BUILD; None for a structured or object type."""
    if type(node) is not Call or qualified_name(node.function) != "numpy.dtype":
        return None
    arguments = arguments_of(node)
    name = text_of(arguments[0]) if arguments else None
    if name is None or name[:1] not in "biufcSUMmV" or not name[1:].isdigit():
        return None
    order = "|"
    for _, state in states(node):
        items = [item for _, item in elements(state)]
        order = (text_of(items[1]) if len(items) > 1 else None) or order
        if len(items) > 3 and not (type(items[3]) is Const and items[3].value is None):
            return None
    return (order if order in "<>|=" else "|") + name


NUMPY_NAMES: Mapping[str, str] = {
    "b1": "bool", "i1": "int8", "i2": "int16", "i4": "int32", "i8": "int64", "u1": "uint8", "u2": "uint16",
    "u4": "uint32", "u8": "uint64", "f2": "float16", "f4": "float32", "f8": "float64", "c8": "complex64",
    "c16": "complex128",
}  # fmt: skip
_STRUCT_CODES: Mapping[str, str] = {
    "b1": "?", "i1": "b", "i2": "h", "i4": "i", "i8": "q", "u1": "B", "u2": "H", "u4": "I", "u8": "Q", "f2": "e",
    "f4": "f", "f8": "d",
}  # fmt: skip


def _numpy_scalar(arguments: list[Node], call: Call) -> Leaf | None:
    """(dtype, bytes)."""
    dtype = numpy_dtype(arguments[0]) if len(arguments) == 2 else None
    data = _bytes_of(arguments[1]) if len(arguments) == 2 else None
    if dtype is None or data is None:
        return None
    name = NUMPY_NAMES.get(dtype[1:])
    code = _STRUCT_CODES.get(dtype[1:])
    if name is None or code is None or struct.calcsize("=" + code) != len(data):
        return (f"numpy.{name or 'generic'}", f"{dtype} {_bytes_text(data)}")
    (value,) = struct.unpack((">" if dtype[0] == ">" else "<") + code, data)
    if isinstance(value, float) and not math.isfinite(value):
        value = "nan" if math.isnan(value) else "inf" if value > 0 else "-inf"
    return (f"numpy.{name}", value)


def _numpy_array(arguments: list[Node], call: Call) -> Leaf | None:
    """REDUCE _reconstruct(ndarray, (0,), b"b"), then BUILD (1, shape, dtype, Fortran order, bytes)."""
    for _, state in states(call):
        items = [item for _, item in elements(state)]
        if len(items) == 5 and _bytes_of(items[4]) is not None:
            return ("numpy.ndarray", _array_text(items[2], items[1]))
    return None


def _numpy_buffer(arguments: list[Node], call: Call) -> Leaf | None:
    """Protocol 5: REDUCE _frombuffer(bytes, dtype, shape, order)."""
    return ("numpy.ndarray", _array_text(arguments[1], arguments[2])) if len(arguments) == 4 else None


def _array_text(dtype: Node, shape: Node) -> str:
    return f"an array of shape {literal(shape, 1)} and dtype {numpy_dtype(dtype) or _call_dtype_text(dtype)}"


def _call_dtype_text(node: Node) -> str:
    arguments = arguments_of(node) if type(node) is Call else []
    return (text_of(arguments[0]) if arguments else None) or "unknown"


def _dtype_leaf(arguments: list[Node], call: Call) -> Leaf | None:
    return ("numpy.dtype", numpy_dtype(call) or _call_dtype_text(call))


_READERS: Mapping[str, Reader] = {
    "torch.Size": _size,
    "torch.device": _device,
    "torch.serialization._get_layout": _named_layout,
    "_codecs.encode": _encoded,
    "builtins.bytes": _empty_bytes,
    "builtins.bytearray": _bytearray,
    "builtins.complex": _complex,
    "builtins.range": _plain("range", "builtins.range"),
    "builtins.slice": _plain("slice", "builtins.slice"),
    "builtins.getattr": _attribute,
    "builtins.set": _set("set"),
    "builtins.frozenset": _set("frozenset"),
    "decimal.Decimal": _text_argument("decimal.Decimal"),
    "fractions.Fraction": _text_argument("fractions.Fraction"),
    "uuid.UUID": _uuid,
    "datetime.date": _date,
    "datetime.datetime": _datetime,
    "datetime.timedelta": _plain("datetime.timedelta", "datetime.timedelta"),
    "datetime.timezone": _time_zone,
    "numpy._core.multiarray.scalar": _numpy_scalar,
    "numpy._core.multiarray._reconstruct": _numpy_array,
    "numpy._core.numeric._frombuffer": _numpy_buffer,
    "numpy.dtype": _dtype_leaf,
    **{
        f"{module}.{name}": _path("\\" if "Windows" in name else "/", f"pathlib.{name}")
        for module in ("pathlib", "pathlib._local")
        for name in ("Path", "PosixPath", "WindowsPath", "PurePath", "PurePosixPath", "PureWindowsPath")
    },
}
