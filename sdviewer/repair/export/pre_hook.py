"""A recipe as a `load_state_dict` pre-hook: a Python function that needs nothing but torch.

torch gives the hook its own copy of the state dict, with the prefix of the module that the hook belongs to, and
compares the keys with the module's afterwards.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from sdviewer.errors import RepairError, UsageError
from sdviewer.repair.export.hook_part import rename_keys
from sdviewer.repair.export.renamings import probes, renamed_by_planning, step_pairs, title
from sdviewer.repair.operations import Drop, Keep, Operation, Prefix, Rename, Replace, ReplacePrefix, Strip, Unwrap
from sdviewer.repair.operations.rename import FIRST
from sdviewer.repair.operations.replace import LITERAL, REGEX
from sdviewer.repair.patterns import SEARCH, Rule, compile_rule
from sdviewer.repair.recipe import Recipe
from sdviewer.repair.script.regexes import Code, raw, regex, rule_code

_WHAT = "a pre-hook"

_HOOK = '''def repair(module, state_dict, prefix, *_):
    """A pre-hook of load_state_dict: renames the keys before the module takes its tensors."""
    rename_keys(state_dict, prefix, STEPS)
'''


class Told(NamedTuple):
    """A step of the function as code, and the same as values."""

    code: str
    kind: str
    patterns: list[Any]


def pre_hook(recipe: Recipe, keys: Sequence[str] | None = None) -> str:
    """The text of the function; `keys` are those that it is for, where they are known.

    Raises:
        UsageError: a step does more than rename and drop, or the function would not do what the recipe does.
    """
    steps = [(number, step) for number, step in enumerate(recipe.steps, 1) if step.enabled]
    steps = [(number, step) for number, step in steps if not isinstance(step, Unwrap)]
    told = [_told(step, number) for number, step in steps]
    known = list(keys) if keys is not None else probes([step for _, step in steps])
    if _carried_out(told, known) != renamed_by_planning([step for _, step in steps], known):
        number, step = steps[-1]
        raise _unsaid(step, number, "the keys would be others")
    lines = "".join([one.code for one in told])
    index = "def index(number):\n    return str(number)\n\n\n" if "index(" in lines else ""
    return (
        f"# Made by sdviewer of {title(recipe)}: model.register_load_state_dict_pre_hook(repair)\n"
        f"from __future__ import annotations\n\nimport re\n\n\n{index}{inspect.getsource(rename_keys)}\n\n"
        f"{_HOOK}\n\nSTEPS = [\n{lines}]\n"
    )


def _told(step: Operation, number: int) -> Told:
    if not isinstance(step, Drop | Keep | Rename | Strip | Prefix | ReplacePrefix | Replace):
        raise _unsaid(step, number, "it does more than rename and drop keys")
    if isinstance(step, Drop | Keep):
        patterns = list(map(regex, step.keys))
        return Told(f'    ("{step.op}", [{", ".join(map(raw, patterns))}]),\n', step.op, patterns)
    if step.keys:
        raise _unsaid(step, number, "it is for some keys only")
    if isinstance(step, Rename):
        kind = "first" if step.mode == FIRST else "chain"
        return _rules(step, number, kind, step.rules)
    if isinstance(step, Replace) and step.syntax != LITERAL:
        pattern = SEARCH + step.find if step.syntax == REGEX else step.find
        return _rules(step, number, "first", [(pattern, step.new)])
    pairs = step_pairs(step, None)
    assert pairs is not None
    kind = "everywhere" if isinstance(step, Strip | Replace) else "first"
    return Told(_code(kind, [(raw(pattern), raw(result)) for pattern, result in pairs]), kind, list(pairs))


def _rules(step: Operation, number: int, kind: str, rules: Sequence[tuple[str, str]]) -> Told:
    codes: list[tuple[str, str]] = []
    patterns: list[Any] = []
    for pattern, result in rules:
        rule = compile_rule(pattern, result)
        code = rule_code(rule)
        if code.counts:
            raise _unsaid(step, number, "n counts the keys: write the number in its place")
        codes.append((raw(code.pattern), code.result if isinstance(code.result, Code) else raw(code.result)))
        patterns.append((code.pattern, _by_rule(rule) if isinstance(code.result, Code) else code.result))
    return Told(_code(kind, codes), kind, patterns)


def _by_rule(rule: Rule) -> Callable[[re.Match[str]], str]:
    """What the code of a result with arithmetic gives."""
    rename = rule.renamer(())
    return lambda match: rename(match.string) or ""


def _code(kind: str, pairs: Sequence[tuple[str, str]]) -> str:
    lines = "".join([f"        ({pattern}, {result}),\n" for pattern, result in pairs])
    return f'    ("{kind}", [\n{lines}    ]),\n'


def _carried_out(told: Sequence[Told], keys: Sequence[str]) -> dict[str, str | None] | None:
    """What the function makes of the keys, None where it refuses them."""
    state_dict = {f"part.{key}": key for key in keys}
    try:
        rename_keys(state_dict, "part.", [(one.kind, one.patterns) for one in told])
    except (RuntimeError, RepairError):
        return None
    found: dict[str, str | None] = dict.fromkeys(keys)
    return found | {key: name.removeprefix("part.") for name, key in state_dict.items()}


def _unsaid(step: Operation, number: int, reason: str) -> UsageError:
    return UsageError(
        f"step {number} ({step.label}) cannot be said as {_WHAT}: {reason}",
        remedy="Save a repaired copy, or write the recipe as a program.",
    )
