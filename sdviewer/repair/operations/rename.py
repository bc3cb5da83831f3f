"""rename: new keys by rules."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from sdviewer.errors import RepairError, UsageError
from sdviewer.repair.fields import FieldReader
from sdviewer.repair.operations.operation import KeyChanges, Operation
from sdviewer.repair.patterns import Rule, compile_rule
from sdviewer.repair.wording import quoted

FIRST, CHAIN = "first", "chain"

FEW = 8
"""Rules up to which each is tried on each key."""


@dataclass(frozen=True, slots=True)
class Rename(Operation):
    """`rules` are (pattern, result); with mode "first" the first that matches a key renames it, with "chain" all do."""

    op: ClassVar[str] = "rename"

    rules: tuple[tuple[str, str], ...] = ()
    mode: str = FIRST

    @property
    def label(self) -> str:
        """`Rename "a" to "b"`, or how many rules there are."""
        if len(self.rules) == 1:
            return f"Rename {quoted(self.rules[0][0])} to {quoted(self.rules[0][1])}"
        return f"Rename by {len(self.rules):,} rules"

    def check(self) -> None:
        """At least one rule, and every one can be compiled."""
        if not self.rules:
            raise UsageError("`rules` is empty")
        if self.mode not in (FIRST, CHAIN):
            raise UsageError(f"`mode` is {quoted(self.mode)}", remedy='It can be "first" or "chain".')
        for pattern, result in self.rules:
            compile_rule(pattern, result)

    @classmethod
    def read_fields(cls, reader: FieldReader) -> dict[str, Any]:
        """`rules`, `mode`."""
        return {"rules": reader.pairs("rules"), "mode": reader.choice("mode", (FIRST, CHAIN), FIRST)}

    def own_fields(self) -> dict[str, Any]:
        """`mode` where it is "chain"."""
        own = {"mode": self.mode} if self.mode != FIRST else {}
        return own | {"rules": [list(rule) for rule in self.rules]}

    def change(self, keys: Sequence[str]) -> KeyChanges:
        """Matched are the keys that a rule applies to, also where it gives the same key."""
        rules = [compile_rule(*rule) for rule in self.rules]
        try:
            new_keys, matched, used = _first(rules, keys) if self.mode == FIRST else _chain(rules, keys)
        except RepairError as error:
            return KeyChanges(keys, 0, refusal=error)
        return KeyChanges(new_keys, matched, tuple(rule.text for i, rule in enumerate(rules) if i not in used))


def _first(rules: Sequence[Rule], keys: Sequence[str]) -> tuple[list[str], int, set[int]]:
    """Rules that mean one key are looked up, so that a thousand pairs made by hand cost no more than one."""
    literals: dict[str, tuple[int, str]] = {}
    others: list[tuple[int, Callable[[str], str | None]]] = []
    for i, rule in enumerate(rules):
        if rule.pattern.literal is None:
            others.append((i, rule.renamer(keys)))
        elif rule.pattern.literal not in literals:
            literals[rule.pattern.literal] = (i, rule.renamer(())(rule.pattern.literal) or "")
    needs = _Needs([(i, rules[i].pattern.components) for i, _ in others])
    renamers = dict(others)
    used: set[int] = set()
    matched = 0
    new_keys = []
    for key in keys:
        index, new = literals.get(key, (len(rules), None))
        for i in needs.met_by(key):
            if i > index:
                break
            other = renamers[i](key)
            if other is not None:
                index, new = i, other
                break
        if new is not None:
            matched += 1
            used.add(index)
        new_keys.append(key if new is None else new)
    return new_keys, matched, used


class _Needs:
    """The components that a key must have for a rule to mean it: of many rules most need not be tried on a key."""

    def __init__(self, rules: Sequence[tuple[int, frozenset[str]]]) -> None:
        self._all = [i for i, _ in rules]
        self._few = len(rules) <= FEW
        counts = Counter([component for _, needed in rules for component in needed])
        self._always = [i for i, needed in rules if not needed]
        self._by_component: dict[str, list[int]] = {}
        for i, needed in rules:
            if needed:
                self._by_component.setdefault(min(needed, key=lambda one: (counts[one], one)), []).append(i)

    def met_by(self, key: str) -> Sequence[int]:
        """The rules that may mean a key, in their order."""
        if self._few:
            return self._all
        found = [rules for part in set(key.split(".")) if (rules := self._by_component.get(part)) is not None]
        if not found:
            return self._always
        return sorted(self._always + [i for rules in found for i in rules])


def _chain(rules: Sequence[Rule], keys: Sequence[str]) -> tuple[list[str], int, set[int]]:
    current = list(keys)
    touched = bytearray(len(keys))
    used: set[int] = set()
    for i, rule in enumerate(rules):
        rename = rule.renamer(tuple(current))
        for place, key in enumerate(current):
            new = rename(key)
            if new is not None:
                current[place] = new
                touched[place] = 1
                used.add(i)
    return current, sum(touched), used
