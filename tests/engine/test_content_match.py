"""Equal values under other names prove pairs: whole, transposed, fused and stacked."""

from __future__ import annotations

from pathlib import Path

import torch

from sdviewer.core.key_table import KeyTable
from sdviewer.engine.comparing import Tensors
from sdviewer.engine.content_match import contents_by_view
from sdviewer.formats import open_checkpoint
from sdviewer.repair.matching.found import Matching
from sdviewer.repair.matching.matching import match


def matched(
    folder: Path, a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]
) -> tuple[Matching, KeyTable, KeyTable]:
    tables, tensors = [], []
    for name, state_dict in (("a", a), ("b", b)):
        torch.save(state_dict, folder / f"{name}.pth")
        checkpoint = open_checkpoint(folder / f"{name}.pth")
        infos = checkpoint.tensors
        tables.append(KeyTable(tuple(state_dict), [info.shape for info in infos], [info.dtype for info in infos]))
        tensors.append(Tensors(checkpoint))
    every = [range(len(table)) for table in tables]
    contents = contents_by_view(tensors[0], every[0], tensors[1], every[1])
    return match(*tables, contents=contents), *tables


def facts(found: Matching, a: KeyTable, b: KeyTable) -> set[tuple[tuple[str, ...], tuple[str, ...], str, str, str]]:
    def names(table: KeyTable, positions: tuple[int, ...]) -> tuple[str, ...]:
        return tuple([table.keys[at] for at in positions])

    return {(names(a, one.sources), names(b, one.targets), one.relation, one.evidence, one.by) for one in found.found}


def test_that_equal_values_prove_what_names_would_say_otherwise(tmp_path: Path) -> None:
    one, two, three = torch.randn(4, 4), torch.randn(4, 4), torch.randn(4, 4)
    a = {"x.first.weight": one, "x.second.weight": two, "x.square.weight": three}
    b = {"y.first.weight": two, "y.second.weight": one, "y.third.weight": three.T.contiguous()}
    assert facts(*matched(tmp_path, a, b)) == {
        (("x.first.weight",), ("y.second.weight",), "rename", "proved", "content"),
        (("x.second.weight",), ("y.first.weight",), "rename", "proved", "content"),
        (("x.square.weight",), ("y.third.weight",), "transpose", "proved", "content"),
    }


def test_that_values_tell_the_order_of_fused_halves(tmp_path: Path) -> None:
    gate, up = torch.randn(6, 4), torch.randn(6, 4)
    a = {"mlp.gate_proj.weight": gate, "mlp.up_proj.weight": up}
    b = {"mlp.ff_proj.weight": torch.cat([up, gate])}
    found, source, target = matched(tmp_path, a, b)
    assert facts(found, source, target) == {
        (("mlp.up_proj.weight", "mlp.gate_proj.weight"), ("mlp.ff_proj.weight",), "concat", "proved", "content")
    }
    found, source, target = matched(tmp_path, b, a)
    assert found.found[0].targets == (1, 0)
    assert found.found[0].fields == {"dim": 0, "sizes": [6, 6]}


def test_that_values_prove_stacked_experts_and_only_where_they_are_equal(tmp_path: Path) -> None:
    shapes = {"w1": (6, 4), "w2": (4, 6), "w3": (6, 4)}
    parts = {f"experts.{e}.{w}.weight": torch.randn(*shape) for e in range(3) for w, shape in shapes.items()}
    joined = torch.stack(
        [torch.cat([parts[f"experts.{e}.w1.weight"], parts[f"experts.{e}.w3.weight"]]) for e in range(3)]
    )
    down = torch.stack([parts[f"experts.{e}.w2.weight"] for e in range(3)])
    b = {"experts.gate_up_proj": joined, "experts.down_proj": down}
    found, _, _ = matched(tmp_path, parts, b)
    assert {(one.relation, one.evidence) for one in found.found} == {("stack", "proved"), ("stack_concat", "proved")}
    b["experts.down_proj"][1] += 1
    found, _, _ = matched(tmp_path, parts, b)
    assert {(one.relation, one.evidence) for one in found.found} == {("stack", "likely"), ("stack_concat", "proved")}


def test_that_values_that_several_hold_prove_nothing(tmp_path: Path) -> None:
    a = {"x.one.bias": torch.zeros(4), "x.two.bias": torch.zeros(4)}
    b = {"y.three.bias": torch.zeros(4), "y.four.bias": torch.zeros(4)}
    found, _, _ = matched(tmp_path, a, b)
    assert all(one.by != "content" for one in found.found)
