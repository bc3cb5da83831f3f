"""Programs of recipes give what `sdviewer repair` gives, bit for bit, and fail where it fails."""

from __future__ import annotations

import ast
import copy
import shutil
import subprocess
import sys
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from sdviewer.errors import SDViewerError, UsageError
from sdviewer.formats.opening import open_checkpoint
from sdviewer.formats.saving import save
from sdviewer.repair.operations import OPERATIONS
from sdviewer.repair.planning import make_plan
from sdviewer.repair.recipe import parse_recipe
from sdviewer.repair.script import PARTS, program

Run = Any


def _model() -> OrderedDict[str, Any]:
    random = torch.Generator().manual_seed(0)

    def numbers(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=random)

    made: OrderedDict[str, Any] = OrderedDict()
    for i in range(3):
        made[f"module.blocks.{i}.attn.qkv.weight"] = numbers(12, 4)
        made[f"module.blocks.{i}.attn.qkv.bias"] = numbers(12)
        made[f"module.blocks.{i}.norm.gamma"] = numbers(4).bfloat16()
        made[f"module.blocks.{i}.norm.num_batches_tracked"] = torch.tensor(7 + i)
    made["module.embed.weight"] = torch.nn.Parameter(numbers(6, 4))
    made["module.head.weight"] = made["module.embed.weight"]
    made["module.head.view"] = made["module.embed.weight"].detach()[1:3]
    made["module.head.transposed"] = numbers(3, 5).t()
    made["module.head.expanded"] = numbers(4).double().expand(3, 4)
    made["module.head.complex"] = torch.complex(numbers(2, 3), numbers(2, 3))
    made["module.head.mask"] = torch.tensor([[True, False, True]])
    made["module.head.empty"] = torch.empty(0, 3)
    made["module.head.scale"] = numbers(1, 3, 1).requires_grad_()
    made["module.head._extra_state"] = {"calls": 3}
    modules = ["", "module", "module.blocks", "module.embed", "module.head"]
    modules += [f"module.blocks.{i}{name}" for i in range(3) for name in ("", ".attn", ".attn.qkv", ".norm")]
    made._metadata = OrderedDict((name, {"version": len(name)}) for name in modules)  # type: ignore[attr-defined]
    return made


