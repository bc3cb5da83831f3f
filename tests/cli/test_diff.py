"""Known changes are made, and `diff` has to tell exactly those."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.cli.conftest import Command, Ran


def made(**more: torch.Tensor) -> dict[str, torch.Tensor]:
    """A small model."""
    random = torch.Generator().manual_seed(7)
    tensors = {
        "stem.weight": torch.randn(6, 5, generator=random),
        "stem.bias": torch.randn(6, generator=random),
        "layers.0.weight": torch.randn(6, 6, generator=random),
        "layers.1.weight": torch.randn(6, 6, generator=random),
        "head.weight": torch.randn(3, 6, generator=random),
    }
    return {**tensors, **more}


@pytest.fixture
def files(tmp_path: Path) -> Any:
    """Save two state dicts, as `a.pth` and `b.pth`."""

    def save(a: Mapping[str, Any], b: Mapping[str, Any]) -> tuple[Path, Path]:
        torch.save(a, tmp_path / "a.pth")
        torch.save(b, tmp_path / "b.pth")
        return tmp_path / "a.pth", tmp_path / "b.pth"

    return save


def by_key(ran: Ran) -> dict[str, dict[str, Any]]:
    """The pairs by A's key, or B's where A has none."""
    return {pair["key_a"] if pair["key_a"] is not None else pair["key_b"]: pair for pair in ran.json["pairs"]}


def statuses(ran: Ran) -> dict[str, str]:
    return {key: pair["status"] for key, pair in by_key(ran).items()}


def test_that_frozen_parts_are_identical_and_one_changed_layer_is_found(sdviewer: Command, files: Any) -> None:
    a, b = made(), made()
    b["layers.1.weight"] = a["layers.1.weight"].clone()
    b["layers.1.weight"][2, 3] += 0.5
    ran = sdviewer("diff", *files(a, b), "--json")
    assert ran.code == 0
    assert statuses(ran) == {key: "changed" if key == "layers.1.weight" else "identical" for key in a}
    assert ran.json["summary"] == {
        "identical": 4, "close": 0, "changed": 1, "shape": 0, "dtype": 0, "only_a": 0, "only_b": 0, "values_changed": 0,
    }  # fmt: skip
    pair = by_key(ran)["layers.1.weight"]
    x, y = a["layers.1.weight"].double().numpy(), b["layers.1.weight"].double().numpy()
    assert pair["max_at"] == [2, 3]
    assert pair["max_abs"] == np.abs(y - x).max()
    assert pair["mean_abs"] == pytest.approx(np.abs(y - x).mean(), rel=1e-12)
    assert pair["rel_l2"] == pytest.approx(np.linalg.norm(y - x) / np.linalg.norm(x), rel=1e-12)
    assert pair["cosine"] == pytest.approx((x * y).sum() / np.linalg.norm(x) / np.linalg.norm(y), rel=1e-12)
    assert pair["changed_share"] == 1 / 36
    assert pair["nonfinite_differs"] is False
    same = by_key(ran)["stem.bias"]
    assert (same["max_abs"], same["max_at"], same["rel_l2"], same["cosine"]) == (0, None, 0, 1)


def test_that_a_cast_is_a_difference_of_type_and_says_how_the_values_go_together(sdviewer: Command, files: Any) -> None:
    a, b = made(exact=torch.arange(4.0)), made(exact=torch.arange(4.0).double())
    b["stem.weight"] = a["stem.weight"].bfloat16()
    b["stem.bias"] = a["stem.bias"].half() + 1
    ran = sdviewer("diff", *files(a, b), "--json")
    pairs = by_key(ran)
    assert [pairs[key]["status"] for key in ("exact", "stem.weight", "stem.bias")] == ["dtype"] * 3
    assert [pairs[key]["cast"] for key in ("exact", "stem.weight", "stem.bias")] == ["equal", "rounded_b", None]
    assert (pairs["stem.weight"]["dtype_a"], pairs["stem.weight"]["dtype_b"]) == ("float32", "bfloat16")
    assert 0 < pairs["stem.weight"]["rel_l2"] < 0.01
    assert pairs["exact"]["max_abs"] == 0
    assert "B is A rounded" in sdviewer("diff", *files(a, b)).out


def test_that_a_renamed_prefix_pairs_when_it_is_asked_for(sdviewer: Command, files: Any) -> None:
    a = made()
    paths = files({f"module.{key}": tensor for key, tensor in a.items()}, a)
    apart = sdviewer("diff", *paths, "--json")
    assert (apart.json["summary"]["only_a"], apart.json["summary"]["only_b"]) == (5, 5)
    ran = sdviewer("diff", *paths, "--match", "prefix", "--json", "--exit-code")
    assert ran.code == 0
    assert [(pair["key_a"], pair["key_b"], pair["status"]) for pair in ran.json["pairs"]] == [
        (f"module.{key}", key, "identical") for key in a
    ]
    assert ran.json["pairs"][0]["a"] == ["module.stem.weight"]


def test_that_another_head_and_an_added_layer_are_told_in_order(sdviewer: Command, files: Any) -> None:
    a, b = made(), made()
    a["old"] = torch.ones(2)
    b["head.weight"] = torch.ones(7, 6)
    b["layers.2.weight"] = torch.ones(6, 6)
    ran = sdviewer("diff", *files(a, b), "--json", "--exit-code")
    assert ran.code == 1
    assert list(statuses(ran).items())[-3:] == [
        ("head.weight", "shape"), ("old", "only_a"), ("layers.2.weight", "only_b"),
    ]  # fmt: skip
    head, added = by_key(ran)["head.weight"], by_key(ran)["layers.2.weight"]
    assert (head["shape_a"], head["shape_b"], head["max_abs"], head["cosine"]) == ([3, 6], [7, 6], None, None)
    assert (added["a"], added["b"], added["shape_a"]) == (None, ["layers.2.weight"], None)


def test_that_nan_makes_a_pair_changed_and_the_numbers_leave_it_out(sdviewer: Command, files: Any) -> None:
    a, b = made(), made()
    a["stem.bias"][4] = b["stem.bias"][4] = float("nan")
    b["stem.bias"][1] = float("inf")
    b["stem.bias"][0] += 1
    ran = sdviewer("diff", *files(a, b), "--json", "--atol", "100")
    pair = by_key(ran)["stem.bias"]
    assert (pair["status"], pair["nonfinite_differs"], pair["max_at"]) == ("changed", True, [0])
    assert pair["changed_share"] == 1 / 4
    b["stem.bias"] = a["stem.bias"].clone()
    assert sdviewer("diff", *files(a, b), "--exit-code").code == 0


def test_that_close_is_what_the_tolerance_says_of_a(sdviewer: Command, files: Any) -> None:
    a, b = {"w": torch.tensor([100.0, 0.0])}, {"w": torch.tensor([101.0, 0.0])}
    paths = files(a, b)
    for options, status in (
        ((), "changed"),
        (("--atol", "0.99"), "changed"),
        (("--atol", "1"), "close"),
        (("--rtol", "0.01"), "close"),
        (("--rtol", "0.00999"), "changed"),
        (("--rtol", "0.005", "--atol", "0.5"), "close"),
    ):
        ran = sdviewer("diff", *paths, *options, "--json", "--exit-code")
        assert (statuses(ran), ran.code) == ({"w": status}, status == "changed"), options
    assert statuses(sdviewer("diff", *reversed(paths), "--rtol", "0.00999", "--json")) == {"w": "close"}


def test_that_zero_against_something_is_infinitely_far(sdviewer: Command, files: Any) -> None:
    a = {"grown": torch.zeros(2), "gone": torch.ones(2), "zero": torch.zeros(2), "none": torch.zeros(0)}
    b = {"grown": torch.ones(2), "gone": torch.zeros(2), "zero": torch.zeros(2), "none": torch.zeros(0)}
    pairs = by_key(sdviewer("diff", *files(a, b), "--json"))
    assert [(pairs[key]["rel_l2"], pairs[key]["cosine"]) for key in a] == [
        ("inf", None),
        (1, None),
        (0, None),
        (0, None),
    ]
    assert pairs["none"]["status"] == "identical"


def test_that_values_that_are_no_tensors_are_told_and_counted(sdviewer: Command, files: Any) -> None:
    model = made()
    a = {"state_dict": model, "epoch": 1, "lr": 0.1, "best": float("nan"), "gone": None}
    b = {"state_dict": model, "epoch": 2, "lr": 0.1, "best": float("nan"), "new": {"x": "\u202ey"}}
    paths = files(a, b)
    ran = sdviewer("diff", *paths, "--json", "--exit-code")
    assert ran.code == 1
    assert [(one["dotted"], one["a"], one["b"]) for one in ran.json["values"]] == [
        ("epoch", 1, 2), ("gone", None, None), ("new.x", None, "\u202ey"),
    ]  # fmt: skip
    assert ran.json["summary"]["values_changed"] == 3
    text = sdviewer("diff", *paths).out
    assert "epoch: 1 → 2" in text
    assert "\u202e" not in text
    assert sdviewer("diff", *paths, "--keys-only", "--exit-code").code == 0


def test_that_keys_alone_are_compared_when_that_is_asked_for(sdviewer: Command, files: Any) -> None:
    a, b = made(), made()
    b["stem.bias"] += 1
    b["layers.0.weight"] = b["layers.0.weight"].half()
    ran = sdviewer("diff", *files(a, b), "--keys-only", "--json")
    assert ran.json["keys_only"] is True
    assert statuses(ran)["stem.bias"] == "identical"
    assert statuses(ran)["layers.0.weight"] == "dtype"
    assert by_key(ran)["layers.0.weight"]["rel_l2"] is None
    assert "4 equal in key, shape and type, 1 type differs" in sdviewer("diff", *files(a, b), "--keys-only").out


def test_that_a_recipe_is_applied_to_a_first_with_what_it_computes(
    sdviewer: Command, files: Any, tmp_path: Path
) -> None:
    a = made()
    b = {f"net.{key}": tensor for key, tensor in a.items() if key != "stem.bias"}
    b["net.stem.weight"] = a["stem.weight"].T.contiguous()
    recipe = tmp_path / "to_b.toml"
    recipe.write_text(
        'format = "sdviewer-recipe/1"\n[[step]]\nop = "drop"\nkeys = ["stem.bias"]\n'
        '[[step]]\nop = "transpose"\nkeys = ["stem.weight"]\n[[step]]\nop = "prefix"\nadd = "net."\n'
    )
    ran = sdviewer("diff", *files(a, b), "--map", recipe, "--json", "--exit-code")
    assert ran.code == 0
    assert [pair["key_a"] for pair in ran.json["pairs"]] == list(b)
    assert by_key(ran)["net.layers.0.weight"]["a"] == ["layers.0.weight"]
    assert by_key(ran)["net.stem.weight"]["shape_a"] == [5, 6]
    b["net.stem.weight"][4, 1] += 1
    assert by_key(sdviewer("diff", *files(a, b), "--map", recipe, "--json"))["net.stem.weight"]["max_at"] == [4, 1]


def test_that_a_recipe_that_takes_from_another_file_is_compared_with_what_it_takes(
    sdviewer: Command, files: Any, tmp_path: Path
) -> None:
    a, b = made(), made()
    b["head.weight"] = a["head.weight"] + 1
    paths = files(a, b)
    recipe = tmp_path / "take.toml"
    recipe.write_text('format = "sdviewer-recipe/1"\n[[step]]\nop = "take"\nfrom = "b.pth"\nkeys = ["head.weight"]\n')
    assert sdviewer("diff", *paths, "--exit-code").code == 1
    ran = sdviewer("diff", *paths, "--map", recipe, "--exit-code", "--json")
    assert (ran.code, ran.json["summary"]["identical"]) == (0, 5)


def test_that_auto_finds_equal_contents_under_other_names(sdviewer: Command, files: Any) -> None:
    a = made()
    names = {"stem.weight": "first", "stem.bias": "second.b", "head.weight": "last"}
    b = {names.get(key, key): tensor for key, tensor in a.items()}
    ran = sdviewer("diff", *files(a, b), "--match", "auto", "--json", "--exit-code")
    assert ran.code == 0
    assert {
        pair["key_a"]: (pair["key_b"], pair["matched_by"]) for pair in ran.json["pairs"] if pair["key_a"] in names
    } == {key: (name, "content") for key, name in names.items()}


def test_that_auto_pairs_by_the_matching_engine_what_is_named_otherwise(sdviewer: Command, files: Any) -> None:
    shapes = ((4,), (12, 4), (4,), (8, 4))

    def blocks(path: str, *names: str) -> dict[str, Any]:
        pairs = list(zip(names, shapes, strict=True))
        return {f"{path}.{i}.{name}.weight": torch.randn(*shape) for i in range(2) for name, shape in pairs}

    a = blocks("blocks", "norm1", "attn.qkv", "norm2", "mlp.fc1")
    b = blocks("encoder.layers", "ln_1", "attention.qkv", "ln_2", "ffn.lin1")
    ran = sdviewer("diff", *files(a, b), "--match", "auto", "--json")
    assert {pair["key_a"]: pair["key_b"] for pair in ran.json["pairs"]} == dict(zip(a, b, strict=True))
    assert {pair["matched_by"] for pair in ran.json["pairs"]} == {"name"}


def test_that_the_state_dicts_of_both_sides_are_chosen(sdviewer: Command, files: Any) -> None:
    a, b = made(), made()
    b["head.weight"] = b["head.weight"] * 2
    paths = files({"model": a, "ema": b}, {"net": b})
    ran = sdviewer("diff", *paths, "--json", "--state-dict-b", "net")
    assert statuses(ran)["head.weight"] == "changed"
    ran = sdviewer("diff", *paths, "--json", "--state-dict", "ema", "--state-dict-b", "net", "--exit-code")
    assert ran.code == 0
    assert ran.json["pairs"][0]["a"] == ["ema", "stem.weight"]
    failed = sdviewer("diff", *paths, "--state-dict", "nothing")
    assert failed.code == 2
    assert "ema" in failed.err


def test_that_optimizers_pair_by_parameter_unless_keys_alone_count(
    sdviewer: Command, files: Any, tmp_path: Path
) -> None:
    def trained(names: list[str]) -> dict[str, Any]:
        model = {name: torch.full((2,), float(ord(name))) for name in names}
        parameters = [torch.nn.Parameter(tensor) for tensor in model.values()]
        optimizer = torch.optim.SGD([{"params": list(zip(names, parameters, strict=True))}], lr=1, momentum=0.9)
        for parameter in parameters:
            parameter.grad = parameter.detach().clone()
        optimizer.step()
        return {"model": model, "optimizer": optimizer.state_dict()}

    paths = files(trained(["a", "b", "c"]), trained(["c", "a", "b"]))
    options = ("--state-dict", "optimizer", "--state-dict-b", "optimizer", "--json")
    assert sdviewer("diff", *paths, *options).json["summary"]["changed"] == 3
    ran = sdviewer("diff", *paths, *options, "--match", "auto")
    assert ran.json["summary"]["identical"] == 3
    assert (ran.json["pairs"][0]["key_a"], ran.json["pairs"][0]["key_b"]) == (
        "state.0.momentum_buffer", "state.1.momentum_buffer",
    )  # fmt: skip


def test_that_a_line_a_pair_is_printed_and_hostile_keys_are_escaped(sdviewer: Command, files: Any) -> None:
    a, b = {"x\x1b[31m": torch.ones(2), "y": torch.ones(2)}, {"x\x1b[31m": torch.zeros(2), "z": torch.ones(3)}
    lines = sdviewer("diff", *files(a, b)).out.splitlines()
    assert len(lines) == 5
    assert lines[1].startswith("changed")
    assert "\\x1b[31m" in lines[1]
    assert "100.00 %" in lines[1]
    assert [line.split()[0] for line in lines[2:4]] == ["only_a", "only_b"]
    assert lines[4] == "1 changed, 1 only in A, 1 only in B"


def test_that_what_was_found_can_be_kept_in_other_forms(sdviewer: Command, files: Any) -> None:
    a, b = made(), made()
    b["stem.bias"] = a["stem.bias"] * 3
    paths = files(a, b)
    begins = {"lines": "a.pth → b.pth: ", "markdown": "**`a.pth` → ", "csv": "key_a,", "html": "<!doctype html>"}
    for form, begin in begins.items():
        ran = sdviewer("diff", *paths, "--as", form, "--exit-code")
        assert ran.code == 1
        assert ran.out.startswith(begin)
        assert "stem.bias" in ran.out
    assert sdviewer("diff", *paths, "--as", "html", "--json").code == 2


def test_that_a_pair_that_cannot_be_read_is_not_said_to_be_the_same(sdviewer: Command, tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", w=np.ones(2), o=np.array([{}, None], object))
    ran = sdviewer("diff", tmp_path / "a.npz", tmp_path / "a.npz", "--json", "--exit-code")
    assert ran.code == 1
    assert statuses(ran) == {"w": "identical", "o": "changed"}
    assert [problem["where"] for problem in ran.json["problems"]] == ["o"]


def test_that_tensors_of_the_meta_device_are_equal_if_their_headers_are(sdviewer: Command, files: Any) -> None:
    a = {"w": torch.empty(3, device="meta"), "x": torch.empty(3, device="meta"), "y": torch.ones(1)}
    b = {"w": torch.empty(3, device="meta"), "x": torch.empty(4, device="meta"), "y": torch.ones(1)}
    assert statuses(sdviewer("diff", *files(a, b), "--json")) == {"w": "identical", "x": "shape", "y": "identical"}


@pytest.mark.parametrize(
    "options",
    [("--atol", "-1"), ("--rtol", "nan"), ("--atol", "x"), ("--match", "best"), ("--keys-only", "--atol", "1")],
)
def test_that_wrong_options_are_wrong_usage(sdviewer: Command, files: Any, options: tuple[str, ...]) -> None:
    failed = sdviewer("diff", *files(made(), made()), *options)
    assert failed.code == 2
    assert failed.err.count("\n") == 1


def test_that_an_input_that_is_none_is_named(sdviewer: Command, files: Any, tmp_path: Path) -> None:
    a, _ = files(made(), made())
    (tmp_path / "page").write_text("<!doctype html>")
    for paths in ((a, tmp_path / "page"), (tmp_path / "page", a)):
        failed = sdviewer("diff", *paths, "--json")
        assert failed.code == 3
        assert failed.json["error"]["file"] == str(tmp_path / "page")
