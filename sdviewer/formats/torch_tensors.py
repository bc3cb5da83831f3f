"""What the rebuild functions of torch pickles say about a tensor, read and not called.

Facts: `torch._utils`, `torch._tensor`, `torch.storage` of torch 2.13 and older versions (docs/formats.md).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from sdviewer.core.checkpoint import TensorKind
from sdviewer.core.dtypes import DTYPES, DType
from sdviewer.pickles.nodes import Call, Const, Global, Group, Node, Persistent, TensorRecord, elements, pairs

TENSOR = "torch.Tensor"
PARAMETER = "torch.nn.parameter.Parameter"

_DEEPEST = 8
"""Rebuild calls inside one another: a parameter of a type of a tensor; a record can contain itself."""

_LARGEST = (1 << 63) - 1
"""torch counts elements in an int64."""

_STORAGE_DTYPES: Mapping[str, str] = {
    "DoubleStorage": "float64",
    "FloatStorage": "float32",
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "int64",
    "IntStorage": "int32",
    "ShortStorage": "int16",
    "CharStorage": "int8",
    "ByteStorage": "uint8",
    "BoolStorage": "bool",
    "ComplexDoubleStorage": "complex128",
    # What C++ calls the storages of types that Python has no storage class for: they stand in TorchScript archives.
    "ComplexHalfStorage": "complex32",
    **{f"UInt{bits}Storage": f"uint{bits}" for bits in (16, 32, 64)},
    **{f"{name.capitalize()}Storage": name for name in DTYPES if name.startswith("float8_")},
    "ComplexFloatStorage": "complex64",
    "QInt8Storage": "qint8",
    "QInt32Storage": "qint32",
    "QUInt8Storage": "quint8",
    "QUInt4x2Storage": "quint4x2",
    "QUInt2x4Storage": "quint2x4",
    "UntypedStorage": "uint8",
    "_UntypedStorage": "uint8",
}


class StorageRef(NamedTuple):
    """A persistent id of a storage.

    `numel` is in elements of `dtype`, of the whole storage; `shift` is where a view of it begins (torch < 0.5).
    """

    key: str
    dtype: DType
    location: str
    numel: int
    shift: int = 0


@dataclass(slots=True)
class Tensor:
    """One tensor as its rebuild call tells it.

    `size`, `stride`, `offset` are in elements. `storage` is None where it has no bytes of its own (meta, sparse);
    `parts` are then the tensors that it is made of. `state` are the Python attributes it carries. `also` are tensors
    that it needs besides, the scales of its channels.
    """

    dtype: str
    size: tuple[int, ...]
    stride: tuple[int, ...] | None
    offset: int | None
    storage: StorageRef | None
    requires_grad: bool | None
    kind: TensorKind = "tensor"
    cls: str = TENSOR
    location: str | None = None
    quant: Mapping[str, Any] | None = None
    flags: tuple[str, ...] = ()
    state: Node | None = None
    parts: tuple[tuple[str, Node], ...] = ()
    also: tuple[Tensor, ...] = ()


class Layout(NamedTuple):
    """`numel` in elements, `nbytes` logical; `reach` is how many bytes behind the offset the last element ends.

    `reach` is 0 where there is no element.
    """

    dtype: DType | None
    numel: int
    nbytes: int
    reach: int
    problem: str


class NotATensorError(Exception):
    """The call's arguments are not what its function takes; the message says which."""


def storage_dtype(name: str) -> DType | None:
    """The element type of a storage class; torch looks at the class's name alone, whatever its module."""
    return DTYPES.get(_STORAGE_DTYPES.get(name.rpartition(".")[2], ""))


def is_tensor(node: Node) -> bool:
    """Whether a node is a call of a rebuild function that we read."""
    if type(node) is TensorRecord:
        return True
    return type(node) is Call and type(node.function) is Global and node.function.qualified in REBUILD


def read_tensor(node: Node, depth: int = 0) -> Tensor:
    """The tensor that a record or a rebuild call stands for.

    Raises:
        NotATensorError: the arguments are not what the function takes.
    """
    if type(node) is TensorRecord:
        return _record(node)
    if type(node) is not Call or type(node.function) is not Global:
        raise NotATensorError("it is no call of a rebuild function")
    return _rebuild(node.function, _arguments(node), depth)


