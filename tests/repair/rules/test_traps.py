"""Known traps are said where keys and shapes show them, on the steps that they are about, and nowhere else."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from sdviewer.core.key_table import KeyTable
from sdviewer.repair.matching.found import Matching
from sdviewer.repair.rules import Proposal, propose
from tests.repair.rules.tables import related, renamed, table

Tables = tuple[KeyTable, KeyTable, Matching]


def codes(found: object) -> list[str]:
    return [caution.code for caution in getattr(found, "cautions")]  # noqa: B009


def llama(gated: bool) -> dict[str, str]:
    wishes = {}
    for i in range(2):
        for old, new in (("wq", "q_proj"), ("wk", "k_proj"), ("wv", "v_proj")):
            wishes[f"layers.{i}.attention.{old}.weight"] = f"model.layers.{i}.self_attn.{new}.weight"
        if gated:
            wishes[f"layers.{i}.feed_forward.w3.weight"] = f"model.layers.{i}.mlp.up_proj.weight"
    return wishes


def test_that_rotary_rows_are_warned_of_on_queries_and_keys() -> None:
    found = propose(*renamed(llama(True)))
    assert codes(found) == ["rope_order"]
    warned = [one.text for one in found.suggestions if one.cautions]
    assert len(warned) == 2
    assert all(".wq." in text or ".wk." in text for text in warned)
    assert codes(propose(*renamed({new: old for old, new in llama(True).items()}))) == ["rope_order"]
    assert codes(propose(*renamed(llama(False)))) == []


def rotary(rows: tuple[int, int], width: int, *, back: bool = False, table_of: int = 0) -> Tables:
    """Llama's queries and keys with so many rows, matched; `table_of` numbers in the rotary table of the source."""
    wishes = llama(True)
    sizes = {".wq.": rows[0], ".wk.": rows[1], ".q_proj.": rows[0], ".k_proj.": rows[1]}
    shapes = {key: (size, width) for key in (*wishes, *wishes.values()) for part, size in sizes.items() if part in key}
    old, new = (list(wishes.values()), list(wishes)) if back else (list(wishes), list(wishes.values()))
    more = {"rope.freqs": (table_of,)} if table_of else {}
    source, target = table([*old, *more], shapes | more), table(new, shapes)
    return (
        source,
        target,
        Matching(tuple(related(source, target, "rename", [([a], [b]) for a, b in zip(old, new, strict=True)]))),
    )


def permuting(found: Proposal) -> list[tuple[Any, ...]]:
    return [
        (one.step["heads"], one.step.get("to", "halves"), tuple(one.step["keys"]), one.evidence, one.asks)
        for one in found.suggestions
        if one.step["op"] == "permute_rope"
    ]


def test_that_rotary_rows_are_permuted_if_a_person_accepts_it() -> None:
    to_halves = ["model.layers.*.self_attn.q_proj.weight", "model.layers.*.self_attn.k_proj.weight"]
    to_pairs = ["layers.*.attention.wq.weight", "layers.*.attention.wk.weight"]
    known = [(8, "halves", (to_halves[0],), "ambiguous", ()), (2, "halves", (to_halves[1],), "ambiguous", ())]
    assert permuting(propose(*rotary((64, 16), 64, table_of=4))) == known
    assert permuting(propose(*rotary((64, 16), 64), head_dim=8)) == known
    back = [(8, "pairs", (to_pairs[0],), "ambiguous", ()), (2, "pairs", (to_pairs[1],), "ambiguous", ())]
    assert permuting(propose(*rotary((64, 16), 64, back=True), head_dim=8)) == back


def test_that_a_number_of_heads_that_is_guessed_is_asked_for() -> None:
    guessed = permuting(propose(*rotary((4096, 1024), 4096)))
    assert [(one[0], one[-1]) for one in guessed] == [(32, ("heads",)), (8, ("heads",))]
    guessed = permuting(propose(*rotary((2048, 512), 2048)))
    assert [(one[0], one[-1]) for one in guessed] == [(32, ("heads",)), (8, ("heads",))]


