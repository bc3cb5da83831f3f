"""The `metadata` step: the text of a safetensors file edited through a recipe, all else byte for byte."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from sdviewer.errors import RepairError, UsageError
from sdviewer.formats import open_checkpoint, save
from sdviewer.repair.operations import Metadata, Operation, Strip
from sdviewer.repair.planning import make_plan
from sdviewer.repair.recipe import Recipe, parse_recipe


def header_and_data(path: Path) -> tuple[dict[str, object], bytes]:
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    return json.loads(data[8 : 8 + length]), data[8 + length :]


def repaired(path: Path, *steps: Operation) -> tuple[Path, list[str]]:
    """The saved copy and what was checked of it; the recipe goes through its text."""
    checkpoint = open_checkpoint(path)
    recipe = parse_recipe(Recipe(steps=steps).to_text())
    out = path.with_name("out.safetensors")
    receipt = save(checkpoint, make_plan(recipe, checkpoint), out, overwrite=True, ask_torch=False)
    return out, list(receipt.checks)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    tensors = {"module.w": torch.randn(3, 2), "module.b": torch.ones(3).half()}
    save_file(tensors, tmp_path / "a.safetensors", {"format": "pt", "author": "nobody", "draft": "yes"})
    return tmp_path / "a.safetensors"


def test_that_entries_are_set_added_and_removed_and_nothing_else_changes(model: Path) -> None:
    step = Metadata(values=(("author", "ä\n<b>"), ("licence", "MIT")), remove=("draft",))
    out, checks = repaired(model, step)
    with safe_open(out, "pt") as file:
        assert file.metadata() == {"format": "pt", "author": "ä\n<b>", "licence": "MIT"}
    (before, data), (after, written) = header_and_data(model), header_and_data(out)
    assert data == written
    assert list(after) == list(before)
    assert {name: entry for name, entry in after.items() if name != "__metadata__"} == {
        name: entry for name, entry in before.items() if name != "__metadata__"
    }
    # In the order of the file, new ones at the end (the library writes them in an order of its own).
    kept = [name for name in before["__metadata__"] if name != "draft"]  # type: ignore[attr-defined]
    assert list(after["__metadata__"]) == [*kept, "licence"]  # type: ignore[call-overload]
    assert "3 entries of __metadata__ as planned" in checks


def test_that_a_file_without_metadata_gets_some_and_the_last_entry_takes_it_along(tmp_path: Path) -> None:
    save_file({"w": torch.ones(2)}, tmp_path / "a.safetensors")
    out, _ = repaired(tmp_path / "a.safetensors", Metadata(values=(("a", "1"),)))
    assert header_and_data(out)[0]["__metadata__"] == {"a": "1"}
    out.rename(tmp_path / "b.safetensors")
    out, _ = repaired(tmp_path / "b.safetensors", Metadata(remove=("a",)))
    assert "__metadata__" not in header_and_data(out)[0]


def test_that_it_goes_together_with_steps_that_change_keys(model: Path) -> None:
    out, _ = repaired(model, Strip(prefix="module."), Metadata(values=(("author", "me"),)))
    with safe_open(out, "pt") as file:
        assert set(file.keys()) == {"w", "b"}
        assert file.metadata()["author"] == "me"


def test_that_steps_work_on_what_the_steps_before_left(model: Path) -> None:
    checkpoint = open_checkpoint(model)
    steps = (
        Metadata(values=(("a", "1"), ("author", "me"))),
        Metadata(values=(("author", "nobody"),), remove=("a", "b")),
        Metadata(values=(("never", ""),), enabled=False),
    )
    plan = make_plan(Recipe(steps=steps), checkpoint)
    assert plan.metadata == {}
    assert [step.changed for step in plan.steps] == [2, 2, 0]
    assert [warning.code for warning in plan.warnings] == ["dead_rule"]
    assert len(plan.targets) == 2


def test_that_a_file_without_such_text_refuses_the_step_clearly(tmp_path: Path) -> None:
    torch.save({"w": torch.ones(2)}, tmp_path / "a.pt")
    torch.save({"adam": {"state": {}, "param_groups": []}}, tmp_path / "b.pt")
    for name in ("a.pt", "b.pt"):
        with pytest.raises(RepairError, match="torch-zip files carry no text metadata") as caught:
            make_plan(Recipe(steps=(Metadata(values=(("a", "b"),)),)), open_checkpoint(tmp_path / name))
        assert caught.value.code == "no_metadata"


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ("", "needs `set` or `remove`"),
        ('set = { a = "1" }\nremove = ["a"]', 'names "a" twice'),
        ('set = { a = "1" }\nkeys = ["**"]', "takes no `keys`"),
        ("set = { a = 1 }", "`set` must be a text"),
        ('set = "a"', "`set` must be a table"),
    ],
)
def test_that_a_step_that_says_nothing_clear_is_no_recipe(fields: str, why: str) -> None:
    text = f'format = "sdviewer-recipe/1"\n[[step]]\nop = "metadata"\n{fields}\n'
    with pytest.raises(UsageError) as caught:
        parse_recipe(text)
    assert why in str(caught.value)
