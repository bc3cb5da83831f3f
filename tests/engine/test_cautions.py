"""What a workbench tells of traps, guesses and folded weights, all of which another process found."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch

from sdviewer.errors import UsageError
from tests.engine.test_workbench import Bench


def bench(tmp_path: Path, source: dict[str, torch.Tensor], target: dict[str, torch.Tensor]) -> Bench:
    a, b = tmp_path / "a.pth", tmp_path / "b.pth"
    torch.save(source, a)
    torch.save(target, b)
    return Bench(a, b)


def experts(tmp_path: Path) -> Bench:
    """Gate and up of experts apart, which the model has in one tensor."""
    source, target = {}, {}
    for layer in range(2):
        for expert in range(3):
            for name, shape in (("w1", (6, 4)), ("w2", (4, 6)), ("w3", (6, 4))):
                source[f"layers.{layer}.moe.experts.{expert}.{name}.weight"] = torch.zeros(shape)
        target[f"layers.{layer}.mlp.experts.gate_up_proj"] = torch.zeros(3, 12, 4)
        target[f"layers.{layer}.mlp.experts.down_proj"] = torch.zeros(3, 4, 6)
    return bench(tmp_path, source, target)


def test_that_a_trap_is_taken_care_of_with_the_suggestion_that_steps_into_it(tmp_path: Path) -> None:
    found = experts(tmp_path)
    told = found.suggestions()
    at = next(at for at, one in enumerate(told) if one["step"]["op"] == "fuse")
    ((code, message, remedy),) = told[at]["cautions"]
    assert (code, remedy) == ("gate_up_order", "Put parts in the order 1, 0")
    assert "gate and up are alike" in message
    # (the fused halves of each expert are stacked by the next one: the remedy wants both)
    found.carry_out(found.ask("accept", at=at, caution=0))
    assert [step["op"] for step in found.steps][-1] == "reorder"
    assert found.told["failed"] is None
    assert found.told["problems"] == 0


def test_that_a_remedy_is_refused_where_the_keys_that_it_is_for_cannot_be_made(tmp_path: Path) -> None:
    found = experts(tmp_path)
    told = found.suggestions()
    stack = next(at for at, one in enumerate(told) if one["step"]["op"] == "stack" and one["cautions"])
    found.ask("dismiss", at=next(at for at, one in enumerate(told) if one["step"]["op"] == "fuse"))
    with pytest.raises(UsageError):
        found.ask("accept", at=stack - 1, caution=0)


def test_that_a_number_of_heads_that_is_guessed_is_called_a_guess(tmp_path: Path) -> None:
    old, new = {}, {}
    for name, one, other in (
        ("wq", "attention", "self_attn.q_proj"),
        ("wk", "attention", "self_attn.k_proj"),
        ("w3", "feed_forward", "mlp.up_proj"),
    ):
        shape = (128, 2048)
        old[f"layers.0.{one}.{name}.weight"] = torch.zeros(1).expand(shape)
        new[f"model.layers.0.{other}.weight"] = torch.zeros(1).expand(shape)
    rotary = [one for one in bench(tmp_path, old, new).suggestions() if one["step"]["op"] == "permute_rope"]
    assert [one["asks"] for one in rotary] == [["heads = 2 is a guess"]]
    assert not rotary[0]["safe"]


def test_that_a_row_says_that_its_tensor_is_folded_of_several(tmp_path: Path) -> None:
    source = {"old.weight_g": torch.ones(4, 1), "old.weight_v": torch.ones(4, 3), "old.bias": torch.ones(4)}
    found = bench(tmp_path, source, {"new.weight": torch.ones(4, 3), "new.bias": torch.ones(4)})
    found.suggestions()
    for key in ("old.weight_v", "old.weight_g", "new.weight"):
        reasons = [words for _, words in found.ask("why", row=found.row(key)).body["reasons"]]
        assert any("has no weight norm" in words for words in reasons), key
    assert not any("weight norm" in words for _, words in found.ask("why", row=found.row("old.bias")).body["reasons"])


def test_that_what_no_suggestion_says_is_told_beside_them(tmp_path: Path) -> None:
    letters = random.Random(7)
    names = [".".join(["".join(letters.choices("abcdefgh", k=9)) for _ in range(2)]) for _ in range(4000)]
    # (each is of a shape of its own: so they are paired, and no rule renames them)
    tensors = [torch.zeros(1).expand(n, 2) for n in range(1, 2001)]
    old = {f"module.{name}": tensor for name, tensor in zip(names[:2000], tensors, strict=True)}
    new = dict(zip(names[2000:], tensors, strict=True))
    told = bench(tmp_path, old, new).proposed()
    assert [one["verb"] for one in told["suggestions"]] == ["Strip"]
    ((code, message, _),) = told["cautions"]
    assert code == "no_pattern"
    assert message.endswith("keys to be renamed have no regular pattern")
    assert experts(tmp_path).proposed()["cautions"] == []  # those of a suggestion stand with it
