"""`fit` and `repair` with every kind of adapter, against what torch makes of it by the formulas of its trainers."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import pytest
import torch

from tests.cli.conftest import Command, Ran

Tensors = Mapping[str, torch.Tensor]

RANK = 2
"""Of all factors below."""
ALPHA = 3.0
SCALE = ALPHA / RANK


def pair(t: Tensors) -> torch.Tensor:
    down, up = (t[name].flatten(1) for name in t if "down" in name or "up" in name or "_A" in name or "_B" in name)
    return SCALE * (up @ down)


def hadamard(t: Tensors) -> torch.Tensor:
    return SCALE * ((t["hada_w1_a"] @ t["hada_w1_b"]) * (t["hada_w2_a"] @ t["hada_w2_b"]))


def tucker(t: Tensors, between: str, a: str, b: str) -> torch.Tensor:
    return torch.einsum("ijkl,ip,jr->prkl", t[between], t[a], t[b])


def with_a_middle(t: Tensors) -> torch.Tensor:
    up, middle, down = t["lora_up.weight"].flatten(1), t["lora_mid.weight"], t["lora_down.weight"].flatten(1)
    return SCALE * torch.einsum("pi,ijkl,jr->prkl", up, middle, down)


def hadamard_tucker(t: Tensors) -> torch.Tensor:
    one, other = (tucker(t, f"hada_t{n}", f"hada_w{n}_a", f"hada_w{n}_b") for n in (1, 2))
    return SCALE * one * other


def kron(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    return torch.kron(one.reshape(*one.shape, *[1] * (other.dim() - 2)), other.contiguous())


def rows(w: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    norm = torch.linalg.vector_norm(w.flatten(1), dim=1)
    return w * (lengths.flatten() / norm).reshape(-1, *[1] * (w.dim() - 1))


def columns(w: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    norm = torch.linalg.vector_norm(w.transpose(0, 1).flatten(1), dim=1)
    return w * (lengths.flatten() / norm).reshape(1, -1, *[1] * (w.dim() - 2))


class Case(NamedTuple):
    """The shape of a weight, those of the parts beside it, what is added to the weight, and how its lengths are set."""

    weight: tuple[int, ...]
    parts: Mapping[str, tuple[int, ...]]
    added: Callable[[Tensors], torch.Tensor]
    set_lengths: Callable[[torch.Tensor, torch.Tensor], torch.Tensor] | None = None

    def expected(self, weight: torch.Tensor, parts: Tensors) -> torch.Tensor:
        """The weight that is to come of a weight and of parts, in float64."""
        made = weight.double() + self.added({name: tensor.double() for name, tensor in parts.items()}).reshape(
            weight.shape
        )
        lengths = [tensor.double() for name, tensor in parts.items() if "scale" in name or "magnitude" in name]
        return made if self.set_lengths is None else self.set_lengths(made, *lengths)


CONV = (4, 6, 3, 2)
PAIR = {"lora_down.weight": (2, 5), "lora_up.weight": (6, 2), "alpha": ()}
SQUARE = {"lora_down.weight": (2, 6), "lora_up.weight": (6, 2), "alpha": ()}
OF_CONV = {"lora_down.weight": (2, 6, 3, 2), "lora_up.weight": (4, 2, 1, 1), "alpha": ()}
HADA = {"hada_w1_a": (6, 2), "hada_w1_b": (2, 5), "hada_w2_a": (6, 2), "hada_w2_b": (2, 5)}
HADA_FLAT = {"hada_w1_a": (4, 2), "hada_w1_b": (2, 36), "hada_w2_a": (4, 2), "hada_w2_b": (2, 36), "alpha": ()}
HADA_TUCKER = {
    **dict.fromkeys(("hada_t1", "hada_t2"), (2, 2, 3, 2)),
    **dict.fromkeys(("hada_w1_a", "hada_w2_a"), (2, 4)),
    **dict.fromkeys(("hada_w1_b", "hada_w2_b"), (2, 6)),
    "alpha": (),
}
MIDDLE = {
    "lora_down.weight": (2, 6, 1, 1),
    "lora_mid.weight": (2, 2, 3, 2),
    "lora_up.weight": (4, 2, 1, 1),
    "alpha": (),
}

CASES = {
    "DoRA, rows": Case((6, 5), {**PAIR, "dora_scale": (6, 1)}, pair, rows),
    "DoRA, columns": Case((6, 5), {**PAIR, "dora_scale": (1, 5)}, pair, columns),
    "DoRA, a list of rows": Case((6, 5), {**PAIR, "dora_scale": (6,)}, pair, rows),
    "DoRA, rows of a square": Case((6, 6), {**SQUARE, "dora_scale": (6, 1)}, pair, rows),
    "DoRA, columns of a square": Case((6, 6), {**SQUARE, "dora_scale": (1, 6)}, pair, columns),
    "DoRA, rows of a convolution": Case(CONV, {**OF_CONV, "dora_scale": (4, 1, 1, 1)}, pair, rows),
    "DoRA, columns of a convolution": Case(CONV, {**OF_CONV, "dora_scale": (1, 6, 1, 1)}, pair, columns),
    "LoCon with a middle": Case(CONV, MIDDLE, with_a_middle),
    "LoHa": Case((6, 5), {**HADA, "alpha": ()}, hadamard),
    "LoHa with lengths": Case((6, 5), {**HADA, "alpha": (), "dora_scale": (1, 5)}, hadamard, columns),
    "LoHa of a convolution": Case(CONV, HADA_FLAT, hadamard),
    "LoHa, Tucker": Case(CONV, HADA_TUCKER, hadamard_tucker),
    "LoKr of whole matrices": Case(
        (6, 8), {"lokr_w1": (2, 4), "lokr_w2": (3, 2), "alpha": ()}, lambda t: kron(t["lokr_w1"], t["lokr_w2"])
    ),
    "LoKr of one whole matrix": Case(
        (6, 8),
        {"lokr_w1": (2, 4), "lokr_w2_a": (3, 2), "lokr_w2_b": (2, 2), "alpha": ()},
        lambda t: SCALE * kron(t["lokr_w1"], t["lokr_w2_a"] @ t["lokr_w2_b"]),
    ),
    "LoKr of factors": Case(
        (6, 8),
        {"lokr_w1_a": (2, 2), "lokr_w1_b": (2, 4), "lokr_w2_a": (3, 2), "lokr_w2_b": (2, 2), "alpha": ()},
        lambda t: SCALE * kron(t["lokr_w1_a"] @ t["lokr_w1_b"], t["lokr_w2_a"] @ t["lokr_w2_b"]),
    ),
    "LoKr of a convolution": Case(
        CONV,
        {"lokr_w1": (2, 3), "lokr_w2": (2, 2, 3, 2), "dora_scale": (1, 6, 1, 1), "alpha": ()},
        lambda t: kron(t["lokr_w1"], t["lokr_w2"]),
        columns,
    ),
    "LoKr of a convolution, flat": Case(
        CONV,
        {"lokr_w1": (2, 3), "lokr_w2_a": (2, 2), "lokr_w2_b": (2, 12), "alpha": ()},
        lambda t: SCALE * kron(t["lokr_w1"], (t["lokr_w2_a"] @ t["lokr_w2_b"]).reshape(2, 2, 3, 2)),
    ),
    "LoKr, Tucker": Case(
        CONV,
        {"lokr_w1": (2, 3), "lokr_t2": (2, 2, 3, 2), "lokr_w2_a": (2, 2), "lokr_w2_b": (2, 2), "alpha": ()},
        lambda t: SCALE * kron(t["lokr_w1"], tucker(t, "lokr_t2", "lokr_w2_a", "lokr_w2_b")),
    ),
}

OF_TOKENS = {"lora_embedding_A": (2, 9), "lora_embedding_B": (5, 2)}
LENGTHS = "lora_magnitude_vector"
PEFT = {
    "DoRA": Case((6, 5), {"lora_A.weight": (2, 5), "lora_B.weight": (6, 2), LENGTHS: (6,)}, pair, rows),
    "DoRA of a square": Case((6, 6), {"lora_A.weight": (2, 6), "lora_B.weight": (6, 2), LENGTHS: (6,)}, pair, rows),
    "DoRA of a convolution": Case(
        CONV,
        {"lora_A.weight": (2, 6, 3, 2), "lora_B.weight": (4, 2, 1, 1), f"{LENGTHS}.weight": (1, 4, 1, 1)},
        pair,
        rows,
    ),
    "DoRA of Conv1D": Case(
        (5, 6), {"lora_A.weight": (2, 5), "lora_B.weight": (6, 2), LENGTHS: (6,)}, lambda t: pair(t).T, columns
    ),
    "LoRA of an embedding": Case((9, 5), OF_TOKENS, lambda t: pair(t).T),
    "DoRA of an embedding": Case((9, 5), {**OF_TOKENS, LENGTHS: (5,)}, lambda t: pair(t).T, columns),
    "LoHa": Case((6, 5), HADA, hadamard),
    "LoKr of whole matrices": Case(
        (6, 8), {"lokr_w1": (2, 4), "lokr_w2": (3, 2)}, lambda t: SCALE * kron(t["lokr_w1"], t["lokr_w2"])
    ),
}


def made(tmp_path: Path, case: Case, layer: str) -> tuple[Path, Path, Tensors]:
    """A model with that weight, and an adapter for it; its parts by their names."""
    torch.manual_seed(len(case.parts))
    parts = {name: torch.randn(shape) for name, shape in case.parts.items()}
    parts |= {name: parts[name].abs() + 0.5 for name in parts if "scale" in name or "magnitude" in name}
    if "alpha" in parts:
        parts["alpha"] = torch.full(case.parts["alpha"], ALPHA)
    torch.save({"block.fc.weight": torch.randn(case.weight), "block.norm.weight": torch.randn(5)}, tmp_path / "base.pt")
    torch.save({f"{layer}.{name}": tensor for name, tensor in parts.items()}, tmp_path / "adapter.pt")
    return tmp_path / "base.pt", tmp_path / "adapter.pt", parts


def check(sdviewer: Command, tmp_path: Path, case: Case, layer: str, evidence: str) -> None:
    """The adapter is taken in by one `fit` and one `repair`."""
    base, adapter, parts = made(tmp_path, case, layer)
    recipe, out = tmp_path / "recipe.toml", tmp_path / "out.pt"
    found = sdviewer("fit", base, "--target", adapter, "--accept", "ambiguous", "-o", recipe, "--json").json
    assert [(step["op"], step["evidence"]) for step in found["steps"]] == [("take", evidence), ("merge_lora", evidence)]
    done = sdviewer("repair", base, "--recipe", recipe, "-o", out, "--json")
    assert (done.code, done.json["warnings"]) == (0, []), done.err
    before, after = torch.load(base), torch.load(out)
    assert list(after) == list(before)
    wanted = case.expected(before["block.fc.weight"], parts).float()
    torch.testing.assert_close(after["block.fc.weight"], wanted, rtol=2e-7, atol=0)
    assert torch.equal(after["block.norm.weight"], before["block.norm.weight"])


AMBIGUOUS = '"lora_unet_block_fc.dora_scale" (6) does not tell the lengths of its rows, nor of its columns'


def merged_by_hand(sdviewer: Command, base: Path) -> Ran:
    """`repair` with the two steps that `fit` does not propose."""
    recipe = base.with_name("recipe.toml")
    steps = '[[step]]\nop = "take"\nfrom = "adapter.pt"\n[[step]]\nop = "merge_lora"\n'
    recipe.write_text(f'format = "sdviewer-recipe/1"\n{steps}')
    return sdviewer("repair", base, "--recipe", recipe, "-o", base.with_name("out.pt"))


@pytest.mark.parametrize("name", CASES)
def test_that_an_adapter_of_kohya_or_lycoris_is_taken_in(sdviewer: Command, tmp_path: Path, name: str) -> None:
    check(sdviewer, tmp_path, CASES[name], "lora_unet_block_fc", "likely")


@pytest.mark.parametrize("name", PEFT)
def test_that_an_adapter_of_peft_is_taken_in_as_its_config_says(sdviewer: Command, tmp_path: Path, name: str) -> None:
    told = {
        "LoHa": {"peft_type": "LOHA", "alpha": ALPHA},
        "LoKr of whole matrices": {"peft_type": "LOKR", "alpha": ALPHA},
    }
    config = {"r": RANK, **told.get(name, {"peft_type": "LORA", "lora_alpha": ALPHA})}
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    check(sdviewer, tmp_path, PEFT[name], "base_model.model.block.fc", "likely")


@pytest.mark.parametrize(
    ("case", "wrong", "shape", "why"),
    [
        ("DoRA, rows of a square", "dora_scale", (6,), AMBIGUOUS),
        ("DoRA, rows", "dora_scale", (5, 1), '"lora_unet_block_fc.dora_scale" (5×1) does not tell'),
        ("DoRA, columns of a convolution", "dora_scale", (1, 5, 1, 1), "(1×5×1×1) does not tell"),
        ("LoHa", "hada_w2_b", (2, 6), '"lora_unet_block_fc.hada_w2_b" (2×6) do not fit it'),
        ("LoHa, Tucker", "hada_t2", (2, 2, 2, 2), '"lora_unet_block_fc.hada_t2" (2×2×2×2)'),
        ("LoKr of one whole matrix", "lokr_w1", (4, 2), '"lora_unet_block_fc.lokr_w1" (4×2)'),
        ("LoCon with a middle", "lora_mid.weight", (3, 2, 3, 2), '"lora_unet_block_fc.lora_mid.weight" (3×2×3×2)'),
        ("LoKr of factors", "alpha", (2,), '"lora_unet_block_fc.alpha" (2) is no alpha'),
    ],
)
def test_that_an_adapter_that_does_not_fit_is_named_and_not_merged(
    sdviewer: Command, tmp_path: Path, case: str, wrong: str, shape: tuple[int, ...], why: str
) -> None:
    changed = CASES[case]._replace(parts={**CASES[case].parts, wrong: shape})
    base, adapter, _ = made(tmp_path, changed, "lora_unet_block_fc")
    told = sdviewer("fit", adapter, "--target", base, "--json").json
    assert "1 layer of it cannot be merged as it is" in told["warnings"][0]["message"]
    mismatched = [one["key"] for one in told["after_keys"]["mismatched"]]
    assert (f"lora_unet_block_fc.{wrong}" in mismatched) == (why != AMBIGUOUS), "no guess of how it lies"
    assert sdviewer("fit", base, "--target", adapter, "--json").json["steps"] == []
    refused = merged_by_hand(sdviewer, base)
    assert refused.code != 0
    assert "cannot merge into" in refused.err and why in refused.err
    assert not (tmp_path / "out.pt").exists()


def test_that_an_adapter_of_an_unknown_kind_is_named_and_not_merged(sdviewer: Command, tmp_path: Path) -> None:
    case = Case((6, 8), {"lokr_w1": (2, 4), "lokr_t1": (2, 2), "lokr_w2": (3, 2)}, pair)
    base, adapter, _ = made(tmp_path, case, "lora_unet_block_fc")
    assert sdviewer("fit", base, "--target", adapter, "--json").json["steps"] == []
    refused = merged_by_hand(sdviewer, base)
    assert '"lora_unet_block_fc.lokr_t1"' in refused.err and "make up no LoRA, DoRA, LoHa or LoKr" in refused.err


def test_that_what_an_adapter_is_is_said(sdviewer: Command, tmp_path: Path) -> None:
    base, adapter, _ = made(tmp_path, CASES["LoKr, Tucker"], "lora_unet_block_fc")
    assert "An adapter (LoKr): its 1 layer changes 1 tensor" in sdviewer("fit", base, "--target", adapter).out
    base, adapter, _ = made(tmp_path, CASES["DoRA, rows"], "lora_unet_block_fc")
    assert "An adapter (DoRA): its 1 pair changes 1 tensor" in sdviewer("fit", base, "--target", adapter).out