def test_that_rows_of_heads_nobody_knows_are_only_warned_of() -> None:
    found = propose(*rotary((64, 16), 64))
    assert permuting(found) == []
    assert "permute_rope" in found.cautions[0].message


def test_that_a_square_matrix_among_transposed_ones_is_warned_of() -> None:
    keys = [f"h.{i}.{m}.weight" for i in range(2) for m in ("attn", "proj", "fc")]
    shapes = {key: (4, 12) for key in keys if "attn" in key} | {key: (4, 16) for key in keys if "fc" in key}
    source = table([*keys, "wte.weight"], shapes | {"wte.weight": (50, 4)})
    target = table([*keys, "wte.weight"], {key: shape[::-1] for key, shape in shapes.items()} | {"wte.weight": (50, 4)})
    turned = related(source, target, "transpose", [([key], [key]) for key in shapes])
    kept = related(source, target, "rename", [([key], [key]) for key in (*keys, "wte.weight") if key not in shapes])
    found = propose(source, target, Matching((*turned, *kept)))
    assert codes(found) == ["square_matrix"]
    assert found.cautions[0].keys == ("h.0.proj.weight", "h.1.proj.weight")
    assert codes(found.suggestions[0]) == ["square_matrix"]
    last = found.suggestions[-1]
    assert (last.step, last.evidence) == ({"op": "transpose", "keys": ["h.*.proj.weight"]}, "ambiguous")
    same = [replace(one, by="content") for one in kept]
    assert codes(propose(source, target, Matching((*turned, *same)))) == []


def test_that_no_square_matrix_is_warned_of_where_others_stay_as_they_are() -> None:
    source = table(["h.0.a.weight", "h.0.b.weight", "h.0.c.weight"], {"h.0.a.weight": (4, 8), "h.0.c.weight": (2, 4)})
    target = table(source.keys, {"h.0.a.weight": (8, 4), "h.0.c.weight": (2, 4)})
    turned = related(source, target, "transpose", [(["h.0.a.weight"], ["h.0.a.weight"])])
    kept = related(source, target, "rename", [([key], [key]) for key in source.keys[1:]])
    assert codes(propose(source, target, Matching((*turned, *kept)))) == []


def test_that_query_key_value_by_heads_is_warned_of() -> None:
    for name, wanted in (("query_key_value", ["qkv_order"]), ("qkv", [])):
        source = table([f"h.0.{name}.weight"], {f"h.0.{name}.weight": (12, 4)})
        target = table([f"h.0.{part}.weight" for part in "qkv"])
        pairs = [(list(source.keys), list(target.keys))]
        matching = Matching(tuple(related(source, target, "split", pairs, dim=0, sizes=[4, 4, 4])))
        assert codes(propose(source, target, matching)) == wanted


def test_that_gate_and_up_are_warned_of_where_they_are_joined() -> None:
    source, target = (
        table(["mlp.gate_proj.weight", "mlp.up_proj.weight"]),
        table(["mlp.gate_up_proj.weight"], {"mlp.gate_up_proj.weight": (8, 4)}),
    )
    pairs = [(list(source.keys), list(target.keys))]
    found = propose(source, target, Matching(tuple(related(source, target, "concat", pairs, dim=0))))
    assert found.suggestions[0].step["op"] == "fuse"
    assert codes(found) == ["gate_up_order"]
    assert found.cautions[0].steps == ({"op": "reorder", "order": [1, 0], "keys": ["mlp.gate_up_proj.weight"]},)


def test_that_a_name_that_means_something_else_is_warned_of() -> None:
    found = propose(*renamed({"layers.0.w": "proj.w", "layers.1.w": "layers.0.w"}))
    assert codes(found) == ["same_name"]
    assert codes(propose(*renamed({"layers.0.w": "layers.0.w", "a.w": "b.w"}))) == []


def test_that_the_old_weight_norm_is_said_to_load_as_it_is() -> None:
    old = {
        "conv.weight_g": "conv.parametrizations.weight.original0",
        "conv.weight_v": "conv.parametrizations.weight.original1",
    }
    assert codes(propose(*renamed(old))) == ["weight_norm_form"]
    assert codes(propose(*renamed({new: key for key, new in old.items()}))) == []
