"""What every operation is: a frozen value that plans new keys from old ones."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar, Self

from sdviewer.errors import RepairError, UsageError
from sdviewer.repair.fields import FieldReader
from sdviewer.repair.modules import follow_keys
from sdviewer.repair.patterns import Pattern, compile_pattern


@dataclass(frozen=True, slots=True)
class Expect:
    """What a step must do, checked after it: how many keys it matches and changes, how many rules match nothing."""

    matched: int | None = None
    changed: int | None = None
    dead_rules: int | None = None


@dataclass(frozen=True, slots=True)
class KeyChanges:
    """What an operation makes of some keys: each one's new key, None where it is dropped.

    `matched` counts the keys it applies to. `dead_rules` are the texts of the rules that match nothing. `refusal` says
    why the step cannot be carried out as it stands; the changes are then what it would do.
    """

    new_keys: Sequence[str | None]
    matched: int
    dead_rules: tuple[str, ...] = ()
    refusal: RepairError | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation(ABC):
    """One step of a recipe.

    `keys` are patterns that restrict the step to some keys (for drop and keep: the keys themselves); `why` is a note
    for people; a step that is not `enabled` does nothing.
    """

    op: ClassVar[str]

    keys: tuple[str, ...] = ()
    enabled: bool = True
    why: str = ""
    expect: Expect | None = None

    def __post_init__(self) -> None:
        for pattern in self.keys:
            compile_pattern(pattern)
        self.check()

    @property
    @abstractmethod
    def label(self) -> str:
        """What the step does, for people: `Strip prefix "module."`."""

    @abstractmethod
    def check(self) -> None:
        """Raise UsageError where the fields say nothing that can be done."""

    @classmethod
    @abstractmethod
    def read_fields(cls, reader: FieldReader) -> dict[str, Any]:
        """The operation's own fields, from a step's table."""

    @abstractmethod
    def own_fields(self) -> dict[str, Any]:
        """The operation's own fields as they stand in a step's table, without those that have their default."""

    @abstractmethod
    def change(self, keys: Sequence[str]) -> KeyChanges:
        """What becomes of these keys, all computed from the same input."""

    def plan(self, keys: Sequence[str]) -> KeyChanges:
        """What becomes of all keys of a state dict, where `keys` restricts the step to some of them."""
        if not self.keys:
            return self.change(keys)
        chosen = selection(self.keys)
        places = [i for i, key in enumerate(keys) if chosen(key)]
        changes = self.change([keys[i] for i in places])
        new_keys: list[str | None] = list(keys)
        for i, new in zip(places, changes.new_keys, strict=True):
            new_keys[i] = new
        return replace(changes, new_keys=new_keys)

    def move_modules(
        self, modules: Sequence[str], keys: Sequence[str], new_keys: Sequence[str | None]
    ) -> dict[str, str | None]:
        """Where the module paths of `_metadata` go that change: their new path, None where the entry goes."""
        return follow_keys(modules, keys, new_keys)

    def with_paths(self, moved: Callable[[str], str]) -> Self:
        """The step with the paths of the files that it names as `moved` gives them."""
        return self

    @classmethod
    def from_step(cls, reader: FieldReader) -> Self:
        """Read a step's table.

        Raises:
            UsageError: a field is unknown, missing or of the wrong kind, or a pattern is none.
        """
        reader.text("op")
        own = cls.read_fields(reader)
        common: dict[str, Any] = {
            "keys": reader.texts("keys"),
            "enabled": reader.boolean("enabled", True),
            "why": reader.text("why", ""),
            "expect": _read_expect(reader.inside("expect")) if reader.has("expect") else None,
        }
        if reader.has("keys") and not common["keys"]:
            raise reader.error("keys", "`keys` is an empty list", "Leave it out, or name patterns.")
        reader.finish()
        try:
            return cls(**(common | own))
        except UsageError as error:
            raise reader.error("", error.message, error.remedy) from None

    def to_step(self) -> dict[str, Any]:
        """The step's table: only fields that do not have their default, in the order people read them."""
        table: dict[str, Any] = {"op": self.op, **self.own_fields()}
        if self.keys:
            table["keys"] = list(self.keys)
        if not self.enabled:
            table["enabled"] = False
        if self.why:
            table["why"] = self.why
        if self.expect is not None:
            stated = {item.name: getattr(self.expect, item.name) for item in fields(self.expect)}
            table["expect"] = {name: number for name, number in stated.items() if number is not None}
        return table


def selection(patterns: Sequence[str]) -> Callable[[str], bool]:
    """Whether a key is meant by one of the patterns; many literal ones cost no more than one."""
    compiled = [compile_pattern(pattern) for pattern in patterns]
    literals = {pattern.literal for pattern in compiled if pattern.literal is not None}
    others: list[Pattern] = [pattern for pattern in compiled if pattern.literal is None]
    if not others:
        return literals.__contains__
    if len(others) == 1 and not literals:
        match = others[0].matcher
        return lambda key: match(key) is not None
    return lambda key: key in literals or any(pattern.match(key) is not None for pattern in others)


def _read_expect(reader: FieldReader) -> Expect:
    expect = Expect(reader.count("matched"), reader.count("changed"), reader.count("dead_rules"))
    reader.finish()
    return expect
