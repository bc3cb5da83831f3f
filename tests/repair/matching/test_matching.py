"""Which tensors stand for which, how surely, and what is not claimed."""

from __future__ import annotations

import random

import pytest

from sdviewer.repair.matching.matching import match
from tests.repair.matching.made import made
from tests.repair.matching.tables import HUB, TIMM, encoder, names_only, of, table, told

SEEDS = 300
"""Made pairs that are matched here; `dev.py gate` matches many more."""


def test_that_equal_keys_and_keys_behind_wrappers_are_proved() -> None:
    source = table({"module._orig_mod.fc.weight": (3, 2), "module.blocks.0._orig_mod.w": (4,), "step": ()})
    target = table({"fc.weight": (3, 2), "blocks.0.w": (4,), "step": ()})
    found = match(source, target)
    assert told(source, target, found) == {
        "module._orig_mod.fc.weight": "fc.weight", "module.blocks.0._orig_mod.w": "blocks.0.w", "step": "step",
    }  # fmt: skip
    assert {one.evidence for one in found.found} == {"proved"}


def test_that_a_fused_projection_is_split_and_the_rest_of_the_blocks_renamed() -> None:
    before = {"pos_embed": (1, 17, 12), **encoder("blocks", TIMM, 3, fused=True), "norm.weight": (12,)}
    after = {
        "vit.embeddings.position_embeddings": (1, 17, 12),
        **encoder("vit.encoder.layer", HUB, 3),
        "vit.layernorm.weight": (12,),
    }
    for ordered in (True, False):
        source, target = table(before, ordered=ordered), table(after, ordered=ordered)
        found = match(source, target)
        names = told(source, target, found)
        assert names["blocks.2.norm1.weight"] == "vit.encoder.layer.2.layernorm_before.weight"
        assert names["blocks.2.norm2.bias"] == "vit.encoder.layer.2.layernorm_after.bias"
        assert names["blocks.1.attn.proj.weight"] == "vit.encoder.layer.1.attention.output.dense.weight"
        assert names["blocks.1.attn.qkv.weight"] == tuple(
            f"vit.encoder.layer.1.attention.attention.{part}.weight" for part in ("query", "key", "value")
        )
        assert names["norm.weight"] == "vit.layernorm.weight"
        assert len(names) == len(before)
        split = of(found, source, "blocks.1.attn.qkv.weight")
        assert (split.relation, split.fields) == ("split", {"dim": 0, "sizes": [12, 12, 12]})


def test_that_parts_are_joined_in_the_order_that_the_fused_name_says() -> None:
    source = table({"mlp.gate_proj.weight": (8, 4), "mlp.up_proj.weight": (8, 4)})
    target = table({"mlp.up_gate_proj.weight": (16, 4)})
    (one,) = match(source, target).found
    assert (one.relation, one.evidence) == ("concat", "likely")
    assert [source.keys[i] for i in one.sources] == ["mlp.up_proj.weight", "mlp.gate_proj.weight"]


def test_that_halves_whose_order_nobody_says_are_ambiguous() -> None:
    source = table({"mlp.ff_proj.weight": (16, 4)})
    target = table({"mlp.gate_proj.weight": (8, 4), "mlp.up_proj.weight": (8, 4)})
    (one,) = match(source, target).found
    assert (one.relation, one.evidence) == ("split", "ambiguous")


def test_that_experts_are_stacked_gate_and_up_joined_first() -> None:
    before = {
        f"model.layers.{i}.block_sparse_moe.experts.{e}.{w}.weight": shape
        for i in range(2)
        for e in range(3)
        for w, shape in (("w1", (8, 4)), ("w2", (4, 8)), ("w3", (8, 4)))
    }
    after = {
        f"model.layers.{i}.mlp.experts.{name}": shape
        for i in range(2)
        for name, shape in (("gate_up_proj", (3, 16, 4)), ("down_proj", (3, 4, 8)))
    }
    source, target = table(before), table(after)
    found = match(source, target)
    joined = of(found, source, "model.layers.1.block_sparse_moe.experts.0.w1.weight")
    assert (joined.relation, joined.fields) == ("stack_concat", {"stack_dim": 0, "concat_dim": 0, "parts": 2})
    assert [source.keys[i][-16:] for i in joined.sources] == [
        f"experts.{e}.{w}.weight"[-16:] for w in ("w1", "w3") for e in range(3)
    ]
    stacked = of(found, source, "model.layers.0.block_sparse_moe.experts.2.w2.weight")
    assert stacked.relation == "stack"
    assert target.keys[stacked.targets[0]] == "model.layers.0.mlp.experts.down_proj"
    back = match(target, source)
    assert of(back, target, "model.layers.0.mlp.experts.down_proj").relation == "unstack"


