"""Any edits, taken back and made again, and the file that is saved in between: what a recipe says, and nothing else."""

from __future__ import annotations

import copy
import tempfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from safetensors.torch import load_file, save_file

from sdviewer.core.paths import KeyPath, TypedStep
from sdviewer.errors import OpenError, RepairError, UsageError
from sdviewer.formats import open_checkpoint, save
from sdviewer.formats.other_files import OtherFiles
from sdviewer.formats.saving import LAYOUTS
from sdviewer.repair.history import History, Step
from sdviewer.repair.operations import OPERATIONS, Operation, operation_from_step
from sdviewer.repair.plan import Computed, Plan
from sdviewer.repair.planning import make_plan
from sdviewer.repair.recipe import Recipe, parse_recipe
from sdviewer.repair.transforms import Taken
from tests.formats.saved_files import load_every_way, records, same, tensors_in
from tests.repair.test_recipe import OPERATION_VALUES


def state_dict() -> OrderedDict[str, Any]:
    """Prefixes to strip, blocks to renumber, a tied weight, a view, a buffer that is no tensor, and versions."""
    tied = torch.arange(12.0).reshape(4, 3)
    found: OrderedDict[str, Any] = OrderedDict()
    for i in range(3):
        found[f"module.blocks.{i}.weight"] = torch.full((2, 3), float(i))
        found[f"module.blocks.{i}.bias"] = torch.arange(3 + i, dtype=torch.float64)
    found["module.embed.weight"] = tied
    found["module.head.weight"] = tied
    found["module.head.first"] = tied[1:3, ::2]
    found["module.steps"] = torch.tensor(7)
    found["module.mask"] = torch.tensor([True, False])
    found["other.empty"] = torch.zeros(0, 4, dtype=torch.bfloat16)
    paths = ["", "module", *[f"module.blocks.{i}" for i in range(3)], "module.head"]
    found._metadata = OrderedDict({path: {"version": 1 + len(path)} for path in paths})  # type: ignore[attr-defined]
    return found


def other() -> dict[str, torch.Tensor]:
    """What is taken: of other dtypes and shapes, tied and views, under another prefix, one that is new."""
    tied = torch.arange(20.0).reshape(4, 5) * 3
    return {
        "net.blocks.0.weight": torch.tensor([[1.5, float("nan"), -0.0], [1, 2, 3]], dtype=torch.bfloat16),
        "net.blocks.0.bias": tied,
        "net.blocks.1.bias": tied,
        "net.new": tied.t()[1:3],
        "net.steps": torch.tensor(9),
    }


def _zip(folder: Path) -> Path:
    torch.save(state_dict(), folder / "model.pt")
    return folder / "model.pt"


def _run(folder: Path) -> Path:
    torch.save({"epoch": 3, "model": state_dict(), "note": ["a", {"lr": 0.1}]}, folder / "run.ckpt")
    return folder / "run.ckpt"


def _legacy(folder: Path) -> Path:
    content = {"epoch": 3, "model": state_dict()}
    torch.save(content, folder / "old.pth", _use_new_zipfile_serialization=False)
    return folder / "old.pth"


def _safetensors(folder: Path) -> Path:
    tensors = {key: value.clone().contiguous() for key, value in state_dict().items()}
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    return folder / "model.safetensors"


MADE: dict[str, Callable[[Path], Path]] = {
    "zip": _zip,
    "run": _run,
    "legacy": _legacy,
    "safetensors": _safetensors,
}
PICKLED = [name for name in MADE if name != "safetensors"]


def loaded(path: Path) -> Any:
    """What torch, or the library of safetensors, makes of a file; torch in each of its ways."""
    if path.suffix == ".safetensors":
        return load_file(path)
    return torch.load(path) if path.suffix == ".pth" else load_every_way(path)


# Steps that hit something. An operation that is not here is tried with what its contract test makes.

