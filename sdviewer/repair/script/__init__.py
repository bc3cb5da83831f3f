"""A recipe as a stand-alone Python program, which needs torch and nothing of sdviewer.

The program is put together of the pieces in `parts`: those that the recipe's steps use, in the order of their modules.
Patterns and rules are said as regular expressions of Python (`regexes`). A new operation is its function in `parts` and
one line in `SAYINGS`.
"""

from __future__ import annotations

import builtins
import keyword
import math
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

from sdviewer.core.text import visible
from sdviewer.errors import UsageError
from sdviewer.repair.operations import (
    Broadcast,
    Cast,
    Channels,
    Clean,
    Clone,
    DropObjects,
    Edit,
    Flatten,
    Fuse,
    Operation,
    Permute,
    PermuteRope,
    Rename,
    Reorder,
    Replace,
    Reshape,
    Resize,
    Rows,
    Scale,
    Split,
    Squeeze,
    Stack,
    Strip,
    Take,
    Transpose,
    Unsqueeze,
    Unstack,
    Untie,
    Unwrap,
    Wrap,
)
from sdviewer.repair.operations.choice import Choice
from sdviewer.repair.operations.file_operation import FileOperation
from sdviewer.repair.operations.rename import FIRST
from sdviewer.repair.operations.replace import LITERAL, REGEX
from sdviewer.repair.operations.tensor_operation import TensorOperation
from sdviewer.repair.patterns import SEARCH, compile_pattern, compile_rule
from sdviewer.repair.recipe import Recipe
from sdviewer.repair.script.pieces import gather, import_lines
from sdviewer.repair.script.regexes import NUMBER, Code, means, raw, regex, rule_code
from sdviewer.repair.state_dicts import AUTO

WIDTH = 120
"""Characters of a line."""

LABEL = 80
"""Characters of what a step says of itself."""


class Said(NamedTuple):
    """How a program says a step: a function of `parts`, and its arguments as code or as values.

    `needs` is what it imports besides torch.
    """

    function: str
    arguments: Mapping[str, Any]
    needs: str = ""


SAYINGS: Mapping[str, Callable[[Any], Said]] = MappingProxyType({
    "unwrap": lambda step: Said("unwrap", {}),
    "strip": lambda step: _strip(step),
    "prefix": lambda step: Said("prefix_where" if step.keys else "prefix", {"add": step.add}),
    "replace_prefix": lambda step: Said("exchange_prefix", {"old": step.old, "new": step.new}),
    "rename": lambda step: _rename(step),
    "replace": lambda step: _replace(step),
    "drop": lambda step: Said("drop", _choice(step.keys)),
    "keep": lambda step: Said("keep", _choice(step.keys)),
    "drop_objects": lambda step: Said("drop_objects", {}),
    "cast": lambda step: Said(
        "cast_all" if step.of == "all" else "cast", {"dtype": Code(f"torch.{step.dtype}")}
    ),
    "split": lambda step: _split(step),
    "fuse": lambda step: _fuse(step),
    "stack": lambda step: _stack(step),
    "unstack": lambda step: _unstack(step),
    "broadcast": lambda step: _broadcast(step),
    "rows": lambda step: Said("rows", _fields(step), "NumPy" if step.fill == "mean" else ""),
    "resize": lambda step: Said("resize", _fields(step), "NumPy"),
    **{op: lambda step: Said(step.op, _fields(step), "NumPy") for op in ("weight_norm", "spectral_norm", "merge_lora")},
    "leave_out": lambda step: Said("leave_out", {"paths": {path: means([path]) for path in step.paths}}),
    "wrap": lambda step: Said("wrap", {}),
    "take": lambda step: _take(step),
    **{
        op: lambda step: Said(step.op, _fields(step))
        for op in (
            *("clone", "untie", "tie", "add", "edit", "clean", "scale", "prune"),
            *("transpose", "permute", "reshape", "flatten", "squeeze", "unsqueeze"),
            *("reorder", "permute_rope", "channels"),
            *("set_value", "metadata", "renumber_optimizer"),
        )
    },
})  # fmt: skip
"""How a program says each operation; `extract` is none: a pickled module does not pass weights_only=True."""

