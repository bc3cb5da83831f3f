"""Programs of recipes give what `sdviewer repair` gives, bit for bit, and fail where it fails."""

from __future__ import annotations

import ast
import copy
import io
import re
import shutil
import subprocess
import sys
import zipfile
from collections import Counter, OrderedDict
from collections.abc import Iterator
from contextlib import redirect_stderr
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sdviewer.errors import RepairError, SDViewerError, UsageError
from sdviewer.formats.converting import takes_tensors_alone
from sdviewer.formats.opening import open_checkpoint
from sdviewer.formats.other_files import OtherFiles
from sdviewer.formats.saving import choose_container, save
from sdviewer.repair.operations import OPERATIONS
from sdviewer.repair.planning import make_plan
from sdviewer.repair.recipe import FORMAT, parse_recipe
from sdviewer.repair.script import SAYINGS, program
from tests.repair.made import model
from tests.repair.test_recipe_doc import EXAMPLES

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
    return made


def _odd() -> OrderedDict[str, Any]:
    """Tensors in several parts, of all sizes, and numbers that are none."""
    random = torch.Generator().manual_seed(1)
    made: OrderedDict[str, Any] = OrderedDict()
    for dtype in (torch.float64, torch.float32, torch.float16, torch.bfloat16):
        name = str(dtype).removeprefix("torch.")

        def numbers(*shape: int, dtype: torch.dtype = dtype) -> torch.Tensor:
            return torch.randn(*shape, generator=random).to(dtype)

        made[f"{name}.g.weight_g"], made[f"{name}.g.weight_v"] = numbers(7, 1, 1), numbers(7, 5, 3)
        made[f"{name}.h.weight_g"], made[f"{name}.h.weight_v"] = numbers(1, 5, 1), numbers(7, 5, 3)
        made[f"{name}.i.parametrizations.w.original0"] = numbers(1)[0]
        made[f"{name}.i.parametrizations.w.original1"] = numbers(7, 300)
        for part, shape in (("_orig", (6, 50)), ("_u", (6,)), ("_v", (50,))):
            made[f"{name}.s.weight{part}"] = numbers(*shape)
        for part, shape in (("original", (50, 6)), ("0._u", (50,)), ("0._v", (6,))):
            made[f"{name}.t.parametrizations.weight.{part}"] = numbers(*shape)
        made[f"{name}.p.weight_orig"] = numbers(4, 3).requires_grad_()
        made[f"{name}.p.weight_mask"] = (numbers(4, 3) > 0).float()
        made[f"{name}.odd"] = torch.tensor([1, float("nan"), float("inf"), -float("inf"), -0.0], dtype=dtype)
    made["odd8"] = torch.tensor([1, float("nan"), float("inf"), -float("inf"), 3e4]).to(torch.float8_e5m2)
    made["oddc"] = torch.complex(torch.tensor([float("nan"), 1.0]), torch.tensor([float("inf"), -float("inf")]))
    made["tied"] = made["odd8"]
    return made


def _adapters() -> OrderedDict[str, Any]:
    """Weights with low-rank adapters as several trainers name them."""
    random = torch.Generator().manual_seed(3)

    def numbers(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=random)

    made: OrderedDict[str, Any] = OrderedDict()
    made["m.lora.base_layer.weight"], made["m.lora.base_layer.bias"] = numbers(6, 5), numbers(6)
    made["m.lora.lora_A.default.weight"], made["m.lora.lora_B.default.weight"] = numbers(2, 5), numbers(6, 2)
    made["p.conv.weight"] = numbers(4, 3, 3, 3).half()
    made["p.conv.lora_down.weight"], made["p.conv.lora_up.weight"] = numbers(2, 3, 3, 3), numbers(4, 2, 1, 1)
    made["p.conv.alpha"] = torch.tensor(3.0)
    made["m.two.weight"] = numbers(6, 5)
    for name in ("a", "b"):
        made[f"m.two.lora_A.{name}.weight"], made[f"m.two.lora_B.{name}.weight"] = numbers(3, 5), numbers(6, 3)
    made["up_blocks.0.attn.weight"] = numbers(4, 4)
    made["lora_unet_up_blocks_0_attn.lora_down.weight"] = numbers(1, 4).bfloat16()
    made["lora_unet_up_blocks_0_attn.lora_up.weight"] = numbers(4, 1).bfloat16()
    made["lora_unet_up_blocks_0_attn.alpha"] = torch.tensor(2, dtype=torch.int64)
    kinds: dict[str, tuple[torch.Tensor, dict[str, tuple[int, ...]]]] = {
        "dora": (numbers(6, 5), {"lora_A.weight": (2, 5), "lora_B.weight": (6, 2), "lora_magnitude_vector": (6,)}),
        "columns": (
            numbers(4, 3, 3, 3).bfloat16(),
            {"lora_down.weight": (2, 3, 1, 1), "lora_mid.weight": (2, 2, 3, 3), "lora_up.weight": (4, 2, 1, 1)}
            | {"dora_scale": (1, 3, 1, 1)},
        ),
        "loha": (
            numbers(6, 5).half(),
            {"hada_w1_a": (6, 3), "hada_w1_b": (3, 5)} | {"hada_w2_a": (6, 2), "hada_w2_b": (2, 5)},
        ),
        "lokr": (
            numbers(6, 8).double(),
            {"lokr_w1_a": (2, 2), "lokr_w1_b": (2, 4), "lokr_w2_a": (3, 2), "lokr_w2_b": (2, 2)}
            | {"dora_scale": (6, 1)},
        ),
        "tucker": (
            numbers(4, 6, 3, 1),
            {"lokr_w1": (2, 3), "lokr_t2": (2, 2, 3, 1), "lokr_w2_a": (2, 2), "lokr_w2_b": (2, 2)},
        ),
        "whole": (numbers(6, 8), {"lokr_w1": (2, 4), "lokr_w2": (3, 2)}),
        "tokens": (
            numbers(9, 5),
            {"lora_embedding_A": (2, 9), "lora_embedding_B": (5, 2), "lora_magnitude_vector": (5,)},
        ),
    }
    for name, (weight, parts) in kinds.items():
        made[f"k.{name}.weight"] = weight
        made |= {f"k.{name}.{part}": numbers(*shape) for part, shape in parts.items()}
    made |= {f"k.{name}.alpha": torch.tensor(3.0) for name in ("columns", "lokr", "whole")}
    return made


