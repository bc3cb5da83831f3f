"""What can be done where shapes differ: the likeliest first, each of it carried out, nothing of it unasked."""

from __future__ import annotations

from typing import Any

import pytest

from sdviewer.repair.execution import carried_out
from sdviewer.repair.operations import operation_from_step
from sdviewer.repair.operations.tensor_operation import Entry
from sdviewer.repair.plan import Kept
from sdviewer.repair.rules.shape_choices import Choice, OtherTensor, cards, choices

Shape = tuple[int, ...]


def plain(choice: Choice) -> list[dict[str, Any]]:
    """Its steps without their keys and reasons."""
    return [{name: value for name, value in step.items() if name not in ("keys", "why")} for step in choice.steps]


REAL: dict[str, tuple[Shape, Shape, str, list[dict[str, Any]]]] = {
    "ViT, 224 to 384 pixels": (
        *((1, 197, 768), (1, 577, 768), "pos_embed"),
        [{"op": "resize", "to": [24, 24], "prefix": 1}],
    ),
    "DeiT, distilled": ((1, 198, 192), (1, 578, 192), "pos_embed", [{"op": "resize", "to": [24, 24], "prefix": 2}]),
    "CLIP, as a matrix": (
        *((50, 768), (197, 768), "visual.positional_embedding"),
        [{"op": "resize", "to": [14, 14], "prefix": 1}],
    ),
    "ViT without a class token": (
        *((1, 197, 768), (1, 576, 768), "vit.embeddings.position_embeddings"),
        [{"op": "resize", "to": [24, 24], "prefix": 1}, {"op": "rows", "dim": 1, "delete": [0]}],
    ),
    "ViT with a class token more": (
        *((1, 196, 768), (1, 197, 768), "pos_embed"),
        [{"op": "rows", "dim": 1, "pad": 1, "at": 0}],
    ),
    "Swin, window 7 to 12": (
        *((169, 3), (529, 3), "layers.0.blocks.0.attn.relative_position_bias_table"),
        [{"op": "resize", "to": [23, 23]}],
    ),
    "Swin, index": ((49, 49), (144, 144), "layers.0.blocks.0.attn.relative_position_index", [{"op": "drop"}]),
    "SAM, one axis": ((27, 64), (127, 64), "blocks.0.attn.rel_pos_h", [{"op": "resize", "to": [127]}]),
    "positions as a picture": (
        *((1, 64, 14, 14), (1, 64, 24, 24), "pos_embed"),
        [{"op": "resize", "to": [24, 24], "of": "image"}],
    ),
    "GPT-2, vocabulary": (
        *((50257, 768), (50304, 768), "transformer.wte.weight"),
        [{"op": "rows", "size": 50304, "fill": "mean"}],
    ),
    "GPT-2, context": ((1024, 768), (256, 768), "transformer.wpe.weight", [{"op": "rows", "size": 256}]),
    "GPT-2, mask": ((1, 1, 1024, 1024), (1, 1, 256, 256), "transformer.h.0.attn.bias", [{"op": "drop"}]),
    "ResNet, grey": ((64, 3, 7, 7), (64, 1, 7, 7), "conv1.weight", [{"op": "channels", "to": 1}]),
    "ResNet, small and grey": (
        *((64, 3, 7, 7), (64, 1, 3, 3), "conv1.weight"),
        [{"op": "channels", "to": 1}, {"op": "resize", "to": [3, 3], "of": "image"}],
    ),
    "Stable Diffusion, inpainting": (
        *((320, 4, 3, 3), (320, 9, 3, 3), "conv_in.weight"),
        [{"op": "rows", "dim": 1, "size": 9}],
    ),
    "patches of 14": (
        *((768, 3, 16, 16), (768, 3, 14, 14), "patch_embed.proj.weight"),
        [{"op": "resize", "to": [14, 14], "of": "image"}],
    ),
    "head": ((1000, 2048), (10, 2048), "fc.weight", [{"op": "drop"}]),
    "head, bias": ((1000,), (10,), "fc.bias", [{"op": "drop"}]),
    "wider": ((768, 3072), (1024, 4096), "fc1.weight", [{"op": "drop"}]),
    "1×1 convolution": ((512, 512, 1, 1), (512, 512), "to_q.weight", [{"op": "squeeze", "dims": [2, 3]}]),
    "class token": ((768,), (1, 1, 768), "cls_token", [{"op": "unsqueeze", "dim": 0}, {"op": "unsqueeze", "dim": 1}]),
    "Conv1D": ((768, 2304), (2304, 768), "c_attn.weight", [{"op": "transpose"}]),
    "TensorFlow's kernel": ((3, 3, 3, 64), (64, 3, 3, 3), "stem.kernel", [{"op": "permute", "order": [3, 2, 0, 1]}]),
    "linear patches": (
        *((1280, 1176), (1280, 3, 2, 14, 14), "visual.patch_embed.proj.weight"),
        [{"op": "reshape", "shape": [1280, 3, 2, 14, 14]}],
    ),
}