SIMPLE = (
    *(Cast, Clean, Clone, Edit, Rows, Scale, Untie),
    *(Transpose, Permute, Reshape, Flatten, Squeeze, Unsqueeze),
    *(Reorder, PermuteRope, Resize, Channels),
    Unwrap,
)
"""Operations after which each key stands for what is made of the one tensor that it was."""

MODULES = "sdviewer.repair.script.parts"
_HOMES: Mapping[str, tuple[str, ...]] = MappingProxyType({
    "checkpoint": ("Checkpoint", "step", "expected_step", "require", "forbid", "expect_tensors", "put_back"),
    "keys": (
        *("rename", "rename_in_turn", "rename_by_number", "rename_keys", "strip", "strip_where", "strip_parts"),
        *("prefix", "prefix_where", "exchange_prefix", "replace", "drop", "keep", "Counting", "index"),
    ),
    "choosing": ("choose", "choose_if_any", "inside", "is_model", "called"),
    "around": ("unwrap", "take_out", "wrap", "set_value", "leave_out", "take_away"),
    "optimizer": ("follow_names", "keys_now", "renumber_optimizer", "follow_numbers"),
    "cast": ("cast", "cast_all"),
    "shapes": ("transpose", "permute", "reshape", "flatten", "squeeze", "unsqueeze"),
    "reparametrization": ("weight_norm", "spectral_norm"),
    **{
        op: (op,)
        for op in (
            *("clone", "untie", "tie", "broadcast", "add", "edit", "clean", "scale", "prune", "drop_objects"),
            *("split", "fuse", "stack", "unstack", "rows", "metadata", "take"),
            *("reorder", "permute_rope", "channels", "resize", "merge_lora"),
        )
    },
    "files": ("run",),
})  # fmt: skip
"""The names that the text of a program itself can use, by their module in `parts`."""

LAST = tuple([
    f"sdviewer.repair.{name}"
    for name in (
        "script.parts.gathering",
        "script.parts.elements",
        "script.parts.tensors",
        "modules",
        "script.parts.checkpoint",
        "script.parts.choosing",
        "script.parts.files",
        "script.parts.failures",
    )
])  # fmt: skip
"""The modules that stand behind the operations, in this order: a program reads from what it does to how."""


def program(recipe: Recipe) -> str:
    """The recipe as the text of a Python program.

    Raises:
        UsageError: a step or a wish of `[save]` cannot be said as a program.
    """
    active = [step for step in recipe.steps if step.enabled]
    _refuse_unsaid(recipe)
    body = _repair(recipe, active)
    options = ", zipped=False" if recipe.save.format == "torch-legacy" else ""
    options += ", aliases=False" if recipe.save.shared == "clone" else ""
    tail = f'if __name__ == "__main__":\n    sys.exit(run(repair{options}))'
    homes = {name: f"{MODULES}.{module}" for module, names in _HOMES.items() for name in names}
    gathered = gather(f"{body}\n\n{tail}", homes, LAST)
    own = {(module, "") for module in ("re", "torch") if f"{module}." in body}
    imports = import_lines({*gathered.imports, *own, ("sys", "")}, sys.stdlib_module_names)
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
    needs = ["torch", *sorted({said(step).needs for step in active} - {""})]
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
    ops = {step.op for step in active}
    edits = [step for step in active if not isinstance(step, DropObjects | FileOperation)]
    lines = [
        "def repair(checkpoint: Checkpoint, state_dict: str | None) -> None:",
        '    """The guards and the steps of the recipe, in their order."""',
        *_chosen(recipe, active, edits),
    ]
    for guard, wanted in (("require", source.require), ("forbid", source.forbid)):
        for pattern in wanted:
            lines += _call(guard, [_CHECKPOINT, pattern, means([pattern])], {})
    if source.tensors is not None:
        lines += _call("expect_tensors", [_CHECKPOINT], {"tensors": source.tensors})
    wraps: list[str] = []
    for number, found in enumerate(recipe.steps, 1):
        lines += _step(found, number, wraps)
    lines.append("")
    unwraps = [step for step in active if isinstance(step, Unwrap)]
    alone = bool(unwraps) and not unwraps[-1].keep_rest
    if "renumber_optimizer" in ops:
        lines += _closing(alone, "follow_numbers(checkpoint)")
    elif any(not isinstance(step, SIMPLE) for step in edits):
        follows = "keys_now(checkpoint)[0]" if any(map(_parts_tensors, edits)) else _NOW
        lines.append(f"    follow_names(checkpoint, {follows})")
    if edits:
        # (an unwrap of the root is none)
        lines.append(f"    put_back(checkpoint{', unwrapped=bool(checkpoint.path)' if unwraps else ''})")
    if "leave_out" in ops:
        lines.append("    take_away(checkpoint)")
    if alone:
        lines.append("    checkpoint.root = checkpoint.mapping")
    elif unwraps:
        lines.append("    take_out(checkpoint)")
    lines += [f"    checkpoint.root = {{{_literal(key)}: checkpoint.root}}" for key in wraps]
    return "\n".join(lines)


