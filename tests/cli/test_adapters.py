"""`fit` where one side is an adapter for the other, and `repair` with the steps that merge it."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.cli.conftest import Command

if TYPE_CHECKING:
    import torch

RANK = 2
LAYERS = [f"layers.{i}.{name}" for i in range(2) for name in ("q", "v")]


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """A model with linear layers, a convolution, and what no adapter changes."""
    import torch

    torch.manual_seed(0)
    made = {f"model.{layer}.weight": torch.randn(6, 5) for layer in LAYERS}
    made |= {"model.conv.weight": torch.randn(4, 3, 3, 3), "model.norm.weight": torch.randn(5)}
    torch.save(made, tmp_path / "base.pth")
    return tmp_path / "base.pth"


def adapter(prefix: str = "base_model.model.model.", alpha: float | None = None) -> dict[str, torch.Tensor]:
    import torch

    torch.manual_seed(1)
    made = {}
    for layer in LAYERS:
        made[f"{prefix}{layer}.lora_A.weight"] = torch.randn(RANK, 5)
        made[f"{prefix}{layer}.lora_B.weight"] = torch.randn(6, RANK)
    made[f"{prefix}conv.lora_A.weight"] = torch.randn(RANK, 3, 3, 3)
    made[f"{prefix}conv.lora_B.weight"] = torch.randn(4, RANK, 1, 1)
    if alpha is not None:
        made |= {f"{prefix}{layer}.alpha": torch.tensor(alpha) for layer in [*LAYERS, "conv"]}
    return made


def saved(path: Path, tensors: dict[str, torch.Tensor]) -> Path:
    import torch

    torch.save(tensors, path)
    return path


def test_that_an_adapter_is_told_with_its_layers_and_misses_nothing(
    sdviewer: Command, base: Path, tmp_path: Path
) -> None:
    found = sdviewer("fit", saved(tmp_path / "a.pth", adapter()), "--target", base, "--strict", "--json")
    assert found.code == 0
    told = found.json
    assert told["after"] == {"matched": 10, "missing": 0, "unexpected": 0, "mismatched": 0}
    assert (told["adapter"]["is"], told["adapter"]["pairs"], told["adapter"]["changes"]) == ("file", 5, 5)
    assert told["adapter"]["layers"]["base_model.model.model.conv"] == "model.conv.weight"
    assert told["steps"] == []
    assert told["warnings"][0]["message"].startswith("An adapter: its 5 pairs change 5 tensors of the target; nothing")
    shown = sdviewer("fit", tmp_path / "a.pth", "--target", base).out
    assert "As it is each pair has its tensor in the target." in shown
    assert "load_state_dict" not in shown
    assert shown.count("An adapter: its 5 pairs") == 1


def test_that_an_adapter_of_another_prefix_is_mended(sdviewer: Command, base: Path, tmp_path: Path) -> None:
    a, recipe, out = saved(tmp_path / "a.pth", adapter("base_model.model.")), tmp_path / "r.toml", tmp_path / "o.pth"
    found = sdviewer("fit", a, "--target", base, "-o", recipe, "--strict", "--json").json
    assert (found["before"]["matched"], found["before"]["unexpected"], found["after"]["matched"]) == (0, 10, 10)
    assert found["map"]["base_model.model.conv.lora_A.weight"] == "base_model.model.model.conv.lora_A.weight"
    done = sdviewer("repair", a, "--recipe", recipe, "-o", out, "--target", base, "--json")
    assert (done.code, done.json["verified"]["target"]) == (0, True)


def test_that_layers_without_a_module_and_factors_that_do_not_fit_are_named(
    sdviewer: Command, base: Path, tmp_path: Path
) -> None:
    import torch

    prefix = "base_model.model.model."
    broken = adapter() | {f"{prefix}layers.0.q.lora_A.weight": torch.zeros(RANK, 7)}
    broken |= {
        f"{prefix}layers.5.q.lora_A.weight": torch.zeros(2, 5),
        f"{prefix}layers.5.q.lora_B.weight": torch.ones(6, 2),
    }
    found = sdviewer("fit", saved(tmp_path / "a.pth", broken), "--target", base, "--strict", "--json")
    assert found.code == 1
    keys = found.json["after_keys"]
    assert keys["unexpected"] == [f"{prefix}layers.5.q.lora_A.weight", f"{prefix}layers.5.q.lora_B.weight"]
    assert keys["mismatched"][0] == {
        "key": f"{prefix}layers.0.q.lora_A.weight",
        "source_shape": [RANK, 7],
        "target_shape": [RANK, 5],
    }
    assert found.json["adapter"]["layers"][f"{prefix}layers.5.q"] is None


@pytest.mark.parametrize(
    ("prefix", "alpha", "config", "scale"),
    [
        ("base_model.model.model.", 3.0, None, 3.0 / RANK),
        ("base_model.model.", None, {"r": RANK, "lora_alpha": 16}, 16 / RANK),
        ("", None, {"r": RANK, "lora_alpha": 4, "use_rslora": True}, 4 / math.sqrt(RANK)),
    ],
)
def test_that_a_model_takes_an_adapter_in_as_torch_adds_it_up(
    sdviewer: Command,
    base: Path,
    tmp_path: Path,
    prefix: str,
    alpha: float | None,
    config: dict[str, object] | None,
    scale: float,
) -> None:
    import torch

    factors = adapter(prefix, alpha)
    a, recipe, out = saved(tmp_path / "a.pth", factors), tmp_path / "r" / "r.toml", tmp_path / "out.pth"
    recipe.parent.mkdir()
    if config is not None:
        (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    found = sdviewer("fit", base, "--target", a, "-o", recipe, "--json").json
    assert [(step["op"], step["evidence"]) for step in found["steps"]] == [("take", "likely"), ("merge_lora", "likely")]
    assert found["adapter"]["is"] == "target"
    done = sdviewer("repair", base, "--recipe", recipe, "-o", out, "--target", a, "--json")
    assert (done.code, done.json["verified"]["target"]) == (0, True), done.err
    before, after = torch.load(base), torch.load(out)
    assert list(before) == list(after)
    for layer in [*LAYERS, "conv"]:
        down, up = (factors[f"{prefix}{layer}.lora_{side}.weight"].double() for side in "AB")
        weight = before[f"model.{layer}.weight"]
        product = (up.reshape(len(up), -1) @ down.reshape(len(down), -1)).reshape(weight.shape)
        torch.testing.assert_close(
            after[f"model.{layer}.weight"], (weight.double() + scale * product).float(), rtol=0, atol=1e-6
        )
    assert torch.equal(before["model.norm.weight"], after["model.norm.weight"])


@pytest.mark.parametrize(
    "config",
    [
        {"lora_alpha": "16"},
        {"lora_alpha": 10**400, "r": 10**400},
        {"peft_type": "LOHA", "alpha": 8, "r": 8, "use_khatri_rao": True},
        {"peft_type": "LOHA", "lora_alpha": 8, "r": 8},
    ],
)
def test_that_nothing_is_merged_unasked_where_nobody_says_how_much(
    sdviewer: Command, base: Path, tmp_path: Path, config: dict[str, object]
) -> None:
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    a = saved(tmp_path / "a.pth", adapter())
    found = sdviewer("fit", base, "--target", a, "--json").json
    assert [step["evidence"] for step in found["steps"]] == ["ambiguous", "ambiguous"]
    assert "[[step]]" not in found["recipe"]
    assert "lora_alpha" in [warning["code"] for warning in found["warnings"]]
    assert "merge_lora" in sdviewer("fit", base, "--target", a, "--accept", "ambiguous", "--json").json["recipe"]


def test_that_an_adapter_is_not_put_in_where_it_cannot_be_merged(sdviewer: Command, base: Path, tmp_path: Path) -> None:
    import torch

    quantised = {key: tensor.to(torch.int8) for key, tensor in torch.load(base).items()}
    model, a = saved(tmp_path / "int8.pth", quantised), saved(tmp_path / "a.pth", adapter(alpha=4.0))
    found = sdviewer("fit", model, "--target", a, "--accept", "ambiguous", "--json").json
    assert [step["op"] for step in found["steps"]] == ["take", "merge_lora"]
    assert "[[step]]" not in found["recipe"]
    assert found["after"]["unexpected"] == 0
