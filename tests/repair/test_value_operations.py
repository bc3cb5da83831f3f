from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch.nn.utils import parametrizations, parametrize, prune, spectral_norm, weight_norm

from sdviewer.errors import KeyCollision, NoMatch, RepairError, UsageError
from sdviewer.repair.elements import element, exact
from sdviewer.repair.operations import (
    Add,
    Broadcast,
    Cast,
    Clean,
    Edit,
    Prune,
    Rows,
    Scale,
    SpectralNorm,
    Unstack,
    Untie,
    WeightNorm,
)
from sdviewer.repair.operations.tensor_operation import Entry, TensorOperation
from sdviewer.repair.plan import Computed, Kept
from sdviewer.repair.transforms import AT_ONCE, New
from tests.repair.arrays import applied, array_of, refused, same

FLOATS = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
SMALL = (torch.float8_e4m3fn, torch.float8_e5m2)


def _ulps(found: torch.Tensor, wanted: torch.Tensor) -> int:
    """The most places that lie between two tensors of floats."""
    size = {8: np.int64, 4: np.int32, 2: np.int16}[found.element_size()]
    a, b = [array_of(one).view(size).astype(np.int64) for one in (found, wanted)]
    lowest = -(2 ** (8 * found.element_size() - 1))
    a, b = [np.where(one < 0, lowest - one, one) for one in (a, b)]
    return int(np.abs(a - b).max(initial=0))


# rows


@pytest.mark.parametrize("dtype", FLOATS)
def test_that_new_rows_are_the_mean_of_the_others(dtype: torch.dtype) -> None:
    table = torch.randn(50, 7, generator=torch.Generator().manual_seed(1)).to(dtype)
    found = applied(Rows(pad=2, fill="mean"), {"w": table})["w"]
    mean = table.double().mean(0).to(dtype)
    assert same(found[:50], table) and _ulps(found[50], mean) <= 1 and same(found[50], found[51])


def test_that_new_rows_are_copies_numbers_or_zeros_where_they_are_wanted() -> None:
    table = torch.arange(6).reshape(3, 2)
    assert applied(Rows(pad=1, fill="copy:-1", at=0), {"w": table})["w"].tolist()[0] == [4, 5]
    assert applied(Rows(pad=1, fill=7), {"w": table})["w"].tolist()[3] == [7, 7]
    assert applied(Rows(pad=1, fill=-1, dim=1), {"w": table})["w"][:, 2].tolist() == [-1, -1, -1]
    assert applied(Rows(delete=(0, -1)), {"w": table})["w"].tolist() == [[2, 3]]
    half = applied(Rows(pad=1, fill=0.1), {"w": torch.ones(1, 1).half()})["w"]
    assert half[1].item() == torch.tensor(0.1).half().item()
    for operation in (Rows(pad=1, fill="mean"), Rows(pad=1, fill=300), Rows(pad=1, fill="copy:9")):
        assert refused(operation, {"w": torch.ones(2, 2, dtype=torch.int8)}).key == "w"


# add


def test_that_a_tensor_is_added_where_it_is_asked_for() -> None:
    state_dict = {"head.weight": torch.ones(10, 4).half(), "last": torch.ones(1)}
    found = applied(Add(key="head.bias", like="head.weight[0]", after="head.weight"), state_dict)
    assert list(found) == ["head.weight", "head.bias", "last"] and same(found["head.bias"], torch.zeros(10).half())
    found = applied(Add(key="n", fill=2.5, shape=(), dtype="float64"), state_dict)
    assert list(found)[-1] == "n" and same(found["n"], torch.tensor(2.5, dtype=torch.float64))
    assert same(applied(Add(key="p", fill="arange", shape=(1, 5)), state_dict)["p"], torch.arange(5).reshape(1, 5))
    assert applied(Add(key="x", like="head.weight[-1, 0]", fill="ones"), state_dict)["x"].shape == (4, 10)