def layout_of(dtype: str, size: tuple[int, ...], stride: tuple[int, ...] | None, per_value: bool = False) -> Layout:
    """How many bytes a tensor counts and reaches; all in Python's unbounded ints.

    `per_value`: size and stride of a sub-byte type count values and not bytes (quantized types).
    """
    kind = DTYPES.get(dtype)
    if kind is None:
        return Layout(None, 0, 0, 0, f"its dtype {dtype} is unknown")
    if any(n < 0 for n in size):
        return Layout(kind, 0, 0, 0, "a size is negative")
    numel, last = 1, 0
    if 0 in size:
        numel = 0
    else:
        for n in size:
            numel *= n
            if numel > _LARGEST:
                return Layout(kind, 0, 0, 0, "its sizes multiply beyond 2**63 elements")
    nbytes = -(-numel * kind.itemsize // kind.per_byte) if per_value else numel * kind.itemsize
    if stride is None:
        return Layout(kind, numel, nbytes, 0, "")
    if len(stride) != len(size):
        return Layout(kind, numel, nbytes, 0, f"it has {len(size):,} sizes and {len(stride):,} strides")
    if any(step < 0 for step in stride):
        return Layout(kind, numel, nbytes, 0, "a stride is negative")
    if not numel:
        return Layout(kind, 0, 0, 0, "")
    for n, step in zip(size, stride, strict=True):
        last += (n - 1) * step
    reach = -(-(last + 1) * kind.itemsize // kind.per_byte) if per_value else (last + 1) * kind.itemsize
    if reach > _LARGEST:
        return Layout(kind, numel, nbytes, 0, "it reaches beyond 2**63 bytes")
    return Layout(kind, numel, nbytes, reach, "")


def read_storage(node: Node) -> StorageRef:
    """The storage that a persistent id names.

    Raises:
        NotATensorError: it is no persistent id of a storage.
    """
    if type(node) is not Persistent or type(node.id) is not Group:
        raise NotATensorError("its storage is no persistent id")
    items = [item for _, item in elements(node.id)]
    if len(items) < 5 or text_of(items[0]) != "storage":
        raise NotATensorError("its persistent id names no storage")
    if type(items[1]) is not Global:
        raise NotATensorError("its storage has no class")
    dtype = storage_dtype(items[1].name)
    if dtype is None:
        raise NotATensorError(f"its storage class {items[1].qualified} is unknown")
    key, location, numel = text_of(items[2]), text_of(items[3]), _whole(items[4])
    if key is None or numel is None:
        raise NotATensorError("its persistent id has no key or no number of elements")
    shift = 0
    if len(items) > 5 and type(items[5]) is Group:
        view = [item for _, item in elements(items[5])]
        shift = (_whole(view[1]) if len(view) > 1 else 0) or 0
    return StorageRef(key, dtype, location or "", numel, shift)


def text_of(node: Node) -> str | None:
    """A str, also one that Python 2 wrote as bytes, and an int as torch formats it into a name; else None."""
    if type(node) is not Const:
        return None
    value = node.value
    if isinstance(value, (bytes, bytearray)):
        return bytes(value).decode("utf-8", "surrogateescape")
    if type(value) is int:
        return str(value) if value.bit_length() < 1000 else None
    return value if isinstance(value, str) else None


def _record(record: TensorRecord) -> Tensor:
    dtype = storage_dtype(record.storage_class.name)
    if dtype is None:
        raise NotATensorError(f"its storage class {record.storage_class.qualified} is unknown")
    if record.function.qualified != "torch._utils._rebuild_tensor_v2":
        raise NotATensorError(f"it is made by {record.function.qualified}")
    storage = StorageRef(record.key, dtype, record.location, record.numel)
    return Tensor(
        dtype.name,
        record.size,
        record.stride,
        record.offset,
        storage,
        record.requires_grad,
        location=record.location,
    )


Arguments = list[Node]
Rebuild = Callable[[Arguments, int], Tensor]


def _rebuild(function: Global, arguments: Arguments, depth: int) -> Tensor:
    rebuild = REBUILD.get(function.qualified)
    if rebuild is None:
        raise NotATensorError(f"it is made by {function.qualified}")
    if depth > _DEEPEST:
        raise NotATensorError("its rebuild calls contain one another")
    return rebuild(arguments, depth + 1)


def _arguments(call: Call) -> Arguments:
    if call.kind != "reduce" or len(call.args) != 1 or type(call.args[0]) is not Group:
        raise NotATensorError("its rebuild function is not called with a tuple")
    return [item for _, item in elements(call.args[0])]


def _need(arguments: Arguments, n: int) -> None:
    if len(arguments) < n:
        raise NotATensorError(f"its rebuild function takes {n} arguments and has {len(arguments)}")


def _tensor(arguments: Arguments, depth: int) -> Tensor:
    """(storage, offset, size, stride); torch < 0.4, requires_grad unknown."""
    _need(arguments, 4)
    storage = read_storage(arguments[0])
    offset, size, stride = _whole(arguments[1]), _wholes(arguments[2]), _wholes(arguments[3])
    if offset is None or size is None or stride is None:
        raise NotATensorError("its offset, size or stride is no number")
    return Tensor(storage.dtype.name, size, stride, offset + storage.shift, storage, None, location=storage.location)


def _tensor_v2(arguments: Arguments, depth: int) -> Tensor:
    """(storage, offset, size, stride, requires_grad, backward_hooks[, metadata])."""
    _need(arguments, 6)
    tensor = _tensor(arguments, depth)
    tensor.requires_grad = _flag(arguments[4])
    tensor.flags = _flags(arguments[6]) if len(arguments) > 6 else ()
    return tensor


def _tensor_v3(arguments: Arguments, depth: int) -> Tensor:
    """(storage, offset, size, stride, requires_grad, backward_hooks, dtype[, metadata]); the storage is untyped."""
    _need(arguments, 7)
    tensor = _tensor(arguments, depth)
    tensor.requires_grad = _flag(arguments[4])
    tensor.dtype = _dtype(arguments[6])
    tensor.flags = _flags(arguments[7]) if len(arguments) > 7 else ()
    return tensor


def _parameter(arguments: Arguments, depth: int) -> Tensor:
    """(tensor, requires_grad, hooks)."""
    _need(arguments, 2)
    tensor = read_tensor(arguments[0], depth)
    tensor.requires_grad = _flag(arguments[1])
    if tensor.kind == "tensor":
        tensor.kind = "parameter"
    if tensor.cls == TENSOR:
        tensor.cls = PARAMETER
    return tensor


def _parameter_with_state(arguments: Arguments, depth: int) -> Tensor:
    """(tensor, requires_grad, hooks, state)."""
    _need(arguments, 4)
    tensor = _parameter(arguments, depth)
    tensor.state = arguments[3]
    return tensor


def _from_type(arguments: Arguments, depth: int) -> Tensor:
    """(func, cls, args, state): func is one of the others as data, and its result becomes a `cls`.

    A plain tensor that merely carries a Python attribute comes this way too.
    """
    _need(arguments, 4)
    function, cls, inner, state = arguments[:4]
    if type(function) is not Global or type(cls) is not Global or type(inner) is not Group:
        raise NotATensorError("its type is made of something else than a function, a class and arguments")
    tensor = _rebuild(function, [item for _, item in elements(inner)], depth)
    tensor.state = state
    if cls.qualified == PARAMETER:
        tensor.kind, tensor.cls = "parameter" if tensor.kind == "tensor" else tensor.kind, PARAMETER
    elif cls.qualified != TENSOR:
        tensor.kind, tensor.cls = "subclass" if tensor.kind in ("tensor", "parameter") else tensor.kind, cls.qualified
    return tensor


def _sparse(arguments: Arguments, depth: int) -> Tensor:
    """(layout, (indices, values, size[, is_coalesced])) or (layout, (compressed, plain, values, size))."""
    _need(arguments, 2)
    layout, data = _layout(arguments[0]), arguments[1]
    if type(data) is not Group:
        raise NotATensorError("its sparse data are no tuple")
    items = [item for _, item in elements(data)]
    names = _SPARSE_PARTS.get(layout)
    if names is None or len(items) <= len(names):
        raise NotATensorError(f"its layout {layout} is unknown")
    size = _wholes(items[len(names)])
    if size is None:
        raise NotATensorError("its size is no number")
    parts = tuple(zip(names, items, strict=False))
    values = read_tensor(items[len(names) - 1], depth)
    return Tensor(
        values.dtype,
        size,
        None,
        None,
        None,
        values.requires_grad,
        kind="sparse",
        location=values.location,
        parts=parts,
    )


_SPARSE_PARTS: Mapping[str, tuple[str, ...]] = {
    "torch.sparse_coo": ("indices", "values"),
    "torch.sparse_csr": ("crow_indices", "col_indices", "values"),
    "torch.sparse_csc": ("ccol_indices", "row_indices", "values"),
    "torch.sparse_bsr": ("crow_indices", "col_indices", "values"),
    "torch.sparse_bsc": ("ccol_indices", "row_indices", "values"),
}


def _quantized(arguments: Arguments, depth: int) -> Tensor:
    """(storage, offset, size, stride, quantizer_params, requires_grad, hooks).

    The params are (scheme, scale, zero_point) or, per channel, (scheme, scales, zero_points, axis) with two tensors.
    """
    _need(arguments, 6)
    tensor = _tensor(arguments, depth)
    params = [item for _, item in elements(arguments[4])] if type(arguments[4]) is Group else []
    scheme = params[0].qualified.removeprefix("torch.") if params and type(params[0]) is Global else ""
    if scheme in _PER_CHANNEL and len(params) > 3 and is_tensor(params[1]) and is_tensor(params[2]):
        scales, zero_points, axis = read_tensor(params[1], depth), read_tensor(params[2], depth), _whole(params[3])
        if axis is None:
            raise NotATensorError("its axis is no number")
        tensor.also = (scales, zero_points)
        tensor.quant = {
            "qscheme": scheme, "axis": axis, "scales": _place(scales), "zero_points": _place(zero_points)
        }  # fmt: skip
    elif scheme == "per_tensor_affine" and len(params) > 2:
        scale, zero_point = _number(params[1]), _whole(params[2])
        if scale is None or zero_point is None:
            raise NotATensorError("its scale or zero point is no number")
        if zero_point.bit_length() > 63:
            raise NotATensorError("its zero point is beyond 64 bits")
        tensor.quant = {"qscheme": scheme, "scale": scale, "zero_point": zero_point}
    else:
        raise NotATensorError(f"its quantization scheme {scheme or 'without a name'} is unknown")
    tensor.kind = "quantized"
    tensor.requires_grad = _flag(arguments[5])
    return tensor


_PER_CHANNEL = ("per_channel_affine", "per_channel_affine_float_qparams")


def _place(tensor: Tensor) -> dict[str, Any]:
    """Where a tensor lies, as JSON values."""
    if tensor.storage is None:
        raise NotATensorError("its scales or zero points have no bytes")
    return {
        "dtype": tensor.dtype,
        "shape": list(tensor.size),
        "stride": list(tensor.stride or ()),
        "storage_offset": tensor.offset,
        "storage": tensor.storage.key,
    }


def _nested(arguments: Arguments, depth: int) -> Tensor:
    """(buffer, sizes, strides, storage_offsets): components one after another; its shape is that of their buffer."""
    _need(arguments, 4)
    return _components(tuple(zip(("values", "sizes", "strides", "offsets"), arguments, strict=False)), depth)


def _jagged(arguments: Arguments, depth: int) -> Tensor:
    """(keyword arguments of NestedTensor,): `values`, `offsets`, `lengths` and what is no tensor."""
    _need(arguments, 1)
    found = {text_of(key): value for _, key, value in pairs(arguments[0])}
    names = ("values", "offsets", "lengths")
    if "values" not in found:
        raise NotATensorError("it is a nested tensor without values")
    return _components(
        tuple([(name, found[name]) for name in names if is_tensor(found.get(name, arguments[0]))]), depth
    )


def _components(parts: tuple[tuple[str, Node], ...], depth: int) -> Tensor:
    values = read_tensor(dict(parts)["values"], depth)
    return Tensor(
        values.dtype,
        values.size,
        None,
        None,
        None,
        values.requires_grad,
        kind="nested",
        location=values.location,
        parts=parts,
    )


def _wrapper(arguments: Arguments, depth: int) -> Tensor:
    """(cls, dtype, size, stride, offset, layout, device, requires_grad): the outside of a DTensor, a torchao tensor.

    What is inside are Python attributes, in the state that comes with it.
    """
    _need(arguments, 8)
    size, stride = _wholes(arguments[2]), _wholes(arguments[3])
    if size is None or stride is None or type(arguments[0]) is not Global:
        raise NotATensorError("its class, size or stride is not what it should be")
    cls = arguments[0].qualified
    return Tensor(_dtype(arguments[1]), size, stride, None, None, _flag(arguments[7]), kind="subclass", cls=cls)


def _on_device(arguments: Arguments, depth: int) -> Tensor:
    """(tensor, dtype, device, requires_grad): kept as one of the CPU, for a device that cannot be written."""
    _need(arguments, 4)
    tensor = read_tensor(arguments[0], depth)
    tensor.requires_grad = _flag(arguments[3])
    tensor.location = text_of(arguments[2]) or tensor.location
    return tensor


def _meta(arguments: Arguments, depth: int) -> Tensor:
    """(dtype, size, stride, requires_grad): no data at all."""
    _need(arguments, 4)
    size, stride = _wholes(arguments[1]), _wholes(arguments[2])
    if size is None or stride is None:
        raise NotATensorError("its size or stride is no number")
    dtype = _dtype(arguments[0])
    return Tensor(dtype, size, stride, None, None, _flag(arguments[3]), kind="meta", location="meta")


# One line for each function that makes a tensor; what is not here appears as an inert object.
REBUILD: Mapping[str, Rebuild] = {
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor_v2,
    "torch._utils._rebuild_tensor_v3": _tensor_v3,
    "torch._utils._rebuild_parameter": _parameter,
    "torch._utils._rebuild_parameter_with_state": _parameter_with_state,
    "torch._utils._rebuild_qtensor": _quantized,
    "torch._utils._rebuild_sparse_tensor": _sparse,
    "torch._utils._rebuild_sparse_csr_tensor": _sparse,
    "torch._utils._rebuild_nested_tensor": _nested,
    "torch.nested._internal.nested_tensor._rebuild_njt": _jagged,
    "torch._utils._rebuild_wrapper_subclass": _wrapper,
    "torch._utils._rebuild_device_tensor_from_cpu_tensor": _on_device,
    "torch._utils._rebuild_meta_tensor_no_storage": _meta,
    "torch._tensor._rebuild_from_type_v2": _from_type,
    "torch._tensor._rebuild_from_type": _from_type,
    # The module's name in files of torch 1.7 and 1.8.
    "torch.tensor._rebuild_from_type": _from_type,
}


def _whole(node: Node) -> int | None:
    return node.value if type(node) is Const and type(node.value) is int else None


def _number(node: Node) -> float | None:
    if type(node) is not Const or isinstance(node.value, bool) or not isinstance(node.value, (int, float)):
        return None
    return float(node.value) if isinstance(node.value, float) or node.value.bit_length() < 1000 else None


def _wholes(node: Node) -> tuple[int, ...] | None:
    """A tuple or list of ints, or a torch.Size of one."""
    if type(node) is Call and type(node.function) is Global and node.function.qualified == "torch.Size":
        node = node.args[0] if len(node.args) == 1 else node
        items = [item for _, item in elements(node)] if type(node) is Group else []
        node = items[0] if len(items) == 1 else node
    if type(node) is not Group:
        return None
    numbers = [item.value for _, item in elements(node) if type(item) is Const and type(item.value) is int]
    return tuple(numbers) if len(numbers) == sum(1 for _ in elements(node)) else None


def _flag(node: Node) -> bool | None:
    return node.value if type(node) is Const and isinstance(node.value, bool) else None


def _dtype(node: Node) -> str:
    name = node.qualified.removeprefix("torch.") if type(node) is Global else ""
    if name not in DTYPES:
        raise NotATensorError(f"its dtype {name or 'without a name'} is unknown")
    return name


def _layout(node: Node) -> str:
    """`torch.sparse_coo` out of `torch.serialization._get_layout("torch.sparse_coo")`."""
    if type(node) is Call and len(node.args) == 1 and type(node.args[0]) is Group:
        for _, item in elements(node.args[0]):
            return text_of(item) or ""
    return ""


def _flags(node: Node) -> tuple[str, ...]:
    """torch's lazy flags: {"conj": True}, {"neg": True}."""
    found = {text_of(key): _flag(value) for _, key, value in pairs(node)}
    return tuple([name for name in ("conj", "neg") if found.get(name)])
