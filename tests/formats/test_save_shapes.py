from __future__ import annotations

from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from sdviewer.formats import evaluation
from sdviewer.formats.opening import open_checkpoint
from sdviewer.formats.receipt import Receipt
from sdviewer.formats.saving import save
from sdviewer.repair.planning import make_plan
from sdviewer.repair.recipe import parse_recipe

CONTAINERS = ("torch-zip", "safetensors")


def _state_dict() -> OrderedDict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    made = OrderedDict({"h.0.qkv.weight": torch.randn(6, 5, generator=generator)})
    made["h.0.qkv.bias"] = torch.randn(6, generator=generator)
    for number in (0, 1):
        made[f"e.{number}.gate"] = torch.randn(3, 4, generator=generator).bfloat16()
        made[f"e.{number}.up"] = torch.randn(3, 4, generator=generator).bfloat16()
    made["conv"] = torch.randn(2, 3, 1, 1, generator=generator)
    made["table"] = torch.randn(700, 900, generator=generator).t()
    made["v.weight_g"] = torch.randn(4, 1, generator=generator)
    made["v.weight_v"] = torch.randn(4, 3, generator=generator)
    made["bad"] = torch.tensor([1.0, float("nan"), float("inf")])
    return made


def _saved(tmp_path: Path, container: str, *steps: str) -> tuple[dict[str, Any], Receipt]:
    path = tmp_path / ("in.safetensors" if container == "safetensors" else "in.pt")
    if container == "safetensors":
        save_file({key: tensor.contiguous() for key, tensor in _state_dict().items()}, path, {"format": "pt"})
    else:
        torch.save(_state_dict(), path)
    out = path.with_name("out" + path.suffix)
    checkpoint = open_checkpoint(str(path))
    recipe = parse_recipe('format = "sdviewer-recipe/1"\n' + "".join(f"[[step]]\n{step}\n" for step in steps))
    receipt = save(checkpoint, make_plan(recipe, checkpoint), out, ask_torch=False, overwrite=True)
    return (load_file(out) if container == "safetensors" else torch.load(out, weights_only=True)), receipt