def test_that_what_cannot_be_added_is_refused() -> None:
    state_dict = {"w": torch.ones(10, 4)}
    assert isinstance(refused(Add(key="w", shape=(1,)), state_dict), KeyCollision)
    for operation in (Add(key="x", like="y"), Add(key="x", shape=(1,), after="y"), Add(key="x", like="w[2]")):
        assert isinstance(refused(operation, state_dict), RepairError)
    assert "int8" in refused(Add(key="x", fill="arange", shape=(129,), dtype="int8"), state_dict).message
    assert applied(Add(key="x", fill="arange", shape=(128,), dtype="int8"), state_dict)["x"][-1] == 127
    assert "float16" in refused(Add(key="x", fill="arange", shape=(2050,), dtype="float16"), state_dict).message
    for make in (
        lambda: Add(key="x"),
        lambda: Add(key="x", shape=(1,), like="w"),
        lambda: Add(key="x", shape=(1,), fill="noise"),
        lambda: Add(key="x", shape=(1,), seed=3),
        lambda: Add(key="x", shape=(1,), dtype="float31"),
    ):
        with pytest.raises(UsageError):
            make()


def test_that_random_numbers_are_the_same_for_a_seed() -> None:
    wanted = np.random.RandomState(7).standard_normal(3_000_000) * 0.02 + 1
    state_dict = {"w": torch.ones(1)}
    add = Add(key="x", fill="normal", shape=(3000, 1000), mean=1.0, std=0.02, seed=7)
    assert same(applied(add, state_dict)["x"], torch.from_numpy(wanted).float().reshape(3000, 1000))
    # (the first of seed 0, as NumPy has documented it for years)
    first = applied(Add(key="x", fill="normal", shape=(2,), dtype="float64"), state_dict)["x"]
    assert first.tolist() == [1.764052345967664, 0.4001572083672233]
    assert applied(Add(key="x", fill="normal", shape=(2,), dtype="complex64"), state_dict)["x"].shape == (2,)


def test_that_a_new_tensor_comes_in_pieces_that_are_those_of_the_whole() -> None:
    shape, many = (AT_ONCE + 3, 2), 2 * AT_ONCE + 6
    for fill, dtype in (("normal", "float16"), ("normal", "complex64"), ("arange", "int32"), (0.5, "float8_e5m2")):
        add = Add(key="x", fill=fill, shape=shape, dtype=dtype)
        value = add.plan_entries([Entry("w", Kept(0), (2,), "float32")]).outputs[0][1].value
        assert isinstance(value, Computed) and isinstance(value.transform, New)
        whole = value.transform.compute([]).reshape(-1)
        for first, count in ((0, many), (5, 9), (AT_ONCE - 2, AT_ONCE + 4), (many - 1, 1)):
            pieces = list(value.transform.pieces(first, count))
            assert max(piece.size for piece in pieces) <= AT_ONCE
            assert np.concatenate(pieces).tobytes() == whole[first : first + count].tobytes(), (fill, dtype, first)


@pytest.mark.parametrize("number", [10**400, 2**64, -(2**63) - 1, "9" * 400])
def test_that_a_number_that_nothing_holds_is_refused_and_never_becomes_another(number: int | str) -> None:
    for make in (lambda: Edit(key="w", at=(0,), value=number), lambda: Add(key="n", fill=number, shape=(1,))):
        with pytest.raises(UsageError):
            make()


def test_that_two_added_tensors_are_not_one() -> None:
    entry = Entry("w", Kept(0), (2,), "float32")
    made = [Add(key=key, shape=(2,)).plan_entries([entry]).outputs[0][1].value for key in ("a", "b")]
    assert made[0] != made[1]


# broadcast, untie


def test_that_a_tensor_is_copied_into_every_block() -> None:
    state_dict = {"t": torch.ones(2), "blocks.0.w": torch.zeros(1), "blocks.0.t": torch.zeros(9)}
    state_dict |= {"blocks.10.w": torch.zeros(1), "blocks.10.v": torch.zeros(1), "head": torch.zeros(1)}
    found = applied(Broadcast(source="t", to="blocks.{i}.t"), state_dict)
    assert list(found) == ["t", "blocks.0.w", "blocks.0.t", "blocks.10.w", "blocks.10.v", "blocks.10.t", "head"]
    assert same(found["blocks.0.t"], state_dict["t"]) and same(found["blocks.10.t"], state_dict["t"])
    assert isinstance(refused(Broadcast(source="x", to="blocks.{i}.t"), state_dict), NoMatch)
    assert isinstance(refused(Broadcast(source="t", to="layers.{i}.t"), state_dict), NoMatch)
    with pytest.raises(UsageError):
        Broadcast(source="t", to="blocks.0.{p}")