@pytest.mark.parametrize(
    ("shape", "other", "relation", "fields"),
    [
        ((6, 4), (4, 6), "transpose", {}),
        ((6, 4, 1, 1), (6, 4), "squeeze", {"dims": [2, 3]}),
        ((6, 4), (6, 4, 1, 1), "reshape", {"shape": [6, 4, 1, 1]}),
        ((3, 3, 5, 7), (7, 5, 3, 3), "transpose", {"dims": [3, 2, 0, 1]}),
    ],
)
def test_that_what_moves_the_elements_is_said(
    shape: tuple[int, ...], other: tuple[int, ...], relation: str, fields: dict[str, object]
) -> None:
    found = match(table({"attn.proj_out.weight": shape}), table({"attention.to_out.weight": other}))
    assert [(one.relation, dict(one.fields)) for one in found.found] == [(relation, fields)]


def test_that_a_list_numbered_from_the_other_end_is_told_by_the_shapes_that_differ() -> None:
    before = {f"up.{i}.block.conv{n}.weight": (2**i * 8, 8) for i in range(3) for n in (1, 2)}
    before |= {"up.3.block.conv1.weight": (32, 8), "up.3.block.conv2.weight": (32, 8)}
    after = {
        f"decoder_blocks.{3 - i}.res.conv{n}.weight": before[f"up.{i}.block.conv{n}.weight"]
        for i in reversed(range(4))
        for n in (1, 2)
    }
    names = told(table(before), table(after), match(table(before), table(after)))
    assert names == {f"up.{i}.block.conv{n}.weight": f"decoder_blocks.{3 - i}.res.conv{n}.weight"
                     for i in range(4) for n in (1, 2)}  # fmt: skip


def test_that_an_equal_key_is_not_taken_for_proved_where_its_neighbours_moved() -> None:
    source = table({f"head.layers.{i}.weight": (4, 4) for i in range(3)})
    target = table({f"head.layers.{i}.weight": (4, 4) for i in range(1, 4)})
    found = match(source, target)
    assert told(source, target, found)["head.layers.0.weight"] == "head.layers.1.weight"
    source = table({"h.layers.0.weight": (4, 4), "h.layers.1.weight": (4, 4)})
    target = table({"h.proj_in.weight": (4, 4), "h.layers.0.weight": (4, 4)})
    assert all(one.evidence != "proved" for one in match(source, target).found)


def test_that_what_cannot_be_told_is_ambiguous_with_its_candidates() -> None:
    source = table({"a.left_thing.weight": (4, 4), "a.other_thing.weight": (4, 4)}, ordered=False)
    target = table({"b.foo.weight": (4, 4), "b.bar.weight": (4, 4)}, ordered=False)
    found = match(source, target)
    assert {one.evidence for one in found.found} == {"ambiguous"}
    assert all(one.candidates for one in found.found)


def test_that_a_shape_proves_nothing_since_each_side_may_lack_the_other_tensor() -> None:
    before = {f"blocks.{i}.aaa.weight": (4,) for i in range(2)}
    after = {f"blocks.{i}.bbb.weight": (4,) for i in range(2)}
    for target in (table(after), table({**after, "other.weight": (7, 7)})):
        assert {one.evidence for one in match(table(before), target).found} == {"likely"}


def test_that_a_key_is_proved_behind_what_one_side_has_in_front_of_all() -> None:
    before = {f"blocks.{i}.{name}.weight": (4,) for i in range(2) for name in ("a", "b")}
    after = {f"model.backbone.{key}": shape for key, shape in before.items()} | {"head.weight": (7, 7)}
    for source, target in ((table(before), table(after)), (table(after), table(before))):
        found = match(source, target).found
        assert [(one.evidence, one.by) for one in found] == [("proved", "prefix")] * 4
        names = {(source.keys[one.sources[0]], target.keys[one.targets[0]]) for one in found}
        assert {min(pair, key=len) for pair in names} == set(before) and all(max(p, key=len)[15:] in p for p in names)
    moved = {f"blocks.{i + 1}.{name}.weight": (4,) for i in range(2) for name in ("a", "b")}
    assert all(one.evidence != "proved" for one in match(table(before), table(moved)).found)


def test_that_an_equal_key_proves_nothing_where_the_others_are_called_otherwise() -> None:
    source = table({"h.layers.0.weight": (4, 4), **{f"h.a.{i}.weight": (2, i + 1) for i in range(4)}})
    target = table({"h.layers.0.weight": (4, 4), **{f"h.b.{i}.weight": (2, i + 1) for i in range(4)}})
    assert all(one.evidence != "proved" for one in match(source, target).found)


def test_that_a_matrix_is_not_proved_by_its_key_where_others_lie_the_other_way_round() -> None:
    source = table({"a.weight": (4, 4), "b.weight": (3, 4), "a.bias": (4,)})
    target = table({"a.weight": (4, 4), "b.weight": (4, 3), "a.bias": (4,)})
    found = match(source, target)
    assert of(found, source, "a.weight").evidence == "likely"
    assert of(found, source, "a.bias").evidence == "proved"