def _other_adapters(made: OrderedDict[str, Any]) -> OrderedDict[str, Any]:
    """The same and some that cannot be merged, or only if they are meant otherwise."""
    made["m.turned.weight"] = torch.ones(5, 6)
    made["m.turned.lora_A.weight"], made["m.turned.lora_B.weight"] = torch.ones(2, 5), torch.ones(6, 2)
    made["m.dora.weight"], made["m.dora.lora_magnitude_vector.weight"] = torch.ones(6, 5), torch.ones(5)
    made["m.dora.lora_A.weight"], made["m.dora.lora_B.weight"] = torch.ones(2, 5), torch.ones(6, 2)
    return made


def _dtypes() -> OrderedDict[str, Any]:
    """A tensor of every dtype that torch computes with, and of odd shapes and ways to lie in a storage."""
    random = torch.Generator().manual_seed(2)
    names = "float64 float32 float16 bfloat16 float8_e4m3fn float8_e5m2 float8_e4m3fnuz float8_e5m2fnuz complex64 "
    names += "complex128 int64 int32 int16 int8 uint8 uint16 uint32 uint64 bool"
    numbers = torch.randn(2, 3, generator=random).mul(9).abs()
    made: OrderedDict[str, Any] = OrderedDict((name, numbers.to(getattr(torch, name))) for name in names.split())
    made["scalar"], made["empty"], made["none"] = torch.tensor(-0.0), torch.empty(0, 3), torch.empty(2, 0).half()
    made["expanded"] = torch.tensor([1.5]).expand(2, 3)
    made["turned"], made["step"] = numbers.t(), torch.arange(12.0)[::2].reshape(2, 3)
    made["conj"], made["tied"] = made["complex64"].conj(), made["float32"]
    return made


def _versions(made: OrderedDict[str, Any]) -> OrderedDict[str, Any]:
    modules = ["", "module", "module.blocks", "module.embed", "module.head"]
    modules += [f"module.blocks.{i}{name}" for i in range(3) for name in ("", ".attn", ".attn.qkv", ".norm")]
    made._metadata = OrderedDict((name, {"version": len(name)}) for name in modules)  # type: ignore[attr-defined]
    return made


