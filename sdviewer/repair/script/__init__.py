"""A recipe as a stand-alone Python program, which needs torch and nothing of sdviewer.

The program is put together of the pieces in `parts`: those that the recipe's steps use, in the order of their modules.
A new operation is its file in `parts` and one line in `PARTS`.
"""

from __future__ import annotations

import builtins
import keyword
import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from sdviewer.core.text import visible
from sdviewer.errors import UsageError
from sdviewer.repair.operations import DropObjects, Operation, Unwrap
from sdviewer.repair.operations.file_operation import FileOperation
from sdviewer.repair.operations.unwrap import AUTO
from sdviewer.repair.recipe import Recipe
from sdviewer.repair.script.pieces import gather, import_lines

WIDTH = 120
"""Characters of a line."""

LABEL = 80
"""Characters of what a step says of itself."""


class Part(NamedTuple):
    """How a program says an operation: a function of the module `parts.MODULE`, and what the program does at its end.

    `needs` is what it imports besides torch.
    """

    op: str
    module: str
    function: str
    last: str = ""
    needs: str = ""


PARTS = (
    Part("unwrap", "unwrap", "unwrap", "take_out"),
    Part("replace_prefix", "replace_prefix", "exchange_prefix"),
    *[Part(op, op, op) for op in ("strip", "prefix", "rename", "replace", "drop", "keep", "drop_objects")],
    *[
        Part(op, op, op)
        for op in ("cast", "clone", "untie", "tie", "broadcast", "add", "edit", "clean", "scale", "prune")
    ],
    *[Part(op, op, op) for op in ("split", "fuse", "stack", "unstack")],
    *[Part(op, "shapes", op) for op in ("transpose", "permute", "reshape", "flatten", "squeeze", "unsqueeze")],
    Part("rows", "rows", "rows", needs="NumPy (for a mean)"),
    *[Part(op, "reparametrization", op, needs="NumPy") for op in ("weight_norm", "spectral_norm")],
    *[Part(op, "around", op) for op in ("set_value", "leave_out")],
    Part("metadata", "metadata", "metadata"),
    Part("wrap", "wrap", "wrap", "put_under"),
    Part("renumber_optimizer", "optimizer", "renumber_optimizer", "follow_numbers"),
)

CLOSING = ("take_out", "put_under")
"""What is done at the end, in this order."""

MODULES = "sdviewer.repair.script.parts"
_SHARED = {
    "choose": f"{MODULES}.choosing",
    **dict.fromkeys(
        ("require", "forbid", "expect_tensors", "step", "put_back", "Checkpoint", "Loaded"), f"{MODULES}.checkpoint"
    ),
    "follow_names": f"{MODULES}.optimizer",
    "run": f"{MODULES}.command",
}

LAST = tuple([
    f"sdviewer.repair.{name}"
    for name in (
        "script.parts.gathering",
        "script.parts.elements",
        "script.parts.tensors",
        "script.parts.checkpoint",
        "modules",
        "script.parts.patterns",
        "script.parts.choosing",
        "script.parts.files",
        "script.parts.failures",
        "script.parts.command",
    )
])  # fmt: skip
"""The modules that stand behind the operations, in this order: a program reads from what it does to how."""


def program(recipe: Recipe) -> str:
    """The recipe as the text of a Python program.

    Raises:
        UsageError: a step or a wish of `[save]` cannot be said as a program yet.
    """
    active = [step for step in recipe.steps if step.enabled]
    _refuse_unsaid(recipe)
    body = _repair(recipe, active)
    options = ", zipped=False" if recipe.save.format == "torch-legacy" else ""
    options += ", aliases=False" if recipe.save.shared == "clone" else ""
    tail = f'if __name__ == "__main__":\n    sys.exit(run(repair, sys.argv[1:]{options}))'
    modules: dict[str, str] = {}
    for part in map(parts_of, active):
        modules |= {name: f"{MODULES}.{part.module}" for name in (part.function, part.last) if name}
    modules |= _SHARED
    gathered = gather(f"{body}\n\n{tail}", modules, LAST)
    imports = import_lines({*gathered.imports, ("sys", "")}, sys.stdlib_module_names)
    head = [*_header(recipe, active), "from __future__ import annotations", "", *imports]
    return "\n".join(head) + "\n\n" + "\n\n\n".join([body, *[piece.text for piece in gathered.pieces], tail]) + "\n"


def _refuse_unsaid(recipe: Recipe) -> None:
    """Raise where `[save]` wishes for what a program does not do."""
    if recipe.save.format not in ("", "safetensors", "torch-zip", "torch-legacy"):
        raise UsageError(
            f"a container cannot be said as a program yet: {visible(recipe.save.format, 80)}", code="not_built"
        )
    if recipe.save.max_shard_size:
        raise UsageError("shards cannot be said as a program yet", remedy="Take max_shard_size away.", code="not_built")


def _header(recipe: Recipe, active: Sequence[Operation]) -> Iterator[str]:
    """The first lines, and the recipe as a comment."""
    needs = ["torch", *sorted({parts_of(step).needs for step in active} - {""})]
    yield '"""Carries out the recipe below on a checkpoint: python FILE.py IN OUT.'
    yield ""
    yield f"Written by `sdviewer script`. Needs {' and '.join(needs)}, for .safetensors files safetensors."
    yield '"""'
    yield ""
    if recipe.name:
        yield from (f"# {visible(recipe.name, 1000)}", "#")
    for line in recipe.to_text().strip().splitlines():
        yield f"# {visible(line, len(line) + 1)}".rstrip()
    yield ""


