"""Adapters beside the model that they change."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from sdviewer.core.key_table import KeyTable
from sdviewer.repair.adapters import Adapter, Exchange, Scale, adapter_in, merging
from sdviewer.repair.matching.matching import match

Shapes = Mapping[str, tuple[int, ...]]

LAYERS = [f"layers.{i}.attn.{name}" for i in range(3) for name in ("q_proj", "v_proj")]
MODEL = {f"model.{layer}.weight": (6, 5) for layer in LAYERS} | {"model.norm.weight": (5,), "lm_head.weight": (9, 5)}


def table(shapes: Shapes) -> KeyTable:
    return KeyTable(tuple(shapes), list(shapes.values()), ["float32"] * len(shapes))


def pairs(prefix: str, layers: list[str], a: tuple[int, ...] = (2, 5), b: tuple[int, ...] = (6, 2)) -> Shapes:
    made: dict[str, tuple[int, ...]] = {}
    for layer in layers:
        made |= {f"{prefix}{layer}.lora_A.weight": a, f"{prefix}{layer}.lora_B.weight": b}
    return made


def found(adapter: Shapes, model: Shapes = MODEL) -> Adapter:
    made = adapter_in(table(adapter), table(model))
    assert made is not None
    return made


def test_that_each_pair_of_an_adapter_has_its_weight_and_nothing_is_missing() -> None:
    whole = found(pairs("base_model.model.model.", LAYERS))
    assert whole.changed == tuple(f"model.{layer}.weight" for layer in LAYERS)
    assert whole.table.keys == tuple(pairs("base_model.model.model.", LAYERS))
    assert whole.sentence("the target") == (
        "An adapter: its 6 pairs change 6 tensors of the target; nothing of it is a missing key"
    )
    assert (whole.homeless, whole.misfits, whole.kinds, whole.exchange) == ((), (), ("LoRA",), None)


@pytest.mark.parametrize(
    ("prefix", "right"),
    [
        ("base_model.model.", "base_model.model.model."),
        ("base_model.model.net.", "base_model.model.model."),
        ("", "model."),
        ("encoder.text.", "model."),
    ],
)
def test_that_another_prefix_is_told_and_mended_by_the_matching(prefix: str, right: str) -> None:
    adapter = pairs(prefix, LAYERS)
    mended = found(adapter)
    assert mended.exchange == Exchange(prefix, right)
    assert mended.table.keys == tuple(pairs(right, LAYERS))
    paired = match(table(adapter), mended.table).found
    assert sorted([(one.sources, one.targets) for one in paired]) == [((at,), (at,)) for at in range(len(adapter))]


def test_that_a_layer_that_the_model_lacks_is_no_layer_of_another_number() -> None:
    part = found(pairs("base_model.model.model.", [*LAYERS[:3], "layers.7.attn.q_proj", "layers.7.attn.out"]))
    assert part.homeless == (
        "base_model.model.model.layers.7.attn.q_proj",
        "base_model.model.model.layers.7.attn.out",
    )
    assert part.exchange is None
    assert "2 layers of it have no tensor there" in part.sentence("the target")
    assert len(part.table) == 6


def test_that_no_layer_gets_the_name_of_another_one() -> None:
    twice = found(pairs("model.", LAYERS[:2]) | pairs("", LAYERS[1:3]))
    assert twice.homeless == (LAYERS[1],)
    assert twice.layers[LAYERS[2]] == f"model.{LAYERS[2]}.weight"
    assert len(set(twice.table.keys)) == len(twice.table.keys) == 6


def test_that_factors_that_do_not_fit_have_the_shape_that_would() -> None:
    wrong = found(pairs("", ["model." + LAYERS[0]], a=(2, 7)) | pairs("", ["model." + LAYERS[1]]))
    assert wrong.table.shapes[:2] == [(2, 5), (6, 2)]
    assert wrong.misfits == ("model." + LAYERS[0],)
    turned = found(pairs("model.", LAYERS, a=(2, 6), b=(5, 2)))
    assert turned.transposed and not turned.misfits


def test_that_only_the_layers_without_a_place_get_another_prefix() -> None:
    some = found(pairs("", LAYERS) | pairs("", ["lm_head"], a=(2, 5), b=(9, 2)))
    assert (some.exchange, some.moved) == (Exchange("", "model."), tuple(LAYERS))
    assert 'where some of its keys should begin with "model."' in some.sentence("this file")
    assert merging(some, "a.pt", "auto", None)[0].step["to"] == [
        [f"{layer}.**", f"model.{layer}.**"] for layer in LAYERS
    ]
    every = found(pairs("encoder.", LAYERS))
    assert 'where its keys begin with "encoder." and should begin with "model."' in every.sentence("this file")
    assert merging(every, "a.pt", "auto", None)[0].step["to"] == [["encoder.**", "model.**"]]


def test_that_names_of_kohya_are_found_also_where_the_model_has_a_prefix() -> None:
    names = ["lora_unet_" + layer.replace(".", "_") for layer in LAYERS]
    adapter = {
        f"{name}.{end}": shape
        for name in names
        for end, shape in (("lora_down.weight", (2, 5)), ("lora_up.weight", (6, 2)), ("alpha", ()))
    }
    here = found(adapter)
    assert len(here.changed) == 6 and here.alphas
    assert here.exchange == Exchange("lora_unet_", "lora_unet_model_")
    assert here.table.keys == tuple(adapter)


def test_that_a_model_with_adapters_beside_its_weights_is_none() -> None:
    model, adapter = table(MODEL), table(pairs("model.", LAYERS))
    assert adapter_in(model, model) is None
    assert adapter_in(table({**MODEL, **pairs("model.", LAYERS)}), model) is None
    assert adapter_in(adapter, adapter) is None
    assert adapter_in(table({"layer.alpha": ()}), model) is None


def test_that_what_cannot_be_merged_is_left_out_and_said() -> None:
    layers = ["model." + layer for layer in LAYERS]
    adapter = pairs("", layers[:4]) | pairs("", ["model.layers.9.q"]) | pairs("", [layers[4]], a=(2, 8))
    adapter = {**adapter, f"{layers[0]}.lora_magnitude_vector": (5,), f"{layers[1]}.lokr_t1": (2, 2)}
    take, merge = merging(found(adapter), "a.pt", "auto", Scale(8.0))
    assert take.step["keys"] == [f"{layer}.**" for layer in layers[2:4]]
    assert merge.step["alpha"] == 8.0
    assert merge.evidence == "ambiguous"
    assert [caution.code for caution in merge.cautions] == ["adapter_left"]
    assert "4 layers" in merge.cautions[0].message
    assert (take.n_keys, merge.n_keys) == (4, 2)


def test_that_what_was_trained_as_a_whole_takes_the_place_of_its_own() -> None:
    prefix = "base_model.model."
    adapter = pairs(f"{prefix}model.", LAYERS) | {f"{prefix}lm_head.weight": (9, 5), f"{prefix}score.weight": (2, 5)}
    mixed = found(adapter)
    assert mixed.whole == {f"{prefix}lm_head.weight": "lm_head.weight"}
    assert mixed.others == (f"{prefix}score.weight",)
    factors, whole, merge = merging(mixed, "a.pt", "auto", Scale(8.0))
    assert f"{prefix}score.weight" not in factors.step["keys"] and len(factors.step["keys"]) == len(LAYERS)
    assert (whole.step["keys"], whole.step["to"]) == ([f"{prefix}lm_head.weight"], [[f"{prefix}**", "**"]])
    assert (whole.n_keys, merge.step["op"]) == (1, "merge_lora")


def test_that_nobody_merges_unasked_where_nothing_says_how_much() -> None:
    plain = found(pairs("model.", LAYERS))
    unsure = merging(plain, "a.pt", "auto", None)
    assert [one.evidence for one in unsure] == ["ambiguous", "ambiguous"]
    assert unsure[1].cautions[0].code == "lora_alpha"
    sure = merging(plain, "a.pt", "auto", Scale(16.0, 2.0))
    assert [one.evidence for one in sure] == ["likely", "likely"]
    assert (sure[1].step["alpha"], sure[1].step["scale"]) == (16.0, 2.0)