_NOW = "{entry.made_of[0]: entry.key for entry in checkpoint.entries}"


def _closing(alone: bool, line: str) -> list[str]:
    """What is only done where more than the state dict is left."""
    return ["    if not checkpoint.path:", f"        {line}"] if alone else [f"    {line}"]


def _parts_tensors(step: Operation) -> bool:
    return isinstance(step, TensorOperation) and not isinstance(step, SIMPLE)


def _chosen(recipe: Recipe, active: Sequence[Operation], edits: Sequence[Operation]) -> list[str]:
    """The line that says which state dict is meant."""
    source = recipe.source
    if source.also:
        raise UsageError(
            "a program repairs one state dict, and the recipe names several",
            remedy="Name one in the recipe; the program takes another with --state-dict.",
        )
    own = source.state_dict if source.state_dict != AUTO else None
    unwrapped = [step.path for step in active if isinstance(step, Unwrap) and step.path != AUTO]
    if not edits and own is None and not source.require and not source.forbid:
        return _call("choose_if_any", [_CHECKPOINT, Code("state_dict")], {})
    fits = Code("is_model" if own is None else f"called({_literal(own)})")
    name = "state_dict"
    if unwrapped:
        first = name if own is None else f"state_dict or {_literal(own)}"
        name = f"inside(checkpoint, {first}, {_literal(unwrapped)})"
    return _call("choose", [_CHECKPOINT, Code(name), fits], {} if own is None else {"missing": 1})


def _step(found: Operation, number: int, wraps: list[str]) -> Iterator[str]:
    """The call of a step, with its note above it; `wraps` gathers the keys in which the whole is wrapped."""
    yield ""
    if found.why:
        yield f"    # {visible(found.why, 1000)}"
    label = f"step {number} ({found.label if len(found.label) <= LABEL else found.op})"
    if not found.enabled:
        yield f"    # {label} is switched off."
        return
    call = said(found)
    arguments = dict(call.arguments)
    if isinstance(found, Wrap):
        if wraps:
            arguments["again"] = True
        wraps.append(found.key)
    if found.keys and not isinstance(found, Choice | Take):
        arguments["where"] = means(found.keys)
    expect = found.to_step().get("expect")
    values = [_CHECKPOINT, label, *([expect] if expect else []), Code(call.function)]
    yield from _call("expected_step" if expect else "step", values, arguments)


def _fields(step: Operation) -> dict[str, Any]:
    """The fields of a step as the arguments of its function, which has their names."""
    return {_argument(name): None if value == {"repr": "None"} else value for name, value in step.own_fields().items()}


def _argument(name: str) -> str:
    """A recipe's word as the name of an argument."""
    return f"{name}_" if keyword.iskeyword(name) or hasattr(builtins, name) else name


def _strip(step: Strip) -> Said:
    everywhere = {"everywhere": step.when == "all"} if step.when and (step.when == "all") != bool(step.prefix) else {}
    if step.prefix:
        return Said("strip_where" if step.keys else "strip", {"prefix": step.prefix, **everywhere})
    return Said("strip_parts", {"components": list(step.components), **everywhere})


def _rename(step: Rename) -> Said:
    rules = [compile_rule(*rule) for rule in step.rules]
    literals = {rule.pattern.literal: rule.renamer(())(rule.pattern.literal) for rule in rules if rule.pattern.literal}
    if step.mode == FIRST and len(literals) == len(rules):
        return Said("rename_keys", {"names": literals})
    said = list(map(rule_code, rules))
    counts = any(rule.counts for rule in said)
    function = "rename_in_turn" if step.mode != FIRST else "rename_by_number" if counts else "rename"
    return Said(function, {"rules": [(rule.pattern, rule.result) for rule in said]})


