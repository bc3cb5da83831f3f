"""The names that `torch.load(weights_only=True)` accepts without being told.

Facts: torch 2.13, `torch._weights_only_unpickler._get_allowed_globals`, asked of a process that imported only torch.
"""

from __future__ import annotations

from sdviewer.core.dtypes import DTYPES

_DTYPES = (DTYPES.keys() - {"f6_e2m3", "f6_e3m2"}) | {f"{sign}int{bits}" for sign in ("", "u") for bits in range(1, 8)}
_KINDS = ("BFloat16", "Byte", "Char", "Double", "Float", "Half", "Int", "Long", "Short")
_MORE_STORAGES = ("Bool", "ComplexDouble", "ComplexFloat")
_QUANTIZED = ("QInt32", "QInt8", "QUInt2x4", "QUInt4x2", "QUInt8")

TORCH_NAMES: frozenset[str] = frozenset(
    {
        "_codecs.encode",
        "builtins.bytearray",
        "builtins.complex",
        "builtins.set",
        "collections.Counter",
        "collections.OrderedDict",
        "torch.Size",
        "torch.Tensor",
        "torch._tensor._rebuild_from_type_v2",
        "torch._utils._rebuild_device_tensor_from_cpu_tensor",
        "torch._utils._rebuild_device_tensor_from_numpy",
        "torch._utils._rebuild_meta_tensor_no_storage",
        "torch._utils._rebuild_nested_tensor",
        "torch._utils._rebuild_parameter",
        "torch._utils._rebuild_parameter_with_state",
        "torch._utils._rebuild_qtensor",
        "torch._utils._rebuild_sparse_tensor",
        "torch._utils._rebuild_tensor",
        "torch._utils._rebuild_tensor_v2",
        "torch._utils._rebuild_tensor_v3",
        "torch._utils._rebuild_wrapper_subclass",
        "torch.device",
        "torch.nn.parameter.Parameter",
        "torch.per_channel_affine",
        "torch.per_channel_affine_float_qparams",
        "torch.per_channel_symmetric",
        "torch.per_tensor_affine",
        "torch.per_tensor_symmetric",
        "torch.serialization._get_layout",
        "torch.storage.TypedStorage",
        "torch.storage.UntypedStorage",
        # torch adds these itself when it is imported.
        "torch.distributed._mesh_layout._FlatLayout",
        "torch.distributed._mesh_layout._MeshLayout",
        "torch.nested._internal.nested_tensor.NestedTensor",
        "torch.nested._internal.nested_tensor._rebuild_njt",
    }
    | {f"torch.{dtype}" for dtype in _DTYPES}
    | {f"{module}.{kind}Storage" for module in ("torch", "torch.cuda") for kind in (*_KINDS, *_MORE_STORAGES)}
    | {f"torch.{kind}Storage" for kind in _QUANTIZED}
    | {f"{module}.{kind}Tensor" for module in ("torch", "torch.cuda") for kind in (*_KINDS, "Bool")}
    | {f"{module}.sparse.{kind}Tensor" for module in ("torch", "torch.cuda") for kind in _KINDS}
)