@pytest.mark.parametrize("name", REAL)
def test_that_the_likeliest_choice_comes_first_and_each_gives_the_shape_wanted(name: str) -> None:
    source, target, key, best = REAL[name]
    found = choices(source, target, key)
    assert plain(found[0]) == best
    assert [choice for choice in found if plain(choice) == [{"op": "drop"}]]
    assert {choice.evidence for choice in found} == {"ambiguous"}
    for choice in found:
        entries = [Entry(key, Kept(0), source, "float32"), Entry("another", Kept(1), (5,), "float32")]
        for step in choice.steps:
            entries = carried_out(operation_from_step(step), entries)
        assert [entry.shape for entry in entries] in ([target, (5,)], [(5,)])


def test_that_a_tensor_of_the_other_file_can_take_its_place_or_give_its_rows() -> None:
    other = OtherTensor("b.pth", "model.wte.weight", "ema")
    first, *rest = choices((50257, 8), (50304, 8), "wte.weight", other=other)
    take = {"op": "take", "from": "b.pth", "state_dict": "ema", "to": [["model.wte.weight", "wte.weight"]]}
    assert plain(first) == [take | {"rows": "missing"}]
    assert first.steps[0]["keys"] == ["model.wte.weight"]
    assert [take] in map(plain, rest)
    head = choices((1000, 8), (10, 8), "fc.weight", other=OtherTensor("b.pth", "fc.weight"))
    assert [step["op"] for choice in head for step in choice.steps] == ["take", "drop", "rows"]


def test_that_nothing_is_interpolated_that_holds_no_floats() -> None:
    steps = [step["op"] for one in choices((1, 197, 8), (1, 577, 8), "pos_embed", dtype="int64") for step in one.steps]
    assert "resize" not in steps
    assert "drop" in steps


def test_that_any_key_can_be_chosen_for_a_step() -> None:
    for key in ("a*b{c}.weight", "re:x", 'quo"te'):
        found = choices((1000, 8), (10, 8), key)
        entries = [Entry(key, Kept(0), (1000, 8), "float32"), Entry("aXb.weight", Kept(1), (1000, 8), "float32")]
        after = carried_out(operation_from_step(found[0].steps[0]), entries)
        assert [entry.key for entry in after] == ["aXb.weight"]


def test_that_alike_tensors_are_on_one_card() -> None:
    tables = [f"layers.{i}.blocks.{j}.attn.relative_position_bias_table" for i in range(2) for j in range(2)]
    entries = [Entry(key, Kept(at), (169, 3), "float32") for at, key in enumerate(tables)]
    entries += [Entry("head.weight", Kept(8), (10, 8), "float32"), Entry("norm.weight", Kept(9), (8,), "float32")]
    found = cards(entries, {**dict.fromkeys(tables, (529, 3)), "head.weight": (4, 8), "norm.weight": (8,)})
    assert [(card.step["op"], card.n_keys, card.evidence) for card in found] == [
        ("resize", 4, "ambiguous"),
        ("drop", 1, "ambiguous"),
    ]
    assert found[0].reasons == ("Interpolate the grid from 13×13 to 23×23.",)
    assert found[1].text == 'Drop "head.weight", which has another shape in the model'