@pytest.mark.parametrize("tied", [True, False])
def test_that_copies_are_one_tensor_only_where_that_is_asked_for(tied: bool) -> None:
    entries = [Entry(key, Kept(i), (2,), "float32") for i, key in enumerate(("t", "b.0.w", "b.1.w"))]
    outputs = Broadcast(source="t", to="b.{i}.t", tied=tied).plan_entries(entries).outputs
    values = {entry.value for output in outputs for entry in output if entry.key in ("t", "b.0.t", "b.1.t")}
    assert len(values) == (1 if tied else 3)


def test_that_untie_touches_only_what_is_tied() -> None:
    entries = [
        Entry(key, Kept(i), (2,), "float32", tied=tie) for i, (key, tie) in enumerate(zip("abcd", "ttuv", strict=True))
    ]
    values = [output[0].value for output in Untie().plan_entries(entries).outputs]
    assert [isinstance(value, Computed) for value in values] == [True, True, False, False]
    values = [output[0].value for output in Untie(keys=("b", "c")).plan_entries(entries).outputs]
    assert [isinstance(value, Computed) for value in values] == [False, True, False, False]


# edit


@pytest.mark.parametrize("dtype", [*FLOATS, torch.int16, torch.complex64])
def test_that_one_cell_a_slice_or_all_cells_are_written(dtype: torch.dtype) -> None:
    tensor = torch.arange(6).reshape(2, 3).to(dtype)
    wanted = tensor.clone()
    wanted[1, -1] = 9
    assert same(applied(Edit(key="w", at=(1, -1), value=9), {"w": tensor})["w"], wanted)
    wanted[0] = torch.tensor([7, 8, 9])
    assert same(applied(Edit(key="w", at=(0,), values=(7, 8, 9)), {"w": wanted})["w"], wanted)
    wanted[1] = 5
    assert same(applied(Edit(key="w", at=(1,), value=5), {"w": wanted})["w"], wanted)
    assert applied(Edit(key="n", value=3), {"n": tensor[0, 0]})["n"].item() == 3
    whole = applied(Edit(key="w", values=tuple(range(6, 12))), {"w": tensor})["w"]
    assert same(whole, torch.arange(6, 12).reshape(2, 3).to(dtype))
    assert tensor[0, 0] == 0


@pytest.mark.parametrize(
    ("operation", "said"),
    [
        (Edit(key="x", value=1), "no such key"),
        (Edit(key="w", value=1), "which cell"),
        (Edit(key="w", at=(2,), value=1), "no index 2"),
        (Edit(key="w", at=(0, 0, 0), value=1), "3 indexes"),
        (Edit(key="w", values=(1, 2)), "2 numbers for 6 cells"),
        (Edit(key="w", at=(0, 0), value=0.1), "0.1 cannot be held by float32 exactly"),
        (Edit(key="w", at=(0, 0), value=1e39, rounded=True), "whose largest is"),
        (Edit(key="i", at=(0,), value=1.5), "whole numbers"),
        (Edit(key="i", at=(0,), value=128, rounded=True), "-128 to 127"),
        (Edit(key="i", at=(0,), value="nan", rounded=True), "whole numbers"),
        (Edit(key="w", at=(0, 0), value="1+1j"), "no imaginary part"),
    ],
)
def test_that_what_cannot_be_written_is_refused(operation: TensorOperation, said: str) -> None:
    state_dict = {"w": torch.zeros(2, 3), "i": torch.zeros(2, dtype=torch.int8)}
    assert said in refused(operation, state_dict).message


def test_that_a_number_is_rounded_where_that_is_asked_for() -> None:
    found = applied(Edit(key="w", at=(0,), value=0.1, rounded=True), {"w": torch.zeros(1)})["w"]
    assert same(found, torch.tensor([0.1]))
    found = applied(Edit(key="i", at=(0,), value=2.5, rounded=True), {"i": torch.zeros(1, dtype=torch.int8)})["i"]
    assert found.item() == 2
    for word in ("nan", "inf", "-inf"):
        found = applied(Edit(key="w", at=(0,), value=word), {"w": torch.zeros(1)})["w"]
        assert same(found, torch.tensor([float(word)]))
    with pytest.raises(UsageError):
        Edit(key="w", value="many")


