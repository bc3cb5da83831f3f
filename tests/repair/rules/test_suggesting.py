"""The steps that are proposed read as a person's, do what matching found, and keep what is sure from what is not."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sdviewer.core.key_table import KeyTable
from sdviewer.repair.matching.found import Found, Matching
from sdviewer.repair.rules import propose, suggest
from tests.repair.rules.tables import carried_out, related, renamed, table, texts

PARTS = ("weight", "bias")


def vit(hub: bool) -> list[str]:
    """The keys of a small vision transformer, as the hub and as a later library version have them."""
    block = "vit.encoder.layer.{}" if hub else "vit.layers.{}"
    modules = (
        ("layernorm_before", "layernorm_before"),
        ("attention.attention.query", "attention.q_proj"),
        ("attention.attention.key", "attention.k_proj"),
        ("attention.attention.value", "attention.v_proj"),
        ("attention.output.dense", "attention.o_proj"),
        ("layernorm_after", "layernorm_after"),
        ("intermediate.dense", "mlp.fc1"),
        ("output.dense", "mlp.fc2"),
    )
    keys = [f"{block.format(i)}.{old if hub else new}.{p}" for i in range(12) for old, new in modules for p in PARTS]
    return [*keys, "vit.layernorm.weight", "classifier.bias"]


def resnet() -> dict[str, str]:
    """Stages and convolutions that one side counts from 1 and the other from 0."""
    wishes = {"conv1.weight": "embedder.convolution.weight", "fc.weight": "classifier.1.weight"}
    for stage, blocks in enumerate((3, 4, 6, 3)):
        for block in range(blocks):
            new = f"encoder.stages.{stage}.layers.{block}"
            for conv in range(3):
                wishes[f"layer{stage + 1}.{block}.conv{conv + 1}.weight"] = f"{new}.layer.{conv}.convolution.weight"
                for part in (*PARTS, "running_mean"):
                    wishes[f"layer{stage + 1}.{block}.bn{conv + 1}.{part}"] = f"{new}.layer.{conv}.normalization.{part}"
    return wishes


def test_that_a_vision_transformer_takes_seven_rules() -> None:
    source, target, matching = renamed(dict(zip(vit(True), vit(False), strict=True)))
    found = suggest(source, target, matching)
    assert texts(found) == [
        'Rename "vit.encoder.layer.{i}.attention.attention.query.{p}" to "vit.layers.{i}.attention.q_proj.{p}"',
        'Rename "vit.encoder.layer.{i}.attention.attention.key.{p}" to "vit.layers.{i}.attention.k_proj.{p}"',
        'Rename "vit.encoder.layer.{i}.attention.attention.value.{p}" to "vit.layers.{i}.attention.v_proj.{p}"',
        'Rename "vit.encoder.layer.{i}.attention.output.dense.{p}" to "vit.layers.{i}.attention.o_proj.{p}"',
        'Rename "vit.encoder.layer.{i}.intermediate.dense.{p}" to "vit.layers.{i}.mlp.fc1.{p}"',
        'Rename "vit.encoder.layer.{i}.output.dense.{p}" to "vit.layers.{i}.mlp.fc2.{p}"',
        'Replace prefix "vit.encoder.layer." by "vit.layers."',
    ]
    assert list(carried_out(source, found).values()) == vit(False)
    assert [one.n_keys for one in found] == [24] * 6 + [48]
    assert found[0].evidence == "proved"
    assert found[0].examples[0] == (
        "vit.encoder.layer.0.attention.attention.query.weight",
        "vit.layers.0.attention.q_proj.weight",
    )


def test_that_indexes_are_counted_with_arithmetic() -> None:
    wishes = resnet()
    source, target, matching = renamed(wishes)
    found = suggest(source, target, matching)
    assert texts(found) == [
        'Rename "conv1.{p}" to "embedder.convolution.{p}"',
        'Rename "fc.{p}" to "classifier.1.{p}"',
        'Rename "layer{i}.{j}.conv{k}.{p}" to "encoder.stages.{i-1}.layers.{j}.layer.{k-1}.convolution.{p}"',
        'Rename "layer{i}.{j}.bn{k}.{p}" to "encoder.stages.{i-1}.layers.{j}.layer.{k-1}.normalization.{p}"',
    ]
    assert carried_out(source, found) == wishes


def test_that_blocks_can_be_counted_from_the_end_and_dealt_out() -> None:
    wishes = {f"up.{i}.conv.weight": f"up_blocks.{3 - i}.conv.weight" for i in range(4)}
    wishes |= {f"input.{i}.weight": f"down.{(i - 1) // 3}.{(i - 1) % 3}.weight" for i in range(1, 13)}
    source, target, matching = renamed(wishes)
    found = suggest(source, target, matching)
    assert texts(found) == [
        'Rename "up.{i}.conv.{p}" to "up_blocks.{3-i}.conv.{p}"',
        'Rename "input.{i}.{p}" to "down.{(i-1)//3}.{(i-1)%3}.{p}"',
    ]
    assert carried_out(source, found) == wishes


def test_that_a_number_that_names_a_module_stays_text() -> None:
    wishes = {
        f"h.{i}.mlp.{n}.{p}": f"h.{i}.mlp.{m}.{p}" for i in range(3) for n, m in ((0, "fc1"), (2, "fc2")) for p in PARTS
    }
    found = suggest(*renamed(wishes))
    assert texts(found) == [
        'Rename "h.{i}.mlp.0.{p}" to "h.{i}.mlp.fc1.{p}"',
        'Rename "h.{i}.mlp.2.{p}" to "h.{i}.mlp.fc2.{p}"',
    ]


@pytest.mark.parametrize(
    ("old", "new", "said", "name"),
    [
        ("module.", "", 'Strip prefix "module."', "DataParallel or DDP"),
        ("_orig_mod.", "", 'Strip prefix "_orig_mod."', "torch.compile"),
        ("module._orig_mod.", "", 'Strip components "_orig_mod", "module"', "torch.compile"),
        ("net.", "", 'Strip prefix "net."', ""),
        ("", "model.", 'Add prefix "model."', ""),
        ("net.", "backbone.", 'Replace prefix "net." by "backbone."', ""),
    ],
)
def test_that_a_prefix_is_one_step_with_its_name(old: str, new: str, said: str, name: str) -> None:
    keys = ["stem.weight", "blocks.0.fc.weight", "blocks.1.fc.weight"]
    (found,) = suggest(*renamed({old + key: new + key for key in keys}))
    assert found.text == said
    assert found.n_keys == 3
    assert not name or found.reasons[0].startswith(name)


def test_that_an_averaged_model_is_called_one_and_its_counter_dropped() -> None:
    source = table(["n_averaged", "module.fc.weight"])
    target = table(["fc.weight"])
    matching = Matching((Found((1,), (0,), evidence="proved"),), {0: "counter of an averaged model"})
    found = suggest(source, target, matching)
    assert texts(found) == ['Strip prefix "module."', 'Drop "n_averaged"']
    assert found[0].reasons[0].startswith("averaged model")
    assert found[1].step["why"] == "counter of an averaged model"
    assert carried_out(source, found)["module.fc.weight"] == "fc.weight"


def test_that_a_wrapper_inside_goes_and_one_that_the_target_has_stays() -> None:
    source, target, matching = renamed(
        {"blocks.0._orig_mod.fc.weight": "blocks.0.fc.weight", "head.weight": "head.weight"}
    )
    assert texts(suggest(source, target, matching)) == ['Strip component "_orig_mod"']
    same = {"module.fc.weight": "module.fc.weight"}
    assert suggest(*renamed(same)) == ()


def test_that_what_is_dropped_is_grouped_by_its_reason() -> None:
    source = table(
        [
            f"{m}.{i}.{p}"
            for i in range(3)
            for m, p in (("bn", "num_batches_tracked"), ("rope", "freqs"), ("fc", "weight"))
        ]
    )
    target = table([f"fc.{i}.weight" for i in range(3)])
    matching = Matching(
        tuple([Found((3 * i + 2,), (i,), evidence="proved") for i in range(3)]),
        {3 * i: "counter" for i in range(3)} | {3 * i + 1: "rotary table" for i in range(3)},
    )
    found = suggest(source, target, matching)
    assert [one.step for one in found] == [
        {"op": "drop", "keys": ["bn.*.num_batches_tracked"], "why": "counter"},
        {"op": "drop", "keys": ["rope.*.freqs"], "why": "rotary table"},
    ]


def test_that_a_fused_tensor_is_split_for_all_blocks_in_one_step() -> None:
    shapes = {"weight": (12, 4), "bias": (12,)}
    small = {"weight": (4, 4), "bias": (4,)}
    olds = [f"blocks.{i}.attn.qkv.{p}" for i in range(3) for p in PARTS]
    news = [[f"layers.{i}.{n}_proj.{p}" for n in "qkv"] for i in range(3) for p in PARTS]
    source = table(olds, {key: shapes[key.rpartition(".")[2]] for key in olds})
    flat = [key for group in news for key in group]
    target = table(flat, {key: small[key.rpartition(".")[2]] for key in flat})
    pairs = [([old], new) for old, new in zip(olds, news, strict=True)]
    matching = Matching(tuple(related(source, target, "split", pairs, dim=0, sizes=[4, 4, 4])))
    (found,) = suggest(source, target, matching)
    assert found.step == {
        "op": "split",
        "from": "blocks.{i}.attn.qkv.{p}",
        "into": ["layers.{i}.q_proj.{p}", "layers.{i}.k_proj.{p}", "layers.{i}.v_proj.{p}"],
    }
    assert carried_out(source, [found])["blocks.1.attn.qkv.bias"]["to"] == [f"layers.1.{n}_proj.bias" for n in "qkv"]


def test_that_parts_of_other_sizes_are_said() -> None:
    source = table(["a.qkv.weight"], {"a.qkv.weight": (8, 4)})
    target = table(
        ["a.q.weight", "a.k.weight", "a.v.weight"], {"a.q.weight": (4, 4), "a.k.weight": (2, 4), "a.v.weight": (2, 4)}
    )
    matching = Matching(
        tuple(related(source, target, "split", [(["a.qkv.weight"], list(target.keys))], dim=0, sizes=[4, 2, 2]))
    )
    (found,) = suggest(source, target, matching)
    assert found.step["sizes"] == [4, 2, 2]


def test_that_experts_are_joined_and_stacked() -> None:
    olds = [f"m.{i}.experts.{e}.{w}.weight" for i in range(2) for e in range(3) for w in ("w1", "w2", "w3")]
    news = [f"m.{i}.experts.{n}" for i in range(2) for n in ("gate_up", "down")]
    source = table(olds)
    target = table(news, {key: (3, 8, 4) if key.endswith("gate_up") else (3, 4, 4) for key in news})
    joined = [
        ([f"m.{i}.experts.{e}.{w}.weight" for w in ("w1", "w3") for e in range(3)], [f"m.{i}.experts.gate_up"])
        for i in range(2)
    ]
    down = [([f"m.{i}.experts.{e}.w2.weight" for e in range(3)], [f"m.{i}.experts.down"]) for i in range(2)]
    matching = Matching((
        *related(source, target, "stack_concat", joined, concat_dim=0, stack_dim=0, parts=2),
        *related(source, target, "stack", down, dim=0),
    ))  # fmt: skip
    found = suggest(source, target, matching)
    assert [one.step["op"] for one in found] == ["stack", "fuse", "stack"]
    done = carried_out(source, found)
    assert done["m.1.experts.2.w3.weight"] == {
        "op": "stack_concat",
        "to": "m.1.experts.gate_up",
        "index": 2,
        "part": 1,
        "concat_dim": 0,
        "stack_dim": 0,
    }
    assert done["m.0.experts.1.w2.weight"] == {"op": "stack", "to": "m.0.experts.down", "dim": 0, "index": 1}
    assert [caution.code for caution in found[1].cautions] == ["gate_up_order"]
    assert [old for old, _ in found[2].examples] == [f"m.0.experts.{e}.gate_up" for e in range(3)]


def test_that_a_stacked_tensor_is_taken_apart() -> None:
    source = table(["m.0.e.down", "m.1.e.down"], {"m.0.e.down": (3, 4, 4), "m.1.e.down": (3, 4, 4)})
    target = table([f"m.{i}.e.{e}.down.weight" for i in range(2) for e in range(3)])
    pairs = [([f"m.{i}.e.down"], [f"m.{i}.e.{e}.down.weight" for e in range(3)]) for i in range(2)]
    (found,) = suggest(source, target, Matching(tuple(related(source, target, "unstack", pairs, dim=0))))
    assert found.step == {"op": "unstack", "from": "m.{i}.e.down", "into": "m.{i}.e.{j}.down.weight"}


def test_that_tensors_are_transposed_and_squeezed_under_their_new_names() -> None:
    source = table(["h.0.fc.weight", "h.1.fc.weight", "h.0.q.weight", "ln.weight"], {
        "h.0.fc.weight": (4, 8), "h.1.fc.weight": (4, 8), "h.0.q.weight": (4, 4, 1, 1),
    })  # fmt: skip
    target = table(["h.0.up.weight", "h.1.up.weight", "h.0.to_q.weight", "ln.weight"], {
        "h.0.up.weight": (8, 4), "h.1.up.weight": (8, 4),
    })  # fmt: skip
    turned = [([f"h.{i}.fc.weight"], [f"h.{i}.up.weight"]) for i in range(2)]
    matching = Matching((
        *related(source, target, "transpose", turned),
        *related(source, target, "squeeze", [(["h.0.q.weight"], ["h.0.to_q.weight"])], dims=[2, 3]),
        *related(source, target, "rename", [(["ln.weight"], ["ln.weight"])]),
    ))  # fmt: skip
    found = suggest(source, target, matching)
    assert [one.step["op"] for one in found] == ["rename", "rename", "transpose", "squeeze"]
    assert found[2].text == 'Transpose: "h.*.up.weight"'
    done = carried_out(source, found)
    assert done["h.1.fc.weight"]["op"] == "transpose"
    assert done["h.1.fc.weight"]["to"] == "h.1.up.weight"
    assert done["h.0.q.weight"]["to"] == "h.0.to_q.weight"


def test_that_rotary_rows_are_permuted_where_the_heads_are_known() -> None:
    names = [
        (f"layers.{i}.attention.{a}.weight", f"model.layers.{i}.self_attn.{b}.weight")
        for i in range(2)
        for a, b in (("wq", "q_proj"), ("wk", "k_proj"))
    ]
    for pairs, order in ((names, {}), ([(new, old) for old, new in names], {"to": "pairs"})):
        source = table([old for old, _ in pairs], {old: (16, 8) for old, _ in pairs})
        target = table([new for _, new in pairs], {new: (16, 8) for _, new in pairs})
        turned = [
            one
            for place, (old, new) in enumerate(pairs)
            for one in related(source, target, "permute_rope", [([old], [new])], n_heads=(4, 2)[place % 2])
        ]
        found = suggest(source, target, Matching(tuple(turned)))
        steps = [one.step for one in found if one.step["op"] == "permute_rope"]
        assert [(step["heads"], step["keys"]) for step in steps] == [
            (4, [f"{'' if order else 'model.'}layers.*.{'attention.wq' if order else 'self_attn.q_proj'}.weight"]),
            (2, [f"{'' if order else 'model.'}layers.*.{'attention.wk' if order else 'self_attn.k_proj'}.weight"]),
        ]
        assert all({key: value for key, value in step.items() if key == "to"} == order for step in steps)


def test_that_a_tie_is_a_step_after_the_renaming() -> None:
    source, target = table(["emb.weight"]), table(["model.emb.weight", "head.weight"])
    own = related(source, target, "rename", [(["emb.weight"], ["model.emb.weight"])])
    tied = related(source, target, "tie", [(["emb.weight"], ["head.weight"])])
    both = related(source, target, "tie", [(["emb.weight"], ["model.emb.weight", "head.weight"])])
    for relations in ([*tied, *own], both):
        found = suggest(source, target, Matching(tuple(relations)))
        assert [one.step["op"] for one in found] == ["rename", "tie"]
        assert found[-1].step == {"op": "tie", "from": "model.emb.weight", "to": ["head.weight"]}


def test_that_what_is_doubtful_stands_alone_and_last() -> None:
    keys = [f"blocks.{i}.{m}.{p}" for i in range(4) for m in ("attn", "na", "nb", "mlp") for p in PARTS]
    wishes = {key: key.replace("blocks", "layers") for key in keys}
    source, target, matching = renamed(wishes, [key for key in keys if ".n" in key])
    found = suggest(source, target, matching)
    sure = [one for one in found if one.evidence != "ambiguous"]
    assert found[: len(sure)] == tuple(sure)
    done = carried_out(source, sure)
    assert all(done[key] == wishes[key] for key in keys if ".n" not in key)
    assert all(done[key] not in target.keys for key in keys if ".n" in key)
    assert carried_out(source, found) == wishes


def test_that_a_cycle_and_a_shift_are_one_step_where_they_must_be() -> None:
    swap = {"a.w": "b.w", "b.w": "a.w", "c.w": "c.w"}
    source, target, matching = renamed(swap)
    (found,) = suggest(source, target, matching)
    assert len(found.step["rules"]) == 2
    assert carried_out(source, [found]) == swap
    shift = {"layers.0.w": "proj_in.w"} | {f"layers.{i}.w": f"layers.{i - 1}.w" for i in range(1, 5)}
    source, target, matching = renamed(shift)
    assert carried_out(source, suggest(source, target, matching)) == shift


def test_that_a_wide_rule_and_its_exceptions_do_not_rename_twice() -> None:
    wishes = {
        f"model.layers.{i}.mlp.{m}": f"model.text.layers.{i}.mlp.{n}"
        for i in range(3)
        for m, n in (("a", "a"), ("b", "b"), ("gate", "up"))
    }
    wishes |= {f"visual.{m}": f"model.visual.{m}" for m in ("x.weight", "y.weight")}
    source, target, matching = renamed(wishes)
    found = suggest(source, target, matching)
    assert carried_out(source, found) == wishes
    assert all(len(one.step.get("rules", [1])) == 1 for one in found)


def test_that_keys_a_template_cannot_hold_are_renamed_one_by_one() -> None:
    wishes = {"re:a*": "ok", "b{}": "{x}", "c d": "e", "\n": "f"}
    source, target, matching = renamed(wishes)
    assert carried_out(source, suggest(source, target, matching)) == wishes


def test_that_names_without_a_pattern_make_no_list_of_rules() -> None:
    letters = random.Random(7)
    names = [
        "".join(letters.choices("abcdefgh", k=9)) + "." + "".join(letters.choices("abcdefgh", k=9)) for _ in range(4000)
    ]
    source, target, matching = renamed(dict(zip(names[:2000], names[2000:], strict=True)))
    found = propose(source, target, matching)
    assert found.suggestions == ()
    assert [caution.code for caution in found.cautions] == ["no_pattern"]
    assert "2,000 keys" in found.cautions[0].message


def test_that_many_names_that_rules_say_one_by_one_are_not_said_to_have_no_pattern() -> None:
    letters = random.Random(7)
    names = ["".join(letters.choices("abcdefgh", k=8)) for _ in range(500)]
    wishes = dict(zip(names[:250], names[250:], strict=True))
    source, target, matching = renamed(wishes)
    found = propose(source, target, matching)
    assert carried_out(source, found.suggestions) == wishes
    assert found.cautions == ()


def test_that_a_few_names_without_a_pattern_stand_in_one_step() -> None:
    letters = random.Random(3)
    names = ["".join(letters.choices("abcdefgh", k=8)) for _ in range(60)]
    wishes = dict(zip(names[:30], names[30:], strict=True))
    source, target, matching = renamed(wishes)
    (found,) = suggest(source, target, matching)
    assert len(found.step["rules"]) == 30
    assert carried_out(source, [found]) == wishes


WORDS = st.sampled_from(["a", "b", "mlp", "0", "1", "2", "fc1", "x_2"])
KEYS = st.lists(WORDS, min_size=1, max_size=4).map(".".join)


@settings(max_examples=150, deadline=None)
@given(st.dictionaries(KEYS, KEYS, min_size=1, max_size=10))
def test_that_any_renaming_is_carried_out_exactly_or_refused_aloud(wishes: dict[str, str]) -> None:
    apart = {old: new for old, new in wishes.items() if list(wishes.values()).count(new) == 1}
    source, target, matching = renamed(apart)
    found = propose(source, target, matching)
    done = carried_out(source, found.suggestions)
    assert done == apart or any(caution.code == "no_pattern" for caution in found.cautions)


def test_that_shapes_need_not_be_known() -> None:
    source = KeyTable(("a.0.w", "a.1.w"), [None, None], ["", ""])
    target = KeyTable(("b.0.w", "b.1.w"), [None, None], ["", ""])
    found = suggest(source, target, Matching((Found((0,), (0,)), Found((1,), (1,)))))
    assert texts(found) == ['Replace prefix "a." by "b."']


def test_that_a_cut_without_shapes_is_said_and_not_offered() -> None:
    source = KeyTable(("a.qkv.w",), [None], [""])
    target = table([f"a.{part}.w" for part in "qkv"])
    matching = Matching((Found((0,), (0, 1, 2), "split", {"dim": 0}),))
    found = propose(source, target, matching)
    assert found.suggestions == ()
    assert [caution.code for caution in found.cautions] == ["shapes_unknown"]


def test_that_very_many_rules_are_one_step() -> None:
    letters = random.Random(2)
    words = sorted({"".join(letters.choices("abcdefgh", k=7)) for _ in range(800)})
    pairs = list(zip(words, reversed(words), strict=True))
    wishes = {f"m.{i}.{old}.w": f"n.{i}.{new}.w" for i in range(20) for old, new in pairs}
    source, target, matching = renamed(wishes)
    found = suggest(source, target, matching)
    assert carried_out(source, found) == wishes
    assert len(found) < 5 and max(len(one.step.get("rules", ())) for one in found) > 200


def test_that_an_empty_key_and_one_of_a_million_components_are_only_keys() -> None:
    deep = "a." * 500_000 + "w"
    odd = ("", ".", "a..b", "{}.w", "*")
    source = table({**dict.fromkeys((*odd, deep), (2,)), "x.0.w": (3,), "x.1.w": (3,)})
    target = table({"y.0.w": (3,), "y.1.w": (3,), f"y.{deep}": (2,)})
    matching = Matching((Found((6,), (0,)), Found((7,), (1,)), Found((5,), (2,))), {0: "", 1: "", 2: "", 3: "", 4: ""})
    done = carried_out(source, suggest(source, target, matching))
    assert [done[key]["op"] for key in odd] == ["drop"] * 5
    assert (done["x.1.w"], done[deep]) == ("y.1.w", f"y.{deep}")