PARTS = st.sampled_from(["module.", "blocks.", "module.blocks.", "head.", "x.", "module.head."])
PATTERNS = st.sampled_from(["module.**", "**.bias", "module.blocks.{i}.weight", "re:head", "other.empty", "nothing"])
RULES = st.sampled_from(
    [
        ("module.blocks.{i}.{rest...}", "module.blocks.{i+1}.{rest...}"),
        ("module.blocks.{i}.{rest...}", "module.blocks.{2-i}.{rest...}"),
        ("module.{rest...}", "{rest...}"),
        ("re:weight$", "w"),
        ("module.head.weight", "module.embed.weight"),
        ("module.steps", "module.steps.inner"),
    ]
)
TABLES: dict[str, st.SearchStrategy[dict[str, Any]]] = {
    "unwrap": st.fixed_dictionaries(
        {"path": st.sampled_from(["auto", "model", "module"])}, optional={"keep_rest": st.booleans()}
    ),
    "strip": st.fixed_dictionaries({"prefix": PARTS, "when": st.sampled_from(["any", "all"])})
    | st.just({"components": ["module"]}),
    "prefix": st.fixed_dictionaries({"add": PARTS}),
    "replace_prefix": st.fixed_dictionaries({"from": PARTS, "to": PARTS}),
    "rename": st.fixed_dictionaries(
        {"rules": st.lists(RULES.map(list), min_size=1, max_size=3), "mode": st.sampled_from(["first", "chain"])}
    ),
    "replace": st.fixed_dictionaries(
        {"find": st.sampled_from(["module", ".", "1"]), "with": st.sampled_from(["m", "_", ""])}
    ),
    "drop": st.fixed_dictionaries({"keys": st.lists(PATTERNS, min_size=1, max_size=2)}),
    "keep": st.fixed_dictionaries({"keys": st.lists(PATTERNS, min_size=1, max_size=2)}),
    "cast": st.fixed_dictionaries({"dtype": st.sampled_from(["float16", "bfloat16", "float64"])}),
    "tie": st.just({"from": "module.head.weight", "to": ["module.blocks.1.weight", "module.embed.weight"]}),
    "set_value": st.fixed_dictionaries(
        {"path": st.sampled_from(["epoch", "note.1.lr"]), "value": st.sampled_from([7, 2.5, True, "text"])}
    ),
    "leave_out": st.fixed_dictionaries({"paths": st.sampled_from([["note"], ["epoch"], ["note.1.lr"]])}),
    "take": st.fixed_dictionaries(
        {"from": st.sampled_from(["other.pth", "nowhere.pth"])},
        optional={
            "keys": st.sampled_from([["net.blocks.**"], ["**.bias", "net.new"], ["net.**"]]),
            "to": st.just([["net.**", "module.**"]]),
        },
    ),
    "wrap": st.fixed_dictionaries({"key": st.sampled_from(["state", "model"])}),
}  # fmt: skip


def steps_of(operation: type[Operation]) -> st.SearchStrategy[Operation]:
    tables = TABLES.get(operation.op)
    if tables is None:
        return OPERATION_VALUES[operation]
    return tables.map(lambda table: operation_from_step({"op": operation.op, **table}))


STEPS = st.sampled_from(OPERATIONS).flatmap(steps_of)