@settings(deadline=None)
@given(
    st.floats() | st.integers(-(2**63), 2**64 - 1),
    st.sampled_from([*FLOATS, *SMALL, torch.int64, torch.uint8, torch.bool]),
)
def test_that_an_exact_number_is_exact_and_a_refused_one_is_not_there(value: float, dtype: torch.dtype) -> None:
    name = str(dtype).removeprefix("torch.")
    raw: bytes | None
    try:
        raw = element(str(value) if isinstance(value, float) and not np.isfinite(value) else value, name)
    except RepairError:
        raw = None
    try:
        nearest = torch.tensor([value], dtype=torch.float64 if dtype.is_floating_point else torch.int64).to(dtype)
    except (OverflowError, ValueError, RuntimeError, TypeError):
        assert raw is None
        return
    back = nearest.item()
    exact = back == value or (back != back and value != value)
    if dtype == torch.bool:
        exact = value in (0, 1)
    assert (raw is not None) == exact
    if raw is not None and back == back:
        assert raw == array_of(nearest).tobytes()


# clean, scale


@pytest.mark.parametrize("dtype", [*FLOATS, torch.complex64])
def test_that_clean_is_nan_to_num(dtype: torch.dtype) -> None:
    tensor = torch.tensor([1.5, float("nan"), float("inf"), -float("inf"), -0.0]).to(dtype)
    if dtype.is_complex:
        tensor = torch.complex(tensor.real, tensor.real.flip(0))
    assert same(applied(Clean(), {"w": tensor})["w"], tensor.nan_to_num())
    found = applied(Clean(nan=0.1, posinf=2.0, neginf=-3.0), {"w": tensor})["w"]
    assert same(found, tensor.nan_to_num(0.1, 2.0, -3.0))
    assert "whose largest" in refused(Clean(posinf=1e300), {"w": torch.ones(1)}).message


def test_that_clean_and_scale_leave_integers_as_they_are() -> None:
    state_dict = {"i": torch.arange(3), "b": torch.tensor([True])}
    for operation in (Clean(), Scale(factor=2.0)):
        assert all(same(found, state_dict[key]) for key, found in applied(operation, state_dict).items())


def test_that_powers_of_two_that_have_no_zero_are_not_cleaned_with_one() -> None:
    scales = torch.tensor([127, 255, 0], dtype=torch.uint8).view(torch.float8_e8m0fnu)
    assert "powers of two" in refused(Clean(), {"w": scales}).message
    assert "no sign" in refused(Clean(nan=-1.0), {"w": scales}).message


def test_that_sparse_integers_are_left_by_what_is_about_floats_alone() -> None:
    entries = [Entry("i", Kept(0), (3, 3), "int64", "it is a sparse tensor")]
    for operation in (Cast(dtype="float16"), Clean(), Scale(factor=2.0)):
        changes = operation.plan_entries(entries)
        assert changes.refusal is None and changes.outputs == [(entries[0],)]
        assert operation.plan_entries([entries[0]._replace(dtype="float32")]).refusal is not None


def test_that_rows_with_infinities_are_averaged_without_a_word() -> None:
    rows = torch.tensor([[1.0, float("inf")], [3.0, -float("inf")]])
    found = applied(Rows(pad=1, fill="mean"), {"w": rows})["w"]
    assert found[2, 0] == 2 and found[2, 1].isnan()


def test_that_rows_of_a_tensor_that_is_only_said_to_be_large_cost_nothing_to_plan() -> None:
    entry = Entry("w", Kept(0), (1 << 50, 2), "float32")
    for operation in (Rows(reverse=True), Rows(delete=(0, -1)), Rows(take=(5,))):
        assert operation.plan_entries([entry]).refusal is None
    refusal = Unstack(source="w", into="w.{i}").plan_entries([entry]).refusal
    assert refusal is not None and "a key of its own" in refusal.message


@pytest.mark.parametrize(
    ("array", "dtype"),
    [
        (np.array([1.1 + 2.3j], np.complex64), "complex64"),
        (np.array([complex(1, -0.0), complex(-0.0, 0.0), complex(-0.0, -0.0)], np.complex128), "complex128"),
        (np.array([complex(float("nan"), -float("inf"))], np.complex64), "complex64"),
        (np.array([0.1, -0.0], np.float32), "float32"),
    ],
)
def test_that_a_number_as_a_recipe_holds_it_gives_the_same_bytes(array: NDArray[Any], dtype: str) -> None:
    for one in array:
        assert element(exact(one.tobytes(), dtype), dtype) == one.tobytes()


