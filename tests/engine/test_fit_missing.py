"""What a workbench offers for a key of the model that the file has not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from sdviewer.repair.recipe import parse_recipe
from tests.engine.test_workbench import Bench, model, saved

LEFT = "Leave it to the model, which begins with it anew (strict=False)."


def target() -> dict[str, torch.Tensor]:
    made = {**model(), "norm.weight": torch.full((4,), 7.0), "head.bias": torch.full((3,), 5.0)}
    return made | {"norm.num_batches_tracked": torch.tensor(3), "norm.unknown": torch.zeros(4)}


def without_head(dtype: torch.dtype = torch.bfloat16) -> dict[str, torch.Tensor]:
    return {key: tensor.to(dtype) for key, tensor in model().items() if key != "head.weight"}


def choose(bench: Bench, key: str, words: str, *, others: bool) -> dict[str, Any]:
    """The answer to a choice, after it was tried."""
    bench.suggestions()
    bench.ask("preview", at=-1, selected=[])
    why = bench.ask("why", row=bench.row(key)).body
    texts = [text for text, _ in why["choices"]]
    asked = {"plan": bench.told["plan"], **why["about"], "choice": texts.index(words), "others": others}
    assert bench.ask("try", **asked, selected=[]).body["preview"]["error"] == ""
    return dict(bench.ask("choose", **asked).body)


def test_that_what_is_missing_is_added_as_layers_of_its_kind_begin(tmp_path: Path) -> None:
    bench = Bench(saved(tmp_path / "a.pth", without_head()), saved(tmp_path / "b.pth", target()))
    assert bench.ask("why", row=bench.row("head.weight")).body["choices"] == []  # something better may be found yet
    bench.suggestions()
    why = bench.ask("why", row=bench.row("head.weight")).body
    assert why["choices"] == [
        ['Take it from "b.pth".', 4],
        ["Add it new: drawn at random, std 0.02.", 4],
        ["Add it new: zeros.", 4],
        [LEFT, 4],
    ]
    answer = choose(bench, "head.weight", "Add it new: drawn at random, std 0.02.", others=True)
    made = {table["key"]: (table.get("fill", "zeros"), table["shape"], table["dtype"]) for table, _ in answer["steps"]}
    assert made == {
        "head.weight": ("normal", [3, 4], "bfloat16"),
        "norm.weight": ("ones", [4], "bfloat16"),
        "head.bias": ("zeros", [3], "bfloat16"),
        "norm.num_batches_tracked": ("zeros", [], "int64"),
        "norm.unknown": ("zeros", [4], "bfloat16"),
    }
    assert answer["label"] == "Add it new: drawn at random, std 0.02"


def test_that_what_is_missing_is_taken_from_the_target_alone_or_with_all_others(tmp_path: Path) -> None:
    b = saved(tmp_path / "b.pth", {"model": target(), "ema": target()})
    bench = Bench(saved(tmp_path / "a.pth", without_head()), b)
    (table, label), *more = choose(bench, "norm.weight", 'Take it from "b.pth".', others=False)["steps"]
    assert (table["keys"], table["state_dict"], more) == (["norm.weight"], "model", [])
    assert label == 'Take "norm.weight" from "b.pth"'
    (table, _), *more = choose(bench, "norm.weight", 'Take it from "b.pth".', others=True)["steps"]
    assert (len(table["keys"]), more) == (5, [])


def test_that_what_is_left_to_the_model_is_no_problem_any_more(tmp_path: Path) -> None:
    bench = Bench(saved(tmp_path / "a.pth", without_head()), "\n".join(target()))
    bench.suggestions()
    why = bench.ask("why", row=bench.row("head.weight")).body
    assert why["choices"] == [[LEFT, 4]]  # nobody knows a shape
    why_tried = {"plan": bench.told["plan"], **why["about"], "choice": 0, "selected": []}
    tried = bench.ask("try", **why_tried, others=True)
    assert (tried.body["counts"]["missing"], tried.body["allowed"]) == (0, 5)
    answer = choose(bench, "head.weight", LEFT, others=False)
    assert (answer["steps"], answer["allow"]) == ([], ["head.weight"])
    assert answer["label"] == "Leave 1 key to the model"
    recipe = {"format": "sdviewer-recipe/1", "target": {"allow_missing": answer["allow"]}}
    assert parse_recipe(json.dumps(recipe)).target.allow_missing == ("head.weight",)


def test_that_what_a_suggestion_would_fill_has_no_choices_besides(tmp_path: Path) -> None:
    bench = Bench(saved(tmp_path / "a.pth", model("module.")), saved(tmp_path / "b.pth", target()))
    assert bench.suggestions()
    assert bench.ask("why", row=bench.row("embed.weight")).body["choices"] == []
    assert bench.ask("why", row=bench.row("head.bias")).body["choices"][0] == ['Take it from "b.pth".', 3]
    for _ in bench.suggestions():
        bench.ask("dismiss", at=0)
    assert bench.ask("why", row=bench.row("embed.weight")).body["choices"]


def test_that_nothing_is_offered_for_a_missing_key_while_a_step_fails(tmp_path: Path) -> None:
    bench = Bench(saved(tmp_path / "a.pth", without_head()), saved(tmp_path / "b.pth", target()))
    bench.steps = [{"op": "rename", "rules": [["blocks.**", "x"]]}]
    bench.replan({})
    assert bench.ask("why", row=bench.row("head.weight")).body["choices"] == []


def test_that_a_row_stays_selected_for_who_tries_choices_before_the_rows_of_the_last_one_are_there(
    tmp_path: Path,
) -> None:
    bench = Bench(saved(tmp_path / "a.pth", without_head()), saved(tmp_path / "b.pth", target()))
    bench.suggestions()
    row, in_sight = bench.row("head.weight"), bench.told["sheet"]
    asked = {"plan": bench.told["plan"], **bench.ask("why", row=row).body["about"], "others": True, "sheet": in_sight}
    for choice in range(4):  # nothing of the answers is shown
        seen = bench.ask("try", **asked, choice=choice, selected=[row])
        assert seen.body["selected"] == [bench.row("head.weight", seen)]
