"""Operations that bring tensors into the shape that another model asks for, against what torch makes of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch.nn.functional import conv2d, interpolate

from sdviewer.errors import UsageError
from sdviewer.repair.operations import Channels, MergeLora, PermuteRope, Reorder, Resize, Rows
from sdviewer.repair.operations.tensor_operation import Entry, TensorOperation
from sdviewer.repair.plan import Kept
from sdviewer.repair.planning import key_map, make_plan
from sdviewer.repair.recipe import Recipe
from tests.repair.arrays import applied, refused, same
from tests.repair.made import model


def of(operation: TensorOperation, tensor: torch.Tensor) -> torch.Tensor:
    return applied(operation, {"w": tensor})["w"]


def stays(operation: TensorOperation, tensor: torch.Tensor) -> bool:
    """Whether a tensor is not computed anew."""
    entry = Entry("w", Kept(0), tuple(tensor.shape), "float32" if tensor.dtype == torch.float32 else "float64")
    return [*operation.plan_entries([entry]).outputs[0]] == [entry]


def numbers(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# Resizing


@settings(max_examples=60, deadline=None)
@given(
    st.tuples(st.integers(1, 12), st.integers(1, 12)),
    # (torch 2.13 makes another column of two rows where the result has one than where it has several alike)
    st.tuples(st.integers(1, 12), st.integers(2, 12)),
    st.sampled_from(["bicubic", "bilinear", "nearest"]),
    st.booleans(),
)
def test_that_an_image_is_resized_as_torch_does_it(
    before: tuple[int, int], to: tuple[int, int], mode: str, sharp: bool
) -> None:
    # (torch 2.13 gives all rows of a picture of one column the same numbers)
    assume(sharp or 1 not in before)
    kernel = numbers(2, 3, *before)
    options = {} if mode == "nearest" else {"antialias": not sharp, "align_corners": False}
    expected = interpolate(kernel, to, mode=mode, **options)  # type: ignore[arg-type]
    torch.testing.assert_close(
        of(Resize(to=to, of="image", mode=mode, sharp=sharp), kernel), expected, rtol=0, atol=1e-12
    )


def test_that_a_position_table_keeps_its_class_tokens_bit_for_bit_and_becomes_what_timm_makes_of_it() -> None:
    table = numbers(1, 2 + 14 * 14, 8).float()
    found = of(Resize(to=(24, 20), prefix=2), table)
    grid = table[:, 2:].reshape(1, 14, 14, 8).permute(0, 3, 1, 2)
    expected = interpolate(grid, (24, 20), mode="bicubic", antialias=True).permute(0, 2, 3, 1).reshape(1, 480, 8)
    assert found.shape == (1, 482, 8) and same(found[:, :2], table[:, :2])
    torch.testing.assert_close(found[:, 2:], expected, rtol=0, atol=1e-5)


def test_that_a_relative_position_bias_lies_on_its_first_dimension_and_a_line_can_be_resized_too() -> None:
    bias = numbers(13 * 13, 4)
    expected = interpolate(bias.reshape(1, 13, 13, 4).permute(0, 3, 1, 2), (23, 23), mode="bicubic", antialias=True)
    found = of(Resize(to=(23, 23), dim=0), bias)
    torch.testing.assert_close(found, expected.permute(0, 2, 3, 1).reshape(529, 4), rtol=0, atol=1e-12)
    line = of(Resize(to=(3,), mode="bilinear", sharp=True), torch.tensor([[0.0], [1.0], [2.0], [3.0], [4.0], [5.0]]))
    assert line.flatten().tolist() == [0.5, 2.5, 4.5]


def test_that_a_table_that_has_its_size_already_stays_and_what_is_no_grid_is_refused_with_the_way_out() -> None:
    table = torch.ones(1, 197, 4)
    assert stays(Resize(to=(14, 14), prefix=1), table)
    error = refused(Resize(to=(24, 24)), {"w": table})
    assert "197 places are no square grid" in error.message and "`prefix`" in error.remedy
    assert "no grid of 3×4" in refused(Resize(to=(2, 2), grid=(3, 4)), {"w": table}).message
    assert "int64" in refused(Resize(to=(2, 2)), {"w": torch.ones(4, 1, dtype=torch.int64)}).message
    with pytest.raises(UsageError, match="up to 65,536"):
        Resize(to=(10**9, 2))


# Channels


def test_that_a_stem_answers_the_same_to_grey_pictures_after_its_channels_were_adapted() -> None:
    stem, grey = numbers(8, 3, 5, 5), numbers(1, 1, 9, 9, seed=1)
    torch.testing.assert_close(conv2d(grey, of(Channels(to=1), stem)), conv2d(grey.expand(1, 3, 9, 9), stem))
    six = of(Channels(to=6), stem)
    torch.testing.assert_close(conv2d(grey.expand(1, 6, 9, 9), six), conv2d(grey.expand(1, 3, 9, 9), stem))
    assert torch.equal(of(Channels(to=4), stem)[:, 3], stem[:, 0] * 3 / 4)
    half = of(Channels(to=1), stem.half())
    assert half.dtype == torch.float16 and torch.equal(half, stem.half().double().sum(1, keepdim=True).half())


# Rotary rows and parts


def test_that_rotary_rows_become_what_transformers_makes_of_metas_and_back() -> None:
    weight, heads = numbers(4 * 6, 10), 4
    expected = weight.view(heads, 3, 2, 10).transpose(1, 2).reshape(24, 10)
    found = of(PermuteRope(heads=heads), weight)
    assert torch.equal(found, expected)
    assert torch.equal(of(PermuteRope(heads=heads, to="pairs"), found), weight)
    bias = numbers(24)
    assert torch.equal(of(PermuteRope(heads=heads), bias), bias.view(heads, 3, 2).transpose(1, 2).reshape(24))
    assert "no pairs in 5 heads" in refused(PermuteRope(heads=5), {"w": weight}).message


def test_that_the_map_says_of_permuted_rows_how_many_heads_there_are() -> None:
    source = model("q", "v")
    tensors = [info._replace(shape=(8, 3), stride=(3, 1)) for info in source.tensors]
    source = replace(source, tensors=tensors)
    plan = make_plan(Recipe(steps=(PermuteRope(heads=2, keys=("q",)),)), source)
    assert key_map(plan, source)["q"] == {"op": "permute_rope", "to": "q", "n_heads": 2}


def test_that_parts_change_places_as_a_whole_or_in_each_group() -> None:
    fused = torch.arange(12.0).reshape(12, 1)
    assert of(Reorder(order=(1, 0)), fused).flatten().tolist() == [*range(6, 12), *range(6)]
    found = of(Reorder(order=(2, 0, 1), groups=2), fused).flatten().tolist()
    assert found == [4, 5, 0, 1, 2, 3, 10, 11, 6, 7, 8, 9]
    assert "5 equal parts" in refused(Reorder(order=(4, 3, 2, 1, 0)), {"w": fused}).message


# Rows up to a size


def test_that_a_vocabulary_becomes_as_large_as_is_asked_for() -> None:
    table = numbers(5, 3)
    assert torch.equal(of(Rows(size=3), table), table[:3])
    grown = of(Rows(size=7, fill="mean"), table)
    assert torch.equal(grown[:5], table)
    torch.testing.assert_close(grown[5:], table.mean(0).expand(2, 3))
    assert stays(Rows(size=5), table)
    with pytest.raises(UsageError, match="`at` belongs to `pad`"):
        Rows(size=3, at=1)


# Adapters


def lora(weight: torch.Tensor, down: torch.Tensor, up: torch.Tensor, factor: float) -> torch.Tensor:
    product = up.double().reshape(-1, len(down)) @ down.double().reshape(len(down), -1)
    return (weight.double() + factor * product.reshape(weight.shape)).to(weight.dtype)


PEFT = {
    "base_model.model.fc.base_layer.weight": numbers(6, 5).float(),
    "base_model.model.fc.base_layer.bias": numbers(6),
    "base_model.model.fc.lora_A.default.weight": numbers(2, 5, seed=1).float(),
    "base_model.model.fc.lora_B.default.weight": numbers(6, 2, seed=2).float(),
}


def test_that_an_adapter_of_peft_is_added_with_the_alpha_that_somebody_gives() -> None:
    found = applied(MergeLora(alpha=16), PEFT)
    assert list(found) == ["base_model.model.fc.base_layer.weight", "base_model.model.fc.base_layer.bias"]
    weight, bias, down, up = PEFT.values()
    torch.testing.assert_close(
        found["base_model.model.fc.base_layer.weight"], lora(weight, down, up, 8), rtol=0, atol=1e-6
    )
    assert same(found["base_model.model.fc.base_layer.bias"], bias)
    half = applied(MergeLora(alpha=16, scale=0.5), PEFT)["base_model.model.fc.base_layer.weight"]
    torch.testing.assert_close(half, lora(weight, down, up, 4), rtol=0, atol=1e-6)


def test_that_an_alpha_beside_the_pair_counts_and_kohyas_underscores_find_their_layer() -> None:
    state_dict = {
        "down.0.to_q.weight": numbers(4, 3, 3, 3),
        "lora_unet_down_0_to_q.lora_down.weight": numbers(2, 3, 3, 3, seed=1),
        "lora_unet_down_0_to_q.lora_up.weight": numbers(4, 2, 1, 1, seed=2),
        "lora_unet_down_0_to_q.alpha": torch.tensor(5.0),
    }
    weight, down, up, _ = state_dict.values()
    found = applied(MergeLora(), state_dict)
    assert list(found) == ["down.0.to_q.weight"]
    torch.testing.assert_close(found["down.0.to_q.weight"], lora(weight, down, up, 2.5), rtol=0, atol=1e-12)


def test_that_a_weight_of_many_rows_is_changed_in_all_of_them() -> None:
    made = {
        "lokr_w1": numbers(3, 2, seed=1),
        "lokr_w2": numbers(801, 300, seed=2),
        "dora_scale": numbers(1, 600, seed=3),
    }
    weight = numbers(2403, 600)
    found = applied(MergeLora(scale=0.5), {"c.weight": weight, **{f"c.{name}": it for name, it in made.items()}})
    changed = weight + 0.5 * torch.kron(made["lokr_w1"], made["lokr_w2"])
    wanted = changed * made["dora_scale"] / torch.linalg.vector_norm(changed, dim=0)
    torch.testing.assert_close(found["c.weight"], wanted, rtol=1e-12, atol=1e-12)


def test_that_rows_get_their_lengths_and_those_without_a_direction_stay_zero() -> None:
    state_dict = {
        "c.weight": torch.tensor([[3.0, 4.0], [0.0, 0.0], [0.0, 2.0]]),
        "c.lora_A.weight": torch.tensor([[1.0, 1.0]]),
        "c.lora_B.weight": torch.tensor([[0.0], [0.0], [1.0]]),
        "c.lora_magnitude_vector": torch.tensor([10.0, 7.0, 1.0]),
    }
    found = applied(MergeLora(alpha=1), state_dict)["c.weight"]
    wanted = torch.tensor([[6.0, 8.0], [0.0, 0.0], [10**-0.5, 3 * 10**-0.5]])
    torch.testing.assert_close(found, wanted, rtol=1e-7, atol=0)


def test_that_several_adapters_of_a_weight_are_taken_in_one_after_the_other() -> None:
    state_dict = {"c.base_layer.weight": numbers(6, 5)}
    for seed, name in enumerate(("a", "b")):
        state_dict[f"c.lora_A.{name}.weight"] = numbers(2, 5, seed=10 + seed)
        state_dict[f"c.lora_B.{name}.weight"] = numbers(6, 2, seed=20 + seed)
        state_dict[f"c.lora_magnitude_vector.{name}.weight"] = numbers(6, seed=30 + seed)
    weight = state_dict["c.base_layer.weight"]
    for name in ("a", "b"):
        changed = weight + state_dict[f"c.lora_B.{name}.weight"] @ state_dict[f"c.lora_A.{name}.weight"]
        norm = torch.linalg.vector_norm(changed, dim=1)
        weight = changed * (state_dict[f"c.lora_magnitude_vector.{name}.weight"] / norm)[:, None]
    found = applied(MergeLora(alpha=2), state_dict)
    assert list(found) == ["c.base_layer.weight"]
    torch.testing.assert_close(found["c.base_layer.weight"], weight, rtol=1e-12, atol=1e-12)


def test_that_whole_matrices_are_scaled_by_alpha_over_a_rank_that_somebody_states() -> None:
    one, other = numbers(2, 4, seed=1), numbers(3, 2, seed=2)
    state_dict = {"c.weight": numbers(6, 8), "c.lokr_w1": one, "c.lokr_w2": other}
    product = torch.kron(one, other)
    for step, factor in ((MergeLora(alpha=6, rank=4), 1.5), (MergeLora(alpha=6), 1.0), (MergeLora(scale=0.5), 0.5)):
        found = applied(step, state_dict)["c.weight"]
        torch.testing.assert_close(found, state_dict["c.weight"] + factor * product, rtol=0, atol=1e-12)


def test_that_a_weight_kept_the_other_way_round_needs_to_be_said() -> None:
    state_dict = {"c.weight": numbers(5, 6), "c.lora_A.weight": numbers(2, 5), "c.lora_B.weight": numbers(6, 2)}
    weight, down, up = state_dict.values()
    assert "transposed = true" in refused(MergeLora(alpha=2), state_dict).remedy
    found = applied(MergeLora(alpha=2, transposed=True), state_dict)["c.weight"]
    torch.testing.assert_close(found, weight + (up @ down).T, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"a.lora_magnitude_vector": torch.ones(5)}, '"a.lora_magnitude_vector" (5) does not tell the lengths'),
        ({"a.lokr_t1": torch.ones(2, 2)}, '"a.lora_B.weight", "a.lokr_t1" make up no LoRA'),
        (
            {"b.weight": torch.ones(4, 4), "b.hada_w1_a": torch.ones(4, 2)},
            'the adapter of "b": "b.hada_w1_a" make up no',
        ),
        ({"b.lora_A.weight": torch.ones(2, 5), "b.lora_B.weight": torch.ones(6, 2)}, "its weight is not here"),
        ({"a.alpha": torch.ones(2)}, "is no alpha"),
    ],
)
def test_that_an_adapter_that_cannot_be_merged_refuses_the_step(more: Mapping[str, torch.Tensor], message: str) -> None:
    pair = {"a.weight": torch.ones(6, 5), "a.lora_A.weight": torch.ones(2, 5), "a.lora_B.weight": torch.ones(6, 2)}
    assert message in refused(MergeLora(), {**pair, **more}).message


def test_that_a_step_without_an_alpha_says_so() -> None:
    changes = MergeLora().plan_entries(
        [
            Entry(key, Kept(at), tuple(tensor.shape), str(tensor.dtype).removeprefix("torch."))
            for at, (key, tensor) in enumerate(PEFT.items())
        ]
    )
    assert [warning.code for warning in changes.warnings] == ["lora_alpha"]
    assert changes.warnings[0].keys == ("base_model.model.fc.base_layer.weight",)
