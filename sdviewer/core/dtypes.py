"""The element types a checkpoint can hold: torch's, and the few that only containers have.

Facts: torch 2.13 (`torch.dtype`), safetensors 0.8 (dtype names), ml_dtypes 0.6 (NumPy types for what NumPy lacks).
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

Kind = Literal["float", "int", "uint", "bool", "complex", "float4", "quantized", "bits"]


@dataclass(frozen=True, slots=True)
class DType:
    """One element type.

    `itemsize` is in bytes for one stored element (for sub-byte types: for one byte-sized group of `per_byte` values).
    `numpy` is the little-endian NumPy type string, or the name in `ml_dtypes`, or "" where bytes are all there is.
    `short` is what a narrow column shows. `safetensors` is that container's name or "".
    """

    name: str
    itemsize: int
    kind: Kind
    numpy: str
    short: str
    safetensors: str = ""
    per_byte: int = 1


_TABLE = (
    DType("float64", 8, "float", "<f8", "f64", "F64"),
    DType("float32", 4, "float", "<f4", "f32", "F32"),
    DType("float16", 2, "float", "<f2", "f16", "F16"),
    DType("bfloat16", 2, "float", "bfloat16", "bf16", "BF16"),
    DType("float8_e4m3fn", 1, "float", "float8_e4m3fn", "f8e4m3", "F8_E4M3"),
    DType("float8_e5m2", 1, "float", "float8_e5m2", "f8e5m2", "F8_E5M2"),
    DType("float8_e4m3fnuz", 1, "float", "float8_e4m3fnuz", "f8e4m3z", "F8_E4M3FNUZ"),
    DType("float8_e5m2fnuz", 1, "float", "float8_e5m2fnuz", "f8e5m2z", "F8_E5M2FNUZ"),
    DType("float8_e8m0fnu", 1, "float", "float8_e8m0fnu", "f8e8m0", "F8_E8M0"),
    DType("float4_e2m1fn_x2", 1, "float4", "float4_e2m1fn", "f4e2m1", "F4", per_byte=2),
    DType("complex128", 16, "complex", "<c16", "c128"),
    DType("complex64", 8, "complex", "<c8", "c64", "C64"),
    DType("complex32", 4, "complex", "complex32", "c32"),
    DType("int64", 8, "int", "<i8", "i64", "I64"),
    DType("int32", 4, "int", "<i4", "i32", "I32"),
    DType("int16", 2, "int", "<i2", "i16", "I16"),
    DType("int8", 1, "int", "|i1", "i8", "I8"),
    DType("uint8", 1, "uint", "|u1", "u8", "U8"),
    DType("uint16", 2, "uint", "<u2", "u16", "U16"),
    DType("uint32", 4, "uint", "<u4", "u32", "U32"),
    DType("uint64", 8, "uint", "<u8", "u64", "U64"),
    DType("bool", 1, "bool", "|u1", "bool", "BOOL"),
    DType("qint8", 1, "quantized", "|i1", "qi8"),
    DType("quint8", 1, "quantized", "|u1", "qu8"),
    DType("qint32", 4, "quantized", "<i4", "qi32"),
    DType("quint4x2", 1, "quantized", "", "qu4", per_byte=2),
    DType("quint2x4", 1, "quantized", "", "qu2", per_byte=4),
    DType("bits8", 1, "bits", "", "b8"),
    DType("bits16", 2, "bits", "", "b16"),
    DType("bits1x8", 1, "bits", "", "b1x8"),
    DType("bits2x4", 1, "bits", "", "b2x4"),
    DType("bits4x2", 1, "bits", "", "b4x2"),
    # Types of safetensors that torch lacks: six bits a value, packed; only their bytes are shown.
    DType("f6_e2m3", 1, "bits", "", "f6e2m3", "F6_E2M3"),
    DType("f6_e3m2", 1, "bits", "", "f6e3m2", "F6_E3M2"),
)

DTYPES = MappingProxyType({dtype.name: dtype for dtype in _TABLE})
"""Name without `torch.` -> DType."""

FLOATING = frozenset(name for name, known in DTYPES.items() if known.kind in ("float", "complex", "float4"))
"""The types that weights have: no counter, no index and nothing packed is of one."""

SAFETENSORS_DTYPES = MappingProxyType({dtype.safetensors: dtype for dtype in _TABLE if dtype.safetensors})
"""Name in a safetensors header -> DType."""
