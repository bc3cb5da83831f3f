"""A recipe: the ordered steps of a repair with their guards, and its text.

The text is TOML (or JSON, read only). Every value round-trips: a text that TOML cannot hold is `{ repr = '...' }`.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import tomlkit
from tomlkit.items import Array, InlineTable, Item, Trivia

from sdviewer.errors import UsageError
from sdviewer.repair.fields import FieldReader
from sdviewer.repair.operations import Operation, read_step
from sdviewer.repair.patterns import compile_pattern
from sdviewer.repair.state_dicts import AUTO
from sdviewer.repair.wording import quoted

FORMAT = "sdviewer-recipe/1"
SHARED = ("alias-metadata", "clone")

_UNITS = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
_UNITS |= {"KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40}
_SIZE = re.compile(r"([0-9]{1,15})\s*([KMGT]?I?B)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Source:
    """What the file must look like: the state dict's dotted path or "auto", patterns that must match and must not.

    `tensors` is how many there should be; another number is a warning. `also` are further state dicts that get the same
    steps, one after the other: an average beside the model.
    """

    state_dict: str = AUTO
    require: tuple[str, ...] = ()
    forbid: tuple[str, ...] = ()
    tensors: int | None = None
    also: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """All state dicts that the steps are for."""
        return (self.state_dict, *self.also)

    @property
    def said(self) -> str:
        """The same in words."""
        return " and ".join(map(quoted, self.names))


@dataclass(frozen=True, slots=True)
class Goal:
    """What the result is for: the path of a key list, and patterns of its keys that may be missing."""

    keys: str = ""
    allow_missing: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SaveOptions:
    """How the result is written: container, what becomes of shared storages, the size of a shard ("5GB")."""

    format: str = ""
    shared: str = ""
    max_shard_size: str = ""

    @property
    def max_shard_bytes(self) -> int | None:
        """`max_shard_size` in bytes; KB, MB, GB are powers of 1000, KiB, MiB, GiB of 1024."""
        found = _SIZE.fullmatch(self.max_shard_size)
        return int(found[1]) * _UNITS[found[2].upper()] if found else None


@dataclass(frozen=True, slots=True)
class Recipe:
    """The document of a repair, as a value."""

    name: str = ""
    source: Source = Source()
    steps: tuple[Operation, ...] = ()
    target: Goal = Goal()
    save: SaveOptions = SaveOptions()

    @property
    def save_format(self) -> str | None:
        """The container that `[save]` asks for, None where it asks for none."""
        return self.save.format or None

    def to_text(self) -> str:
        """The recipe as TOML; `parse_recipe` gives the same value back."""
        document = tomlkit.document()
        for name, value in self.to_table().items():
            if name == "step":
                steps = tomlkit.aot()
                for step in value:
                    steps.append(_table(step))
                document.add(name, steps)
            else:
                document.add(name, _table(value) if isinstance(value, dict) else _item(value))
        return tomlkit.dumps(document)

    def to_table(self) -> dict[str, Any]:
        """The recipe as plain values, in the order of its text, without what has its default."""
        table: dict[str, Any] = {
            "format": FORMAT,
            "name": self.name,
            "source": _source_table(self.source),
            "step": [step.to_step() for step in self.steps],
            "target": _goal_table(self.target),
            "save": _save_table(self.save),
        }
        return {name: value for name, value in table.items() if value}


def parse_recipe(text: str, path: str = "") -> Recipe:
    """Read a recipe; `path` is named in errors.

    Raises:
        UsageError: the text is no recipe; the message has the line.
    """
    table = _load(text, path)
    lines = _lines(text)
    if table.get("format") != FORMAT:
        raise _no_recipe(table.get("format"), path)
    reader = FieldReader(table, "the recipe", path, lines.get("", {}))
    reader.text("format")
    recipe = Recipe(
        name=reader.text("name", ""),
        source=_read_source(FieldReader(reader.table("source"), "[source]", path, lines.get("source"))),
        steps=tuple([
            read_step(FieldReader(step, f"step {i}{_op(step)}", path, lines.get(f"step {i}")))
            for i, step in enumerate(reader.tables("step"), 1)
        ]),
        target=_read_goal(FieldReader(reader.table("target"), "[target]", path, lines.get("target"))),
        save=_read_save(FieldReader(reader.table("save"), "[save]", path, lines.get("save"))),
    )  # fmt: skip
    reader.finish()
    return recipe


# Reading


def _load(text: str, path: str) -> dict[str, Any]:
    is_json = text.lstrip().startswith("{")
    try:
        table = json.loads(text, object_pairs_hook=_unique) if is_json else tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        kind = "JSON" if is_json else "TOML"
        reason = str(error) if isinstance(error, ValueError) else "nested too deeply"
        raise UsageError(f"this is no recipe: no {kind}: {reason}", path=path, code="bad_recipe") from None
    assert isinstance(table, dict)
    return table


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{quoted(twice)} stands twice in one table")
    return table


def _no_recipe(found: object, path: str) -> UsageError:
    remedy = f'Its first line must be format = "{FORMAT}".'
    if found is None:
        reason = "this is no recipe: it has no `format`"
    elif isinstance(found, str) and found.startswith("sdviewer-recipe/"):
        reason, remedy = f"a recipe of another version, {quoted(found)}", f"This sdviewer reads {FORMAT}."
    else:
        reason = f"this is no recipe: its `format` is {quoted(str(found))}"
    return UsageError(reason, path=path, remedy=remedy, code="bad_recipe")


def _op(step: Mapping[str, Any]) -> str:
    op = step.get("op")
    return f" ({op})" if isinstance(op, str) and op.isascii() and op.isidentifier() else ""


_HEADER = re.compile(r"\s*(\[\[?)\s*([A-Za-z_]+)\s*\]\]?\s*(#.*)?")
_FIELD = re.compile(r"\s*\"?([A-Za-z_]+)\"?\s*=")


def _lines(text: str) -> dict[str, dict[str, int]]:
    """For each table of a TOML text, "step 1" and on: the line of its header (under "") and of its fields."""
    tables: dict[str, dict[str, int]] = {"": {}}
    current = tables[""]
    steps = 0
    for number, line in enumerate(text.split("\n"), 1):
        header = _HEADER.fullmatch(line.rstrip("\r"))
        if header:
            title = header[2]
            if header[1] == "[[" and title == "step":
                steps += 1
                title = f"step {steps}"
            else:
                tables[""].setdefault(title, number)
            current = tables.setdefault(title, {"": number})
        elif found := _FIELD.match(line):
            current.setdefault(found[1], number)
    return tables


def _patterns(reader: FieldReader, name: str) -> tuple[str, ...]:
    patterns = reader.texts(name)
    for pattern in patterns:
        try:
            compile_pattern(pattern)
        except UsageError as error:
            raise reader.error(name, error.message, error.remedy) from None
    return patterns


def _read_source(reader: FieldReader) -> Source:
    name, *also = reader.texts("state_dict") if reader.is_list("state_dict") else [reader.text("state_dict", AUTO)]
    if len({name, *also}) <= len(also) or (also and AUTO in (name, *also)):
        raise reader.error("state_dict", "`state_dict` names one state dict twice, or leaves one to be guessed")
    source = Source(
        name,
        _patterns(reader, "require"),
        _patterns(reader, "forbid"),
        reader.count("tensors"),
        tuple(also),
    )
    reader.finish()
    return source


def _read_goal(reader: FieldReader) -> Goal:
    goal = Goal(reader.text("keys", ""), _patterns(reader, "allow_missing"))
    reader.finish()
    return goal


def _read_save(reader: FieldReader) -> SaveOptions:
    options = SaveOptions(
        reader.text("format", ""), reader.choice("shared", SHARED, ""), reader.text("max_shard_size", "")
    )
    if options.max_shard_size and not options.max_shard_bytes:
        raise reader.error("max_shard_size", f"{quoted(options.max_shard_size)} is no size", 'Write "5GB" or "512MiB".')
    reader.finish()
    return options


# Writing


def _source_table(source: Source) -> dict[str, Any]:
    table: dict[str, Any] = {}
    if source.also:
        table["state_dict"] = list(source.names)
    elif source.state_dict != AUTO:
        table["state_dict"] = source.state_dict
    if source.require:
        table["require"] = list(source.require)
    if source.forbid:
        table["forbid"] = list(source.forbid)
    if source.tensors is not None:
        table["tensors"] = source.tensors
    return table


def _goal_table(goal: Goal) -> dict[str, Any]:
    table: dict[str, Any] = {"keys": goal.keys} if goal.keys else {}
    return table | ({"allow_missing": list(goal.allow_missing)} if goal.allow_missing else {})


def _save_table(save: SaveOptions) -> dict[str, Any]:
    fields = {"format": save.format, "shared": save.shared, "max_shard_size": save.max_shard_size}
    return {name: value for name, value in fields.items() if value}


def _table(values: Mapping[str, Any]) -> tomlkit.items.Table:
    table = tomlkit.table()
    for name, value in values.items():
        table.add(name, _item(value))
    return table


def _item(value: Any) -> Item:
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, list):
        return _array(value)
    if isinstance(value, dict):
        return _inline({name: _item(inner) for name, inner in value.items()})
    item: Item = tomlkit.item(value)
    return item


def _array(values: list[Any]) -> Array:
    items = [_item(value) for value in values]
    if len(values) > 3 or any(isinstance(value, list) for value in values):
        # At once: what is appended is told to the whole array each time, 10 s for 10,000 rules.
        return Array(items, Trivia(), multiline=True)
    array = tomlkit.array()
    for item in items:
        array.append(item)
    return array


def _inline(items: Mapping[str, Item]) -> InlineTable:
    table = tomlkit.inline_table()
    for name, item in items.items():
        table.append(name, item)
    return table


def _text(value: str) -> Item:
    """A literal string where a basic one would need escapes; what no TOML holds as its Python literal."""
    if "\0" in value or any("\ud800" <= ch <= "\udfff" for ch in value):
        python = ascii(value)
        if '"' not in python:
            # In double quotes it needs no escapes inside TOML's single ones.
            python = f'"{python[1:-1]}"'
        return _inline({"repr": _text(python)})
    literal = ("\\" in value or '"' in value) and "'" not in value and all(ch >= " " and ch != "\x7f" for ch in value)
    return tomlkit.string(value, literal=literal)
