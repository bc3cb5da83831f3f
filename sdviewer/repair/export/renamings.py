"""What loaders that rename by regular expressions have in common: a recipe's steps as such pairs, and the proof."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple, TypeAlias

from sdviewer.core.key_table import KeyTable
from sdviewer.errors import RepairError, UsageError
from sdviewer.repair.execution import map_of
from sdviewer.repair.operations import (
    Operation,
    Prefix,
    Rename,
    Replace,
    ReplacePrefix,
    Strip,
    Unwrap,
)
from sdviewer.repair.operations.replace import LITERAL, REGEX
from sdviewer.repair.patterns import FULL, SEARCH, Arithmetic, Rule, compile_rule
from sdviewer.repair.recipe import Recipe
from sdviewer.repair.rules.decision_list import Wishes, find_rules
from sdviewer.repair.script.regexes import Code, raw, rule_code
from sdviewer.repair.wording import quoted

MOST_EXPANDED = 500
"""Rules that one with arithmetic may become, one for each index."""

_PLACEHOLDER = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)\}")


class Renaming(NamedTuple):
    """A regular expression and what `re.sub` puts in the place of its match."""

    pattern: str
    result: str


Loader: TypeAlias = Callable[[Sequence[Renaming], str], str]
"""What a loader makes of a key by such pairs."""


def renamings(
    recipe: Recipe, keys: Sequence[str] | None, loaders: Sequence[Loader], what: str, *, unwraps: Sequence[str] = ()
) -> list[Renaming]:
    """Pairs by which each of the loaders renames as the recipe does.

    They are the recipe's own steps, else rules made anew from what it does to `keys`. Without these they are tried on
    keys that its patterns match.

    Raises:
        UsageError: a step does more than rename, or the loaders would not rename so.
    """
    steps = [(number, step) for number, step in enumerate(recipe.steps, 1) if step.enabled]
    for number, step in steps:
        _refuse(step, number, what, unwraps)
    steps = [(number, step) for number, step in steps if not isinstance(step, Unwrap)]
    known = list(keys) if keys is not None else probes([step for _, step in steps])
    wanted = renamed_by_planning([step for _, step in steps], known)
    direct, unsaid = _direct(steps, known if keys is not None else None)
    if direct is not None and _agree(loaders, direct, wanted):
        return direct
    if keys is not None:
        flat = _flat(wanted, known)
        if flat is not None and _agree(loaders, flat, wanted):
            return flat
    number, step = unsaid or steps[-1]
    raise UsageError(
        f"step {number} ({step.label}) cannot be said as {what}",
        remedy="" if keys is not None else "Name the checkpoint that it is for: its keys can make it possible.",
    )


def _refuse(step: Operation, number: int, what: str, unwraps: Sequence[str]) -> None:
    if isinstance(step, Strip | Prefix | ReplacePrefix | Rename | Replace):
        return
    if isinstance(step, Unwrap) and step.path in unwraps:
        return
    reason = "it does more than rename keys" if not isinstance(step, Unwrap) else "the loader does not unwrap"
    raise UsageError(
        f"step {number} ({step.label}) cannot be said as {what}: {reason}",
        remedy="Save a repaired copy, or write the recipe as a program.",
    )


def renamed_by_planning(steps: Sequence[Operation], keys: Sequence[str]) -> dict[str, str | None]:
    """What steps that rename and drop make of keys, None where one goes.

    Raises:
        UsageError: they do not go through.
    """
    table = KeyTable(tuple(keys), [()] * len(keys), ["float32"] * len(keys))
    try:
        found = map_of(table, steps)
    except RepairError as error:
        remedy = "Name the checkpoint that it is for, or save a repaired copy."
        raise UsageError(f"the recipe does not go through on such keys: {error.message}", remedy=remedy) from None
    return {key: new if isinstance(new, str) else None for key, new in found.items()}


def _agree(loaders: Sequence[Loader], pairs: Sequence[Renaming], wanted: Mapping[str, str | None]) -> bool:
    return all(load(pairs, key) == new for load in loaders for key, new in wanted.items())


def _direct(
    steps: Sequence[tuple[int, Operation]], keys: Sequence[str] | None
) -> tuple[list[Renaming] | None, tuple[int, Operation] | None]:
    """The pairs of the steps one after the other, or the first one that has none."""
    found: list[Renaming] = []
    for number, step in steps:
        pairs = None if step.keys else step_pairs(step, keys)
        if pairs is None:
            return None, (number, step)
        found += pairs
    return found, None


def step_pairs(step: Operation, keys: Sequence[str] | None) -> list[Renaming] | None:
    """A step that renames as pairs, None where it has none."""
    match step:
        case Strip(prefix=prefix) if prefix:
            return [Renaming(f"^{re.escape(prefix)}", "")]
        case Strip(components=components):
            either = "|".join(map(re.escape, components))
            return [Renaming(rf"(?:^|(?<=\.))(?:{either})\.", "")]
        case Prefix(add=add):
            return [Renaming("^(.+)$", f"{_plain(add)}\\1")]
        case ReplacePrefix(old=old, new=new):
            return [Renaming(f"^{re.escape(old)}", _plain(new))]
        case Replace(find=find, new=replacement, syntax=syntax):
            if syntax == LITERAL:
                return [Renaming(re.escape(find), _plain(replacement))]
            pattern = SEARCH + find if syntax == REGEX else find
            return _of_rules([(pattern, replacement)], keys)
        case Rename(rules=rules):
            return _of_rules(rules, keys)
    return None


def _of_rules(rules: Sequence[tuple[str, str]], keys: Sequence[str] | None) -> list[Renaming] | None:
    found: list[Renaming] = []
    for pattern, result in rules:
        for rule in _expanded(pattern, result, keys):
            code = rule_code(rule)
            if isinstance(code.result, Code):
                return None
            found.append(Renaming(_short(code.pattern), code.result))
    return found


def _expanded(pattern: str, result: str, keys: Sequence[str] | None) -> Iterator[Rule]:
    """A rule, or one for each index that its arithmetic is given on these keys: `re.sub` cannot count."""
    rule = compile_rule(pattern, result)
    sums = [part for part in rule.parts if isinstance(part, Arithmetic)]
    names = list(dict.fromkeys([name for part in sums for name in part.names]))
    groups = rule.pattern.groups or {}
    if not names or keys is None or not groups or any(part.counted for part in sums):
        yield rule
        return
    seen: dict[tuple[str, ...], None] = {}
    for key in keys:
        found = rule.pattern.match(key)
        if found is not None:
            seen[tuple([found[groups[name]] for name in names])] = None
    if len(seen) > MOST_EXPANDED:
        yield rule
        return
    for values in seen:
        known = dict(zip(names, values, strict=True))
        old = _PLACEHOLDER.sub(lambda found, known=known: known.get(found[1], found[0]), pattern)  # type: ignore[misc]
        new = result
        for part in sums:
            text = "{" + part.text + "}"
            new = new.replace(text, _evaluated(text, known))
        new = _PLACEHOLDER.sub(lambda found, known=known: known.get(found[1], found[0]), new)  # type: ignore[misc]
        yield compile_rule(old, new)


def _evaluated(text: str, values: dict[str, str]) -> str:
    """Arithmetic on known numbers, as a rule works it out."""
    written = re.sub(r"[A-Za-z_][A-Za-z0-9_]*", lambda found: values.get(found[0], found[0]), text)
    return compile_rule("x", written).renamer(())("x") or ""


def _short(pattern: str) -> str:
    """An expression without what only keys with a line break would need."""
    return pattern.removeprefix("(?s)").removesuffix(r"\Z") + ("$" if pattern.endswith(r"\Z") else "")


def _plain(text: str) -> str:
    return text.replace("\\", r"\\")


def _flat(wanted: Mapping[str, str | None], keys: Sequence[str]) -> list[Renaming] | None:
    """Rules made anew from what becomes of the keys, each key by one of them."""
    rules = find_rules(Wishes(keys, {place: wanted[key] or key for place, key in enumerate(keys)}))
    if rules.unsaid:
        return None
    return _of_rules([(rule.pattern, rule.result) for rule in rules.rules], keys)


def probes(steps: Sequence[Operation]) -> list[str]:
    """Keys on which each rule of these steps does something, made of its patterns."""
    texts: list[str] = ["fc.weight"]
    for step in reversed(steps):
        match step:
            case Strip(prefix=prefix) if prefix:
                texts = [prefix + text for text in texts]
            case Strip(components=components):
                texts += [f"{part}.{at}.weight" for at, part in enumerate(components)]
                texts += [f"a.{part}.{at}.weight" for at, part in enumerate(components)]
            case Prefix(add=add):
                texts = [text.removeprefix(add) for text in texts]
            case ReplacePrefix(old=old):
                texts.append(f"{old}fc.weight")
            case Rename(rules=rules):
                texts += [_probe(pattern) for pattern, _ in rules if not pattern.startswith((SEARCH, FULL))]
            case Replace(find=find):
                texts += [f"a.{find}.weight", f"{find}.{find}.weight"]
    return list(dict.fromkeys(text for text in texts if text))


def _probe(pattern: str) -> str:
    text = re.sub(r"\{[^}]*\.\.\.\}", "1.weight", pattern).replace("**.", "").replace("**", "1.weight")
    return _PLACEHOLDER.sub("1", text).replace("*", "1")


def as_python(pairs: Sequence[Renaming], opening: str, between: str, closing: str) -> str:
    """Pairs as Python text, a line each."""
    lines = [f"    {opening}{raw(pattern)}{between} {raw(result)}{closing},\n" for pattern, result in pairs]
    return "".join(lines)


def title(recipe: Recipe) -> str:
    """What a recipe is called in a comment."""
    return f"the recipe {quoted(recipe.name)}" if recipe.name else "a recipe"