def test_that_a_pair_by_hand_is_kept_and_teaches_its_family() -> None:
    before = {f"h.{i}.{name}.weight": (4, 4) for i in range(3) for name in ("foo", "bar")}
    after = {f"g.{i}.{name}.weight": (4, 4) for i in range(3) for name in ("one", "two")}
    source, target = table(before), table(after)
    found = match(source, target, hand=[(source.keys.index("h.1.foo.weight"), target.keys.index("g.1.two.weight"))])
    assert of(found, source, "h.1.foo.weight").by == "hand"
    assert told(source, target, found)["h.2.foo.weight"] == "g.2.two.weight"
    assert told(source, target, found)["h.2.bar.weight"] == "g.2.one.weight"


def test_that_a_refused_pair_is_not_made_again() -> None:
    source, target = table({"fc.weight": (3, 2)}), table({"fc.weight": (3, 2)})
    assert match(source, target, broken=[(0, 0)]).found == ()


def test_that_names_alone_are_enough_where_no_shape_is_known() -> None:
    before, after = encoder("transformer.h", TIMM, 3, fused=True), encoder("encoder.layer", HUB, 3)
    source, target = table(before), names_only(after)
    names = told(source, target, match(source, target))
    assert names["transformer.h.2.norm2.weight"] == "encoder.layer.2.layernorm_after.weight"
    assert names["transformer.h.0.attn.qkv.bias"] == tuple(
        f"encoder.layer.0.attention.attention.{part}.bias" for part in ("query", "key", "value")
    )
    assert len(names) == len(before)


def test_that_what_newer_code_computes_is_dropped_with_the_reason() -> None:
    source = table({"fc.weight": (3, 2), "rope.inv_freq": (8,), "old.thing.weight": (9, 9)})
    found = match(source, table({"fc.weight": (3, 2), "new.weight": (5, 5)}))
    assert found.drops == {1: "rotary table, computed again", 2: ""}
    found = match(source, table({"fc.weight": (3, 2), "new.weight": (9, 9), "newer.weight": (9, 9)}))
    assert 2 not in found.drops


def test_that_a_square_matrix_is_transposed_where_all_others_of_its_block_are() -> None:
    before, after = ({f"h.{i}.{name}.weight": shape[::step] for i in range(2) for name, shape in (
        ("attn.c_attn", (12, 4)), ("attn.c_proj", (4, 4)), ("mlp.c_fc", (16, 4)))} for step in (1, -1))  # fmt: skip
    source, target = table(before), table(after)
    square = of(match(source, target), source, "h.1.attn.c_proj.weight")
    assert (square.relation, square.evidence) == ("transpose", "likely")
    after["h.0.mlp.c_fc.weight"] = (16, 4)
    square = of(match(source, table(after)), source, "h.1.attn.c_proj.weight")
    assert square.relation == "rename"


def test_that_rotary_rows_are_permuted_where_the_file_tells_the_size_of_a_head() -> None:
    before = {f"layers.{i}.attention.{name}.weight": shape for i in range(2) for name, shape in (
        ("wq", (16, 16)), ("wk", (8, 16)), ("wv", (8, 16)))}  # fmt: skip
    after = {f"model.layers.{i}.self_attn.{name}_proj.weight": shape for i in range(2) for name, shape in (
        ("q", (16, 16)), ("k", (8, 16)), ("v", (8, 16)))}  # fmt: skip
    source, target = table({**before, "rope.freqs": (2,)}), table(after)
    found = match(source, target)
    query, key, value = (of(found, source, f"layers.1.attention.{name}.weight") for name in ("wq", "wk", "wv"))
    assert (query.relation, query.fields) == ("permute_rope", {"n_heads": 4})
    assert (key.relation, key.fields) == ("permute_rope", {"n_heads": 2})
    assert value.relation == "rename"
    assert all(one.relation == "rename" for one in match(table(before), target).found)


def test_that_a_tied_head_is_filled_from_the_embedding() -> None:
    target = table({"model.embed_tokens.weight": (50, 4), "lm_head.weight": (50, 4)}, ties=((0, 1),))
    for key, evidence in (("model.wte", "likely"), ("model.embed_tokens", "proved")):
        found = match(table({f"{key}.weight": (50, 4)}), target)
        assert [(one.relation, one.targets, one.evidence) for one in found.found][-1] == ("tie", (1,), evidence)