@pytest.fixture(params=[None, 24], ids=["whole", "in pieces"])
def pieces(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once as always, and once with tensors that do not fit into one piece."""
    if request.param is not None:
        monkeypatch.setattr(evaluation, "CHUNK", request.param)


@pytest.mark.usefixtures("pieces")
@pytest.mark.parametrize("container", CONTAINERS)
class TestEveryContainer:
    def test_that_parts_and_what_they_came_from_are_the_same_numbers(self, container: str, tmp_path: Path) -> None:
        split = 'op = "split"\nfrom = "h.{i}.qkv.{p}"\ninto = ["h.{i}.q.{p}", "h.{i}.k.{p}", "h.{i}.v.{p}"]'
        found, receipt = _saved(tmp_path, container, split)
        for key in ("weight", "bias"):
            for name, part in zip("qkv", _state_dict()[f"h.0.qkv.{key}"].chunk(3), strict=True):
                assert torch.equal(found[f"h.0.{name}.{key}"], part)
        assert torch.equal(found["table"], _state_dict()["table"]) and receipt.computed_bytes == 6 * 6 * 4

    def test_that_experts_are_joined_stacked_and_taken_apart_again(self, container: str, tmp_path: Path) -> None:
        fuse = 'op = "fuse"\nfrom = ["e.{e}.gate", "e.{e}.up"]\ninto = "e.{e}.both"'
        stack = 'op = "stack"\nfrom = "e.{e}.both"\nover = "e"\ninto = "experts"'
        found, _ = _saved(tmp_path, container, fuse, stack)
        state_dict = _state_dict()
        both = [torch.cat([state_dict[f"e.{number}.gate"], state_dict[f"e.{number}.up"]]) for number in (0, 1)]
        assert torch.equal(found["experts"], torch.stack(both))
        last = 'op = "rows"\nslice = [4]\nkeys = ["e.0.both"]'
        found, _ = _saved(tmp_path, container, fuse, last)
        assert torch.equal(found["e.0.both"], both[0][4:])
        unstack = 'op = "unstack"\nfrom = "experts"\ninto = "x.{e}"'
        cast = 'op = "cast"\ndtype = "float32"\nkeys = ["x.1"]'
        found, _ = _saved(tmp_path, container, fuse, stack, unstack, cast)
        assert torch.equal(found["x.0"], both[0]) and torch.equal(found["x.1"], both[1].float())

    def test_that_every_kind_of_step_is_written_as_it_was_planned(self, container: str, tmp_path: Path) -> None:
        found, receipt = _saved(
            tmp_path,
            container,
            'op = "squeeze"\nkeys = ["conv"]',
            'op = "transpose"\nkeys = ["conv", "table"]',
            'op = "rows"\nslice = [3, 690]\nkeys = ["table"]',
            'op = "rows"\npad = 5\nfill = "mean"\nkeys = ["table"]',
            'op = "flatten"\nkeys = ["e.0.*"]',
            'op = "scale"\nfactor = 0.5\nkeys = ["table", "e.0.up"]',
            'op = "clean"\nkeys = ["bad", "conv"]',
            'op = "edit"\nkey = "bad"\nat = [0]\nvalue = -2',
            'op = "weight_norm"',
            'op = "add"\nkey = "v.bias"\nlike = "v.weight[0]"\nafter = "v.weight"',
            'op = "add"\nkey = "v.steps"\nfill = 7\nshape = []\ndtype = "int64"',
            'op = "broadcast"\nfrom = "v.bias"\nto = "e.{i}.bias"',
        )
        state_dict = _state_dict()
        rows = state_dict["table"].t()[3:690]
        table = torch.cat([rows, rows.double().mean(0, keepdim=True).float().expand(5, -1)]) * 0.5
        assert torch.equal(found["conv"], state_dict["conv"].squeeze().t())
        assert torch.allclose(found["table"], table, rtol=0, atol=1e-9) and torch.equal(
            found["table"][:687], rows * 0.5
        )
        assert torch.equal(found["e.0.up"], state_dict["e.0.up"].flatten() * 0.5)
        assert found["bad"].tolist() == [-2.0, 0.0, torch.finfo(torch.float32).max]
        folded = torch._weight_norm(state_dict["v.weight_v"], state_dict["v.weight_g"], 0)
        assert torch.allclose(found["v.weight"], folded, rtol=1e-5, atol=0)
        assert torch.equal(found["v.bias"], torch.zeros(4)) and found["v.steps"].item() == 7
        assert torch.equal(found["e.1.bias"], torch.zeros(4)) and "v.weight_g" not in found
        assert "clean: 2 values replaced in 1 tensor" in receipt.notes
        if container == "torch-zip":
            assert len({found[key].data_ptr() for key in ("v.bias", "e.0.bias", "e.1.bias")}) == 3


def test_that_what_is_cut_along_the_first_dimension_reads_no_more_than_its_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[int] = []
    elements = evaluation._elements

    def counted(storage: Any, layout: Any, start: int, count: int) -> Any:
        read.append(count)
        return elements(storage, layout, start, count)

    monkeypatch.setattr(evaluation, "_elements", counted)
    torch.save({"experts": torch.arange(6000.0).reshape(20, 30, 10)}, tmp_path / "in.pt")
    checkpoint = open_checkpoint(str(tmp_path / "in.pt"))
    steps = '[[step]]\nop = "unstack"\nfrom = "experts"\ninto = "{e}.w"\n[[step]]\nop = "reshape"\nshape = [-1]\n'
    plan = make_plan(parse_recipe(f'format = "sdviewer-recipe/1"\n{steps}'), checkpoint)
    save(checkpoint, plan, tmp_path / "out.pt", ask_torch=False)
    assert sum(read) == 6000 and max(read) == 300
    assert torch.load(tmp_path / "out.pt", weights_only=True)["19.w"].tolist() == list(map(float, range(5700, 6000)))
