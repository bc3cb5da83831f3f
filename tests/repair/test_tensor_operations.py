from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from sdviewer.core.arrays import array_type
from sdviewer.core.dtypes import DTYPES
from sdviewer.errors import NoMatch, UsageError
from sdviewer.repair.operations import Cast, Clone, Tie
from sdviewer.repair.operations.cast import TARGETS, cast_loss
from sdviewer.repair.operations.tensor_operation import Entry
from sdviewer.repair.plan import Computed, Expression, Kept
from sdviewer.repair.transforms import Cast as Casting
from tests.repair.arrays import applied
from tests.repair.evaluated import entries_of, evaluated

FLOATS = ("float64", "float32", "float16", "bfloat16", "float8_e4m3fn", "float8_e5m2")


def _values() -> torch.Tensor:
    """Numbers around every place where a float type rounds or ends."""
    numbers = torch.randn(2000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    steps = 10.0 ** torch.linspace(-9, 9, 2000, dtype=torch.float64)
    edges = [0.0, -0.0, 448, 449, 464.1, 57344, 65504, 65519.9, 65520, 1e39, float("inf"), -float("inf")]
    edges += [1 + 2**-9 + 2**-40, 1 + 2**-11, 2.0**-24, 2.0**-25, 3 * 2.0**-11]
    return torch.cat([numbers * steps, torch.tensor(edges, dtype=torch.float64)])


def _array(tensor: torch.Tensor, dtype: str) -> NDArray[np.generic]:
    raw: NDArray[np.generic] = tensor.contiguous().view(torch.uint8).numpy().view(array_type(dtype))
    return raw


@pytest.mark.parametrize("new", TARGETS)
@pytest.mark.parametrize("old", FLOATS)
def test_that_a_cast_gives_the_bits_that_torch_gives(old: str, new: str) -> None:
    tensor = _values().to(getattr(torch, old))
    if DTYPES[new].kind in ("int", "uint"):
        # What lies outside the range is undefined in torch too.
        tensor = tensor.float().nan_to_num(0).clamp(0, 100).to(getattr(torch, old))
    wanted = _array(tensor.to(getattr(torch, new)), new)
    found = Casting(new).compute([_array(tensor, old)])
    assert found.dtype == array_type(new)
    both_nan = np.zeros(len(found), bool) if found.dtype.kind in "iub" else np.isnan(wanted) & np.isnan(found)
    assert np.array_equal(np.where(both_nan, wanted, found).view(np.uint8), wanted.view(np.uint8))


def test_that_complex_numbers_lose_their_imaginary_part_and_integers_become_floats_as_in_torch() -> None:
    z = torch.complex(torch.tensor([1.5, -2.0]), torch.tensor([9.0, 0.0]))
    assert Casting("float32").compute([_array(z, "complex64")]).tolist() == [1.5, -2.0]
    big = torch.tensor([2**53 + 1, -(2**31), 70000])
    assert np.array_equal(Casting("float16").compute([_array(big, "int64")]), _array(big.half(), "float16"))
    assert Casting("bool").compute([np.array([0.0, 0.5, np.nan])]).tolist() == [False, True, True]


@pytest.mark.parametrize("old", TARGETS)
@pytest.mark.parametrize("new", TARGETS)
def test_that_a_cast_that_is_said_to_lose_nothing_loses_nothing(old: str, new: str) -> None:
    raw = np.random.default_rng(1).integers(0, 256, 4096 * DTYPES[old].itemsize, np.uint8)
    if old == "bool":
        raw &= 1
    tensor = torch.from_numpy(raw).view(getattr(torch, old))
    if cast_loss(DTYPES[old], DTYPES[new]):
        return
    there = tensor.to(getattr(torch, new))
    back = (
        (there.real if there.is_complex() and not tensor.is_complex() else there).to(getattr(torch, old)).contiguous()
    )
    same = back.view(torch.uint8) == tensor.view(torch.uint8)
    same = same.view(len(tensor), -1).all(1)
    if tensor.is_floating_point() or tensor.is_complex():
        same |= tensor.to(torch.complex128).isnan()  # a NaN stays one, with other bits
    assert same.all()


def test_that_powers_of_two_are_all_true() -> None:
    scales = torch.tensor([0, 1, 127, 255], dtype=torch.uint8).view(torch.float8_e8m0fnu)
    assert applied(Cast(dtype="bool", of="all"), {"w": scales})["w"].tolist() == scales.bool().tolist()


def test_that_a_cast_takes_floats_and_leaves_integers_unless_all_are_asked_for() -> None:
    entries = entries_of({"w": (np.float32, (2, 3)), "steps": (np.int64, ()), "name": None})
    changes = Cast(dtype="float16").plan_entries(entries)
    assert [(e.key, e.dtype) for output in changes.outputs for e in output] == [
        ("w", "float16"),
        ("steps", "int64"),
        ("name", ""),
    ]
    everything = Cast(dtype="float16", of="all").plan_entries(entries)
    assert [e.dtype for output in everything.outputs for e in output] == ["float16", "float16", ""]
    assert [warning.code for warning in changes.warnings] == ["lossy_cast"]


def test_that_a_step_on_tensors_sees_only_the_keys_it_is_restricted_to() -> None:
    entries = entries_of({"a.w": (np.float32, (2,)), "b.w": (np.float32, (2,))})
    changes = Cast(dtype="float16", keys=("b.*",)).plan_entries(entries)
    assert [e.dtype for output in changes.outputs for e in output] == ["float32", "float16"]
    assert changes.matched == 1


def test_that_a_dtype_that_cannot_be_computed_is_refused() -> None:
    for dtype in ("float31", "complex32", "qint8", "float8_e8m0fnu", ""):
        with pytest.raises(UsageError):
            Cast(dtype=dtype)


def test_that_a_tensor_that_cannot_be_computed_with_stops_the_cast_unless_it_is_left_out() -> None:
    entries = [*entries_of({"w": (np.float32, (2,))}), Entry("q", Kept(1), (2,), "float32", "it is a sparse tensor")]
    refusal = Cast(dtype="float16").plan_entries(entries).refusal
    assert refusal is not None and refusal.key == "q" and "sparse" in refusal.message
    assert Cast(dtype="float16", keys=("w",)).plan_entries(entries).refusal is None


def test_that_a_tie_puts_one_tensor_under_several_keys() -> None:
    entries = entries_of({"a": (np.float32, (2,)), "b": (np.float32, (2,)), "c": (np.float32, (3,))})
    changes = Tie(source="c", to=("a", "new")).plan_entries(entries)
    flat = [e for output in changes.outputs for e in output]
    assert [e.key for e in flat] == ["a", "b", "c", "new"]
    assert flat[0].value == flat[2].value == flat[3].value == Kept(2)
    assert flat[0].shape == (3,)


def test_that_a_tie_to_nothing_is_refused() -> None:
    changes = Tie(source="x", to=("a",)).plan_entries(entries_of({"a": (np.float32, (2,))}))
    assert isinstance(changes.refusal, NoMatch)


def test_that_clones_of_one_tensor_are_two_tensors() -> None:
    values: list[Expression] = []
    for key in ("a", "b"):
        (output,) = Clone().plan_entries([Entry(key, Kept(0), (2,), "float32")]).outputs
        values.append(output[0].value)
    assert isinstance(values[0], Computed) and values[0] != values[1]
    assert evaluated(values[0], {0: np.float32([1, 2])}).tolist() == [1, 2]
