"""A recipe for several state dicts of a file, as the window shows it and takes tensors out of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sdviewer.core.sheet import Sheet
from sdviewer.engine.client import DocumentWorker
from sdviewer.repair.plan import Computed, Kept, shifted
from sdviewer.repair.transforms import Cast
from tests.engine.conftest import Answered, ask
from tests.engine.test_exports import exported, row_of

STEPS = [{"op": "strip", "prefix": "module."}, {"op": "cast", "dtype": "float64", "keys": ["fc.weight"]}]


def recipe(*steps: dict[str, Any], names: list[str] | None = None) -> str:
    source = {"state_dict": names or ["model", "ema"]}
    return json.dumps({"format": "sdviewer-recipe/1", "source": source, "step": list(steps)})


@pytest.fixture
def both(tmp_path: Path) -> dict[str, Any]:
    def one(number: float) -> dict[str, torch.Tensor]:
        return {"module.fc.weight": torch.full((2, 3), number), "module.fc.bias": torch.full((2,), number)}

    content = {"model": one(1.0), "ema": {"module.decay": torch.zeros(1), **one(2.0)}}
    torch.save(content, tmp_path / "both.pth")
    return content


@pytest.fixture
def opened(both: dict[str, Any], tmp_path: Path) -> Any:
    worker = DocumentWorker(str(tmp_path / "both.pth"))
    answer = Answered()
    worker.open(answer.done, answer.failed)
    answer.wait()
    yield worker
    worker.stop()


def edited(worker: DocumentWorker, *steps: dict[str, Any]) -> Answered:
    return ask(worker, "edit", recipe=recipe(*steps), selected=[])


def test_that_the_tree_shows_what_becomes_of_all(opened: DocumentWorker) -> None:
    answer = edited(opened, *STEPS, {"op": "drop", "keys": ["decay"]})
    assert answer.body is not None
    told = answer.body["edit"]
    assert (told["written"], told["dropped"], told["renamed"], told["computed"]) == (4, 1, 2, 2)
    assert told["warnings"] == []
    sheet = Sheet.from_buffers(answer.buffers, tuple(answer.body["dtypes"]))
    names = [sheet.name(row) for row in range(len(sheet))]
    assert names.count("fc") == 2
    weights = [row for row, name in enumerate(names) if name == "weight"]
    assert len(weights) == 2
    for row, key in zip(weights, ("model", "ema"), strict=True):
        facts = ask(opened, "facts", row=row).body
        assert facts is not None
        assert facts["made"]["from"] == [["module.fc.weight", "2\N{MULTIPLICATION SIGN}3", "float32"]], key
        assert facts["editable"] == ""


def test_that_computed_tensors_of_all_are_taken_out_as_they_will_be(
    opened: DocumentWorker, both: dict[str, Any], tmp_path: Path
) -> None:
    answer = edited(opened, *STEPS)
    assert answer.body is not None
    sheet = Sheet.from_buffers(answer.buffers, tuple(answer.body["dtypes"]))
    rows = [row_of(sheet, name) for name in ("model", "ema")]
    done = exported(opened, tmp_path / "out.npz", rows, recipe(*STEPS))
    assert done.body is not None
    found = np.load(tmp_path / "out.npz")
    values = sorted(float(found[name].flat[0]) for name in found if name.endswith("weight"))
    assert values == [1.0, 2.0]
    assert all(found[name].dtype == np.float64 for name in found if name.endswith("weight"))


def test_that_a_step_that_one_of_them_does_not_stand_is_refused_or_shown_in_its_place(opened: DocumentWorker) -> None:
    collides = {"op": "rename", "rules": [["decay", "fc.bias"]]}
    assert edited(opened, *STEPS, collides).body is None
    answer = ask(opened, "edit", recipe=recipe(*STEPS, collides), selected=[], strict=False)
    assert answer.body is not None
    failed = answer.body["edit"]["failed"]
    assert failed["step"] == 2
    assert '(in "ema")' in failed["message"]


def test_that_nothing_is_unwrapped_where_the_recipe_is_for_several(opened: DocumentWorker) -> None:
    answer = edited(opened, {"op": "unwrap", "path": "model"})
    assert answer.failure is not None
    assert "leaves one of them" in answer.failure["message"]


def test_that_an_expression_is_shifted_however_many_edits_it_is_made_of() -> None:
    value: Computed | Kept = Kept(1)
    for _ in range(5000):
        value = Computed(Cast("float32"), (value,), (1,), "float32")
    both = Computed(Cast("float32"), (value, Kept(0)), (1,), "float32")
    made = shifted(both, 3)
    assert isinstance(made, Computed) and made.inputs[1] == Kept(3)
    inner = made.inputs[0]
    while isinstance(inner, Computed):
        (inner,) = inner.inputs
    assert inner == Kept(4)