def _repair(recipe: Recipe, active: Sequence[Operation]) -> str:
    """The function that carries the recipe out."""
    source = recipe.source
    edits = [step for step in active if not isinstance(step, DropObjects | FileOperation)]
    arguments: dict[str, Any] = {"source": source.state_dict} if source.state_dict != AUTO else {}
    if unwrapped := [step.path for step in active if isinstance(step, Unwrap) and step.path != AUTO]:
        arguments["unwrapped"] = unwrapped
    if not edits and not source.require and not source.forbid:
        arguments["needed"] = False
    lines = [
        "def repair(loaded: Loaded, state_dict: str | None) -> Checkpoint:",
        '    """The guards and the steps of the recipe, in their order."""',
        *_call("checkpoint = choose", [_Name("loaded"), _Name("state_dict")], arguments),
    ]
    for guard, wanted in (("require", source.require), ("forbid", source.forbid)):
        if wanted:
            lines += _call(guard, [_CHECKPOINT, list(wanted)], {})
    if source.tensors is not None:
        lines += _call("expect_tensors", [_CHECKPOINT], {"tensors": source.tensors})
    for number, found in enumerate(recipe.steps, 1):
        lines += _step(found, number)
    closing = {parts_of(step).last for step in active}
    follow = "follow_numbers" if "follow_numbers" in closing else "follow_names" if edits else ""
    last = [follow, "put_back", *[name for name in CLOSING if name in closing]]
    lines += ["", *[f"    {name}(checkpoint)" for name in last if name], "    return checkpoint"]
    return "\n".join(lines)


def _step(found: Operation, number: int) -> Iterator[str]:
    """The call of a step, with its note above it."""
    yield ""
    if found.why:
        yield f"    # {visible(found.why, 1000)}"
    label = f"step {number} ({found.label if len(found.label) <= LABEL else found.op})"
    if not found.enabled:
        yield f"    # {label} is switched off."
        return
    table = found.to_step()
    own = {name: value for name, value in table.items() if name not in ("op", "why", "expect", "enabled")}
    fields = {_argument(name): None if value == {"repr": "None"} else value for name, value in own.items()}
    if "expect" in table:
        fields = {"expect": table["expect"], **fields}
    yield from _call("step", [_CHECKPOINT, label, _Name(parts_of(found).function)], fields)


def _argument(name: str) -> str:
    """A recipe's word as the name of an argument."""
    return f"{name}_" if keyword.iskeyword(name) or hasattr(builtins, name) else name


class _Name(str):
    """A text that stands in the program as it is."""

    __slots__ = ()


_CHECKPOINT = _Name("checkpoint")


def _call(function: str, values: Sequence[Any], named: Mapping[str, Any]) -> list[str]:
    """A call as a line of `repair`, or as several."""
    arguments = [*[("", value) for value in values], *[(f"{name}=", value) for name, value in named.items()]]
    return _laid_out(f"    {function}(", arguments, ")", "    ")


def _laid_out(start: str, items: Sequence[tuple[str, Any]], end: str, indent: str) -> list[str]:
    """Items between brackets, in one line where they fit, else one a line."""
    line = start + ", ".join([before + _literal(value) for before, value in items]) + end
    if len(line) <= WIDTH or not items:
        return [line]
    inner = indent + "    "
    lines = [start]
    for before, value in items:
        if isinstance(value, list | dict):
            opening, closing = "[]" if isinstance(value, list) else "{}"
            inside = [("", one) for one in value] if isinstance(value, list) else _pairs(value)
            lines += _laid_out(f"{inner}{before}{opening}", inside, f"{closing},", inner)
        else:
            lines.append(f"{inner}{before}{_literal(value)},")
    return [*lines, f"{indent}{end}"]


def _pairs(table: Mapping[str, Any]) -> list[tuple[str, Any]]:
    return [(f"{_literal(name)}: ", value) for name, value in table.items()]


def _literal(value: Any) -> str:
    """A value of a recipe as Python says it."""
    if isinstance(value, _Name):
        return str(value)
    if isinstance(value, list):
        return f"[{', '.join(map(_literal, value))}]"
    if isinstance(value, dict):
        return "{" + ", ".join([name + _literal(one) for name, one in _pairs(value)]) + "}"
    if isinstance(value, float) and not math.isfinite(value):
        return f'float("{value}")'
    if not isinstance(value, str):
        return repr(value)
    if "\\" in value and '"' not in value and value.isprintable() and not value.endswith("\\"):
        return f'r"{value}"'
    quote = '"' if '"' not in value or "'" in value else "'"
    inside = "".join([_escaped(ch) if ch != quote else f"\\{quote}" for ch in value])
    return f"{quote}{inside}{quote}"


def _escaped(ch: str) -> str:
    return ch if ch in "\"'" else repr(ch)[1:-1]


def parts_of(step: Operation) -> Part:
    """How a program says the operation of a step.

    Raises:
        UsageError: it cannot yet.
    """
    for part in PARTS:
        if part.op == step.op:
            return part
    remedy = "Carry it out with sdviewer repair, and the rest with a program."
    raise UsageError(f"a step cannot be said as a program yet: {step.op}", remedy=remedy, code="not_built")