@pytest.mark.parametrize("dtype", [*FLOATS, torch.complex64])
def test_that_scale_gives_the_bits_that_torch_gives(dtype: torch.dtype) -> None:
    tensor = torch.randn(5000, generator=torch.Generator().manual_seed(2)).to(dtype)
    for factor in (0.1, 1 / 3, -7.0, 1e-8):
        assert same(applied(Scale(factor=factor), {"w": tensor})["w"], tensor * factor)


@pytest.mark.parametrize("dtype", [*SMALL, torch.float8_e4m3fnuz, torch.float8_e5m2fnuz])
def test_that_small_floats_are_multiplied_in_float32_and_rounded_once(dtype: torch.dtype) -> None:
    tensor = torch.randn(5000, generator=torch.Generator().manual_seed(2)).to(dtype)
    for factor in (0.1, -3.3):
        assert same(applied(Scale(factor=factor), {"w": tensor})["w"], (tensor.float() * factor).to(dtype))


# pruning and norms


def _trained(module: torch.nn.Module, dtype: torch.dtype) -> torch.nn.Module:
    torch.manual_seed(3)
    for tensor in [*module.parameters()]:
        tensor.data.normal_()
    return module.to(dtype).eval()


@pytest.mark.parametrize("dtype", FLOATS)
def test_that_pruning_is_applied_as_torch_applies_it(dtype: torch.dtype) -> None:
    module = _trained(torch.nn.Sequential(torch.nn.Linear(7, 5), torch.nn.Conv2d(3, 4, 3)), dtype)
    for layer in module:
        prune.random_unstructured(layer, "weight", 0.5)
    prune.l1_unstructured(module[0], "bias", 2)
    state_dict = module.state_dict()
    for layer, name in ((module[0], "weight"), (module[0], "bias"), (module[1], "weight")):
        prune.remove(layer, name)
    wanted = module.state_dict()
    found = applied(Prune(), state_dict)
    assert found.keys() == wanted.keys() and all(same(found[key], wanted[key]) for key in wanted)


def test_that_a_mask_of_another_shape_is_refused_and_an_original_without_one_left() -> None:
    state_dict = {"a_orig": torch.ones(2), "a_mask": torch.ones(3)}
    assert '"a_mask" (3)' in refused(Prune(), state_dict).message
    state_dict = {"w_orig": torch.ones(2, 3), "w_u": torch.ones(2), "w_v": torch.ones(3)}
    assert applied(Prune(), state_dict).keys() == state_dict.keys()
    assert Prune().plan_entries([Entry("w", Kept(0), (2,), "float32")]).dead_rules


LAYERS: dict[str, Callable[[], torch.nn.Module]] = {
    "linear": lambda: torch.nn.Linear(40, 30),
    "conv": lambda: torch.nn.Conv2d(5, 6, 3),
    "transposed": lambda: torch.nn.ConvTranspose1d(5, 6, 3),
}


def _normed(old: bool, layer: torch.nn.Module, dim: int | None) -> torch.nn.Module:
    if not old:
        return parametrizations.weight_norm(layer, dim=dim)
    with pytest.warns(FutureWarning):
        return weight_norm(layer, dim=dim)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("old", [True, False])
@pytest.mark.parametrize("dim", [0, 1, None])
@pytest.mark.parametrize("layer", LAYERS)
def test_that_a_weight_norm_is_folded_as_torch_folds_it(
    layer: str, dim: int | None, old: bool, dtype: torch.dtype
) -> None:
    module = _trained(_normed(old, LAYERS[layer](), dim), dtype)
    state_dict = copy.deepcopy(module.state_dict())
    wanted = module.weight if old else module.parametrizations.weight()
    if old:
        (hook,) = module._forward_pre_hooks.values()
        wanted = hook.compute_weight(module)  # type: ignore[attr-defined]
    found = applied(WeightNorm(), state_dict)
    assert found.keys() == {"weight", "bias"} and same(found["bias"], state_dict["bias"])
    if dtype.itemsize == 2:
        assert _ulps(found["weight"], wanted.detach()) <= 1
        return
    # torch adds up the squares in an order of its own: what is held to a bit is the exact value.
    assert torch.allclose(found["weight"], wanted.detach(), rtol=64 * torch.finfo(dtype).eps, atol=0)
    if dtype == torch.float32:
        exact = applied(WeightNorm(), {key: tensor.double() for key, tensor in state_dict.items()})["weight"]
        assert _ulps(found["weight"], exact.float()) <= 2