class Editing(RuleBasedStateMachine):
    """A person who edits, takes back, makes again, and saves whenever it suits."""

    def __init__(self) -> None:
        super().__init__()
        self.keep = tempfile.TemporaryDirectory()
        self.folder = Path(self.keep.name)
        self.history = History()
        self.passed: list[tuple[Operation, ...]] = [()]
        self.at = 0

    @initialize(kind=st.sampled_from(sorted(MADE)))
    def open(self, kind: str) -> None:
        self.source = MADE[kind](self.folder)
        self.other = other()
        torch.save({"model": self.other}, self.folder / "other.pth")
        self.bytes = self.source.read_bytes()
        self.checkpoint = open_checkpoint(self.source)
        self.content = loaded(self.source)

    def edited(self, history: History) -> None:
        self.history = history
        self.passed = [*self.passed[: self.at + 1], history.steps]
        self.at += 1

    @rule(step=STEPS)
    def add(self, step: Operation) -> None:
        self.edited(self.history.add(Step.of(step)))

    @rule(steps=st.lists(STEPS, min_size=1, max_size=3))
    def add_and_save(self, steps: list[Operation]) -> None:
        for step in steps:
            self.add(step)
        if any(step.enabled for step in steps):
            self.save()

    @precondition(lambda self: self.history.steps)
    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        self.edited(self.history.remove(data.draw(st.integers(0, len(self.history.steps) - 1))))

    @precondition(lambda self: self.history.steps)
    @rule(data=st.data())
    def switch(self, data: st.DataObject) -> None:
        self.edited(self.history.toggle(data.draw(st.integers(0, len(self.history.steps) - 1))))

    @precondition(lambda self: len(self.history.steps) > 1)
    @rule(data=st.data())
    def move(self, data: st.DataObject) -> None:
        places = st.integers(0, len(self.history.steps) - 1)
        self.edited(self.history.move(data.draw(places), data.draw(places)))

    @precondition(lambda self: self.history.can_undo)
    @rule()
    def undo(self) -> None:
        self.history = self.history.undo()
        self.at -= 1

    @precondition(lambda self: self.history.can_redo)
    @rule()
    def redo(self) -> None:
        self.history = self.history.redo()
        self.at += 1

    @invariant()
    def undoing_is_exact(self) -> None:
        assert self.history.steps == self.passed[self.at]
        back = self.history
        for steps in reversed(self.passed[: self.at + 1]):
            assert back.steps == steps
            back = back.undo()
        assert back.steps == ()
        if self.history.can_undo:
            assert self.history.undo().redo() == self.history

    @precondition(lambda self: any(step.enabled for step in self.history.steps))
    @rule()
    def save(self) -> None:
        recipe = parse_recipe(self.history.draft.to_text())
        assert parse_recipe(recipe.to_text()) == recipe
        out = self.folder / f"out{self.source.suffix}"
        out.unlink(missing_ok=True)
        try:
            plan = make_plan(recipe, self.checkpoint, others=OtherFiles(str(self.folder)))
            save(self.checkpoint, plan, out, ask_torch=False)
        except (OpenError, RepairError, UsageError):
            assert not out.exists()
        else:
            self.compare(plan, out)
        assert self.source.read_bytes() == self.bytes

    def compare(self, plan: Plan, out: Path) -> None:
        """The saved file, as torch reads it, against the plan and the source, as torch reads that."""
        found = loaded(out)
        if plan.wrap:
            assert list(found) == [plan.wrap]
            found = found[plan.wrap]
        if plan.state_dict is None:
            assert same(found, self.content)
            return
        state_dict = self.checkpoint.state_dicts[plan.state_dict]
        before, rest = self.content, {}
        if state_dict.path:
            (name,) = state_dict.path
            before = self.content[name]
            rest = _changed(plan, {key: value for key, value in self.content.items() if key != name})
        after = found if plan.unwrap or not state_dict.path else found[name]
        assert len(after) == len(plan.targets) + (len(rest) if plan.unwrap and plan.keep_rest else 0)
        kept = {}
        for target in plan.targets:
            value = after[target.key]
            if isinstance(target.value, Computed):
                made = tuple(value.shape), str(value.dtype), value.is_contiguous()
                assert made == (target.value.shape, f"torch.{target.value.dtype}", True)
                if isinstance(target.value.transform, Taken):
                    assert same(value.detach(), self.other[target.value.transform.key].contiguous())
            else:
                kept[target.key] = before[state_dict.keys[target.value.entry]]
        assert same({key: after[key] for key in kept}, kept)
        if self.source.suffix != ".safetensors":  # that sorts its keys, and has no two that are one tensor
            assert _shared({key: after[key] for key in kept}) == _shared(kept)
            assert [key for key in after if key not in rest] == [target.key for target in plan.targets]
        others = {key: value for key, value in found.items() if key in rest}
        assert same(others, rest if plan.keep_rest or not plan.unwrap else {})

    def teardown(self) -> None:
        self.keep.cleanup()


def _changed(plan: Plan, rest: dict[str, Any]) -> dict[str, Any]:
    """What stands around the state dict, with the values that the plan changes or leaves out there."""
    rest = copy.deepcopy(rest)

    def place(path: KeyPath) -> tuple[Any, Any]:
        *above, last = path
        found: Any = rest
        for step in above:
            found = found[int(step.value) if isinstance(step, TypedStep) else step]
        return found, last

    for path, value in plan.values.items():
        mapping, key = place(path)
        mapping[key] = value
    for path in plan.removed:
        mapping, key = place(path)
        del mapping[key]
    return rest