def test_that_the_last_of_a_shape_on_both_sides_are_a_guess_where_their_names_are_alike() -> None:
    rest = {f"blocks.{i}.fc.{leaf}": (4,) for i in range(3) for leaf in ("weight", "bias")} | {"head.weight": (10, 4)}
    target = table({**rest, "head.bias": (10,)})
    by_hand, other = table({**rest, "head_b": (10,)}), table({**rest, "classes": (10,)})
    guess = of(match(by_hand, target), by_hand, "head_b")
    assert (target.keys[guess.targets[0]], guess.evidence) == ("head.bias", "ambiguous")
    assert "head.bias" not in told(other, target, match(other, target)).values()


def test_that_every_find_says_why() -> None:
    source, target = table(encoder("blocks", TIMM, 3, fused=True)), table(encoder("layer", HUB, 3))
    for one in match(source, target).found:
        assert one.reasons and all(reason and reason[-1] != "." for reason in one.reasons)


@pytest.mark.parametrize("start", range(0, SEEDS, 100))
def test_that_what_is_proved_is_right_whatever_is_called_lost_or_numbered_otherwise(start: int) -> None:
    proved = 0
    for seed in range(start, start + 100):
        pair = made(seed)
        matching = pair.matched()
        proved += len(pair.proved(matching))
        assert [(seed, one) for one in pair.wrong(matching)] == []
    assert proved > 1000


def test_that_hostile_tables_are_bounded() -> None:
    letters = random.Random(1)
    words = ["".join(letters.choices("abcdefgh", k=7)) for _ in range(6000)]
    same = table({f"{word}.x": (8, 8) for word in words[:3000]}), table({f"{word}.y": (8, 8) for word in words[3000:]})
    deep = table({"a." * 200_000 + "w": (2,), "x" * 500_000: (3,)}), table({"b." * 200_000 + "w": (2,), "y": (3,)})
    numbers = [".".join([str(i % 3)] * 20 + [str(i)]) for i in range(2000)]
    many = table(dict.fromkeys(numbers, (8,))), table({"z." + key: (8,) for key in numbers})
    holes = table({"up.{}.0.w": (3,), "up.1.1.w": (3,)}), table({"up_blocks.{}.0.w": (3,), "up_blocks.1.1.w": (3,)})
    for source, target in (same, deep, many, holes):
        assert len(match(source, target).found) <= len(source)


@pytest.mark.parametrize(
    "beside", [{}, {"loss.weight": (21,), "projector.0.weight": (7, 7), "projector.2.weight": (7, 7)}]
)
@pytest.mark.parametrize("head", [{}, {"zop.weight": (5, 12)}, {"zop.weight": (9, 12)}])
def test_that_a_network_is_sure_by_all_of_its_elements_whatever_stands_beside_it_in_the_file(
    beside: dict[str, tuple[int, ...]], head: dict[str, tuple[int, ...]]
) -> None:
    network = {"bak.weight": (12, 3, 4), "bak.bias": (12,), **encoder("fim", TIMM, 3), "dur.weight": (12,)}
    prefix = "model.net." if beside else ""
    source = table({prefix + key: shape for key, shape in {**network, **head}.items()} | beside)
    target = table({
        "patches.projection.weight": (12, 3, 4),
        "patches.projection.bias": (12,),
        **encoder("layer", TIMM, 3),
        "after.weight": (12,),
        "classifier.weight": (5, 12),
    })  # fmt: skip
    names = told(source, target, match(source, target))
    assert names[f"{prefix}bak.weight"] == "patches.projection.weight"
    assert names[f"{prefix}dur.weight"] == "after.weight"
    assert not any(key in names for key in beside)


def test_that_a_tensor_alone_in_its_place_is_not_told_by_its_place_in_a_list() -> None:
    """An encoder with a decoder that stays: the output is alone in its module, and the last of four in the target."""
    later = ("layernorm_before", "layernorm_after", "attention.q_proj attention.k_proj attention.v_proj")
    decoder = encoder("decoder.bert.encoder.layer", HUB, 2)
    source = table({**encoder("encoder.encoder.layer", HUB, 2), **decoder})
    target = table({**encoder("encoder.layers", (*later, "attention.o_proj", "mlp.fc1", "mlp.fc2"), 2), **decoder})
    found = match(source, target)
    wanted = {
        "attention.attention.query": "q_proj",
        "attention.attention.key": "k_proj",
        "attention.attention.value": "v_proj",
        "attention.output.dense": "o_proj",
    }
    for old, new in wanted.items():
        one = of(found, source, f"encoder.encoder.layer.1.{old}.weight")
        assert target.keys[one.targets[0]] == f"encoder.layers.1.attention.{new}.weight"


def test_that_a_query_is_no_output_because_nothing_else_is_left() -> None:
    source = table({"x.0.attention.query.weight": (4, 4), "x.0.fc.weight": (8, 4)})
    target = table({"x.0.attention.o_proj.weight": (4, 4), "x.0.fc.weight": (8, 4)})
    assert told(source, target, match(source, target)) == {"x.0.fc.weight": "x.0.fc.weight"}