def _replace(step: Replace) -> Said:
    if step.syntax == LITERAL:
        return Said("replace", {"find": step.find, "new": step.new})
    rule = rule_code(compile_rule(SEARCH + step.find if step.syntax == REGEX else step.find, step.new))
    return Said("rename_by_number" if rule.counts else "rename", {"rules": [(rule.pattern, rule.result)]})


def _choice(keys: Sequence[str]) -> dict[str, Any]:
    names = [key for key in keys if compile_pattern(key).literal is not None]
    patterns = [regex(key) for key in keys if key not in names]
    return ({"names": names} if names else {}) | ({"patterns": patterns} if patterns else {})


def _without(step: Operation, *names: str) -> dict[str, Any]:
    return {name: value for name, value in _fields(step).items() if name not in names}


def _split(step: Split) -> Said:
    rules = [rule_code(compile_rule(step.source, result)) if result else None for result in step.into]
    pattern = next(rule.pattern for rule in rules if rule is not None)
    into = [None if rule is None else rule.result for rule in rules]
    return Said("split", {"pattern": pattern, "into": into, **_without(step, "from_", "from", "into")})


def _fuse(step: Fuse) -> Said:
    rules = [rule_code(compile_rule(source, step.into)) if source else None for source in step.sources]
    said = [None if rule is None else (rule.pattern, rule.result) for rule in rules]
    return Said("fuse", {"rules": said, **_without(step, "from_", "into")})


def _stack(step: Stack) -> Said:
    rule = compile_rule(step.source, step.into)
    code, groups = rule_code(rule), rule.pattern.groups or {}
    arguments = {"pattern": code.pattern, "over": groups[step.over], "into": code.result}
    return Said("stack", {**arguments, **_without(step, "from_", "over", "into")})


def _unstack(step: Unstack) -> Said:
    code = rule_code(compile_rule(step.source, step.numbered(NUMBER)), numbered=True)
    return Said("unstack", {"pattern": code.pattern, "into": code.result, **_without(step, "from_", "into")})


def _broadcast(step: Broadcast) -> Said:
    code = rule_code(compile_rule(step.blocks, step.to))
    return Said("broadcast", {"from_": step.source, "pattern": code.pattern, "to": code.result, "tied": step.tied})


def _take(step: Take) -> Said:
    rules = [(rule.pattern, rule.result) for rule in [rule_code(compile_rule(*rule)) for rule in step.to]]
    return Said("take", {**_without(step, "to"), **_choice(step.keys), **({"rules": rules} if rules else {})})


_CHECKPOINT = Code("checkpoint")


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
        if isinstance(value, list | tuple | dict):
            opening, closing = "{}" if isinstance(value, dict) else "()" if isinstance(value, tuple) else "[]"
            inside = _pairs(value) if isinstance(value, dict) else [("", one) for one in value]
            lines += _laid_out(f"{inner}{before}{opening}", inside, f"{closing},", inner)
        else:
            lines.append(f"{inner}{before}{_literal(value)},")
    return [*lines, f"{indent}{end}"]


def _pairs(table: Mapping[str, Any]) -> list[tuple[str, Any]]:
    return [(f"{_literal(name)}: ", value) for name, value in table.items()]


def _literal(value: Any) -> str:
    """A value of a recipe as Python says it."""
    if isinstance(value, Code):
        return str(value)
    if isinstance(value, list):
        return f"[{', '.join(map(_literal, value))}]"
    if isinstance(value, tuple):
        return f"({', '.join(map(_literal, value))})"
    if isinstance(value, dict):
        return "{" + ", ".join([name + _literal(one) for name, one in _pairs(value)]) + "}"
    if isinstance(value, float) and not math.isfinite(value):
        return f'float("{value}")'
    return raw(value) if isinstance(value, str) else repr(value)


def said(step: Operation) -> Said:
    """How a program says a step.

    Raises:
        UsageError: it cannot.
    """
    if step.op in SAYINGS:
        return SAYINGS[step.op](step)
    why = "what a pickled module holds is only known where its classes are, and a program runs nothing of a file"
    raise UsageError(
        f"a step {step.op} cannot be said as a program: {why}",
        remedy="Carry it out with sdviewer repair, and the other steps with a program.",
        code="not_built",
    )