def _shared(tensors: dict[str, Any]) -> list[list[int]]:
    """For each tensor the numbers of those that share its storage."""
    found = tensors_in(tensors)
    at = [tensor.untyped_storage().data_ptr() for tensor in found]
    return [[j for j, other in enumerate(at) if other == place and found[j].nbytes] for place in at]


TestEditing = Editing.TestCase
TestEditing.settings = settings(
    max_examples=60,
    stateful_step_count=12,
    deadline=None,
    database=None,
    derandomize=True,
    phases=[Phase.generate],  # to find a shorter example of a failure takes minutes, and the steps found are short
)


# An unedited file


@pytest.mark.parametrize("kind", MADE)
def test_that_an_unedited_file_is_saved_byte_for_byte(kind: str, tmp_path: Path) -> None:
    source = MADE[kind](tmp_path)
    checkpoint = open_checkpoint(source)
    assert checkpoint.container in LAYOUTS
    none = Recipe(steps=(operation_from_step({"op": "rename", "rules": [["nothing", "is.called.that"]]}),))
    for number, recipe in enumerate((Recipe(), none)):
        out = tmp_path / f"{number}{source.suffix}"
        save(checkpoint, make_plan(recipe, checkpoint), out, ask_torch=False)
        assert out.read_bytes() == source.read_bytes()


@pytest.mark.parametrize("kind", PICKLED)
def test_that_a_rename_and_its_reverse_give_every_record_and_object_back(kind: str, tmp_path: Path) -> None:
    source = MADE[kind](tmp_path)
    there, back = tmp_path / f"there{source.suffix}", tmp_path / f"back{source.suffix}"
    for before, out, old, new in ((source, there, "module", "net"), (there, back, "net", "module")):
        checkpoint = open_checkpoint(before)
        step = operation_from_step({"op": "replace_prefix", "from": f"{old}.", "to": f"{new}."})
        save(checkpoint, make_plan(Recipe(steps=(step,)), checkpoint), out, ask_torch=False)
    assert not same(loaded(there), loaded(source))
    assert same(loaded(back), loaded(source))
    if kind == "legacy":
        storages = {
            tensor.untyped_storage().data_ptr(): tensor.untyped_storage() for tensor in tensors_in(loaded(back))
        }
        stored = sum(8 + storage.nbytes() for storage in storages.values())
        assert back.read_bytes()[-stored:] == source.read_bytes()[-stored:]
        return
    was, now = records(source), records(back)
    del was[".data/serialization_id"]  # a fingerprint of the old file
    assert list(now) == list(was)
    # The pickle of the objects remembers no more which strings it had numbered; all else is byte for byte.
    assert {name for name in was if was[name] != now[name]} == {"data.pkl"}


# torch loads what was saved


RESULTS: dict[str, tuple[dict[str, Any], Callable[[str], str | None]]] = {
    "rename": (
        {"op": "rename", "rules": [["module.embed.weight", "module.tokens"]]},
        lambda key: key.replace("embed.weight", "tokens"),
    ),
    "drop": ({"op": "drop", "keys": ["**.bias"]}, lambda key: None if key.endswith("bias") else key),
    "drop the first": (
        {"op": "drop", "keys": ["module.blocks.0.**"]},
        lambda key: None if key.startswith("module.blocks.0.") else key,
    ),
    "strip": (
        {"op": "strip", "prefix": "module.", "when": "any"},
        lambda key: key.removeprefix("module."),
    ),
}


@pytest.mark.parametrize("result", RESULTS)
@pytest.mark.parametrize("kind", PICKLED)
def test_that_torch_loads_every_result_plain_mapped_by_computed_offsets_and_as_fake_tensors(
    kind: str, result: str, tmp_path: Path
) -> None:
    """`loaded` does: it asks torch in each of these ways, and wants the same from all."""
    table, new_key = RESULTS[result]
    source = MADE[kind](tmp_path)
    checkpoint = open_checkpoint(source)
    recipe = Recipe(steps=(operation_from_step(table),))
    save(checkpoint, make_plan(recipe, checkpoint), tmp_path / f"out{source.suffix}", ask_torch=False)
    before, after = loaded(source), loaded(tmp_path / f"out{source.suffix}")
    if kind != "zip":
        assert list(after) == list(before)
        before, after = before["model"], after["model"]
    expected = {name: value for key, value in before.items() if (name := new_key(key)) is not None}
    assert same(dict(after), expected)
    assert after._metadata
