"""What is said of a tensor: one guess where shape and name agree, nothing where they do not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest

from sdviewer.core.checkpoint import Checkpoint, StateDict, ValueInfo
from sdviewer.core.paths import TypedStep
from sdviewer.core.roles import Heads, Roles, TensorRole
from tests.core.builders import checkpoint, tensor

Shapes = Mapping[str, Sequence[int]]


def role_of(shapes: Shapes, key: str, **fields: object) -> TensorRole | None:
    return Roles(checkpoint(shapes, **fields)).of(list(shapes).index(key))  # type: ignore[arg-type]


def words_of(shapes: Shapes, key: str, **fields: object) -> str:
    role = role_of(shapes, key, **fields)
    return "" if role is None else role.words


def layer(prefix: str, **shapes: Sequence[int]) -> Shapes:
    return {f"{prefix}.{name.replace('__', '.')}": shape for name, shape in shapes.items()}


def related(shapes: Shapes, key: str) -> dict[str, str]:
    role = role_of(shapes, key)
    assert role is not None
    return {words: list(shapes)[index] for words, index in role.related}


# Attention

VIT = layer("blocks.7.attn", qkv__weight=(2304, 768), qkv__bias=(2304,), proj__weight=(768, 768), proj__bias=(768,))


def test_that_a_fused_projection_has_its_three_parts_and_its_heads() -> None:
    role = role_of(VIT, "blocks.7.attn.qkv.weight")
    assert role is not None
    assert role.words == "fused Q·K·V, probably 12 heads × 64"
    assert [(part.axis, part.name, part.start, part.stop) for part in role.parts] == [
        (0, "Q", 0, 768),
        (0, "K", 768, 1536),
        (0, "V", 1536, 2304),
    ]
    assert role.heads == Heads(0, 12, 64, sure=False)
    assert related(VIT, "blocks.7.attn.qkv.weight") == {"bias": "blocks.7.attn.qkv.bias"}


def test_that_a_guessed_head_size_is_said_to_be_one_and_a_stated_one_is_not() -> None:
    stated = [ValueInfo(("args", TypedStep("attribute", "num_heads")), "builtins.int", 16)]
    assert words_of(VIT, "blocks.7.attn.qkv.weight", values=stated) == "fused Q·K·V, 16 heads × 48"


def test_that_two_numbers_of_heads_in_a_file_prove_none() -> None:
    towers = [ValueInfo((name, "num_attention_heads"), "builtins.int", n) for name, n in (("text", 8), ("vision", 16))]
    assert "probably 12 heads" in words_of(VIT, "blocks.7.attn.qkv.weight", values=towers)


def test_that_a_width_that_models_disagree_about_has_no_heads() -> None:
    shapes = layer("a.attn", qkv__weight=(3840, 1280), proj__weight=(1280, 1280))
    role = role_of(shapes, "a.attn.qkv.weight")
    assert role is not None
    assert (role.words, role.heads) == ("fused Q·K·V", None)


@pytest.mark.parametrize(
    ("beside", "said"),
    [
        ({"a.attn.relative_position_bias_table": (169, 4)}, "4 heads × 32"),
        ({"a.attn.logit_scale": (4, 1, 1)}, "4 heads × 32"),
        ({"a.attn.rel_pos_h": (27, 16), "a.attn.rel_pos_w": (27, 16)}, "8 heads × 16"),
        ({"a.attn.q_norm.weight": (64,)}, "2 heads × 64"),
        ({"a.attn.q_norm.weight": (128,)}, ""),  # over all heads at once
        ({"a.attn.relative_position_bias_table": (169, 5)}, ""),  # does not divide
    ],
)
def test_that_tables_beside_the_attention_tell_the_heads(beside: Shapes, said: str) -> None:
    shapes = {"a.attn.qkv.weight": (384, 128), **beside}
    words = words_of(shapes, "a.attn.qkv.weight")
    assert words == (f"fused Q·K·V, {said}" if said else "fused Q·K·V")


def test_that_gpt2_has_its_parts_in_columns() -> None:
    role = role_of(layer("h.0.attn", c_attn__weight=(48, 144), c_attn__bias=(144,)), "h.0.attn.c_attn.weight")
    assert role is not None
    assert [(part.axis, part.start) for part in role.parts] == [(1, 0), (1, 48), (1, 96)]


def test_that_fewer_keys_than_queries_are_told_by_the_layer_behind() -> None:
    phi = layer("l.0.self_attn", qkv_proj__weight=(160, 96), o_proj__weight=(96, 96), q_norm__weight=(16,))
    role = role_of(phi, "l.0.self_attn.qkv_proj.weight")
    assert role is not None
    assert role.words == "fused Q·K·V, 6 heads × 16, 2 for K and V"
    assert [(part.name, part.start, part.stop) for part in role.parts] == [
        ("Q", 0, 96),
        ("K", 96, 128),
        ("V", 128, 160),
    ]


def test_that_an_interleaved_projection_is_said_to_be_one_and_has_no_parts() -> None:
    neox = layer("layers.0.attention", query_key_value__weight=(2304, 768), query_key_value__bias=(2304,))
    role = role_of(neox, "layers.0.attention.query_key_value.weight")
    assert role is not None
    assert role.words == "fused Q·K·V interleaved head by head, probably 12 heads × 64"
    assert (role.parts, role.heads) == ((), None)


def test_that_a_layout_that_code_bases_disagree_about_has_no_parts() -> None:
    codegen = layer("h.0.attn", qkv_proj__weight=(3072, 1024), out_proj__weight=(1024, 1024))
    phi = layer("l.0.self_attn", qkv_proj__weight=(3072, 1024), o_proj__weight=(1024, 1024))
    falcon = layer("h.0.self_attention", query_key_value__weight=(4672, 4544), dense__weight=(4544, 4544))
    roles = [
        role_of(codegen, "h.0.attn.qkv_proj.weight"),
        role_of(phi, "l.0.self_attn.qkv_proj.weight"),
        role_of(falcon, "h.0.self_attention.query_key_value.weight"),
    ]
    assert [len(role.parts) for role in roles if role is not None] == [0, 3, 0]
    assert all("interleaved" not in role.words for role in roles if role is not None)


def test_that_the_output_of_attention_beside_it_is_known() -> None:
    vit = layer(
        "layer.0.attention",
        attention__query__weight=(192, 192),
        attention__key__weight=(192, 192),
        attention__value__weight=(192, 192),
        output__dense__weight=(192, 192),
    )
    assert words_of(vit, "layer.0.attention.output.dense.weight") == "attention output of probably 3 heads × 64"
    t5 = layer(
        "l.SelfAttention", q__weight=(512, 512), k__weight=(512, 512), v__weight=(512, 512), o__weight=(512, 512)
    )
    assert words_of(t5, "l.SelfAttention.o.weight") == "attention output"


def test_that_t5_has_its_heads_from_the_first_block() -> None:
    t5 = {
        **layer("encoder.block.0.layer.0.SelfAttention", relative_attention_bias__weight=(32, 8)),
        **layer(
            "encoder.block.3.layer.0.SelfAttention", q__weight=(512, 512), k__weight=(512, 512), v__weight=(512, 512)
        ),
    }
    assert words_of(t5, "encoder.block.3.layer.0.SelfAttention.q.weight") == "projection to Q, 8 heads × 64"


def test_that_a_fused_shape_without_a_reason_is_no_fused_projection() -> None:
    assert words_of({"a.qkv.weight": (100, 48)}, "a.qkv.weight") == ""


def test_that_the_projection_of_torch_is_known_without_a_layer() -> None:
    shapes = layer("t.attn", in_proj_weight=(192, 64), in_proj_bias=(192,), out_proj__weight=(64, 64))
    assert words_of(shapes, "t.attn.in_proj_bias") == "bias of the fused Q·K·V"
    assert related(shapes, "t.attn.in_proj_weight") == {"bias": "t.attn.in_proj_bias"}
    assert words_of(shapes, "t.attn.out_proj.weight") == "attention output"


def test_that_the_projection_of_a_state_space_model_is_not_attention() -> None:
    assert "Q" not in words_of({"m.in_proj.weight": (192, 64), "m.A_log": (96, 16)}, "m.in_proj.weight")


LLAMA = layer(
    "model.layers.0",
    self_attn__q_proj__weight=(512, 256),
    self_attn__k_proj__weight=(128, 256),
    self_attn__v_proj__weight=(128, 256),
    self_attn__o_proj__weight=(256, 512),
    self_attn__q_norm__weight=(64,),
    mlp__gate_proj__weight=(704, 256),
    input_layernorm__weight=(256,),
    post_attention_layernorm__weight=(256,),
)


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("self_attn.q_proj.weight", "projection to Q, 8 heads × 64"),
        ("self_attn.k_proj.weight", "projection to K, 2 heads × 64, each for 4 of Q"),
        ("self_attn.v_proj.weight", "projection to V, 2 heads × 64, each for 4 of Q"),
        ("self_attn.o_proj.weight", "attention output of 8 heads × 64"),
        ("input_layernorm.weight", "scale of an RMS norm, 256 features"),
        ("self_attn.q_norm.weight", "scale of a norm without a shift, 64 features"),
        ("mlp.gate_proj.weight", "linear layer, 256 in, 704 out"),
    ],
)
def test_that_grouped_queries_are_told(key: str, said: str) -> None:
    assert words_of(LLAMA, f"model.layers.0.{key}") == said


def test_that_a_lone_key_is_no_projection() -> None:
    assert words_of({"a.key.weight": (8, 8), "b.value.weight": (8, 8)}, "a.key.weight") == ""


# Norms and buffers


def test_that_running_statistics_make_a_batch_norm_of_any_name() -> None:
    shapes = layer("f.1", weight=(32,), bias=(32,), running_mean=(32,), running_var=(32,), num_batches_tracked=())
    said = {key.rpartition(".")[2]: words_of(shapes, key) for key in shapes}
    assert said["weight"] == "scale of a batch norm, 32 channels"
    assert said["running_var"] == "running variance of a batch norm, 32 channels"
    kinds = {key.rpartition(".")[2]: getattr(role_of(shapes, key), "kind", "") for key in shapes}
    assert kinds == {
        "weight": "parameter",
        "bias": "parameter",
        "running_mean": "buffer",
        "running_var": "buffer",
        "num_batches_tracked": "buffer",
    }


@pytest.mark.parametrize(
    ("name", "said"),
    [("LayerNorm", "a layer norm"), ("ln_1", "a layer norm"), ("group_norm", "a group norm"), ("norm1", "a norm")],
)
def test_that_a_norm_is_called_what_its_name_says(name: str, said: str) -> None:
    assert words_of(layer(f"b.{name}", weight=(8,), bias=(8,)), f"b.{name}.weight").startswith(f"scale of {said}, 8")


def test_that_a_vector_without_a_norms_name_is_not_called_one() -> None:
    assert words_of(layer("act.prelu1", weight=(8,)), "act.prelu1.weight") == ""
    assert words_of(layer("f.3", weight=(8,), bias=(8,)), "f.3.weight") == ""


def test_that_a_module_says_what_its_buffers_are() -> None:
    at = replace_kind(checkpoint({"scale": (1, 1)}), "buffer")
    role = Roles(at).of(0)
    assert role is not None
    assert (role.kind, role.words) == ("buffer", "")


def replace_kind(given: Checkpoint, kind: str) -> Checkpoint:
    return replace(given, tensors=tuple(info._replace(kind=kind) for info in given.tensors))  # type: ignore[arg-type]


# Convolutions, linear layers, embeddings, heads


@pytest.mark.parametrize(
    ("shapes", "key", "said"),
    [
        ({"conv1.weight": (64, 3, 7, 7)}, "conv1.weight", "convolution 7×7, 3 in, 64 out"),
        ({"conv1.weight": (8, 1, 3, 3)}, "conv1.weight", "convolution 3×3, 1 in, 8 out"),
        ({"c.weight": (8, 4, 1, 1)}, "c.weight", "pointwise convolution, 4 in, 8 out"),
        ({"b.dwconv.weight": (8, 1, 7, 7)}, "b.dwconv.weight", "depthwise convolution 7×7, 8 channels"),
        (
            {"b.conv.0.0.weight": (96, 16, 1, 1), "b.conv.1.0.weight": (96, 1, 3, 3)},
            "b.conv.1.0.weight",
            "depthwise convolution 3×3, 96 channels",
        ),
        (
            {"b.conv1.weight": (128, 64, 1, 1), "b.conv2.weight": (128, 4, 3, 3)},
            "b.conv2.weight",
            "convolution 3×3, 4 in a group, 32 groups, 128 out",
        ),
        (
            {"b.conv1.weight": (128, 64, 3, 3), "b.shortcut.weight": (128, 64, 1, 1)},
            "b.shortcut.weight",
            "pointwise convolution, 64 in, 128 out",
        ),
        ({"d.weight": (8, 4, 2, 2), "d.bias": (4,)}, "d.weight", "transposed convolution 2×2, 8 in, 4 out"),
        ({"up.weight": (8, 4, 2, 2)}, "up.weight", "convolution or transposed one 2×2, 8 × 4"),
        ({"up.conv.weight": (8, 8, 3, 3), "up.conv.bias": (8,)}, "up.conv.weight", "convolution 3×3, 8 in, 8 out"),
        (
            {"deconv.weight": (8, 8, 4, 4), "deconv.bias": (8,)},
            "deconv.weight",
            "convolution or transposed one 4×4, 8 × 8",
        ),
        ({"shared.weight": (100, 8)}, "shared.weight", "token embedding, 100 tokens × 8"),
        ({"moe.shared.weight": (100, 8)}, "moe.shared.weight", ""),
        ({"conv.weight": (8, 4, 3)}, "conv.weight", "convolution of 3, 4 in, 8 out"),
        ({"x.weight": (8, 4, 3)}, "x.weight", ""),
        ({"x.weight": (8, 4), "x.bias": (8,)}, "x.weight", "linear layer, 4 in, 8 out"),
        ({"x.weight": (8, 4), "x.bias": (4,)}, "x.weight", "linear layer, 8 in, 4 out, kept as in × out"),
        ({"x.weight": (8, 4), "x.bias": (5,)}, "x.weight", ""),
        ({"x.weight": (8, 4)}, "x.weight", ""),
        ({"wte.weight": (100, 8)}, "wte.weight", "token embedding, 100 tokens × 8"),
        ({"embedding.weight": (64, 92), "embedding.bias": (64,)}, "embedding.weight", "linear layer, 92 in, 64 out"),
        (
            {"module.fc.weight": (10, 64), "module.fc.bias": (10,)},
            "module.fc.weight",
            "head, 10 outputs from 64 features",
        ),
        ({"blocks.0.fc.weight": (9, 4), "blocks.0.fc.bias": (9,)}, "blocks.0.fc.weight", "linear layer, 4 in, 9 out"),
        ({"lm_head.weight": (100, 8)}, "lm_head.weight", "language model head, 100 tokens from 8"),
        (
            {"tok_embeddings.weight": (100, 8), "output.weight": (100, 8)},
            "output.weight",
            "language model head, 100 tokens from 8",
        ),
        ({"output.weight": (100, 8)}, "output.weight", ""),
        (
            {"cls_token": (1, 1, 48), "pos_embed": (1, 17, 48)},
            "pos_embed",
            "position table, 17 positions (4 × 4 and 1) × 48",
        ),
        (
            {"rnn.weight_ih_l0": (64, 8), "rnn.weight_hh_l0": (64, 16)},
            "rnn.weight_ih_l0",
            "LSTM, layer 0: weights of the input, 4 gates × 16",
        ),
        (
            {"rnn.weight_ih_l0": (48, 8), "rnn.weight_hh_l0": (48, 16)},
            "rnn.weight_hh_l0",
            "GRU, layer 0: weights of the state, 3 gates × 16",
        ),
        ({"rnn.weight_ih_l0": (64, 8)}, "rnn.weight_ih_l0", ""),
    ],
)
def test_that_a_layer_is_said_as_its_shapes_have_it(shapes: Shapes, key: str, said: str) -> None:
    assert words_of(shapes, key) == said


def test_that_a_gated_layer_in_one_has_two_parts() -> None:
    phi = layer("mlp", gate_up_proj__weight=(128, 32), down_proj__weight=(32, 64))
    role = role_of(phi, "mlp.gate_up_proj.weight")
    assert role is not None
    assert [(part.name, part.start, part.stop) for part in role.parts] == [("gate", 0, 64), ("up", 64, 128)]


def test_that_experts_in_columns_have_no_parts() -> None:
    """gpt-oss keeps gate and up in turns, Llama 4 one behind the other: the shape is the same."""
    role = role_of(layer("e", gate_up_proj=(4, 32, 128), down_proj=(4, 64, 32)), "e.gate_up_proj")
    assert role is not None
    assert (role.words, role.parts) == ("fused gate·up of 4 experts", ())


def test_that_a_router_is_one_only_beside_as_many_experts() -> None:
    experts = {f"moe.experts.{i}.w1.weight": (8, 4) for i in range(3)}
    assert words_of({"moe.gate.weight": (3, 4), **experts}, "moe.gate.weight") == "router to 3 experts"
    assert words_of({"moe.gate.weight": (5, 4), **experts}, "moe.gate.weight") == ""


# Pairs: adapters, quantized, pruned, normed


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("q_proj.lora_A.weight", "q_proj.lora_B.weight"),
        ("q_proj.lora_A.default.weight", "q_proj.lora_B.default.weight"),
        ("q_proj.lora_down.weight", "q_proj.lora_up.weight"),
        ("q_proj.lora.down.weight", "q_proj.lora.up.weight"),
    ],
)
def test_that_the_two_halves_of_an_adapter_find_each_other(a: str, b: str) -> None:
    shapes = {a: (8, 64), b: (32, 8), "q_proj.alpha": ()}
    assert words_of(shapes, a) == "LoRA A of q_proj, rank 8"
    assert words_of(shapes, b) == "LoRA B of q_proj, rank 8"
    assert related(shapes, b) == {"A": a, "alpha": "q_proj.alpha"}


KOHYA = layer(
    "lora_unet_down_blocks_0_attn1_to_q",
    lora_down__weight=(8, 320),
    lora_up__weight=(640, 8),
    alpha=(),
    dora_scale=(640,),
)
LOCON = layer(
    "c", lora_down__weight=(4, 64, 1, 1), lora_mid__weight=(4, 4, 3, 3), lora_up__weight=(32, 4, 1, 1), alpha=()
)
LOHA = layer("l", hada_w1_a=(32, 6), hada_w1_b=(6, 64), hada_w2_a=(32, 6), hada_w2_b=(6, 64), alpha=())
LOKR = layer("l", lokr_w1=(4, 4), lokr_w2_a=(16, 5), lokr_w2_b=(5, 32), alpha=())


@pytest.mark.parametrize(
    ("shapes", "words", "over"),
    [
        (KOHYA, "LoRA alpha of lora_unet_down_blocks_0_attn1_to_q, scale is alpha / 8", 8),
        (LOCON, "LoRA alpha of c, scale is alpha / 4", 4),
        (LOHA, "LoHa alpha of l, scale is alpha / 6", 6),
        (LOKR, "LoKr alpha of l, scale is alpha / 5", 5),
    ],
)
def test_that_an_alpha_says_what_it_is_divided_by_to_be_the_scale(shapes: Shapes, words: str, over: int) -> None:
    key = next(key for key in shapes if key.endswith(".alpha"))
    role = role_of(shapes, key)
    assert role is not None
    assert (role.words, role.kind, role.over) == (words, "scale", over)
    assert role.to_json({})["over"] == over
    half = next(key for key in shapes if key.endswith(("lora_up.weight", "_a")))
    assert half in related(shapes, key).values()
    assert related(shapes, half)["alpha"] == key


def test_that_a_number_called_alpha_without_a_pair_is_not_taken_for_one() -> None:
    assert words_of({"act.alpha": (), "act.weight": (3, 3)}, "act.alpha") == ""
    wrong = layer("l", lora_down__weight=(8, 320), lora_up__weight=(640, 4), alpha=())
    assert words_of(wrong, "l.alpha") == ""
    several = layer("l", lora_down__weight=(8, 320), lora_up__weight=(640, 8), alpha=(8,))
    assert words_of(several, "l.alpha") == ""


def test_that_what_stands_between_and_beside_a_pair_is_told() -> None:
    assert words_of(LOCON, "c.lora_mid.weight") == "LoRA middle of c, between A and B"
    assert related(LOCON, "c.lora_mid.weight") == {"A": "c.lora_down.weight", "B": "c.lora_up.weight"}
    name = "lora_unet_down_blocks_0_attn1_to_q"
    assert words_of(KOHYA, f"{name}.dora_scale") == f"DoRA lengths of {name}"
    assert words_of({"x.dora_scale": (4,)}, "x.dora_scale") == ""


def test_that_halves_that_do_not_fit_are_no_adapter() -> None:
    assert words_of({"q.lora_A.weight": (8, 64), "q.lora_B.weight": (32, 4)}, "q.lora_A.weight") == ""
    assert words_of({"q.lora_A.weight": (8, 64)}, "q.lora_A.weight") == ""


GPTQ = layer("l.q_proj", qweight=(32, 128), qzeros=(2, 16), scales=(2, 128), g_idx=(256,))
AWQ = layer("l.q_proj", qweight=(256, 16), qzeros=(2, 16), scales=(2, 128))


@pytest.mark.parametrize(
    ("shapes", "key", "kind", "said"),
    [
        (GPTQ, "l.q_proj.qweight", "packed", "GPTQ weight, 4 bits, 256 in, 128 out"),
        (GPTQ, "l.q_proj.scales", "scale", "GPTQ scales, one for 128 inputs"),
        (GPTQ, "l.q_proj.qzeros", "zero point", "GPTQ zero points, packed"),
        (AWQ, "l.q_proj.qweight", "packed", "AWQ weight, 4 bits, 256 in, 128 out"),
        (
            layer("l", weight=(256, 1), weight__absmax=(64,)),
            "l.weight",
            "packed",
            "bitsandbytes weight, 4 bits, packed",
        ),
        (
            layer("l", weight=(256, 1), weight__absmax=(64,)),
            "l.weight.absmax",
            "scale",
            "bitsandbytes scales, one a block",
        ),
        (
            layer("l", weight=(256, 200), weight_scale_inv=(2, 2)),
            "l.weight_scale_inv",
            "scale",
            "scale of weight, one a block of 128×128",
        ),
        (layer("l", weight=(256, 200), weight_scale=()), "l.weight_scale", "scale", "scale of weight, one for all"),
        (
            layer("fc1", scale=(), zero_point=()),
            "fc1.zero_point",
            "zero point",
            "quantization zero point of the layer's output",
        ),
        (layer("l", weight_orig=(3, 3), weight_mask=(3, 3)), "l.weight_mask", "mask", "pruning mask of weight"),
        (layer("l", weight_orig=(3, 3), weight_mask=(3, 3)), "l.weight_orig", "parameter", "weight before pruning"),
        (
            layer("l", weight_g=(8, 1, 1), weight_v=(8, 8, 3)),
            "l.weight_g",
            "parameter",
            "weight norm: lengths of weight",
        ),
        (
            layer("l.parametrizations.weight", original0=(8, 1), original1=(8, 8)),
            "l.parametrizations.weight.original1",
            "parameter",
            "weight norm: directions of weight",
        ),
        (
            layer("l", weight_orig=(8, 4), weight_u=(8,), weight_v=(4,)),
            "l.weight_v",
            "buffer",
            "spectral norm: right singular vector of weight",
        ),
    ],
)
def test_that_what_belongs_together_is_said(shapes: Shapes, key: str, kind: str, said: str) -> None:
    role = role_of(shapes, key)
    assert role is not None
    assert (role.kind, role.words) == (kind, said)
    if len(shapes) > 1:
        assert role.related


@pytest.mark.parametrize("name", ["weight_mask", "weight_g", "qweight", "weight_scale", "weight_orig"])
def test_that_half_of_a_pair_says_nothing(name: str) -> None:
    assert words_of({f"l.{name}": (8, 8)}, f"l.{name}") == ""


# Optimizers and averages


def trained() -> Checkpoint:
    model = checkpoint({"fc.weight": (4, 3), "fc.bias": (4,)}, path=("model",))
    moments = [
        tensor(("opt", "state", TypedStep("int", str(n)), name), f"state.{n}.{name}", shape)
        for n, shape in ((0, (4, 3)), (1, (4,)))
        for name in ("exp_avg", "exp_avg_sq")
    ]
    params = [
        ValueInfo(
            ("opt", "param_groups", TypedStep("index", "0"), "params", TypedStep("index", str(n))), "builtins.int", n
        )
        for n in range(2)
    ]
    averages = [tensor(("ema", f"module.{k}"), f"module.{k}", s) for k, s in (("fc.weight", (4, 3)), ("fc.bias", (5,)))]
    tensors = (
        *model.tensors,
        *(info._replace(state_dict=1) for info in moments),
        *(info._replace(state_dict=2) for info in averages),
    )
    optimizer = StateDict(("opt",), "optimizer", tuple(i.key or "" for i in moments), range(2, 6), 0, 0)
    ema = StateDict(("ema",), "ema", tuple(i.key or "" for i in averages), range(6, 8), 0, 0)
    return replace(model, tensors=tensors, state_dicts=(*model.state_dicts, optimizer, ema), values=params)


def test_that_a_moment_is_beside_its_parameter_and_the_other_way_round() -> None:
    roles = Roles(trained())
    moment, weight = roles.of(3), roles.of(0)
    assert moment is not None
    assert weight is not None
    assert (moment.kind, moment.words) == ("moment", "second moment of fc.weight")
    assert ("the parameter", 0) in moment.related
    assert {("first moment", 2), ("second moment", 3)} <= set(weight.related)


def test_that_an_average_is_beside_what_it_follows_if_their_shapes_agree() -> None:
    roles = Roles(trained())
    weight, average, other = roles.of(0), roles.of(6), roles.of(7)
    assert weight is not None
    assert average is not None
    assert other is not None
    assert ("moving average", 6) in weight.related
    assert average.kind == other.kind == "average"
    assert ("the model's own", 0) in average.related
    assert all(words != "the model's own" for words, _ in other.related)


# Edits, names of the file


def test_that_the_keys_of_the_recipe_count() -> None:
    given = checkpoint({"x.w": (8, 4), "x.b": (8,)})
    assert Roles(given).of(0) is None
    role = Roles(given, {0: ["x.weight", "x.bias"]}).of(0)
    assert role is not None
    assert role.words == "linear layer, 4 in, 8 out"


def test_that_names_of_the_file_are_made_printable() -> None:
    shapes = {"l.w\u202e_orig": (3, 3), "l.w\u202e_mask": (3, 3)}
    role = role_of(shapes, "l.w\u202e_mask")
    assert role is not None
    told = role.to_json({0: 5, 1: 6})
    assert "\u202e" not in told["words"]
    assert told["related"] == [{"words": "w\\u202e before", "row": 5}]


def test_that_branches_on_one_channel_are_not_depthwise() -> None:
    shapes = {"d.convs.0.weight": (32, 1, 5, 1), "d.convs.1.weight": (32, 1, 9, 1)}
    assert words_of(shapes, "d.convs.1.weight") == "convolution 9×1, 1 in, 32 out"


def test_that_a_quantized_tensor_says_how_many_scales_it_has() -> None:
    given = checkpoint({"w": (4, 3)})
    for scheme, said in (("per_tensor_affine", "one scale for all"), ("per_channel_affine", "one scale a channel")):
        tensors = tuple(info._replace(kind="quantized", quant={"qscheme": scheme}) for info in given.tensors)
        role = Roles(replace(given, tensors=tensors)).of(0)
        assert role is not None
        assert (role.kind, role.words) == ("packed", said)