@pytest.mark.parametrize("layer", LAYERS)
def test_that_both_forms_of_a_weight_norm_load_after_the_exchange(layer: str) -> None:
    old = _trained(_normed(True, LAYERS[layer](), 0), torch.float32)
    new = _trained(_normed(False, LAYERS[layer](), 0), torch.float32)
    assert new.load_state_dict(applied(WeightNorm(to="new"), old.state_dict())) and same(new.bias.data, old.bias.data)
    again = applied(WeightNorm(to="old"), new.state_dict())
    assert again.keys() == old.state_dict().keys()
    assert all(same(again[key], tensor) for key, tensor in old.state_dict().items())
    assert applied(WeightNorm(to="old"), again).keys() == again.keys()


@pytest.mark.parametrize("dtype", FLOATS[:2])
@pytest.mark.parametrize("old", [True, False])
@pytest.mark.parametrize("layer", LAYERS)
def test_that_a_spectral_norm_is_folded_as_in_evaluation(layer: str, old: bool, dtype: torch.dtype) -> None:
    make = spectral_norm if old else parametrizations.spectral_norm
    module = _trained(make(LAYERS[layer]()), dtype)
    state_dict = copy.deepcopy(module.state_dict())
    if old:
        (hook,) = module._forward_pre_hooks.values()
        wanted = hook.compute_weight(module, do_power_iteration=False)  # type: ignore[attr-defined]
    else:
        with torch.no_grad():
            wanted = module.weight
    found = applied(SpectralNorm(), state_dict)
    assert found.keys() == {"weight", "bias"}
    assert torch.allclose(found["weight"], wanted.detach(), rtol=64 * torch.finfo(dtype).eps, atol=0)
    if dtype == torch.float32:
        exact = applied(SpectralNorm(), {key: tensor.double() for key, tensor in state_dict.items()})["weight"]
        assert _ulps(found["weight"], exact.float()) <= 1
    other = applied(SpectralNorm(to="new" if old else "old"), state_dict)
    module = _trained((parametrizations.spectral_norm if old else spectral_norm)(LAYERS[layer]()), dtype)
    assert module.load_state_dict(other)
    if not old:
        assert not parametrize.is_parametrized(module)


def test_that_the_two_norms_are_not_taken_for_each_other() -> None:
    spectral = spectral_norm(torch.nn.Linear(3, 4)).state_dict()
    weighted = parametrizations.weight_norm(torch.nn.Linear(3, 4)).state_dict()
    orthogonal = parametrizations.orthogonal(torch.nn.Linear(4, 4)).state_dict()
    for operation, state_dict in ((WeightNorm(), spectral), (SpectralNorm(), weighted), (WeightNorm(), orthogonal)):
        assert applied(operation, state_dict).keys() == state_dict.keys()


def test_that_weights_with_further_parametrizations_are_refused() -> None:
    module = parametrizations.orthogonal(torch.nn.Linear(4, 4))
    state_dict = dict(parametrizations.weight_norm(module).state_dict())
    state_dict["parametrizations.weight.original1"] = torch.ones(4, 4)
    state_dict["parametrizations.weight.original0"] = torch.ones(4, 1)
    assert "further parametrizations" in refused(WeightNorm(), state_dict).message
    wrong = {"weight_g": torch.ones(5, 1), "weight_v": torch.ones(4, 4)}
    assert "no magnitudes" in refused(WeightNorm(), wrong).message and refused(WeightNorm(to="new"), wrong)


def test_that_rows_that_the_shapes_do_not_tell_are_warned_of() -> None:
    module = spectral_norm(torch.nn.ConvTranspose1d(6, 6, 3)).eval()
    state_dict = module.state_dict()
    entries = [Entry(key, Kept(i), tuple(t.shape), "float32") for i, (key, t) in enumerate(state_dict.items())]
    assert [warning.code for warning in SpectralNorm().plan_entries(entries).warnings] == ["spectral_dim"]
    assert not SpectralNorm(dim=1).plan_entries(entries).warnings
    (hook,) = module._forward_pre_hooks.values()
    wanted = hook.compute_weight(module, do_power_iteration=False)  # type: ignore[attr-defined]
    assert torch.allclose(applied(SpectralNorm(dim=1), state_dict)["weight"], wanted.detach(), rtol=1e-5, atol=0)