def _training() -> dict[str, Any]:
    model = _versions(_model())
    names = [key for key in model if key.endswith(("weight", "bias", "gamma")) and key != "module.head.weight"]
    state = {number: {"exp_avg": torch.zeros_like(model[name]).detach()} for number, name in enumerate(names)}
    groups = [
        {"lr": 0.1, "betas": (0.9, 0.99), "params": [*range(4)], "param_names": names[:4]},
        {"lr": 0.2, "betas": (0.8, 0.99), "params": [*range(4, len(names))], "param_names": names[4:]},
    ]
    ema = {key: tensor for key, tensor in copy.deepcopy(model).items() if isinstance(tensor, torch.Tensor)}
    optimizer = {"state": state, "param_groups": groups}
    return {"epoch": 3, "model": model, "ema": ema, "optimizer": optimizer, "hyper": {"name": "vit", "depth": None}}


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A training checkpoint, and a bare state dict, as files."""
    folder = tmp_path_factory.mktemp("sources")
    torch.save(_training(), folder / "training.pt")
    torch.save(_versions(_model()), folder / "bare.pt")
    torch.save(_odd(), folder / "odd.pt")
    torch.save(_dtypes(), folder / "dtypes.pt")
    torch.save(_adapters(), folder / "adapters.pt")
    torch.save(_other_adapters(_adapters()), folder / "other_adapters.pt")
    more = {"module.embed.weight": torch.arange(24.0).reshape(8, 3), "module.head.weight": torch.ones(9, 3)}
    torch.save(more, folder / "more.pt")
    torch.save({"wide": torch.ones(9, 4)}, folder / "wide.pt")
    return {path.stem: path for path in folder.iterdir()}


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """Carry a recipe out by both; the exit codes, and the result where there is one, which must be the same."""

    def both(
        source: Path, recipe: str, *, state_dict: str | None = None, suffix: str = ".pt", exact: bool = True
    ) -> tuple[int, Any, str]:
        parsed = parse_recipe(f'format = "{FORMAT}"\n{recipe}')
        ours, theirs = tmp_path / f"ours{suffix}", tmp_path / f"theirs{suffix}"
        for path in (ours, theirs):
            path.unlink(missing_ok=True)
        code = 0
        try:
            checkpoint = open_checkpoint(str(source))
            container = choose_container(checkpoint, str(ours), None, parsed.save_format)
            alone = takes_tensors_alone(checkpoint, container)
            others = OtherFiles(str(source.parent))
            plan = make_plan(parsed, checkpoint, state_dict=state_dict, tensors_alone=alone, others=others)
            save(checkpoint, plan, str(ours), container=container, shared=parsed.save.shared, ask_torch=False)
        except SDViewerError as error:
            code = error.exit_code
        text = program(parsed)
        chosen = [] if state_dict is None else ["--state-dict", state_dict]
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "argv", [str(source.parent / "program.py"), str(source), str(theirs), *chosen])
            with pytest.raises(SystemExit) as ended:
                exec(compile(text, "program.py", "exec"), {"__name__": "__main__"})
        said = capsys.readouterr().err
        assert ended.value.code == code, said
        assert theirs.exists() == ours.exists() == (code == 0)
        if code:
            return code, None, said
        result = _loaded(theirs)
        assert _told(result, exact) == _told(_loaded(ours), exact)
        return 0, result, said

    return both


def _loaded(path: Path) -> Any:
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        return dict(sorted(load_file(path).items()))
    return torch.load(path, weights_only=True)


def _told(value: Any, exact: bool) -> list[Any]:
    """Everything that two results must agree on: types, keys and their order, `_metadata`, bits, what is tied."""
    storages: dict[int, int] = {}
    return list(_lines(value, storages, exact))


def _lines(value: Any, storages: dict[int, int], exact: bool) -> Iterator[Any]:
    if isinstance(value, dict):
        yield type(value), list(value), list(getattr(value, "_metadata", {}).items())
        for item in value.values():
            yield from _lines(item, storages, exact)
    elif isinstance(value, list | tuple):
        yield type(value), len(value)
        for item in value:
            yield from _lines(item, storages, exact)
    elif isinstance(value, torch.Tensor):
        place = value.untyped_storage().data_ptr()
        number = storages.setdefault(place, len(storages)) if value.numel() else -1
        plain = value.detach().clone(memory_format=torch.contiguous_format)
        if not exact and plain.is_floating_point():
            plain = torch.where(torch.isnan(plain.float()), torch.zeros_like(plain), plain)
        raw = torch.empty(0, dtype=torch.uint8).set_(plain.untyped_storage()).numpy().tobytes()
        yield type(value), value.dtype, value.shape, value.requires_grad, number, raw
    else:
        yield type(value), value


STEPS: dict[str, list[str]] = {
    "unwrap": [
        'path = "auto"',
        'path = "auto"\nkeep_rest = true',
        'path = "model"',
        'path = "ema"',
        'path = "nowhere"',
    ],
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
    "split": [
        'from = "module.blocks.{i}.attn.qkv.{p}"\ninto = ["b.{i}.q.{p}", "b.{i}.k.{p}", "b.{i}.v.{p}"]',
        'from = "**.qkv.{p}"\ninto = ["**.q.{p}", "", "**.v.{p}"]\nsizes = [6, 3, 3]\ngroups = 3',
        'from = "**.{p}.weight"\ninto = ["**.{p}.a", "**.{p}.b"]\ndim = -1\nexpect = { matched = 5 }',
        'from = "module.head.transposed"\ninto = ["a", "b"]\nsizes = [1, 4]',
        'from = "**.qkv.weight"\ninto = ["a", "b"]',
        'from = "**.qkv.weight"\ninto = ["**.a", "**.b"]\nsizes = [1, 2]',
        'from = "nothing"\ninto = ["a", "b"]',
    ],
    "fuse": [
        'from = ["module.blocks.{i}.attn.qkv.bias", "module.blocks.{i}.norm.gamma"]\ninto = "f.{i}"',
        'from = ["module.blocks.0.**.{p}", "", "module.blocks.1.**.{p}"]\ninto = "f.**.{p}"\ngroups = 2\n'
        'keys = ["**.qkv.*", "**.gamma"]',
        'from = ["module.embed.weight", "module.head.weight"]\ninto = "module.fused"\ndim = 1',
        'from = ["module.embed.weight", "module.head.nothing"]\ninto = "module.fused"',
        'from = ["module.nothing", "module.head.nothing"]\ninto = "module.fused"',
    ],
    "stack": [
        'from = "module.blocks.{i}.**"\nover = "i"\ninto = "module.blocks.**"\nkeys = ["**.weight", "**.norm.*"]',
        'from = "module.blocks.{i}.attn.qkv.{p}"\nover = "i"\ninto = "s.{p}"\ndim = -1',
        'from = "module.{i}.{p}"\nover = "i"\ninto = "s.{p}"',
        'from = "module.blocks.{i}.norm.gamma"\nover = "i"\ninto = "s"\nkeys = ["**.1.**"]',
    ],
    "unstack": [
        'from = "module.embed.{p}"\ninto = "module.embed.{e}.{p}"',
        'from = "module.head.complex"\ninto = "module.c.{e}"\ndim = 1',
        'from = "module.head.empty"\ninto = "module.c.{e}"',
        'from = "module.head.empty"\ninto = "module.c.{e}"\ndim = 1',
        'from = "**.{p}"\ninto = "x.{e}"',
    ],
    "transpose": ['keys = ["**.weight", "**.transposed", "**.complex"]', 'dims = [0, 2]\nkeys = ["**.scale"]', ""],
    "permute": ['order = [1, 0]\nkeys = ["**.weight", "**.mask"]', 'order = [0, 1]\nkeys = ["**.view"]', "order = [0]"],
    "reshape": [
        'shape = [2, -1]\nkeys = ["**.weight", "**.complex"]',
        'shape = [-1]\nkeys = ["**.head.*"]',
        "shape = [7]",
    ],
    "flatten": ["", 'start = 1\nkeys = ["**.scale"]', "start = 1\nend = 0"],
    "squeeze": ["", 'dims = [0, -1]\nkeys = ["**.scale"]', 'dims = [1]\nkeys = ["**.scale"]'],
    "unsqueeze": ["dim = 0", 'dim = -1\nkeys = ["**.weight"]', "dim = 4"],
    "rows": [
        'slice = [1, -1]\nkeys = ["**.weight", "**.bias"]',
        'take = [2, 0, 0, -1]\nkeys = ["**.weight", "**.transposed"]',
        'delete = [0, -1]\ndim = 1\nkeys = ["**.complex", "**.mask"]',
        'reverse = true\ndim = -1\nkeys = ["**.weight", "**.gamma"]',
        'pad = 3\nkeys = ["**.weight", "**.gamma", "**.mask"]',
        'pad = 2\nfill = "mean"\nkeys = ["**.weight", "**.gamma", "**.complex"]',
        'pad = 2\nfill = "copy:-1"\nat = 1\nkeys = ["**.weight", "**.complex"]',
        'pad = 1\nfill = 0.1\nat = -1\ndim = 1\nkeys = ["**.embed.weight", "**.transposed"]',
        'pad = 1\nfill = "nan"\nkeys = ["**.gamma"]',
        'pad = 1\nfill = "nan"\nkeys = ["**.mask"]',
        'size = 6\nfill = "mean"\nkeys = ["**.weight", "**.gamma"]',
        'size = 2\nkeys = ["**.weight", "**.complex"]',
        'take = [9]\nkeys = ["**.gamma"]',
        'slice = [3, 2]\nkeys = ["**.gamma"]',
        "reverse = true",
    ],
    "reorder": [
        'order = [1, 0]\nkeys = ["**.qkv.*"]',
        'order = [2, 0, 1]\ngroups = 2\nkeys = ["**.qkv.*"]',
        'order = [1, 0]\ndim = -1\nkeys = ["**.complex", "**.mask"]',
        'order = [0, 1]\nkeys = ["**.qkv.*"]',
        'order = [1, 0, 2, 3, 4, 5, 6]\nkeys = ["**.gamma"]',
    ],
    "permute_rope": [
        'heads = 2\nkeys = ["**.qkv.*"]',
        'heads = 3\nto = "pairs"\nkeys = ["**.qkv.*"]',
        'heads = 6\nkeys = ["**.qkv.*"]',
        'heads = 5\nkeys = ["**.qkv.*"]',
    ],
    "channels": [
        'to = 1\nkeys = ["**.weight", "**.complex"]',
        'to = 5\nkeys = ["**.weight"]',
        'to = 2\ndim = 0\nkeys = ["**.gamma", "**.weight"]',
        'to = 1\ndim = 0\nkeys = ["**.mask"]',
    ],
    "resize": [
        'to = [3, 2]\nprefix = 3\ngrid = [3, 3]\nkeys = ["**.qkv.weight"]',
        'to = [5]\nkeys = ["**.weight", "**.complex"]',
        'to = [7, 2]\nof = "image"\nmode = "bilinear"\nkeys = ["**.weight"]',
        'to = [2]\nof = "image"\nmode = "nearest"\nkeys = ["**.gamma"]',
        'to = [9]\nof = "image"\nsharp = true\nkeys = ["**.gamma", "**.weight"]',
        'to = [3, 3]\nprefix = 1\nkeys = ["**.qkv.weight"]',
        'to = [3, 3]\nkeys = ["**.gamma"]',
    ],
    "add": [
        'key = "module.head.bias"\nlike = "module.head.weight[0]"\nafter = "module.head.weight"',
        'key = "n"\nfill = "normal"\nshape = [3, 5]\nseed = 7\nmean = 1\nstd = 0.02',
        'key = "n"\nfill = "normal"\nlike = "module.head.complex"\nseed = 4294967295',
        'key = "n"\nfill = "normal"\nlike = "module.blocks.0.norm.gamma"',
        'key = "n"\nfill = "arange"\nshape = [2, 3]',
        'key = "n"\nfill = "arange"\nshape = [300]\ndtype = "bfloat16"',
        'key = "n"\nfill = 0.1\nlike = "module.blocks.0.norm.gamma"',
        'key = "n"\nfill = "1+2j"\nlike = "module.head.complex[1, 0]"',
        'key = "n"\nfill = "ones"\nshape = []\ndtype = "float8_e4m3fn"',
        'key = "n"\nfill = 300\nshape = [2]\ndtype = "uint8"',
        'key = "module.embed.weight"\nshape = [1]',
        'key = "n"\nlike = "nothing"',
        'key = "module.embed"\nshape = [1]',
    ],
    "broadcast": [
        'from = "module.embed.weight"\nto = "module.blocks.{i}.embed.weight"',
        'from = "module.embed.weight"\nto = "module.blocks.{i}.attn.qkv.weight"\ntied = true',
        'from = "module.embed.weight"\nto = "module.layers.{i}.w"',
    ],
    "untie": ["", 'keys = ["**.head.weight"]'],
    "edit": [
        'key = "module.embed.weight"\nat = [1, -1]\nvalue = 0.5',
        'key = "module.embed.weight"\nat = [-2]\nvalue = 0.1\nround = true',
        'key = "module.embed.weight"\nat = [-2]\nvalue = 0.1',
        'key = "module.head.complex"\nvalues = [1, 2.5, "1+2j", "nan", "-inf", 0]',
        'key = "module.blocks.0.norm.num_batches_tracked"\nvalue = -3',
        'key = "module.head.mask"\nat = [0, 1]\nvalue = true',
        'key = "module.head.mask"\nat = [0, 1]\nvalue = 2',
        'key = "module.head.empty"\nvalues = []',
        'key = "module.blocks.0.norm.gamma"\nat = [4]\nvalue = 1',
        'key = "module.blocks.0.norm.gamma"\nvalue = 1',
    ],
    "clean": ["", 'nan = 1\nposinf = 7\nneginf = -7.5\nkeys = ["x.**", "**.odd*"]', "posinf = 1e39"],
    "scale": ["factor = 0.3", 'factor = -1e30\nkeys = ["**.weight", "**.complex", "**.gamma"]'],
    "prune": ["", 'keys = ["**.p.**"]'],
    "merge_lora": [
        "",
        "scale = 0.3\nalpha = 4",
        'keys = ["m.lora.**", "p.**"]',
        'scale = 0.3\nalpha = 4\nrank = 3\nkeys = ["k.**"]',
        'keys = ["**.turned.**"]\ntransposed = true',
        'keys = ["**.turned.**"]',
        'keys = ["**.dora.**"]',
        'keys = ["**.lora_A.**", "**.lora_B.**"]',
    ],
    "weight_norm": ["", 'to = "old"', 'to = "new"', 'keys = ["**.bad*"]'],
    "spectral_norm": ["", 'to = "old"', 'to = "new"', "dim = 1", "dim = 0"],
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
    "take": [
        'from = "bare.pt"',
        'from = "odd.pt"\nexpect = { matched = 63, changed = 63 }',
        'from = "training.pt"\nstate_dict = "ema"\nkeys = ["**.weight", "**.norm.**"]',
        'from = "training.pt"',
        'from = "dtypes.pt"\nto = [["{a}", "module.blocks.{a}"]]',
        'from = "dtypes.pt"\nkeys = ["float32", "nothing"]\nexpect = { matched = 1, changed = 1, dead_rules = 1 }',
        'from = "dtypes.pt"\nkeys = ["turned", "tied"]\nto = [["t*", "module.head.*"], ["tied", "b"]]',
        'from = "dtypes.pt"\nkeys = ["tied", "float32"]\nto = [["tied", "module.embed.weight"], ["float32", "x"]]',
        'from = "dtypes.pt"\nkeys = ["float32"]\nto = [["float32", "module.head._extra_state"]]',
        'from = "dtypes.pt"\nkeys = ["float32"]\nto = [["float32", "module.head"]]',
        'from = "more.pt"\nrows = "missing"',
        'from = "wide.pt"\nrows = "missing"\nto = [["wide", "module.embed.weight"]]',
        'from = "wide.pt"\nrows = "missing"',
        'from = "dtypes.pt"\nto = [["float*", "x"]]',
        'from = "dtypes.pt"\nkeys = ["nothing.**"]',
        'from = "nowhere.pt"',
        'from = "training.pt"\nstate_dict = "optimizer"',
        'from = "training.pt"\nstate_dict = "nowhere"',
    ],
    "metadata": ['set = { a = "b" }'],
    "wrap": ["", 'key = "a.b"'],
    "renumber_optimizer": [""],
}
"""The fields of steps of each operation."""

PREPARED = {"renumber_optimizer": '[[step]]\nop = "drop"\nkeys = ["**.qkv.bias", "**.0.norm.*"]\n'}
"""Steps that stand before those of an operation."""


WITHOUT_PART = ("extract",)
"""Operations that no program carries out: a whole pickled module does not pass weights_only=True."""


@pytest.mark.parametrize("op", [operation.op for operation in OPERATIONS])
def test_that_every_operation_has_a_part_and_steps_here_or_says_that_it_has_none(op: str) -> None:
    assert (op in SAYINGS, op in STEPS) == ((False, False) if op in WITHOUT_PART else (True, True))
    if op in WITHOUT_PART:
        with pytest.raises(UsageError, match=f"a step {op} cannot be said as a program"):
            program(parse_recipe(f'format = "{FORMAT}"\n[[step]]\nop = "{op}"\n'))


ODD = ("clean", "scale", "prune", "weight_norm", "spectral_norm")
"""Operations that are tried on the odd tensors."""

WHATEVER_NAN = ("cast", "scale")
"""Operations after which a NaN is one, with whatever bits."""

AFTER = '[[step]]\nop = "prefix"\nadd = "x."\n[[step]]\nop = "unwrap"\npath = "auto"\n'


@pytest.mark.parametrize(("op", "fields"), [(op, fields) for op, steps in STEPS.items() for fields in steps])
def test_that_a_program_gives_what_repair_gives(op: str, fields: str, run: Run, sources: dict[str, Path]) -> None:
    step = PREPARED.get(op, "") + f'[[step]]\nop = "{op}"\n{fields}\n'
    exact = op not in WHATEVER_NAN
    if op == "merge_lora":
        run(sources["adapters"], step)
        run(sources["other_adapters"], step)
    elif op in ODD:
        run(sources["odd"], step, exact=exact)
    else:
        run(sources["training"], step)
    if fields == STEPS[op][0]:
        run(sources["bare"], step, exact=exact)
        run(sources["training"], step + AFTER, exact=exact)


@pytest.mark.parametrize(
    "step",
    [
        'op = "cast"\ndtype = "bfloat16"',
        'op = "cast"\ndtype = "float8_e5m2"\nof = "all"',
        'op = "cast"\ndtype = "int32"\nof = "all"',
        'op = "clone"',
        'op = "untie"',
        'op = "transpose"\nkeys = ["re:^(?!scalar)"]',
        'op = "reshape"\nshape = [3, -1]\nkeys = ["re:[0-9]$", "turned", "step", "conj", "expanded"]',
        'op = "flatten"',
        'op = "squeeze"',
        'op = "unsqueeze"\ndim = -1',
        'op = "rows"\nreverse = true\nkeys = ["re:^(?!scalar)"]',
        'op = "rows"\ndelete = [0]\ndim = 1\nkeys = ["re:^(?!scalar|none)"]',
        'op = "rows"\npad = 2\ndim = -1\nkeys = ["re:^(?!scalar)"]',
        'op = "rows"\npad = 1\nat = 0\nfill = "copy:-1"\nkeys = ["re:^(?!scalar|empty)"]',
        'op = "rows"\npad = 1\nfill = "mean"\nkeys = ["re:^(float|bfloat|complex)", "turned", "step", "conj", "none"]',
        'op = "split"\nfrom = "{p}"\ninto = ["{p}.a", "", "{p}.b"]\ndim = 1\nkeys = ["re:[0-9]$", "bool", "conj"]',
        'op = "unstack"\nfrom = "{p}"\ninto = "{p}.{i}"\ndim = 1\nkeys = ["re:^(?!scalar|none)"]',
        'op = "unstack"\nfrom = "re:^x"\ninto = "y.{i}"',
        'op = "fuse"\nfrom = ["float32", "", "step"]\ninto = "x"\ndim = 1',
        'op = "fuse"\nfrom = ["float8_e5m2", "", "empty"]\ninto = "x"',
        'op = "clean"',
        'op = "scale"\nfactor = -0.1',
    ],
)
def test_that_every_dtype_and_shape_becomes_what_repair_makes_of_it(
    step: str, run: Run, sources: dict[str, Path]
) -> None:
    run(sources["dtypes"], f"[[step]]\n{step}\n", exact=False)


@pytest.mark.parametrize(
    ("recipe", "state_dict"),
    [
        ('[source]\nrequire = ["module.blocks.{i}.attn.qkv.weight", "module.embed.*"]\nforbid = ["encoder.**"]', None),
        ('[source]\nrequire = ["blocks.{i}.**"]', None),
        ('[source]\nforbid = ["module.**"]', None),
        ("[source]\ntensors = 3", None),
        ('[source]\nstate_dict = "ema"\n[[step]]\nop = "strip"\nprefix = "module."', None),
        ('[source]\nstate_dict = "ema"\n[[step]]\nop = "strip"\nprefix = "module."', "model"),
        ('[source]\nstate_dict = "nowhere"\n[[step]]\nop = "strip"\nprefix = "module."', None),
        ('[[step]]\nop = "strip"\nprefix = "module."', "ema"),
        ('[[step]]\nop = "strip"\nprefix = "module."', "nowhere"),
        ('[[step]]\nop = "strip"\nprefix = "module."', "optimizer"),
        ('[[step]]\nop = "strip"\nprefix = "gone."\nenabled = false', None),
    ],
)
def test_that_guards_and_the_choice_of_a_state_dict_are_those_of_repair(
    recipe: str, state_dict: str | None, run: Run, sources: dict[str, Path]
) -> None:
    for source in sources.values():
        run(source, recipe, state_dict=state_dict)


def test_that_the_examples_of_the_recipe_doc_are_programs_that_do_the_same(run: Run, tmp_path: Path) -> None:
    for number, (text, keys) in enumerate(EXAMPLES):
        if 'op = "extract"' in text:
            continue
        names = [line.partition(" -> ")[0] for line in keys.splitlines()]
        if not names:
            continue
        torch.save({name: torch.full((2,), float(at)) for at, name in enumerate(names)}, tmp_path / f"{number}.pt")
        run(tmp_path / f"{number}.pt", text.replace(f'format = "{FORMAT}"\n', ""))


def test_that_several_model_state_dicts_are_a_question_in_both(run: Run, tmp_path: Path) -> None:
    torch.save({"model": {"w": torch.ones(2)}, "net": {"w": torch.ones(2)}, "step": 3}, tmp_path / "two.pt")
    add = '[[step]]\nop = "prefix"\nadd = "a."'
    assert run(tmp_path / "two.pt", add)[0] == 2
    assert run(tmp_path / "two.pt", add, state_dict="net")[0] == 0
    assert run(tmp_path / "two.pt", '[[step]]\nop = "set_value"\npath = "step"\nvalue = 4')[0] == 0
    assert run(tmp_path / "two.pt", '[[step]]\nop = "unwrap"\npath = "net"\n' + add)[0] == 0


def test_that_a_dict_that_stands_there_twice_is_refused_unless_it_is_unwrapped(run: Run, tmp_path: Path) -> None:
    model = {"w": torch.ones(2)}
    torch.save({"model": model, "last": model}, tmp_path / "twice.pt")
    add = '[[step]]\nop = "prefix"\nadd = "a."\n'
    assert run(tmp_path / "twice.pt", add)[0] == 1
    assert run(tmp_path / "twice.pt", add + '[[step]]\nop = "unwrap"\npath = "auto"')[0] == 0


def test_that_a_legacy_file_stays_one(run: Run, tmp_path: Path) -> None:
    torch.save(_training(), tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    steps = '[[step]]\nop = "strip"\nprefix = "module."\n[save]\nformat = "torch-legacy"'
    assert run(tmp_path / "old.pt", steps)[0] == 0
    assert (tmp_path / "theirs.pt").read_bytes()[:2] == b"\x80\x02"


def test_that_a_compressed_archive_is_not_mapped(run: Run, sources: dict[str, Path], tmp_path: Path) -> None:
    with zipfile.ZipFile(sources["bare"]) as old, zipfile.ZipFile(tmp_path / "small.pt", "w") as new:
        for record in old.infolist():
            new.writestr(record.filename, old.read(record), zipfile.ZIP_DEFLATED)
    assert run(tmp_path / "small.pt", '[[step]]\nop = "prefix"\nadd = "a."')[0] == 0


def test_that_safetensors_are_read_and_written(run: Run, tmp_path: Path) -> None:
    from safetensors import safe_open
    from safetensors.torch import save_file

    tensors = {"m.a": torch.randn(3, 4).half(), "m.b": torch.arange(3), "m.c": torch.randn(2).bfloat16()}
    save_file(tensors, tmp_path / "in.safetensors", {"format": "pt", "note": "mine"})
    steps = '[[step]]\nop = "strip"\nprefix = "m."\n[[step]]\nop = "tie"\nfrom = "a"\nto = ["d"]\n'
    steps += '[[step]]\nop = "cast"\ndtype = "float32"\nkeys = ["a"]\n'
    steps += '[[step]]\nop = "metadata"\nset = { note = "yours", "a b" = "c" }\nremove = ["format", "gone"]\n'
    steps += "expect = { matched = 3 }"
    code, result, _ = run(tmp_path / "in.safetensors", steps, suffix=".safetensors")
    assert code == 0 and list(result) == ["a", "b", "c", "d"]
    with safe_open(tmp_path / "theirs.safetensors", "pt") as file:
        assert file.metadata() == {"note": "yours", "a b": "c"}


@pytest.mark.parametrize("shared", ["alias-metadata", "clone"])
def test_that_a_file_of_torch_becomes_safetensors_as_repair_makes_them(
    shared: str, run: Run, tmp_path: Path, sources: dict[str, Path]
) -> None:
    from safetensors import safe_open

    steps = '[[step]]\nop = "drop"\nkeys = ["**.complex", "**.empty"]\n[[step]]\nop = "strip"\nprefix = "module."\n'
    code, result, said = run(sources["training"], steps + f'[save]\nshared = "{shared}"', suffix=".safetensors")
    assert code == 0 and ("head.weight" in result) == (shared == "clone") and "_extra_state" in said
    texts = []
    for name in ("ours", "theirs"):
        with safe_open(tmp_path / f"{name}.safetensors", "pt") as file:
            texts.append(file.metadata())
    assert texts[0] == texts[1]


def test_that_safetensors_become_a_file_of_torch(run: Run, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file({"m.b": torch.arange(3), "m.a": torch.ones(2)}, tmp_path / "in.safetensors")
    assert run(tmp_path / "in.safetensors", '[[step]]\nop = "strip"\nprefix = "m."')[0] == 0


WORDS = st.sampled_from(["module", "a", "b", "0", "1", "2", "w"])
KEYS = st.lists(st.lists(WORDS, min_size=1, max_size=4).map(".".join), min_size=1, max_size=6, unique=True)
KEY_STEPS = st.lists(
    st.sampled_from([
        'op = "strip"\nprefix = "module."\nwhen = "any"',
        'op = "strip"\nprefix = "module.a."\nwhen = "any"\nkeys = ["**.w", "module.**"]',
        'op = "strip"\ncomponents = ["module", "b"]',
        'op = "prefix"\nadd = "module.a."',
        'op = "prefix"\nadd = "a."\nkeys = ["module.**"]',
        'op = "replace_prefix"\nfrom = "a."\nto = "b."',
        'op = "replace_prefix"\nfrom = "module.a."\nto = ""',
        'op = "rename"\nrules = [["**.{i}.w", "**.x{n-1-i}.w"], ["**.a.*", "b.*.**"], ["a", "m.a"]]',
        'op = "rename"\nmode = "chain"\nrules = [["**.0.**", "**.10.**"], ["re:^a", "q"]]',
        'op = "replace"\nfind = "a"\nwith = "c.a"',
        'op = "drop"\nkeys = ["**.0.*"]',
        'op = "keep"\nkeys = ["**.w", "module.**"]',
    ]),
    min_size=1,
    max_size=3,
)  # fmt: skip


@settings(deadline=None)
@given(KEYS, KEY_STEPS)
def test_that_keys_and_metadata_go_where_the_plan_says(keys: list[str], steps: list[str]) -> None:
    recipe = parse_recipe(f'format = "{FORMAT}"\n' + "".join(f"[[step]]\n{step}\n" for step in steps))
    modules = list(dict.fromkeys(["", *[".".join(key.split(".")[:n]) for key in keys for n in range(1, 4)]]))
    made = OrderedDict((key, torch.full((1,), float(at))) for at, key in enumerate(keys))
    made._metadata = OrderedDict((name, {"version": name}) for name in modules)  # type: ignore[attr-defined]
    namespace: dict[str, Any] = {"__name__": "program"}
    exec(program(recipe), namespace)
    repair = partial(namespace["repair"], namespace["Checkpoint"](made), None)
    try:
        plan = make_plan(recipe, model(*keys, modules=modules))
    except RepairError:
        with pytest.raises(namespace["RecipeError"]), redirect_stderr(io.StringIO()):
            repair()
        return
    with redirect_stderr(io.StringIO()):
        repair()
    assert [(key, int(tensor)) for key, tensor in made.items()] == [(one.key, one.entry) for one in plan.targets]
    places = [(plan.modules.get(name, name), {"version": name}) for name in modules]
    assert list(made._metadata.items()) == [place for place in places if place[0] is not None]  # type: ignore[attr-defined]


def _program(tmp_path: Path, recipe: str) -> Path:
    path = tmp_path / "program.py"
    path.write_text(program(parse_recipe(f'format = "{FORMAT}"\n{recipe}')), "utf-8")
    return path


STRANGE = """
name = "coding: latin-1 \\u202e \\u0000 \\r import os"
[source]
require = ["module.blocks.{i}.norm.gamma"]
[[step]]
op = "rename"
why = "a note\\nos.abort() \\u2028 # \\\\"
rules = [["module.blocks.{i}.norm.gamma", "a'\\"\\"\\"\\\\{i+1}\\u202e\\n"], ['re:\\.(head)\\.', 'x\\g<1>\\\\']]
[[step]]
op = "drop"
keys = [{ repr = '"\\ud800 x"' }, "**.bias"]
"""


def test_that_no_text_of_a_recipe_becomes_code(run: Run, sources: dict[str, Path], tmp_path: Path) -> None:
    code, result, _ = run(sources["bare"], STRANGE)
    assert code == 0 and 'a\'"""\\2\u202e\n' in result
    text = _program(tmp_path, STRANGE).read_text("utf-8")
    assert not any(line.startswith("os.") for line in text.splitlines())
    assert "\u202e" not in text and "\r" not in text


def test_that_a_program_runs_alone_and_ends_with_the_exit_codes_of_repair(
    sources: dict[str, Path], tmp_path: Path
) -> None:
    path = _program(tmp_path, '[[step]]\nop = "strip"\nprefix = "module."\n[[step]]\nop = "clone"')
    shutil.copy(sources["training"], tmp_path / "in.pt")
    (tmp_path / "broken.pt").write_bytes(b"nothing")

    def ran(*argv: str) -> tuple[int, str]:
        command = [sys.executable, "-I", "-W", "error", path.name, *argv]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
        assert "Traceback" not in done.stderr
        return done.returncode, done.stderr

    assert ran("in.pt", "out.pt") == (0, "")
    assert "fc" not in torch.load(tmp_path / "out.pt", weights_only=True)["model"]
    before = (tmp_path / "in.pt").read_bytes()
    for argv, code, said in (
        (("out.pt", "again.pt"), 1, 'step 1 (Strip prefix "module.")'),
        (("in.pt", "in.pt", "--overwrite"), 2, "OUT is the input"),
        (("in.pt",), 2, "OUT"),
        (("broken.pt", "again.pt"), 3, "cannot be read"),
        (("none.pt", "again.pt"), 3, "none.pt"),
        (("in.pt", "out.pt"), 4, "--overwrite"),
        (("in.pt", "nowhere/out.pt"), 4, "nowhere"),
    ):
        found, err = ran(*argv)
        assert (found, said in err) == (code, True), (argv, found, err)
    assert ran("in.pt", "out.pt", "--overwrite") == (0, "")
    assert (tmp_path / "in.pt").read_bytes() == before
    assert sorted(found.name for found in tmp_path.iterdir()) == ["broken.pt", "in.pt", "out.pt", "program.py"]


def test_that_a_program_has_what_it_needs_and_no_more(tmp_path: Path) -> None:
    path = _program(tmp_path, "".join(f'[[step]]\nop = "{op}"\n{steps[0]}\n' for op, steps in STEPS.items()))
    small = program(parse_recipe(f'format = "{FORMAT}"\n[[step]]\nop = "prefix"\nadd = "a."'))
    (tmp_path / "small.py").write_text(small)
    rules = ["--isolated", "--select", "E4,E7,E9,F,I,B,UP,C4", "--target-version", "py39", "--ignore", "UP006,UP035"]
    command = [sys.executable, "-m", "ruff", "check", "--no-cache", *rules, path.name, "small.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    for text in (path.read_text("utf-8"), small):
        tree = ast.parse(text, feature_version=(3, 9))
        names = [node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)]
        assert len(set(names)) == len(names)
        words = Counter(re.findall(r"\w+", text))
        assert [name for name in names if words[name] < 2] == []
        assert "import sdviewer" not in text and "from sdviewer" not in text and "strict=" not in text
    assert "Counting" not in small and "tensor_bytes" not in small