def _training() -> dict[str, Any]:
    model = _model()
    names = [key for key in model if key.endswith(("weight", "bias", "gamma")) and key != "module.head.weight"]
    state = {number: {"exp_avg": torch.zeros_like(model[name]).detach()} for number, name in enumerate(names)}
    groups = [
        {"lr": 0.1, "betas": (0.9, 0.99), "params": [*range(4)], "param_names": names[:4]},
        {"lr": 0.2, "betas": (0.9, 0.99), "params": [*range(4, len(names))], "param_names": names[4:]},
    ]
    ema = {key: tensor for key, tensor in copy.deepcopy(model).items() if isinstance(tensor, torch.Tensor)}
    optimizer = {"state": state, "param_groups": groups}
    return {"epoch": 3, "model": model, "ema": ema, "optimizer": optimizer, "hyper": {"name": "vit", "depth": None}}


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A training checkpoint, and a bare state dict, as files."""
    folder = tmp_path_factory.mktemp("sources")
    torch.save(_training(), folder / "training.pt")
    torch.save(_model(), folder / "bare.pt")
    return {"training": folder / "training.pt", "bare": folder / "bare.pt"}


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """Carry a recipe out by both; the exit codes, and the result where there is one, which must be the same."""

    def both(source: Path, recipe: str, *, state_dict: str | None = None, suffix: str = ".pt") -> tuple[int, Any, str]:
        parsed = parse_recipe(f'format = "sdviewer-recipe/1"\n{recipe}')
        ours, theirs = tmp_path / f"ours{suffix}", tmp_path / f"theirs{suffix}"
        for path in (ours, theirs):
            path.unlink(missing_ok=True)
        code = 0
        try:
            checkpoint = open_checkpoint(str(source))
            plan = make_plan(parsed, checkpoint, state_dict=state_dict)
            save(checkpoint, plan, str(ours), ask_torch=False)
        except SDViewerError as error:
            code = error.exit_code
        text = program(parsed)
        ast.parse(text, feature_version=(3, 9))
        namespace: dict[str, Any] = {"__name__": "program"}
        exec(compile(text, "program.py", "exec"), namespace)
        chosen = [] if state_dict is None else ["--state-dict", state_dict]
        found = namespace["run"](namespace["repair"], [str(source), str(theirs), *chosen])
        said = capsys.readouterr().err
        assert found == code, said
        assert theirs.exists() == ours.exists() == (code == 0)
        if code:
            return code, None, said
        result = _loaded(theirs)
        assert _told(result) == _told(_loaded(ours))
        return 0, result, said

    return both


def _loaded(path: Path) -> Any:
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        return dict(sorted(load_file(path).items()))
    return torch.load(path, weights_only=True)


def _told(value: Any) -> list[Any]:
    """Everything that two results must agree on: types, keys and their order, `_metadata`, bits, what is tied."""
    storages: dict[int, int] = {}
    return list(_lines(value, storages))


def _lines(value: Any, storages: dict[int, int]) -> Iterator[Any]:
    if isinstance(value, dict):
        yield type(value), list(value), list(getattr(value, "_metadata", {}).items())
        for item in value.values():
            yield from _lines(item, storages)
    elif isinstance(value, list | tuple):
        yield type(value), len(value)
        for item in value:
            yield from _lines(item, storages)
    elif isinstance(value, torch.Tensor):
        place = value.untyped_storage().data_ptr()
        number = storages.setdefault(place, len(storages)) if value.numel() else -1
        raw = value.detach().contiguous().reshape(-1).view(torch.uint8)
        yield type(value), value.dtype, value.shape, value.requires_grad, number, bytes(raw.tolist())
    else:
        yield type(value), value


STEPS: dict[str, list[str]] = {
    "unwrap": ["", "keep_rest = true", 'path = "model"', 'path = "ema"', 'path = "nowhere"'],
    "strip": [
        'prefix = "module."',
        'prefix = "module.blocks."\nwhen = "any"',
        'prefix = "module.blocks."',
        'components = ["module", "attn"]',
        'prefix = "module."\nkeys = ["module.head.**"]',
    ],
    "prefix": ['add = "net."', 'add = "a.b."\nkeys = ["**.weight"]', 'add = "net"'],
    "replace_prefix": [
        'from = "module.blocks."\nto = "encoder.layers."',
        'from = "module."\nto = ""\nkeys = ["module.embed.*"]',
        'from = "nothing."\nto = ""',
        'from = "module.blocks.0."\nto = "module.blocks.1."',
    ],
    "rename": [
        'rules = [["module.blocks.{i}.**", "module.layers.{n-1-i}.**"], ["module.{rest...}", "{rest}"]]',
        'rules = [["module.blocks.{i}.{p}.*", "m.{i//2}.{i%2}.{p}.*"], ["a", "b"]]\nexpect = { dead_rules = 1 }',
        'mode = "chain"\nrules = [["**.gamma", "**.weight"], [\'re:\\bnorm\\b\', "ln"], ["module.**", "**"]]',
        'rules = [["module.blocks.{i}.**", "module.blocks.{i-1}.**"]]',
        'rules = [["module.blocks.{i}.**", "module.blocks.**"]]',
        'rules = [["module.head.mask", "module.embed"]]',
        'rules = [["**", "x.**"]]\nkeys = ["**.weight", "**.bias"]\nexpect = { matched = 8, changed = 8 }',
        'rules = [["**", "x.**"]]\nexpect = { changed = 1 }',
    ],
    "replace": [
        'find = "blocks"\nwith = "layers"',
        "find = '\\.(\\d+)\\.'\nwith = '.l\\1.'\nsyntax = \"regex\"",
        'find = "module.{a}.**"\nwith = "{a}.**"\nsyntax = "template"',
        'find = "gone"\nwith = ""',
    ],
    "drop": ['keys = ["**.num_batches_tracked", "nothing"]', 'keys = ["module.head.**"]\nwhy = "another head"'],
    "keep": ['keys = ["module.blocks.0.**", "module.embed.*"]'],
    "drop_objects": [""],
    "cast": [
        'dtype = "float16"',
        'dtype = "float64"\nof = "all"\nkeys = ["module.blocks.**", "module.head.[a-z]*", "module.head.complex"]',
        'dtype = "bool"\nof = "all"',
        'dtype = "float8_e4m3fn"\nkeys = ["**.weight"]',
        'dtype = "complex64"\nkeys = ["**.bias", "**.complex"]',
        'dtype = "bfloat16"\nkeys = ["module.head.*"]\nexpect = { matched = 8, changed = 6 }',
    ],
    "clone": ["", 'keys = ["module.head.**"]'],
    "tie": [
        'from = "module.embed.weight"\nto = ["module.head.view", "module.new.weight"]',
        'from = "module.embed.weight"\nto = ["module.head"]',
        'from = "module.head._extra_state"\nto = ["x"]',
        'from = "nothing"\nto = ["x"]',
    ],
    "set_value": [
        'path = "epoch"\nvalue = 4',
        'path = "optimizer.param_groups.1.betas.0"\nvalue = 0.5',
        'path = "hyper.depth"\nvalue = "deep"',
        'path = "hyper.name"\nvalue = { repr = "None" }',
        'path = "model.module.head._extra_state.calls"\nvalue = 5',
        'path = "nowhere"\nvalue = 4',
        'path = "hyper"\nvalue = 4',
    ],
    "leave_out": [
        'paths = ["optimizer", "ema", "hyper.name"]',
        'paths = ["ema.module.head.**"]',
        'paths = ["nothing"]',
        'paths = ["model"]',
        'paths = ["optimizer.param_groups.0"]',
    ],
    "wrap": ["", 'key = "a.b"'],
    "renumber_optimizer": [""],
}
"""The fields of steps of each operation."""

PREPARED = {"renumber_optimizer": '[[step]]\nop = "drop"\nkeys = ["**.qkv.bias", "**.0.norm.*"]\n'}
"""Steps that stand before those of an operation."""


def test_that_every_operation_has_a_part_and_steps_here() -> None:
    parts = [part.op for part in PARTS]
    assert len(set(parts)) == len(parts)
    assert set(parts) <= {operation.op for operation in OPERATIONS} and set(parts) == set(STEPS)


@pytest.mark.parametrize("op", [operation.op for operation in OPERATIONS])
class TestOperation:
    """One entry of OPERATIONS."""

    def test_that_a_program_gives_what_repair_gives(self, op: str, run: Run, sources: dict[str, Path]) -> None:
        done = 0
        for fields in STEPS.get(op, ()):
            step = PREPARED.get(op, "") + f'[[step]]\nop = "{op}"\n{fields}\n'
            code, _, _ = run(sources["training"], step)
            done += code == 0
            run(sources["bare"], step)
            run(sources["training"], step + '[[step]]\nop = "prefix"\nadd = "x."\n[[step]]\nop = "unwrap"\n')
        assert done or op not in STEPS

    def test_that_an_operation_without_a_part_says_so(self, op: str) -> None:
        if op not in STEPS:
            fields = {"op": op}
            with pytest.raises(UsageError, match=f"cannot be said as a program yet: {op}"):
                program(_recipe_of(fields["op"]))


def _recipe_of(op: str) -> Any:
    raise NotImplementedError(op)
