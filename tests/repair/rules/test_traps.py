"""Known traps are said where keys and shapes show them, on the steps that they are about, and nowhere else."""

from __future__ import annotations

from sdviewer.repair.matching.found import Matching
from sdviewer.repair.rules import propose
from tests.repair.rules.tables import related, renamed, table


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
